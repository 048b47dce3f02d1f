"""Who calls, and what he may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ...providers.catalogue import TokenRefusedError
from ...providers.registry import Role
from .parts import Parts, parts_of
from .problems import Problem

__all__ = ["COOKIE", "Admin", "Caller", "MaybeCaller", "Operator", "Reader", "still_may"]

COOKIE = "purveyor_token"
"""Where a browser keeps the token that was given to the dashboard."""

_bearer = HTTPBearer(
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


async def _maybe_caller(
    request: Request,
    parts: Parts,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller | None:
    """Return who calls, None if he did not say; a token that opens nothing is an error."""
    text = credentials.credentials if credentials else request.cookies.get(COOKIE)
    if text:
        token = await parts.tokens().verify(text)
        return Caller(token.name, token.role)
    anonymous: Role | None = request.app.state.anonymous
    if anonymous is not None and not await parts.tokens().exist():
        return Caller("anonymous", anonymous)
    return None


MaybeCaller = Annotated[Caller | None, Depends(_maybe_caller)]


def _needs(role: Role) -> Any:
    async def caller_with(caller: MaybeCaller) -> Caller:
        if caller is None:
            raise Problem(
                401,
                "UNAUTHENTICATED",
                "This needs a token: send it as `Authorization: Bearer TOKEN`. `purveyor tokens "
                "create NAME --role ROLE` makes one.",
                headers={"WWW-Authenticate": 'Bearer realm="purveyor"'},
            )
        if not caller.may(role):
            raise Problem(
                403,
                "PERMISSION_DENIED",
                f"This needs the role {role.name.lower()}; {caller.name} has the role "
                f"{caller.role.name.lower()}.",
            )
        return caller

    return Depends(caller_with)


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
        caller = await _maybe_caller(request, parts_of(request), await _bearer(request))
    except TokenRefusedError:
        return False
    return caller is not None and caller.may(role)
