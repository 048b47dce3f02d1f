"""``purveyor tokens``: who may call the HTTP API."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from ...containers import ApplicationContainer
from ...providers.catalogue import CLI, AuditLog, Catalogue, Token, Tokens
from ...providers.registry import Role, import_extra
from .output import print_json, print_table, tell
from .session import Session, cancel_on_signals

__all__ = ["app", "with_catalogue"]

app = typer.Typer(
    help="Access tokens of the HTTP API.", no_args_is_help=True, rich_markup_mode=None
)

ResultT = TypeVar("ResultT")
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class RoleName(StrEnum):
    """The roles, as they are written."""

    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"


def _lifetime(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9]\d{0,9})([smhdw])", text)
    if not found or (time := timedelta(**{_UNITS[found[2]]: int(found[1])})).days > 36_500:
        raise typer.BadParameter(
            f"{text!r} is no time: give a number and s, m, h, d or w, 100 years at most, as 30d."
        )
    return time


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="For whom: so the records of changes name him.")],
    role: Annotated[
        RoleName,
        typer.Option(help="reader: look. operator: also use, test, stop. admin: change all."),
    ],
    expires: Annotated[
        timedelta | None,
        typer.Option(parser=_lifetime, metavar="TIME", help="When it ends: 12h, 30d, 8w."),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Make a token, and write it to stdout: it is shown this once.

    Example: purveyor tokens create ci --role operator --expires 30d > ci.token
    """

    async def work(catalogue: Catalogue, audit: AuditLog) -> tuple[Token, str]:
        async with _recorded(audit, "create-token", name):
            return await Tokens(catalogue).create(name, Role[role.name], lifetime=expires)

    token, text = with_catalogue(context, work)
    if as_json:
        print_json({**token.to_dict(), "token": text})
        return
    typer.echo(text)
    tell(
        f"This is the token {name!r} (id {token.id}, role {role}), good "
        f"{_until(token)}. It is shown this once: keep it where nobody else reads it."
    )


@app.command("list")
def list_tokens(context: typer.Context, as_json: Json = False) -> None:
    """
    Show all tokens, but not what opens anything, the oldest first.

    Example: purveyor tokens list
    """

    async def work(catalogue: Catalogue, _: AuditLog) -> list[Token]:
        return await Tokens(catalogue).list()

    found = with_catalogue(context, work)
    if as_json:
        print_json([token.to_dict() for token in found])
        return
    print_table(
        ("name", "id", "role", "created", "state"),
        [
            (one.name, one.id, one.role.name.lower(), _minute(one.created_at), _state(one))
            for one in found
        ],
    )


@app.command()
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="The token's name or id.")],
) -> None:
    """
    End a token: within 5 seconds it opens nothing any more.

    Example: purveyor tokens revoke ci
    """

    async def work(catalogue: Catalogue, audit: AuditLog) -> Token:
        async with _recorded(audit, "revoke-token", name):
            return await Tokens(catalogue).revoke(name)

    token = with_catalogue(context, work)
    tell(f"The token {token.name!r} (id {token.id}) opens nothing any more.")


def with_catalogue(
    context: typer.Context, work: Callable[[Catalogue, AuditLog], Awaitable[ResultT]]
) -> ResultT:
    """Await ``work`` with the catalogue and its records; no provider is registered or connected."""
    import_extra("sqlalchemy", extra="catalogue")
    session: Session = context.obj

    async def inside() -> ResultT:
        cancel_on_signals()
        settings = session.settings()
        catalogue = ApplicationContainer(settings=settings).catalogue()
        try:
            return await work(catalogue, AuditLog(catalogue, days=settings.http.audit_days))
        finally:
            await catalogue.close()

    return asyncio.run(inside())


@asynccontextmanager
async def _recorded(audit: AuditLog, action: str, name: str) -> AsyncGenerator[None]:
    """Record what becomes of the block, by who is logged in."""
    try:
        caller = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no name
        caller = str(os.getuid())
    try:
        yield
    except Exception as error:
        await audit.write(CLI + caller, action, f"tokens/{name}", error)
        raise
    await audit.write(CLI + caller, action, f"tokens/{name}")


def _until(token: Token) -> str:
    return f"until {_minute(token.expires_at)}" if token.expires_at else "until it is revoked"


def _state(token: Token) -> str:
    if token.revoked_at:
        return f"revoked {_minute(token.revoked_at)}"
    if not token.is_valid and token.expires_at:
        return f"expired {_minute(token.expires_at)}"
    return f"good {_until(token)}"


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
