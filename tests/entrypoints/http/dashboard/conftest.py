"""The demo's container behind the dashboard."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http.container import HttpContainer
from purveyor.providers.registry import Role

from . import demo

Browse = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def backends() -> dict[str, demo.Backend]:
    """What stands behind the providers, by host."""
    return {"sftp.example": demo.Backend(fails="sftp.example:22 refused the connection")}


@pytest.fixture
async def container(
    home: Path, backends: dict[str, demo.Backend]
) -> AsyncGenerator[ApplicationContainer]:
    """The demo, running, with a past."""
    container = demo.container(backends, **demo.settings())
    async with container.lifespan():
        await demo.play(container)
        yield container


@pytest.fixture
def browse() -> Browse:
    """Ask for pages of an application; ``async with browse(app) as client``."""

    @asynccontextmanager
    async def browsing(
        app: FastAPI,
        *,
        token: str = "",
        base_url: str = "http://127.0.0.1",
        root_path: str = "",
    ) -> AsyncGenerator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False, root_path=root_path)
        cookies = {"purveyor_token": token} if token else None
        async with httpx2.AsyncClient(
            transport=transport, base_url=base_url, cookies=cookies
        ) as client:
            yield client

    return browsing


async def token_of(app: FastAPI, role: Role, *, lifetime: timedelta | None = None) -> str:
    """Make a token for a role."""
    parts: HttpContainer = app.state.parts
    _, text = await parts.tokens().create(f"{role.name.lower()} of a test", role, lifetime=lifetime)
    return text
