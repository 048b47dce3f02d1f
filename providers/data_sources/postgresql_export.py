"""Rows of PostgreSQL into a file as they come, never all in memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from .postgresql_parquet import ArrowSchema, ParquetFile
from .postgresql_queries import bind, drain, text_of, wrap
from .postgresql_session import Session
from .workspace import Draft

__all__ = ["copy_csv", "write_csv", "write_parquet"]

ResultT = TypeVar("ResultT")

WRITE_BYTES = 512 * 1024
_SPECIAL = re.compile(r'[",\r\n]')


async def copy_csv(session: Session, statement: str, draft: Draft) -> int:
    """Write a statement's answer as CSV, as the server writes it, and return how many rows."""
    parts: list[bytes] = []
    size = 0

    async def flush() -> None:
        nonlocal size
        data = b"".join(parts)
        parts.clear()
        size = 0
        await draft.write(data)

    async def write(data: bytes) -> None:
        nonlocal size
        parts.append(data)  # of some kilobytes each: not every one is worth a turn of a thread
        size += len(data)
        if size >= WRITE_BYTES:
            await flush()
        session.progressed()

    # While a write waits, asyncpg reads no further, and so in the end the server waits.
    status = await session.connection.copy_from_query(
        f"\n{statement}\n", output=write, format="csv", header=True, encoding="UTF8"
    )
    await flush()
    return int(status.split()[-1])


async def write_csv(
    session: Session, statement: str, names: Sequence[str], parameters: Sequence[Any], draft: Draft
) -> int:
    """Do as :func:`copy_csv` for a statement with parameters, which COPY does not take."""
    prepared = await session.connection.prepare(wrap(statement, text_of(len(names))))
    cursor = await bind(prepared, parameters)

    async def write(records: Sequence[Iterable[str | None]]) -> int:
        data = "".join(map(_csv_line, records)).encode()
        await draft.write(data)
        return len(data)

    await write([names])
    return await drain(session, cursor, write)


def _csv_line(values: Iterable[str | None]) -> str:
    line = ",".join(map(_csv_value, values))
    return f'"{line}"\n' if line == "\\." else f"{line}\n"  # alone, COPY takes it for the end


def _csv_value(value: str | None) -> str:
    if value is None:
        return ""
    if value and not _SPECIAL.search(value):
        return value
    return '"' + value.replace('"', '""') + '"'


async def write_parquet(
    session: Session,
    statement: str,
    schema: ArrowSchema,
    parameters: Sequence[Any],
    draft: Draft,
) -> int:
    """Write a statement's answer as Parquet, and return how many rows."""
    prepared = await session.connection.prepare(wrap(statement, schema.expressions))
    cursor = await bind(prepared, parameters)
    file = await _in_thread(ParquetFile, draft, schema)

    async def write(records: Sequence[Any]) -> int:
        return await _in_thread(file.add, records)

    try:
        rows = await drain(session, cursor, write)
        await _in_thread(file.close)
    except BaseException:
        with suppress(Exception):  # what went wrong before is what counts
            file.abandon()
        raise
    return rows


async def _in_thread(function: Callable[..., ResultT], *args: Any) -> ResultT:
    """Run a function in a thread; who is cancelled waits until it has done with the file."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
