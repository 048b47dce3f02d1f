"""The application: every route over one container."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Scope

from ... import __version__
from ...containers import ApplicationContainer
from ...providers.registry import RegistryError, Role
from . import dashboard, openapi, problems
from .chat.errors import is_below_v1
from .container import HttpContainer
from .ending import LastAnswer
from .identity import still_may
from .limits import BodyLimit, RateLimit, Room, declared_size
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

API = "/api/v1"


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

    async def room(scope: Scope) -> Room:
        """Leave room for pictures to those who may ask models."""
        declared = declared_size(scope)
        if is_below_v1(scope) and (declared is None or declared > http.max_body):
            with suppress(RegistryError):  # the route tells what is wrong
                if await still_may(Request(scope), Role.OPERATOR):
                    return Room(served.settings().chat.max_body, "PURVEYOR_CHAT__MAX_BODY")
        return Room(http.max_body, "PURVEYOR_HTTP__MAX_BODY")

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
    app.add_middleware(BodyLimit, room=room, timeout=http.body_timeout)
    app.add_middleware(OriginCheck, origins=http.cors_origins)
    rates = Rates(http.rate_limit, http.rate_limit)
    app.add_middleware(RateLimit, tokens=parts.tokens, rates=rates)
    if http.cors_origins:
        app.add_middleware(cors, origins=http.cors_origins)
    for one in (providers, data_sources, types, operations, events):
        app.include_router(one.router, prefix=API)
    for one in (health, chat, metrics):
        app.include_router(one.router)
    if http.dashboard:
        dashboard.install(app)
    openapi.install(app)
    app.add_middleware(LastAnswer, stopping=stopping)
    if (telemetry := served.telemetry()) is not None:
        app.add_middleware(ObservedRequests, telemetry=telemetry, prefix=API)
    return app
