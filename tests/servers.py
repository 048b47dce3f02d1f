"""Peers that misbehave on purpose, for tests of what happens then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

__all__ = ["FaultyProxy", "RecordingServer"]


class FaultyProxy:
    """
    Passes connections on to a server, until told to do worse.

    Args:
        port: The server's port on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        """Where it listens on 127.0.0.1."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut_upstream_after: int | None = None
        """Bytes from the client after which a connection breaks."""
        self.cut_downstream_after: int | None = None
        """Bytes to the client after which a connection breaks."""
        self.broken = asyncio.Event()
        """Set when a connection broke for one of these."""
        self.silent = False
        """Take connections, and never answer."""
        self.passed = 0
        """Bytes that came through, both ways together."""
        self.flowing = asyncio.Event()
        """While it is not set, everything waits: connections there are, and others."""
        self.flowing.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, after a stop on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Refuse connections, and break those there are."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        peer: asyncio.StreamWriter | None = None
        try:
            if self.silent:
                await asyncio.Event().wait()
            await self.flowing.wait()
            answers, peer = await asyncio.open_connection("127.0.0.1", self._target)
            pumps = {
                asyncio.create_task(self._pump(reader, peer, lambda: self.cut_upstream_after)),
                asyncio.create_task(self._pump(answers, writer, lambda: self.cut_downstream_after)),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except asyncio.CancelledError:
            pass  # stop() ends what is left: the task has nothing to tell anybody
        finally:
            for end in (writer, peer):
                if end is not None:
                    end.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limit: Callable[[], int | None],
    ) -> None:
        passed = 0
        while data := await reader.read(65536):
            passed += len(data)
            most = limit()  # may be set while the connection is open
            if most is not None and passed > most:
                self.broken.set()
                return
            await self.flowing.wait()
            self.passed += len(data)
            writer.write(self.passing(data))
            await writer.drain()

    def passing(self, data: bytes) -> bytes:
        """Return what is passed on of what came."""
        return data


class RecordingServer:
    """An HTTP server that answers 200 to everything and keeps the request lines and headers."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head)
        writer.write(
            b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
        )
        await writer.drain()
        writer.close()
