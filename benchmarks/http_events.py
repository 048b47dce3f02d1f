"""A storm of events and many who follow it: ``uv run python benchmarks/http_events.py``."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from measure import verdict

FAST, SLOW, STOPPED = 160, 20, 20
EVENTS = 50_000
TURN = 100
"""Events that come up before anybody else gets a turn of the event loop."""
EVENT = "provider-error"
END = b"event: provider-unregistered\n"


def quantile(values: list[float], part: float) -> float:
    """Return the value below which ``part`` of them lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


# -- the server, a process of its own ----------------------------------------------------


async def serve() -> None:
    """Serve the API; for each line of standard input let a storm come up, and tell how it was."""
    import uvicorn

    from purveyor.containers import ApplicationContainer
    from purveyor.entrypoints.http import create_app
    from purveyor.providers.registry import Role
    from purveyor.providers.registry.errors import ConnectionFailedError
    from purveyor.providers.registry.events import ProviderErrorOccurred, ProviderUnregistered

    container = ApplicationContainer()
    app = create_app(container, anonymous=Role.READER)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.01)
    print(listener.getsockname()[1], flush=True)
    emit = container.events().emit
    error = ConnectionFailedError("connection refused by the server at 10.0.0.1:9000", "a")
    while await asyncio.to_thread(sys.stdin.readline):
        latencies: list[float] = []
        started = time.perf_counter()
        for number in range(EVENTS):
            event = ProviderErrorOccurred("storage", "a", error)
            before = time.perf_counter()
            emit(event)
            latencies.append((time.perf_counter() - before) * 1e6)
            if number % TURN == TURN - 1:
                await asyncio.sleep(0)
        seconds = time.perf_counter() - started
        emit(ProviderUnregistered("storage", "a"))
        told = {
            "seconds": seconds,
            "p50": quantile(latencies, 0.5),
            "p99": quantile(latencies, 0.99),
        }
        print(json.dumps(told), flush=True)
    app.state.stopping.set()
    server.should_exit = True
    await serving


# -- the clients -------------------------------------------------------------------------


class Client:
    """One who follows: counts what it receives, and what it is told that it missed."""

    def __init__(self, pause: float | None) -> None:
        self.pause = pause
        self.received = self.missed = 0
        self.hurry = asyncio.Event()
        self._rest = b""

    async def run(self, port: int, ready: asyncio.Semaphore) -> None:
        """Follow until the storm's end is told."""
        taking = socket.socket()
        if self.pause is not None:  # else the kernel reads on for it, megabytes
            taking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        taking.setblocking(False)
        await asyncio.get_running_loop().sock_connect(taking, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=taking, limit=16 * 1024)
        writer.write(b"GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"retry: 2000\n")
        ready.release()
        try:
            while True:
                if self.pause is not None and not self.hurry.is_set():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.hurry.wait(), self.pause)
                data = await reader.read(64 * 1024)
                if not data or self._take(data):
                    return
        finally:
            writer.close()

    def _take(self, data: bytes) -> bool:
        whole, separator, self._rest = (self._rest + data).rpartition(b"\n\n")
        whole += separator
        self.received += whole.count(b"event: %s\n" % EVENT.encode())
        self.missed += sum(map(int, re.findall(rb'{"missed": (\d+)}', whole)))
        return END in whole


def resident(pid: int) -> float:
    """Return the memory of a process, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def watched(pid: int, figures: list[float]) -> None:
    """Note the memory of a process again and again."""
    while True:
        figures.append(resident(pid))
        await asyncio.sleep(0.02)


async def storm(server: Any) -> dict[str, float]:
    """Let a storm come up, and return what the server tells of it."""
    server.stdin.write(b"\n")
    return json.loads(await server.stdout.readline())


async def main() -> None:
    """Print the server's memory, how long emitting takes, and whether everything adds up."""
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            "--serve",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=folder,
        )
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(await server.stdout.readline())
        await storm(server)  # not counted: everything is imported and the ring is full
        alone = await storm(server)
        memory: list[float] = []
        before = resident(server.pid)
        clients = [Client(pause) for pause in (None,) * FAST + (0.2,) * SLOW + (3600.0,) * STOPPED]
        ready = asyncio.Semaphore(0)
        watching = asyncio.create_task(watched(server.pid, memory))
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run(port, ready))
            for _ in clients:
                await ready.acquire()
            connected = resident(server.pid)
            followed = await storm(server)
            await asyncio.sleep(1.0)
            for client in clients:
                client.hurry.set()
        watching.cancel()
        server.stdin.close()
        await server.wait()

    for name, found in (("nobody", alone), (f"{len(clients)} clients", followed)):
        print(
            f"{EVENTS} events, {name}: {found['seconds']:.2f} s, "
            f"emitting, us: p50 {found['p50']:.1f}, p99 {found['p99']:.1f}",
            file=sys.stderr,
        )
    for name, some in (
        ("fast", clients[:FAST]),
        ("slow", clients[FAST:-STOPPED]),
        ("stopped", clients[-STOPPED:]),
    ):
        received = [client.received for client in some]
        print(
            f"{len(some)} {name}: received {min(received)} to {max(received)}, missed the rest",
            file=sys.stderr,
        )
    print(
        f"server, MiB: {before:.0f} alone, {connected:.0f} with {len(clients)} clients, "
        f"{max(memory):.0f} at most",
        file=sys.stderr,
    )
    wrong = [one for one in clients if one.received + one.missed != EVENTS]
    verdict("clients whose received and missed events do not add up", len(wrong), 0)
    verdict("MiB more at most, than before there were clients", max(memory) - before, 64)
    verdict("p50 of emitting, with clients over without", followed["p50"] / alone["p50"], 2)
    verdict("p99 of emitting, us", followed["p99"], 100)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(serve() if "--serve" in sys.argv else main())
