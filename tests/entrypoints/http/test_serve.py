"""``purveyor serve``: where it listens, to whom, and how it ends."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app, server
from purveyor.entrypoints.http.server import ServeError, serve
from purveyor.providers.catalogue import Tokens
from purveyor.providers.registry import Role

WELL = "/api/v1/providers/storage/filesystem"
Set = Callable[[str, object], None]


class Running:
    """What a service has said, and how it ended."""

    def __init__(self) -> None:
        self.urls: asyncio.Queue[str] = asyncio.Queue()
        self.url = ""
        self.warnings: list[str] = []
        self.ended_by: signal.Signals | None = None


Run = Callable[[], AbstractAsyncContextManager[Running]]


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Make a setting of the service."""

    def make(name: str, value: object) -> None:
        monkeypatch.setenv(f"PURVEYOR_HTTP__{name.upper()}", str(value))

    make("port", 0)
    return make


@pytest.fixture
def run(setting: Set) -> Run:
    """Serve in this process, by the settings of the moment, until a signal."""

    @asynccontextmanager
    async def running() -> AsyncGenerator[Running]:
        said = Running()

        async def service() -> None:
            container = ApplicationContainer(monitoring=False)
            said.ended_by = await serve(
                container, tell=said.urls.put_nowait, warn=said.warnings.append
            )

        async with asyncio.TaskGroup() as group, asyncio.timeout(20):
            group.create_task(service())
            said.url = await said.urls.get()
            try:
                yield said
            finally:
                signal.raise_signal(signal.SIGTERM)

    return running


async def refusal(container: ApplicationContainer | None = None) -> str:
    """Return why the service does not begin."""
    with pytest.raises(ServeError) as caught:
        await serve(container or ApplicationContainer(monitoring=False))
    return caught.value.message


@asynccontextmanager
async def tokens() -> AsyncGenerator[Tokens]:
    """The tokens, as the command line has them."""
    catalogue = ApplicationContainer().catalogue()
    yield Tokens(catalogue)
    await catalogue.close()


async def a_token() -> str:
    async with tokens() as those:
        return (await those.create("ci", Role.READER))[1]


# -- where and to whom -------------------------------------------------------------------


async def test_on_this_machine_it_needs_no_token_and_says_what_that_means(run: Run) -> None:
    async with run() as running, httpx2.AsyncClient(base_url=running.url) as client:
        assert running.url.startswith("http://127.0.0.1:")
        assert (await client.get(WELL)).status_code == 200
        assert "every program on this machine may call, as an admin" in running.warnings[0]
    assert running.ended_by is signal.SIGTERM


async def test_with_a_token_it_needs_one_on_this_machine_too(run: Run) -> None:
    text = await a_token()
    async with run() as running, httpx2.AsyncClient(base_url=running.url) as client:
        assert (await client.get(WELL)).status_code == 401
        answer = await client.get(WELL, headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 200
        assert running.warnings == []
        assert "server" not in answer.headers


@pytest.mark.parametrize("wanted", [True, False])
async def test_providers_that_nobody_uses_are_checked_if_that_is_wanted(
    run: Run, setting: Set, wanted: bool
) -> None:
    setting("check_all", wanted)
    async with run() as running, httpx2.AsyncClient(base_url=running.url) as client:
        assert (await client.get(f"{WELL}/health")).json()["monitored"] is wanted


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "address"])
async def test_beyond_this_machine_it_does_not_listen_without_a_token(
    setting: Set, host: str
) -> None:
    setting("host", own_address() if host == "address" else host)
    told = await refusal()
    assert "can be reached from other machines" in told
    assert "purveyor tokens create NAME --role admin" in told


def own_address() -> str:
    """Return an address of this machine that is not loopback; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network but loopback")
        return one.getsockname()[0]


async def test_a_token_that_ended_is_none(setting: Set) -> None:
    setting("host", "0.0.0.0")
    await a_token()
    async with tokens() as those:
        await those.revoke("ci")
    assert "no valid access token" in await refusal()


async def test_beyond_this_machine_with_a_token_it_warns_where_all_can_be_read(
    setting: Set, run: Run
) -> None:
    setting("host", "0.0.0.0")
    await a_token()
    async with run() as running:
        port = running.url.rpartition(":")[2]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get(WELL)).status_code == 401
        assert "unencrypted" in running.warnings[0]
    setting("trusted_proxies", "192.0.2.7")
    async with run() as running:
        assert running.warnings == []


async def test_behind_a_proxy_on_this_machine_nobody_is_an_admin_by_chance(
    setting: Set, run: Run
) -> None:
    setting("trusted_proxies", "127.0.0.1")
    async with run() as running, httpx2.AsyncClient(base_url=running.url) as client:
        assert "nobody behind the proxy can call" in running.warnings[0]
        assert (await client.get(WELL)).status_code == 401


async def test_a_proxy_says_whom_it_speaks_for_if_it_is_trusted(
    setting: Set, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    for trusted, expected in (("127.0.0.1", "198.51.100.9"), ("192.0.2.7", "127.0.0.1")):
        setting("trusted_proxies", trusted)
        caplog.clear()
        async with run() as running, httpx2.AsyncClient(base_url=running.url) as client:
            await client.get(WELL, headers={"X-Forwarded-For": "198.51.100.9"})
        assert f" of {expected}: no token" in caplog.text


async def test_a_name_with_two_addresses_is_listened_at_with_one_port(
    setting: Set, run: Run
) -> None:
    setting("host", "localhost")
    async with run() as running:
        urls = [running.url]
        while not running.urls.empty():
            urls.append(running.urls.get_nowait())
        assert len({url.rpartition(":")[2] for url in urls}) == 1
        for url in urls:
            async with httpx2.AsyncClient(base_url=url) as client:
                assert (await client.get(WELL)).status_code == 200


async def test_a_port_that_is_taken(setting: Set) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        setting("port", taken.getsockname()[1])
        assert "Another program listens at 127.0.0.1" in await refusal()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_this_machines(setting: Set, host: str) -> None:
    setting("host", host)
    assert f"{host} is no address of this machine" in await refusal()


async def test_a_path_below_which_a_proxy_shows_it(setting: Set, run: Run) -> None:
    setting("root_path", "/purveyor")
    async with run() as running, httpx2.AsyncClient() as client:
        assert running.url.endswith("/purveyor")
        assert (await client.get(running.url + WELL)).status_code == 200
        stripped = running.url.removesuffix("/purveyor") + "/openapi.json"
        assert (await client.get(stripped)).json()["servers"] == [{"url": "/purveyor"}]


# -- TLS ---------------------------------------------------------------------------------


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture
def certificate(folder: Path, setting: Set) -> Path:
    """A certificate with its key in another file, in force."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(pem(key))
    setting("tls_certificate", folder / "cert.pem")
    setting("tls_key", folder / "key.pem")
    return folder / "cert.pem"


async def test_https_with_a_certificate(certificate: Path, run: Run) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    async with run() as running:
        assert running.url.startswith("https://")
        async with httpx2.AsyncClient(base_url=running.url, verify=context) as client:
            assert (await client.get(WELL)).status_code == 200


def spoil(certificate: Path, fault: str) -> None:
    key = certificate.with_name("key.pem")
    if fault == "no certificate":
        certificate.unlink()
    elif fault == "no key":
        key.unlink()
    elif fault == "nonsense":
        certificate.write_text("nonsense")
    else:
        key.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))


@pytest.mark.parametrize("fault", ["no certificate", "no key", "nonsense", "another's key"])
async def test_a_certificate_of_no_use(certificate: Path, fault: str) -> None:
    spoil(certificate, fault)
    told = await refusal()
    assert "cannot be used: " in told
    assert "PURVEYOR_HTTP__TLS_KEY" in told


# -- connections -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nHost: local", b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\nGET /"],
)
async def test_a_connection_on_which_no_request_comes_is_closed(
    run: Run, setting: Set, sent: bytes
) -> None:
    setting("body_timeout", 0.3)
    async with run() as running:
        async with asyncio.timeout(10):
            await exchange(running.url, sent)


async def test_a_connection_in_use_is_not(run: Run, setting: Set, slow: asyncio.Event) -> None:
    setting("body_timeout", 0.3)
    async with run() as running, httpx2.AsyncClient(base_url=running.url) as client:
        under_way = asyncio.create_task(client.get("/slow"))
        await exchange(running.url, b"")  # closed meanwhile
        slow.set()
        assert (await under_way).json() == "done"


async def test_an_endless_head_is_not_kept(run: Run) -> None:
    async with run() as running:
        answer = await exchange(running.url, b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")) or not answer


async def exchange(url: str, sent: bytes) -> bytes:
    """Return all that comes on a connection until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(sent)
    answer = b""
    with suppress(ConnectionError):
        answer = await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return answer


# -- the end -----------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Routes that take their time: they go on when this is set."""
    go_on = asyncio.Event()

    def with_routes(container: ApplicationContainer) -> FastAPI:
        app = create_app(container)

        @app.get("/slow")
        async def slow() -> str:
            await go_on.wait()
            return "done"

        @app.get("/stream")
        async def stream(request: Request) -> StreamingResponse:
            async def parts() -> AsyncIterator[bytes]:
                yield b"first"
                await request.app.state.stopping.wait()
                yield b"the service ends"

            return StreamingResponse(parts())

        return app

    monkeypatch.setattr(server, "create_app", with_routes)
    return go_on


async def test_in_the_end_streams_are_told_and_requests_finished(
    run: Run, slow: asyncio.Event
) -> None:
    async with run() as running, httpx2.AsyncClient(base_url=running.url) as client:
        under_way = asyncio.create_task(client.get("/slow"))
        async with client.stream("GET", "/stream") as stream:
            parts = stream.aiter_bytes()
            assert await anext(parts) == b"first"
            signal.raise_signal(signal.SIGTERM)
            assert await anext(parts) == b"the service ends"
        with pytest.raises(httpx2.ConnectError):
            async with httpx2.AsyncClient(base_url=running.url) as late:
                await late.get(WELL)
        slow.set()
        assert (await under_way).json() == "done"
        signal.signal(signal.SIGTERM, lambda *_: None)  # the service has let go of it
    assert running.ended_by is signal.SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


async def test_requests_have_so_much_time_and_no_more(
    run: Run, slow: asyncio.Event, setting: Set, caplog: pytest.LogCaptureFixture
) -> None:
    setting("shutdown_timeout", 0.1)
    caplog.set_level(logging.ERROR)
    async with httpx2.AsyncClient() as client:
        async with run() as running:
            under_way = asyncio.create_task(client.get(running.url + "/slow"))
            await asyncio.sleep(0.2)
        assert (await under_way).status_code == 503
    assert "Cancel 1 running task" in caplog.text


# -- as a command ------------------------------------------------------------------------


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``purveyor serve`` on a free port, and give its address."""
    command = [sys.executable, "-m", "purveyor", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as one:
        assert one.stderr is not None
        try:
            lines = (line for line in one.stderr if line.startswith("Purveyor listens at "))
            yield one, next(lines).split()[-1]
        finally:
            one.kill()


def test_the_command_serves_until_it_is_terminated() -> None:
    with process() as (service, url):
        with httpx2.Client(base_url=url) as client:
            assert (
                client.get(WELL, params={"token": "canary"}).status_code == 422
            )  # it is no parameter
            service.terminate()
            assert service.stderr is not None
            told = service.stderr.read()
        assert service.wait(20) == 0
        assert "canary" not in told
        assert "Traceback" not in told


@pytest.mark.requirement("S4.53")
def test_beyond_this_machine_by_way_of_a_token(cli: Callable[..., Any]) -> None:
    refused = cli("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.exit_code == 2
    assert "error: 0.0.0.0 can be reached from other machines" in refused.stderr
    assert refused.stdout == ""
    text = cli("tokens", "create", "phone", "--role", "reader").stdout.strip()
    with process("--host", "0.0.0.0") as (service, url):
        with httpx2.Client(base_url=f"http://127.0.0.1:{url.rpartition(':')[2]}") as client:
            assert client.get(WELL).status_code == 401
            answer = client.get(WELL, headers={"Authorization": f"Bearer {text}"})
            assert answer.json()["name"] == "filesystem"
        service.send_signal(signal.SIGINT)
        assert service.wait(20) == 130
