"""Statements to PostgreSQL: what may be asked, with what values, and how an answer is read."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from ..registry.errors import RegistryError
from .base import Column
from .errors import InvalidQueryError, MalformedDataError
from .postgresql_items import is_text
from .postgresql_session import Session

__all__ = ["TEXT", "bind", "columns_of", "decoding", "drain", "plain", "prepare", "text_of", "wrap"]

BATCH_BYTES = 1024 * 1024
"""About how much is fetched from a cursor at once."""
FIRST_ROWS = 16
MOST_ROWS = 10_000

FORMAT_TYPES = """
    SELECT pg_catalog.format_type(type, NULL)
      FROM pg_catalog.unnest($1::pg_catalog.oid[]) WITH ORDINALITY AS types (type, number)
     ORDER BY number
"""
TEXT = (
    "CASE WHEN pg_catalog.num_nulls({0}) OPERATOR(pg_catalog.=) 0 "
    "THEN pg_catalog.format('%s', {0}) END"
)
"""An expression as text, exactly as COPY writes it (a cast says true where COPY says t)."""


async def prepare(session: Session, statement: str, *, read_only: bool) -> Any:
    """
    Have the server check a statement, and return it prepared.

    Only one statement can be prepared, so there is none that could end the transaction and go on
    without it. In a read-only transaction there has to be an answer too, which leaves out ``SET``,
    ``COPY``, ``NOTIFY``, ``DO`` and the like.

    Raises:
        InvalidQueryError: It can neither be sent nor have an answer.
    """
    if not is_text(statement):
        raise InvalidQueryError("The statement holds a character that PostgreSQL has not.")
    prepared = await session.connection.prepare(statement)
    if read_only and not prepared.get_attributes():
        raise InvalidQueryError(
            "The statement has no rows to give, so it could only change something, and the source "
            "is read-only. Ask with SELECT, VALUES, TABLE, WITH, SHOW or EXPLAIN."
        )
    return prepared


async def bind(prepared: Any, parameters: Sequence[Any]) -> Any:
    """
    Return a cursor on a statement's answer.

    Raises:
        InvalidQueryError: The parameters are too many, too few, or of the wrong type. The message
            does not repeat them.
    """
    types = prepared.get_parameters()
    if len(types) != len(parameters):
        raise InvalidQueryError(
            f"The statement has {len(types)} parameters ($1 ...), and {len(parameters)} were given."
        )
    try:
        return await prepared.cursor(*parameters)
    except Exception as error:  # of asyncpg's, before anything is sent; the rest goes on
        match = re.match(r"invalid input for query argument \$(\d+)", str(error))
        if match is None:
            raise
        number = int(match[1])
        given, wanted = type(parameters[number - 1]).__name__, types[number - 1].name
        raise InvalidQueryError(
            f"Parameter ${number} does not fit: the server takes it for {wanted}, and it is a "
            f"{given} of Python. Give a value of the matching type, or cast it in the statement "
            f"(${number}::text::{wanted}).",
            context={"parameter": number},
        ) from None


async def drain(
    session: Session, cursor: Any, write: Callable[[Sequence[Any]], Awaitable[int]]
) -> int:
    """
    Write all rows of a cursor, about a mebibyte of them at once, and return how many.

    Args:
        session: Is told of each batch.
        cursor: Of :func:`bind`.
        write: Writes a batch, and returns how many bytes it had.
    """
    rows, count = 0, FIRST_ROWS
    while records := await _next(cursor, count):
        session.progressed()
        size = await write(records)
        session.progressed()
        rows += len(records)
        fitting = BATCH_BYTES * len(records) // max(1, size)
        count = max(1, min(count * 8, fitting, MOST_ROWS))
    return rows


async def _next(cursor: Any, count: int) -> Any:
    with decoding():
        return await cursor.fetch(count)


async def columns_of(session: Session, prepared: Any) -> tuple[Column, ...]:
    """Return the columns of a statement's answer, their types in the server's own words."""
    attributes = prepared.get_attributes()
    oids = [attribute.type.oid for attribute in attributes]
    types = await session.connection.fetch(FORMAT_TYPES, oids) if oids else ()
    return tuple(
        Column(attribute.name, row[0]) for attribute, row in zip(attributes, types, strict=True)
    )


def wrap(statement: str, expressions: Sequence[str]) -> str:
    """
    Return a statement that computes expressions over the rows of another, in their order.

    Args:
        statement: One that was prepared by itself, and so cannot reach out of its parentheses.
        expressions: One for each of its columns, ``{0}`` in the place of it.
    """
    names = [f"c{number}" for number in range(1, len(expressions) + 1)]
    chosen = ", ".join(
        expression.format(f"q.{name}") for name, expression in zip(names, expressions, strict=True)
    )
    return f"SELECT {chosen} FROM (\n{statement}\n) AS q ({', '.join(names)})"  # noqa: S608 - see Args


def text_of(count: int) -> list[str]:
    """Return the expressions that give a number of columns as text."""
    return [TEXT] * count


@contextmanager
def decoding() -> Generator[None, None, None]:
    """
    Read rows within.

    Raises:
        MalformedDataError: PostgreSQL has a value that Python has not.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        if isinstance(error, RegistryError):
            raise
        raise MalformedDataError(
            f"A value in the answer is none that Python can hold ({error}), a date before the year "
            "1 perhaps. Cast its column to text in a query, or fetch CSV, which holds any."
        ) from error


def plain(value: Any) -> Any:
    """Return a value of asyncpg's own types as one of Python's."""
    kind = cast("type[Any]", type(value))
    if kind is list:
        return [plain(inner) for inner in value]
    if kind is tuple:
        return tuple(plain(inner) for inner in value)
    if not kind.__module__.startswith("asyncpg"):
        return value
    if isinstance(value, UUID):
        return UUID(int=value.int)
    if kind.__name__ == "Record":
        return {name: plain(inner) for name, inner in value.items()}
    if kind.__name__ == "BitString":
        return value.as_string()
    if kind.__name__ == "Range":
        return _range(value)
    return tuple(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else str(value)


def _range(value: Any) -> str:
    if value.isempty:
        return "empty"
    lower = "" if value.lower is None else value.lower
    upper = "" if value.upper is None else value.upper
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"
