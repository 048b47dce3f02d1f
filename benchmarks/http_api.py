"""What a page of 1,000 providers costs over HTTP: ``uv run python benchmarks/http_api.py``."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import verdict

RATE = 500
"""Requests a second, sent whether the ones before are answered or not."""
SECONDS = 3.0
ROUNDS = 3
PROVIDERS = 1_000
CONNECTIONS = 16
PATH = "/api/v1/providers"


def serve(kind: str, port: int) -> None:
    """Serve the API, or a bare route with the same bytes, on the first core; never returns."""
    import uvicorn
    from fastapi import FastAPI, Response

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if kind == "bare":
        body = Path("page.json").read_bytes()
        app = FastAPI()

        @app.get(PATH)
        async def page() -> Response:
            return Response(body, media_type="application/json")

        _ = page
    else:
        app = _api()
    uvicorn.run(app, port=port, log_level="warning", access_log=False, http="h11")  # as `serve`


def _api() -> Any:
    from purveyor.containers import ApplicationContainer
    from purveyor.entrypoints.http import create_app
    from purveyor.settings import Settings

    providers = {
        f"p{number:04}": {"type": "filesystem", "root": f"data/{number}"}
        for number in range(PROVIDERS)
    }
    storage: Any = {"providers": providers}
    return create_app(ApplicationContainer(settings=Settings(storage=storage)))


async def token() -> str:
    """Make a token with the role reader, as a deployed service has."""
    from purveyor.containers import ApplicationContainer
    from purveyor.entrypoints.http.container import HttpContainer
    from purveyor.providers.registry import Role

    container: Any = ApplicationContainer(monitoring=False)
    async with container.lifespan():
        _, text = await HttpContainer(purveyor=container).tokens().create("load", Role.READER)
    return text


class Client:
    """One connection, which sends a request and reads its answer, one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, request: bytes) -> bytes:
        """Return the body of an answer that has to be 200."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        fields = (line.partition(b":") for line in head.lower().split(b"\r\n")[1:])
        length = next(int(value) for name, _, value in fields if name == b"content-length")
        return await self._reader.readexactly(length)

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()


async def load(port: int, request: bytes) -> list[float]:
    """
    Return milliseconds from when each request was to be sent until it was answered.

    A request that has to wait for a connection waits on the server's account.
    """
    idle: asyncio.Queue[Client] = asyncio.Queue()
    clients = [
        Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(CONNECTIONS)
    ]
    for client in clients:
        await client.get(request)
        idle.put_nowait(client)
    latencies: list[float] = []

    async def one(intended: float) -> None:
        client = await idle.get()
        await client.get(request)
        latencies.append((time.perf_counter() - intended) * 1000)
        idle.put_nowait(client)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(RATE * SECONDS)):
            intended = started + number / RATE
            await asyncio.sleep(max(0.0, intended - time.perf_counter()))
            group.create_task(one(intended))
    for client in clients:
        await client.close()
    return latencies


async def fetched(port: int, request: bytes) -> bytes:
    """Return the answer of a server that may not be up yet."""
    async with asyncio.timeout(60):
        while True:
            try:
                client = Client(*await asyncio.open_connection("127.0.0.1", port))
                break
            except OSError:
                await asyncio.sleep(0.1)
        body = await client.get(request)
        await client.close()
        return body


def cpu_of(process: subprocess.Popen[bytes]) -> float:
    """Return the seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(kind: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server, and return it with its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    command = [sys.executable, str(Path(__file__).resolve()), kind, str(port)]
    return subprocess.Popen(command), port


def quantile(values: list[float], part: float) -> float:
    """Return the value below which ``part`` of them lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


async def main() -> None:
    """Print latencies and the share of a core, of the API and of the bare route."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    head = f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {await token()}\r\n"
    request = f"{head}\r\n".encode()
    servers = {"api": started("api")}
    try:
        body = await fetched(servers["api"][1], request)
        page = json.loads(body)
        assert len(page["items"]) == 50
        assert page["next"]
        await asyncio.to_thread(Path("page.json").write_bytes, body)
        servers["bare"] = started("bare")
        assert await fetched(servers["bare"][1], request) == body
        print(f"{len(body)} bytes a page; {RATE} requests/s for {SECONDS:g} s, {ROUNDS} rounds")
        found: dict[str, dict[str, list[float]]] = {
            kind: {"p50": [], "p99": [], "core": []} for kind in servers
        }
        for _ in range(ROUNDS):
            for kind, (process, port) in servers.items():
                before = cpu_of(process)
                latencies = await load(port, request)
                figures = found[kind]
                figures["core"].append(100 * (cpu_of(process) - before) / SECONDS)
                figures["p50"].append(quantile(latencies, 0.5))
                figures["p99"].append(quantile(latencies, 0.99))
        for kind, figures in found.items():
            told = ", ".join(
                f"{name} {statistics.median(of):.1f} ({min(of):.1f} to {max(of):.1f})"
                for name, of in figures.items()
            )
            print(f"{kind}: {told} (ms, ms, % of a core)")
        verdict(f"p99 at {RATE}/s, ms", statistics.median(found["api"]["p99"]), 50)
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1], int(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            os.environ["PURVEYOR_HOME"] = folder
            os.environ["XDG_CONFIG_HOME"] = folder
            asyncio.run(main())
