"""What keeps web pages of others out, and tells browsers what ours may do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .addresses import is_loopback_host
from .problem import Problem
from .problems import as_response

__all__ = ["OriginCheck", "SecurityHeaders", "cors"]

_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; object-src 'none'; "
     b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]  # fmt: skip
_UNKEPT = [*_HEADERS, (b"cache-control", b"no-store")]
_HTTPS = (b"strict-transport-security", b"max-age=31536000")
_STATIC = "/static/"
"""Below it is what anybody may keep."""
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
"""Methods that change nothing (RFC 9110, 9.2.1)."""


def cors(app: ASGIApp, origins: Sequence[str]) -> CORSMiddleware:
    """Let pages of other origins call the application with a token, not with a cookie."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match",
                       "If-None-Match", "Last-Event-ID"],
        expose_headers=["ETag", "Link", "Location", "Retry-After", "WWW-Authenticate"],
    )  # fmt: skip


class SecurityHeaders:
    """
    Put the headers that browsers go by on every answer, where the answer has none of its own.

    Only what is below ``/static/`` may be kept by clients. HTTPS is asked for in the future
    where it is in use, but not of ``localhost``, whose other ports belong to others.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ours = _ours(scope)  # now: what is mounted within changes the scope

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                message["headers"] = own + [one for one in ours if one[0] not in names]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _ours(scope: Scope) -> list[tuple[bytes, bytes]]:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    headers = _HEADERS if path.startswith(_STATIC) else _UNKEPT
    if scope["scheme"] == "https" and not is_loopback_host(Headers(scope=scope).get("host", "")):
        return [*headers, _HTTPS]
    return headers


class OriginCheck:
    """
    Refuse (403) a request that changes something and comes from a page of somebody else's.

    A browser says so in ``Sec-Fetch-Site`` or ``Origin``; programs send neither. So no page can
    use the cookie of who looks at it, or that he needs no token.

    Args:
        app: What answers.
        origins: Of others, from which it is allowed.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] not in _SAFE:
            headers = Headers(scope=scope)
            if not self._is_allowed(headers):
                came_from = headers.get("origin") or "another site"
                problem = Problem(
                    403,
                    "CROSS_ORIGIN",
                    f"A page of {came_from} may change nothing here. Name its origin in "
                    "PURVEYOR_HTTP__CORS_ORIGINS if it may.",
                )
                await as_response(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin in self._origins:
            return True
        if site := headers.get("sec-fetch-site"):
            return site in ("same-origin", "none")
        return origin is None or _host_of(origin) == headers.get("host", "").lower()


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
