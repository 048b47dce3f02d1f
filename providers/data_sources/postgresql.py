"""The tables and views of a PostgreSQL database, and queries to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from ..registry.errors import RegistryError
from ..registry.extras import import_extra
from ..registry.provider import Call, operation
from ..registry.redaction import remember
from .base import (
    PREVIEW_ROWS,
    DataSource,
    FetchedItem,
    ItemInfo,
    ItemMetadata,
    Table,
    TableFormat,
    Target,
)
from .errors import (
    DataSourcePermissionError,
    InvalidQueryError,
    ItemNotFoundError,
    ResultTooLargeError,
    UnsupportedFormatError,
)
from .postgresql_config import PostgreSQLConfig
from .postgresql_errors import TIMED_OUT, explain, sqlstate_of
from .postgresql_export import copy_csv, write_csv, write_parquet
from .postgresql_items import COLUMNS, DETAILS, FIND, KINDS, LIST, Relation, is_text, split_item
from .postgresql_parquet import ArrowSchema
from .postgresql_queries import bind, columns_of, decoding, plain, prepare
from .postgresql_session import Session, Sessions
from .workspace import Draft, Workspace

__all__ = ["PostgreSQLConfig", "PostgreSQLSource"]

PAGE = 10_000
"""Items that are listed at once. Each page is a query of its own, so that a slow caller holds no
connection."""


class PostgreSQLSource(DataSource[PostgreSQLConfig]):
    """
    The tables and views that the user may read, each as ``schema.table``.

    Partitions, materialized views and foreign tables are among them; names that SQL would quote
    are quoted. Values in CSV are written as COPY writes them, times with a zone in UTC.

    A query runs in a read-only transaction. That keeps the data as it is; it does not keep a
    user with the rights to do so from calling functions that act outside of the database's
    tables (``pg_terminate_backend``, ``dblink``, ``lo_export``): give the source a role of its
    own that may read what it should, and no more.
    """

    _sessions: Sessions

    async def _connect(self) -> None:
        asyncpg = import_extra("asyncpg", extra="postgresql")
        remember(self.config)
        self._sessions = Sessions(asyncpg, self.config)
        await self._sessions.open()
        await self.check_health()

    async def _close(self) -> None:
        sessions = self.__dict__.pop("_sessions", None)
        if sessions is not None:
            await sessions.close()

    async def check_health(self) -> None:
        """Ask for the number 1, within ``connect_timeout``."""
        await self._sessions.ping()

    # -- items ---------------------------------------------------------------------------

    @operation
    async def list_items(self, prefix: str = "") -> AsyncIterator[ItemInfo]:
        schemas, last = self._schemas, ""
        while is_text(prefix):
            async with self._sessions.transaction(catalogue=True) as session:
                found = await session.connection.fetch(LIST, schemas, last.encode(), prefix, PAGE)
            for name, kind in found:
                yield ItemInfo(name, kind)
            if len(found) < PAGE:
                return
            last = found[-1][0]

    @property
    def _schemas(self) -> list[str] | None:
        return None if self.config.schemas is None else list(self.config.schemas)

    @operation
    async def preview(self, item: str, *, rows: int = PREVIEW_ROWS) -> Table:
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}.")
        async with self._found(item) as (_, relation):
            pass
        async with self._sessions.transaction() as session:
            with decoding():
                found = await session.connection.fetch(f"{relation.select} LIMIT {rows + 1}")
        return Table(relation.columns, _rows(found[:rows]), len(found) > rows)

    @operation
    async def get_metadata(self, item: str) -> ItemMetadata:
        async with self._found(item) as (session, relation):
            details = await session.connection.fetchrow(DETAILS, relation.oid, relation.relkind)
        said = {"kind": KINDS[relation.relkind]}
        said |= {name: str(value) for name, value in details.items() if value is not None}
        return ItemMetadata(
            ItemInfo(relation.name, relation.kind),
            relation.columns,
            relation.rows,
            rows_estimated=relation.rows is not None,
            details=MappingProxyType(said),
        )

    @asynccontextmanager
    async def _found(self, item: str) -> AsyncGenerator[tuple[Session, Relation], None]:
        """Find an item, and give it with the transaction it was found in."""
        parts = split_item(item)
        async with self._sessions.transaction(catalogue=True) as session:
            found = parts and await session.connection.fetchrow(FIND, self._schemas, *parts)
            if not found:
                raise ItemNotFoundError(
                    f"There is no table or view {item!r} in {self.config.place}. Names are "
                    "schema.table, parts with dots or quotes in double quotes, and capitals count. "
                    "The list of items has those there are.",
                    context={"item": item},
                )
            if not found["readable"]:
                raise DataSourcePermissionError(
                    f"The user may not read {item!r} in {self.config.place}. Grant it SELECT on "
                    f"the {found['kind']} and USAGE on its schema, or configure another user.",
                    context={"item": item},
                )
            columns = await session.connection.fetch(COLUMNS, found["oid"])
            yield session, Relation.of(found, columns)

    @operation
    async def fetch(
        self, item: str, target: Target, *, format: TableFormat | None = None
    ) -> FetchedItem:
        _check_format(format or "csv")
        async with self._found(item) as (_, relation):
            pass

        async def write(session: Session, draft: Draft) -> int:
            if format != "parquet":
                return await copy_csv(session, relation.select, draft)
            prepared = await session.connection.prepare(relation.select)
            schema = ArrowSchema(prepared.get_attributes(), relation.typmods)
            return await write_parquet(session, relation.select, schema, (), draft)

        return await self._fetch(relation.name, target, format or "csv", write)

    # -- queries -------------------------------------------------------------------------

    @operation
    async def query(
        self, statement: str, parameters: Sequence[Any] = (), *, limit: int | None = None
    ) -> Table:
        most, read_only = self.config.max_result_rows, self.config.read_only
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}.")
        wanted = most if limit is None else min(limit, most)
        async with self._sessions.transaction(read_only=read_only) as session:
            prepared = await prepare(session, statement, read_only=read_only)
            columns = await columns_of(session, prepared)
            cursor = await bind(prepared, parameters)
            with decoding():
                found = await cursor.fetch(wanted + 1)
            if limit is None and len(found) > most:
                raise ResultTooLargeError(
                    f"The answer has more than {most} rows (max_result_rows). Give a limit, ask "
                    "for less, raise the setting, or have it written to a file by fetch_query().",
                    context={"max_result_rows": most},
                )
        return Table(columns, _rows(found[:wanted]), len(found) > wanted)

    @operation
    async def fetch_query(
        self,
        statement: str,
        target: Target,
        parameters: Sequence[Any] = (),
        *,
        name: str = "query",
        format: TableFormat = "csv",
    ) -> FetchedItem:
        _check_format(format)
        statement = statement.rstrip().rstrip(";")

        async def write(session: Session, draft: Draft) -> int:
            prepared = await prepare(session, statement, read_only=True)
            attributes = prepared.get_attributes()
            try:
                if format == "parquet":
                    schema = ArrowSchema(attributes)
                    return await write_parquet(session, statement, schema, parameters, draft)
                if prepared.get_parameters() or parameters:
                    names = [attribute.name for attribute in attributes]
                    return await write_csv(session, statement, names, parameters, draft)
                return await copy_csv(session, statement, draft)
            except Exception as error:
                if sqlstate_of(error) != "42601":
                    raise
                # By itself it was well-formed, but it cannot be a part of another statement.
                raise InvalidQueryError(
                    "Only SELECT, VALUES, TABLE and WITH can be fetched, without a semicolon; "
                    "query() answers the rest."
                ) from error

        return await self._fetch(name, target, format, write)

    async def _fetch(
        self,
        name: str,
        target: Target,
        format: TableFormat,
        write: Callable[[Session, Draft], Awaitable[int]],
    ) -> FetchedItem:
        """Have rows written into the workspace, within one read-only transaction."""
        async with (
            Workspace.of(target).create(name, suffix=f".{format}") as draft,
            self._sessions.transaction(streaming=True) as session,
        ):
            rows = await write(session, draft)
        return FetchedItem(name, draft.path, draft.size, draft.sha256, datetime.now(UTC), rows)

    # -- errors --------------------------------------------------------------------------

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        place, user = self.config.place, self.config.address.user
        return explain(error, call, place=place, user=user) or super()._translate(error, call)

    def _is_failure(self, error: Exception) -> bool:
        """A statement that the server ended in time says nothing against the server."""
        ended = isinstance(error, RegistryError) and error.context.get("sqlstate") == TIMED_OUT
        return not ended and super()._is_failure(error)


def _rows(records: Sequence[Any]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(map(plain, record)) for record in records)


def _check_format(format: str) -> None:
    if format not in ("csv", "parquet"):
        raise UnsupportedFormatError(
            f"Tables are fetched as 'csv' or 'parquet', not as {format!r}.",
            context={"format": format},
        )
