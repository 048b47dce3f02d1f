"""The server: one process that listens, tells, and ends well."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import signal
import socket
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from ...containers import ApplicationContainer
from ...providers.registry import RegistryError, Role
from ...settings import HttpSettings
from .addresses import is_loopback
from .app import create_app
from .container import HttpContainer

__all__ = ["ServeError", "serve"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAST_WORDS = 0.5
"""Seconds for the answers of requests whose time is over."""


class ServeError(RegistryError):
    """The service cannot be as the settings say; the message tells what to do."""

    def __init__(self, message: str) -> None:
        super().__init__("CANNOT_SERVE", message)


class Server(uvicorn.Server):
    """
    Uvicorn's server, which tells open streams that it ends before it waits for them.

    It also closes connections on which no request comes to its head's end, which Uvicorn does not.

    Args:
        config: Uvicorn's, of an application that :func:`create_app` has made.
        tell: Called with nothing once connections are accepted.
        patience: Seconds that the head of a request may take.
    """

    def __init__(
        self, config: uvicorn.Config, tell: Callable[[], None], *, patience: float = 10.0
    ) -> None:
        super().__init__(config)
        self._tell = tell
        self._patience = patience
        self._silent: dict[Any, tuple[object, float]] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and say so."""
        await super().startup(sockets)
        self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell the streams; accept no more, wait for the requests under way, and cut the rest."""
        cast(FastAPI, self.config.app).state.stopping.set()
        await super().shutdown(sockets)
        connections = cast("set[Any]", self.server_state.connections)
        for _ in range(3):  # one that was taken in the last moment comes a little later
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                while connections:  # noqa: ASYNC110 - nothing tells of the last one
                    await asyncio.sleep(0.01)
        for connection in list(connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def on_tick(self, counter: int) -> bool:
        """Do what is due ten times a second; return whether to end."""
        if counter % 5 == 0:
            self._close_silent()
        return await super().on_tick(counter)

    def _close_silent(self) -> None:
        before, self._silent = self._silent, {}
        for connection in cast("set[Any]", self.server_state.connections):
            last = connection.cycle  # the latest request whose head has come; None: there was none
            if last is None or last.response_complete:
                known, since = before.get(connection, (last, monotonic()))
                self._silent[connection] = last, since if known is last else monotonic()
        for connection, (_, since) in self._silent.items():
            if monotonic() - since > self._patience:
                connection.transport.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to :func:`serve`."""
        yield


async def serve(
    container: ApplicationContainer,
    *,
    tell: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> signal.Signals | None:
    """
    Serve a container's API by its settings (``http``) until SIGINT or SIGTERM.

    Args:
        container: What is served. It is begun, and ended.
        tell: Called with each address once connections are accepted.
        warn: Called with what its operator should know.

    Returns:
        The signal that ended it; None where it was ended otherwise.

    Raises:
        ServeError: It cannot listen at the address, it must not (beyond this machine without a
            token), or the certificate is of no use.
        RegistryError: The container cannot begin.
    """
    settings = container.settings().http
    app = create_app(container)
    with contextlib.ExitStack() as listening:
        sockets = _bind(settings, listening)

        def accepting() -> None:
            for one in sockets:
                tell(_url(settings, one))

        server = Server(_config(app, settings), accepting, patience=settings.body_timeout)
        with _until_signalled(server) as received:
            async with app.router.lifespan_context(app):
                names = [one.getsockname()[0] for one in sockets]
                app.state.anonymous = await _anonymous(app.state.parts, settings, names, warn)
                if settings.check_all and container.settings().registry.health.monitor:
                    for registry in container.registries().values():
                        registry.start_health_monitoring_all()
                await server.serve(sockets)
    return received[0] if received else None


@contextlib.contextmanager
def _until_signalled(server: Server) -> Generator[list[signal.Signals]]:
    """Let the first SIGINT or SIGTERM end a server, and a second one the process at once."""
    loop = asyncio.get_running_loop()
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        received.append(number)
        server.should_exit = True
        for one in _SIGNALS:
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)

    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # in a thread
        for one in _SIGNALS:
            loop.add_signal_handler(one, end, one)
    try:
        yield received
    finally:
        if not received:
            for one in _SIGNALS:
                loop.remove_signal_handler(one)


async def _anonymous(
    parts: HttpContainer, settings: HttpSettings, names: list[str], warn: Callable[[str], None]
) -> Role | None:
    """Return what callers without a token may do; refuse where that would be anybody."""
    tokens = parts.tokens()
    if not all(map(is_loopback, names)):
        if not await tokens.are_valid():
            raise ServeError(
                f"{settings.host} can be reached from other machines, and there is no valid "
                "access token. Make one first: `purveyor tokens create NAME --role admin`. Or "
                "listen at 127.0.0.1, which this machine alone can reach."
            )
        if not settings.tls_certificate and not settings.trusted_proxies:
            warn(
                "Tokens and answers cross the network unencrypted. Give a certificate "
                "(PURVEYOR_HTTP__TLS_CERTIFICATE), or name the proxy that has one "
                "(PURVEYOR_HTTP__TRUSTED_PROXIES)."
            )
        return None
    if await tokens.were_made():
        return None
    if settings.trusted_proxies:
        warn("There is no access token, so nobody behind the proxy can call: "
             "`purveyor tokens create NAME --role admin` makes one.")  # fmt: skip
        return None
    warn(
        "There is no access token: every program on this machine may call, as an admin. "
        "`purveyor tokens create NAME --role admin` makes one, and ends that."
    )
    return Role.ADMIN


def _config(app: FastAPI, settings: HttpSettings) -> uvicorn.Config:
    tls: dict[str, Any] = {}
    if settings.tls_certificate:
        tls = {"ssl_certfile": settings.tls_certificate, "ssl_keyfile": settings.tls_key}
    config = uvicorn.Config(
        app,
        lifespan="off",  # its errors are the command's
        http="h11",  # others have no limit to the head of a request
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
        **tls,
    )
    try:
        config.load()
    except OSError as error:  # of which a fault of the certificate is one
        reason = error.strerror or str(error)
        raise ServeError(
            f"The certificate {settings.tls_certificate} and its key "
            f"{settings.tls_key or 'in the same file'} cannot be used: {reason}. Look at "
            "PURVEYOR_HTTP__TLS_CERTIFICATE and PURVEYOR_HTTP__TLS_KEY."
        ) from error
    return config


def _bind(settings: HttpSettings, listening: contextlib.ExitStack) -> list[socket.socket]:
    """Return sockets bound to every address of the host, which do not listen yet."""
    host, port = settings.host, settings.port
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                # Without the protocol asyncio would leave Nagle's algorithm on: 40 ms a request.
                one = socket.socket(family, kind, protocol)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:  # IPv6 is switched off
                    continue
                raise
            listening.callback(one.close)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], port, *address[2:]))
            port = one.getsockname()[1]
            sockets.append(one)
    except OSError as error:
        raise ServeError(_not_bound(settings, error)) from error
    if not sockets:
        raise ServeError(f"This machine has no IPv6, and {host} is an address of it. Take another.")
    return sockets


def _not_bound(settings: HttpSettings, error: OSError) -> str:
    place = f"{settings.host}, port {settings.port}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{settings.host} is no address of this machine. Take another host: 127.0.0.1 is for "
            "this machine alone, 0.0.0.0 for all its networks."
        )
    if error.errno == errno.EADDRINUSE:
        return f"Another program listens at {place}. End it, or take another port; 0 is a free one."
    if error.errno == errno.EACCES:
        return f"Nobody but root may listen at {place}. Take a port above 1023."
    return f"Nothing can listen at {place}: {error.strerror}."


def _url(settings: HttpSettings, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://{shown}:{port}{settings.root_path}"
