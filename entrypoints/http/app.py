"""The application: every route over one container."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI

from ... import __version__
from ...containers import ApplicationContainer
from ...providers.registry import Role
from . import problems
from .container import HttpContainer
from .requests import ObservedRequests
from .routes import metrics, providers

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

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with served.lifespan():
            yield

    app = FastAPI(
        title="Purveyor",
        version=__version__,
        summary="Backing services by name.",
        lifespan=lifespan,
        root_path=served.settings().http.root_path,
    )
    app.state.container = served
    app.state.parts = HttpContainer(purveyor=served)
    app.state.anonymous = anonymous
    problems.install(app)
    api = APIRouter(prefix="/api/v1")
    for one in (providers.router,):
        api.include_router(one)
    app.include_router(api)
    app.include_router(metrics.router)
    if (telemetry := served.telemetry()) is not None:
        app.add_middleware(ObservedRequests, telemetry=telemetry)
    return app
