"""The application: every route over one container."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from ... import __version__
from ...containers import ApplicationContainer
from ...providers.registry import Role
from . import dashboard, openapi, problems
from .container import HttpContainer
from .ending import LastAnswer
from .limits import BodyLimit, RateLimit
from .rates import Rates
from .requests import ObservedRequests
from .routes import (
    chat,
    data_sources,
    events,
    health,
    metrics,
    operations,
    providers,
    types,
)
from .security import OriginCheck, SecurityHeaders, cors
from .stopping import Stopping

__all__ = ["create_app"]


class Service(FastAPI):
    """A FastAPI application whose every answer has the security headers, an error's too."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the application within all that is around it."""
        return SecurityHeaders(super().build_middleware_stack())


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
        anonymous: What callers on this machine without a token may do as long as no token was
            ever made; None: nothing.
    """
    served: Any = container or ApplicationContainer()
    stopping = Stopping()
    http, parts = served.settings().http, HttpContainer(purveyor=served)
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

    app = Service(
        title="Purveyor",
        version=__version__,
        summary="Backing services by name.",
        lifespan=lifespan,
        generate_unique_id_function=openapi.operation_id,
        docs_url=None,  # these pages load scripts from foreign hosts
        redoc_url=None,
        redirect_slashes=False,  # would send to whatever host the request names
        # Newer versions of FastAPI observe by themselves, with the messages of exceptions.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.root_path = http.root_path  # whether or not the proxy takes it off the paths it passes on
    app.state.container = served
    app.state.parts = parts
    app.state.anonymous = anonymous
    app.state.stopping = stopping
    problems.install(app)
    app.add_middleware(BodyLimit, size=http.max_body, timeout=http.body_timeout)
    app.add_middleware(OriginCheck, origins=http.cors_origins)
    rates = Rates(http.rate_limit, http.rate_limit)
    app.add_middleware(RateLimit, tokens=parts.tokens, rates=rates)
    if http.cors_origins:
        app.add_middleware(cors, origins=http.cors_origins)
    api = APIRouter(prefix="/api/v1")
    for one in (providers, data_sources, types, operations, events):
        api.include_router(one.router)
    for router in (api, health.router, chat.router, metrics.router):
        app.include_router(router)
    if http.dashboard:
        dashboard.install(app)
    openapi.install(app)
    app.add_middleware(LastAnswer, stopping=stopping)
    if (telemetry := served.telemetry()) is not None:
        app.add_middleware(ObservedRequests, telemetry=telemetry, prefix=api.prefix)
    return app
