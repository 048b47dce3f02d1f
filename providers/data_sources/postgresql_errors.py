"""What PostgreSQL, or the way to it, says when something goes wrong, in the family's words."""

from __future__ import annotations

import ssl
from typing import Any

from ..registry.provider import Call
from .errors import (
    DataSourceConnectionError,
    DataSourceError,
    DataSourcePermissionError,
    DataSourceTimeoutError,
    InvalidQueryError,
    ItemNotFoundError,
    MalformedDataError,
)

__all__ = ["TIMED_OUT", "explain", "is_lost", "sqlstate_of"]

TIMED_OUT = "57014"
"""SQLSTATE of a statement that the server ended, after ``statement_timeout`` above all."""
QUERIES = ("query", "fetch_query")
REMEDIES = {
    "28000": "The server lets this user in from here not at all, or only with TLS or another way "
    "to log in: correct user, database or sslmode, or the server's pg_hba.conf.",
    "28P01": "Correct user and password.",
    "3D000": "Correct the setting database, or create it.",
    "53300": "Lower pool_size, close other connections, or raise the server's max_connections.",
    "57P03": "The server is starting, stopping or recovering: try again later.",
    "42501": "Grant the user the right to do this, or configure another user.",
    "25006": "The source is read-only, and a query must not change anything.",
    TIMED_OUT: "Ask for less, or raise query_timeout.",
}
"""What to do, by SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html)."""
UNREACHABLE = ("08", "3D", "53300", "57P01", "57P02", "57P03", "57P05")
"""SQLSTATEs, or classes of them, of a server that cannot be talked to, or not now."""
ABOUT_THE_STATEMENT = (
    "0A",
    "21",
    "22",
    "23",
    "25",
    "26",
    "2B",
    "2D",
    "2F",
    "34",
    "3B",
    "3F",
    "42",
    "44",
    "54",
    "P0",
    "428",
)
"""Classes of SQLSTATE that tell of the statement, or of what a function in it raised."""

ENDED = ("InternalClientError", "ProtocolError")
"""What asyncpg raises when the server ended a connection that it took to be at rest."""


def sqlstate_of(error: BaseException) -> str:
    """Return the five characters by which PostgreSQL names an error; empty: it is none of its."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """Tell whether an error means that the connection is gone."""
    kind = type(error).__name__
    return (
        isinstance(error, ConnectionError)
        or sqlstate_of(error).startswith(("08", "57P0"))
        or (kind == "InterfaceError" and "clos" in str(error))
        or kind in ENDED
    )


def explain(
    error: Exception, call: Call, *, place: str, user: str | None
) -> DataSourceError | None:
    """Return the family's error for one of asyncpg's or of the network; None: it is neither."""
    name, state = call.provider_name, sqlstate_of(error)
    context: dict[str, object] = {"sqlstate": state} if state else {}
    item = call.argument(0, "item") if call.operation not in QUERIES else None
    if isinstance(item, str):
        context["item"] = item
    else:
        item = None

    def made(kind: type[DataSourceError], why: str, remedy: str = "") -> DataSourceError:
        what = f"{call.operation} on data source {name!r} failed: {why.rstrip('.')}."
        return kind(f"{what} {REMEDIES.get(state, remedy)}".rstrip(), name, context)

    if not state:
        return _explain_client(error, made, place)
    said = _said(error, context)
    if state.startswith("28"):
        who = f"user {user!r}" if user else "the user"
        return made(DataSourcePermissionError, f"{place} refuses {who}")
    if state.startswith(UNREACHABLE):
        return made(
            DataSourceConnectionError,
            f"the connection to {place} broke, or was refused: {said}",
            "Check that the server is running; nothing was kept. Try again.",
        )
    if state == TIMED_OUT:
        return made(DataSourceTimeoutError, f"{place} ended the statement: {said}")
    if state == "42501":
        return made(DataSourcePermissionError, said)
    if item is None and call.operation in QUERIES and state.startswith(ABOUT_THE_STATEMENT):
        return made(InvalidQueryError, said)
    if item is not None and state in ("42P01", "3F000", "42703", "XX000"):
        return made(ItemNotFoundError, f"{item!r} vanished or was changed meanwhile ({said})")
    if item is not None and state.startswith(("22", "21", "P0", "23")):
        return made(MalformedDataError, f"{item!r} cannot be computed ({said})")
    return made(DataSourceError, said)


def _said(error: Any, context: dict[str, object]) -> str:
    """Return the server's message, with the hint and the place in the statement."""
    said = str(error.args[0] if error.args else error).partition("\n")[0].rstrip(".")
    if position := getattr(error, "position", None):
        context["position"] = int(position)
        said += f", at character {position}"
    if hint := getattr(error, "hint", None):
        said += f" ({str(hint).rstrip('.')})"
    return said


def _explain_client(error: Exception, made: Any, place: str) -> DataSourceError | None:
    """Explain what the server did not say itself."""
    library = type(error).__module__.startswith("asyncpg")
    if isinstance(error, ssl.SSLError):  # also where a certificate does not hold
        reason = getattr(error, "verify_message", None) or error.reason or type(error).__name__
        return made(
            DataSourceConnectionError,
            f"no secure connection to {place}: {reason}",
            "Set sslrootcert to the file of who signed its certificate, or correct sslmode.",
        )
    if library and "ClientConfigurationError" in type(error).__name__:
        return made(DataSourceConnectionError, f"no connection to {place}: {error}")
    if isinstance(error, TimeoutError):
        return made(
            DataSourceTimeoutError, f"no answer from {place}", "Check that it can be reached."
        )
    if is_lost(error) or (isinstance(error, OSError) and error.filename is None):
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if type(error).__name__ in ENDED:
            reason = "the server ended it"
        return made(
            DataSourceConnectionError,
            f"no connection to {place}, or it broke: {reason}",
            "Check that the server is running, and that host and port are right. Nothing was kept.",
        )
    return made(DataSourceError, f"{type(error).__name__}: {error}") if library else None
