"""Who calls, and what he may do."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from ...providers.catalogue import ANONYMOUS, Token, TokenRefusedError
from ...providers.registry import PermissionDeniedError, Role
from .addresses import address_of, is_loopback, is_loopback_host
from .parts import Parts, parts_of
from .problem import Problem
from .rates import too_often

__all__ = [
    "COOKIE",
    "Admin",
    "Caller",
    "MaybeCaller",
    "Operator",
    "Reader",
    "clear_cookie",
    "set_cookie",
    "still_may",
    "token_text",
    "verify",
]

COOKIE = "purveyor_token"
"""Where a browser keeps the token that was given to the dashboard."""
_ASK = 'Bearer realm="purveyor"'
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-real-ip")

logger = logging.getLogger(__name__)

_bearer = HTTPBearer(  # for the OpenAPI document; the header is read by `token_text`
    auto_error=False, description="A token of `purveyor tokens create`.", scheme_name="token"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Who sent a request.

    Args:
        name: The token's name; ``anonymous`` where none is needed.
        role: What he may do.
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Tell whether he may do what a role may."""
        return self.role >= role


def token_text(headers: Headers) -> str | None:
    """Return the token of a request, None if it shows none: that of the header, or the cookie's."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    cookie = headers.get("cookie")
    return cookie_parser(cookie).get(COOKIE) or None if cookie else None


def set_cookie(response: Response, request: Request, text: str) -> None:
    """
    Have a browser keep a token until it is closed, out of reach of scripts and other sites.

    Args:
        response: The answer that tells the browser.
        request: What it answers: over HTTPS the cookie is not sent without.
        text: The token, which the caller has verified.
    """
    response.set_cookie(COOKIE, text, **_cookie(request))


def clear_cookie(response: Response, request: Request) -> None:
    """Have a browser forget its token."""
    response.delete_cookie(COOKIE, **_cookie(request))


def _cookie(request: Request) -> dict[str, Any]:
    return {
        "path": request.scope.get("root_path") or "/",
        "secure": request.scope["scheme"] == "https",
        "httponly": True,
        "samesite": "strict",
    }


async def verify(request: Request, text: str) -> Token:
    """
    Return the token that a caller has shown, also in a form.

    Raises:
        TokenRefusedError: It is unknown, expired or revoked.
        Problem: The address has shown too many of such (429).
        CatalogueUnavailableError: Nobody can tell.
    """
    parts = parts_of(request)
    try:
        return await parts.tokens().verify(text)
    except TokenRefusedError as error:
        _log(request, error.message)
        if wait := parts.refusals().tokens.take(address_of(request.scope)):
            raise too_often("Too many tokens that open nothing.", wait) from error
        raise


async def _maybe_caller(
    request: Request, parts: Parts, _: Annotated[object, Depends(_bearer)]
) -> Caller | None:
    """Return who calls, None if he did not say; a token that opens nothing is an error."""
    anonymous: Role | None = request.app.state.anonymous
    if anonymous and _is_local(request) and not await parts.tokens().were_made():
        return Caller(ANONYMOUS, anonymous)  # whatever he shows: some clients always send a key
    text = token_text(request.headers)
    if text is None:
        return None
    token = await verify(request, text)
    return Caller(token.name, token.role)


def _is_local(request: Request) -> bool:
    """
    Tell whether a request comes from this machine, and was sent to it by that name.

    A page of somebody else's whose name leads here (DNS rebinding) sends its own name; a proxy
    on this machine says that it is one.
    """
    client, headers = request.client, request.headers
    return (
        (client is None or is_loopback(client.host))
        and is_loopback_host(headers.get("host", ""))
        and not any(name in headers for name in _FORWARDED)
    )


MaybeCaller = Annotated[Caller | None, Depends(_maybe_caller)]


def _needs(role: Role) -> Any:
    async def caller_with(request: Request, parts: Parts, caller: MaybeCaller) -> Caller:
        if caller is None:
            _log(request, "no token")
            raise Problem(
                401,
                "UNAUTHENTICATED",
                "This needs a token: send it as `Authorization: Bearer TOKEN`. `purveyor tokens "
                "create NAME --role ROLE` makes one.",
                headers={"WWW-Authenticate": _ASK},
            )
        if caller.may(role):
            return caller
        denied = PermissionDeniedError(
            f"This needs the role {role.name.lower()}; {caller.name} has the role "
            f"{caller.role.name.lower()}. `purveyor tokens create NAME --role {role.name.lower()}` "
            "makes a token that may."
        )
        if not parts.refusals().records.take(caller.name):
            action = getattr(request.scope.get("route"), "name", request.method.lower())
            target = "/".join(map(str, request.path_params.values())) or request.scope["path"]
            await parts.audit().write(caller.name, action, target, denied)
        raise denied

    return Depends(caller_with)


def _log(request: Request, why: str) -> None:
    if not parts_of(request).refusals().lines.take(""):
        address, path = address_of(request.scope), request.scope["path"][:200]
        logger.warning("refused %s %r of %s: %s", request.method, path, address, why)


Reader = Annotated[Caller, _needs(Role.READER)]
Operator = Annotated[Caller, _needs(Role.OPERATOR)]
Admin = Annotated[Caller, _needs(Role.ADMIN)]


async def still_may(request: Request, role: Role) -> bool:
    """
    Tell whether who sent a request may do what a role may, now: his token may be gone meanwhile.

    Raises:
        CatalogueUnavailableError: The database of the tokens cannot be reached.
    """
    try:
        caller = await _maybe_caller(request, parts_of(request), None)
    except (TokenRefusedError, Problem):  # the latter: he has tried too many
        return False
    return caller is not None and caller.may(role)
