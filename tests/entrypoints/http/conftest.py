"""The HTTP API: called in this process, and served on a free port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.entrypoints.http.server import Server
from purveyor.providers.registry import Role

Serve = Callable[..., AbstractAsyncContextManager["Served"]]


@dataclass(frozen=True)
class Served:
    """An application that a real server serves, on the test's own event loop."""

    app: FastAPI
    base_url: str
    server: Server


@pytest.fixture(autouse=True)
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the service's own."""
    monkeypatch.setenv("PURVEYOR_HOME", str(folder / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "keys"))
    return folder / "home"


@pytest.fixture
async def container(home: Path) -> AsyncGenerator[ApplicationContainer]:
    """The container whose providers the API shows, running."""
    container = ApplicationContainer(monitoring=False)
    async with container.lifespan():
        yield container


@pytest.fixture
def app(container: ApplicationContainer) -> FastAPI:
    """The application, of which callers without a token may ask anything."""
    return create_app(container, anonymous=Role.ADMIN)


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client without a token, in this process: it sees a stream when it has ended."""
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://127.0.0.1",
    ) as client:
        yield client


@pytest.fixture
def serve() -> Serve:
    """Serve an application on a free port: ``async with serve(app, **uvicorn_options)``."""

    @asynccontextmanager
    async def serving(app: FastAPI, **options: Any) -> AsyncGenerator[Served]:
        chosen: dict[str, Any] = {
            "log_config": None,
            "http": "h11",
            "ws": "none",
            "lifespan": "off",
        }
        chosen |= {"timeout_graceful_shutdown": 1} | options
        # Named as TCP, or asyncio would leave Nagle's algorithm on: 40 ms a request.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        accepting = asyncio.Event()
        server = Server(uvicorn.Config(app, **chosen), accepting.set)
        running = asyncio.create_task(server.serve([listener]))
        try:
            await asyncio.wait_for(accepting.wait(), 10)
            port = listener.getsockname()[1]
            yield Served(app, f"http://127.0.0.1:{port}", server)
        finally:
            server.should_exit = True
            await running

    return serving


@pytest.fixture
async def served(app: FastAPI, serve: Serve) -> AsyncGenerator[Served]:
    """The application, served."""
    async with serve(app) as served:
        yield served
