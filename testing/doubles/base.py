"""A service on loopback, in a thread of its own, that notes what it is asked and can be faulty."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDict

__all__ = ["Asked", "Double", "Fault"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it came: the path undecoded, headers by name in any case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What goes wrong with one request.

    Args:
        status: Answered instead; None: the request is answered as it should, but see the others.
        headers: Of that answer.
        body: Of that answer: bytes as they are, anything else as JSON.
        delay: Seconds before anything is answered.
        cut_after: The connection breaks after so many pieces of a stream, or bytes of a body.
        stall_after: Nothing more comes after so many pieces of a stream.
        hold_after: Nothing more comes after so many pieces of a stream until it is released.
        hang_up: The connection breaks before anything is answered.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = b""
    delay: float = 0.0
    cut_after: int | None = None
    stall_after: int | None = None
    hold_after: int | None = None
    hang_up: bool = False


_FAULT = web.RequestKey("fault", Fault)
_NONE = Fault()


class Double:
    """
    A service that runs on 127.0.0.1 while the ``with`` block lasts.

    A subclass has the routes of its service and answers as strictly as that does. What it was
    asked is in :attr:`requests`; what is to go wrong is told by :meth:`fail`.
    """

    def __init__(self) -> None:
        self.port = 0
        """The port of 127.0.0.1 it listens at, once it runs."""
        self.requests: list[Asked] = []
        """Every request so far, in order."""
        self.open_streams = 0
        """Streams that are being sent just now."""
        self.broken_streams = 0
        """Streams whose client has gone before their end."""
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Return the routes of the service."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where it is: ``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    def fail(self, *faults: Fault) -> None:
        """Let the next requests fail, each by one of the faults, in order."""
        with self._lock:
            self._faults.extend(faults)

    def release(self) -> None:
        """Let all streams go on that are held, now and later."""
        self._loop.call_soon_threadsafe(self._released.set)

    @property
    def last(self) -> Asked:
        """The last request."""
        return self.requests[-1]

    # -- for subclasses ------------------------------------------------------------------

    async def send_pieces(
        self,
        request: web.Request,
        pieces: Iterable[bytes] | Sequence[bytes],
        *,
        content_type: str = "text/event-stream",
        pace: float = 0.0,
    ) -> web.StreamResponse:
        """Answer with a stream, each piece by itself, ``pace`` seconds apart; faults apply."""
        fault = request.get(_FAULT, _NONE)
        response = web.StreamResponse(headers={"Content-Type": content_type})
        self.open_streams += 1
        try:
            await response.prepare(request)
            for number, piece in enumerate(pieces):
                if number == fault.cut_after:
                    _hang_up(request)
                    return response
                if number == fault.stall_after:
                    await self._stopping.wait()
                if number == fault.hold_after:
                    await self._released.wait()
                await response.write(piece)
                await asyncio.sleep(pace)
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            self.broken_streams += 1
            raise
        finally:
            self.open_streams -= 1
        return response

    # -- running -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        started: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name=type(self).__name__, daemon=True
        )
        self._thread.start()
        self.port = started.result()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self, started: Future[int]) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(self._serve(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve(self, started: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping, self._released = asyncio.Event(), asyncio.Event()

        @web.middleware
        async def answer(request: web.Request, handler: Any) -> web.StreamResponse:
            return await self._answer(request, handler)

        application = web.Application(middlewares=[answer], client_max_size=256 * 1024 * 1024)
        application.add_routes(self.routes())
        runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started.set_result(runner.addresses[0][1])
        await self._stopping.wait()
        server = runner.server
        assert server is not None
        transports = {one.transport for one in server.connections}
        await runner.cleanup()
        for _ in range(3):  # a connection that was taken in the last moment comes a little later
            await asyncio.sleep(0)
            transports |= {one.transport for one in server.connections}
        for transport in transports:  # one that its client reads no more would stay open
            if transport is not None:
                transport.abort()
        await asyncio.sleep(0)

    async def _answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.read()
        with self._lock:
            self.requests.append(Asked(request.method, request.raw_path, request.headers, body))
            fault = self._faults.popleft() if self._faults else _NONE
        request[_FAULT] = fault
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.hang_up:
            _hang_up(request)
            return web.Response()
        if fault.status is not None:
            found = fault.body
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            headers = CIMultiDict({"Content-Type": "application/json"})
            headers.update(fault.headers)
            return web.Response(status=fault.status, headers=headers, body=data)
        response = await handler(request)
        if fault.cut_after is not None and isinstance(response, web.Response):
            return await self._cut(request, response, fault.cut_after)
        return response

    async def _cut(
        self, request: web.Request, whole: web.Response, size: int
    ) -> web.StreamResponse:
        body = whole.body if isinstance(whole.body, bytes) else b""
        response = web.StreamResponse(
            headers={"Content-Type": whole.content_type, "Content-Length": str(len(body))}
        )
        await response.prepare(request)
        await response.write(body[:size])
        _hang_up(request)
        return response


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
