"""The statements: what is read from the tables, and written to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .model import registrations as table

__all__ = [
    "Key",
    "Row",
    "Sealed",
    "after",
    "between",
    "change",
    "now",
    "put",
    "read",
    "remove",
    "reseal",
]

Key = tuple[str, str]
_MANY = 500
"""Keys beyond which all rows are read: a statement takes only so many parameters."""


class Row(NamedTuple):
    """A row of the table."""

    family: str
    name: str
    type: str
    config: dict[str, Any]
    secrets: dict[str, str]
    version: int
    updated_at: datetime


class Sealed(NamedTuple):
    """The secrets of a row, encrypted."""

    family: str
    name: str
    version: int
    secrets: Mapping[str, str]

    @property
    def key(self) -> Key:
        """Family and name."""
        return self.family, self.name


_columns = select(*(table.c[name] for name in Row._fields))
_key = tuple_(table.c.family, table.c.name)
_sealed = select(*(table.c[name] for name in Sealed._fields)).order_by(table.c.family, table.c.name)


async def read(
    connection: AsyncConnection,
    keys: Collection[Key] | None = None,
    family: str | None = None,
) -> list[Row]:
    """Return the rows of ``keys``, of a family, or all."""
    statement = _columns.order_by(table.c.family, table.c.name)
    if family is not None:
        statement = statement.where(table.c.family == family)
    if keys is not None and len(keys) <= _MANY:
        statement = statement.where(_key.in_([tuple(key) for key in keys]))
    found = [Row(*row) for row in await connection.execute(statement)]
    if keys is not None and len(keys) > _MANY:
        wanted = set(keys)
        found = [row for row in found if (row.family, row.name) in wanted]
    return found


async def after(connection: AsyncConnection, key: Key | None, count: int) -> list[Sealed]:
    """Return the secrets of the next rows by family and name; None for the first ones."""
    statement = _sealed.limit(count)
    if key is not None:
        statement = statement.where(_key > key)
    return [Sealed(*row) for row in await connection.execute(statement)]


async def between(connection: AsyncConnection, first: Key, last: Key) -> list[Sealed]:
    """Return the secrets of the rows from one to another."""
    statement = _sealed.where(_key >= first, _key <= last)
    return [Sealed(*row) for row in await connection.execute(statement)]


async def put(connection: AsyncConnection, row: Row) -> None:
    """Write a new row."""
    await connection.execute(insert(table).values(**row._asdict()))


async def change(connection: AsyncConnection, row: Row) -> None:
    """Write a row in the place of the one there is."""
    values = row._asdict()
    where = (table.c.family == values.pop("family"), table.c.name == values.pop("name"))
    await connection.execute(update(table).where(*where).values(**values))


async def remove(connection: AsyncConnection, key: Key) -> None:
    """Remove a row."""
    family, name = key
    await connection.execute(delete(table).where(table.c.family == family, table.c.name == name))


_reseal = (
    update(table)
    .where(table.c.family == bindparam("of_family"), table.c.name == bindparam("of_name"))
    .values(secrets=bindparam("new_secrets"))
)


async def reseal(connection: AsyncConnection, changed: Sequence[Sealed]) -> None:
    """Write other forms of the same secrets; nothing else of a row changes by it."""
    if changed:
        await connection.execute(
            _reseal,
            [
                {"of_family": row.family, "of_name": row.name, "new_secrets": row.secrets}
                for row in changed
            ],
        )


def now() -> datetime:
    """Return the time, as the table has it."""
    return datetime.now(UTC)
