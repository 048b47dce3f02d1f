"""What a caller is told whose request takes longer than the service is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from .conftest import Serve


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/v1/slow", {"status": 503, "code": "SHUTTING_DOWN"}),
        ("/v1/slow", {"error": {"type": "server_error", "code": "shutting_down"}}),
    ],
)
async def test_a_request_that_the_end_cuts_off_is_answered(
    app: FastAPI, serve: Serve, path: str, told: dict[str, object]
) -> None:
    begun = asyncio.Event()

    @app.get(path)
    async def slow() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with httpx2.AsyncClient() as client:
        async with serve(app) as served:
            asking = asyncio.create_task(client.get(served.base_url + path))
            await asyncio.wait_for(begun.wait(), 10)
        answer = await asking
    assert answer.status_code == 503
    assert "content-security-policy" in answer.headers
    body = answer.json()
    found, expected = body.get("error", body), told.get("error", told)
    assert isinstance(expected, dict)
    assert {name: found[name] for name in expected} == expected


async def test_a_connection_that_nobody_reads_is_cut(app: FastAPI, serve: Serve) -> None:
    @app.get("/flood")
    async def flood() -> StreamingResponse:
        async def pieces() -> AsyncGenerator[bytes]:
            while True:
                yield b"x" * 65536

        return StreamingResponse(pieces())

    async with serve(app) as served:
        port = served.base_url.rpartition(":")[2]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /flood HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert served.server.server_state.connections == set()
    writer.transport.abort()
