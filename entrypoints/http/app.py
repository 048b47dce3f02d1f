"""The application: every route over one container."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI

from ... import __version__
from ...containers import ApplicationContainer
from ...providers.registry import Role
from . import dashboard, openapi, problems
from .container import HttpContainer
from .requests import ObservedRequests
from .routes import chat, data_sources, events, health, metrics, operations, providers, types
from .stopping import Stopping

__all__ = ["create_app"]


def create_app(
    container: ApplicationContainer | None = None, *, anonymous: Role | None = None
) -> FastAPI:
    """
    Return the HTTP API of a container, to be served or mounted in another application.

    ::

        app.mount("/purveyor", create_app(container))

    A mounted application has no lifespan of its own: the one it is mounted in runs
    ``container.lifespan()``.

    Args:
        container: What it shows; one of the environment's settings when not given.
        anonymous: What callers without a token may do as long as no token was ever made; None:
            nothing.
    """
    served: Any = container or ApplicationContainer()
    stopping = Stopping()
    parts = HttpContainer(purveyor=served)
    parts.events()  # what comes up from now on is told

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        stopping.clear()
        with parts.events().listening():
            async with served.lifespan():
                try:
                    yield
                finally:
                    stopping.set()

    app = FastAPI(
        title="Purveyor",
        version=__version__,
        summary="Backing services by name.",
        lifespan=lifespan,
        root_path=served.settings().http.root_path,
        generate_unique_id_function=openapi.operation_id,
        docs_url=None,  # these pages load scripts from foreign hosts
        redoc_url=None,
        # Newer versions of FastAPI observe by themselves, with the messages of exceptions.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.container = served
    app.state.parts = parts
    app.state.anonymous = anonymous
    app.state.stopping = stopping
    problems.install(app)
    api = APIRouter(prefix="/api/v1")
    for one in (
        providers.router,
        data_sources.router,
        types.router,
        operations.router,
        events.router,
    ):
        api.include_router(one)
    for one in (api, health.router, chat.router, metrics.router):
        app.include_router(one)
    openapi.install(app)
    if served.settings().http.dashboard:
        dashboard.install(app)
    if (telemetry := served.telemetry()) is not None:
        app.add_middleware(ObservedRequests, telemetry=telemetry, prefix=api.prefix)
    return app
