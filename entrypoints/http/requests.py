"""Requests, observed: each is timed and counted by its route, and a span of its caller's trace."""

from __future__ import annotations

from contextlib import nullcontext
from time import perf_counter
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from ...providers.telemetry import Telemetry

__all__ = ["ObservedRequests"]

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)


class ObservedRequests:
    """
    Observes requests by OpenTelemetry's conventions for HTTP servers.

    A path is told in spans only, and no query or header anywhere; metrics have the route's
    template, so that no caller can make new time series.

    Args:
        app: What answers.
        telemetry: Who observes.
        prefix: What a router's routes are below, which newer versions of FastAPI leave out of a
            route's path.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, prefix: str) -> None:
        self._app = app
        self._telemetry = telemetry
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        known: dict[str, str | int] = {
            "http.request.method": method,
            "url.scheme": scope.get("scheme", "http"),
        }
        span = None
        if self._telemetry.spans is not None:
            headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
            }
            span = self._telemetry.spans.serve(
                _span_name(method), {**known, "url.path": scope["path"]}, headers
            )
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = perf_counter()
        failed: dict[str, str] = {}
        try:
            with span or nullcontext():
                await self._app(scope, receive, sending)
        except BaseException as error:
            failed = {"error.type": type(error).__qualname__}
            if status == 0 and isinstance(error, Exception):
                status = 500  # which is answered further out
            raise
        finally:
            if status >= 500 and not failed:
                failed = {"error.type": str(status)}
            route = self._route(scope)
            if route is not None:
                known["http.route"] = route
            if status:
                known["http.response.status_code"] = status
            if self._telemetry.requests is not None:
                series = self._telemetry.requests.series({**known, **failed})
                series.add(perf_counter() - started)
            if span is not None:
                span.note(known, _span_name(method, route))
                span.end(failed)

    def _route(self, scope: Scope) -> str | None:
        """Return the template of the route that answered; None if there was none."""
        route: str | None = getattr(scope.get("route"), "path", None)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        prefixed = path.startswith(self._prefix) and not (route or "").startswith(self._prefix)
        return f"{self._prefix}{route}" if route is not None and prefixed else route


def _span_name(method: str, route: str | None = None) -> str:
    name = "HTTP" if method == "_OTHER" else method
    return f"{name} {route}" if route else name
