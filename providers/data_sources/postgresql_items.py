"""The items of a PostgreSQL source: tables and views by name, as the system catalogue has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .base import Column
from .errors import InvalidItemError

__all__ = [
    "COLUMNS",
    "DETAILS",
    "FIND",
    "LIST",
    "Relation",
    "is_text",
    "quote_identifier",
    "split_item",
]

# All of these run with search_path = pg_catalog: what they name cannot be anybody else's.

_RELATIONS = """
    SELECT c.oid, c.relkind, n.nspname, c.relname, c.reltuples,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
           CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END AS kind,
           has_schema_privilege(n.oid, 'USAGE')
           AND (has_table_privilege(c.oid, 'SELECT')
                OR has_any_column_privilege(c.oid, 'SELECT')) AS readable
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND CASE WHEN $1::text[] IS NULL
                THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                ELSE n.nspname = ANY ($1::text[]) END
"""

LIST = f"""
    SELECT name, kind FROM ({_RELATIONS}) AS items
     WHERE convert_to(name, 'UTF8') > $2::bytea AND left(name, length($3::text)) = $3::text
       AND readable
     ORDER BY convert_to(name, 'UTF8') LIMIT $4
"""  # noqa: S608 - two constants
"""Items after a name, in the order of its bytes, whatever the database's encoding: schemas, the
last name, prefix, how many."""

FIND = f"SELECT * FROM ({_RELATIONS}) AS items WHERE nspname = $2 AND relname = $3"  # noqa: S608
"""One item: schemas, its schema, its name."""

COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
           CASE WHEN a.atttypid = 'numeric'::regtype AND a.atttypmod > 4 THEN a.atttypmod - 4 END
      FROM pg_attribute a
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
       AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
     ORDER BY a.attnum
"""
"""Columns that may be read: name, type, nullable, precision and scale of a numeric."""

DETAILS = """
    SELECT CASE $2::text
           WHEN 'r' THEN pg_total_relation_size($1::oid)
           WHEN 'm' THEN pg_total_relation_size($1::oid)
           WHEN 'p' THEN (SELECT sum(pg_total_relation_size(relid))::int8
                            FROM pg_partition_tree($1::oid)) END AS disk_bytes,
           obj_description($1::oid, 'pg_class') AS comment
"""
"""What else is known of an item: oid, kind of relation."""

KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}

_PART = r'(?:"((?:[^"\0]|"")+)"|([^".\0]+))'
_NAME = re.compile(rf"{_PART}\.{_PART}")


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view, with the columns of it that may be read."""

    oid: int
    relkind: str
    schema: str
    table: str
    name: str
    kind: str
    rows: int | None
    columns: tuple[Column, ...]
    typmods: tuple[int | None, ...]

    @classmethod
    def of(cls, found: Any, columns: Sequence[Any]) -> Relation:
        """Return what rows of :data:`FIND` and :data:`COLUMNS` say."""
        estimate = int(found["reltuples"])  # -1: never counted; 0 may mean that before version 14
        return cls(
            oid=found["oid"],
            relkind=found["relkind"].decode(),
            schema=found["nspname"],
            table=found["relname"],
            name=found["name"],
            kind=found["kind"],
            rows=estimate if estimate >= 0 and found["relkind"] != b"v" else None,
            columns=tuple(Column(name, kind, nullable) for name, kind, nullable, _ in columns),
            typmods=tuple(row[3] for row in columns),
        )

    @property
    def select(self) -> str:
        """The statement that reads it."""
        columns = ", ".join(quote_identifier(column.name) for column in self.columns)
        schema, table = quote_identifier(self.schema), quote_identifier(self.table)
        return f"SELECT {columns} FROM {schema}.{table}"  # noqa: S608 - quoted, all of it


def quote_identifier(name: str) -> str:
    """Return a name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def split_item(item: str) -> tuple[str, str] | None:
    """
    Return schema and table of an item's name; None: it is not of the form ``schema.table``.

    What is in quotes is taken as it stands, what is not too: unlike in SQL, capitals stay.

    Raises:
        InvalidItemError: It is no text, or none that PostgreSQL knows.
    """
    if not isinstance(item, str) or not is_text(item) or not item:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidItemError(
            f"Invalid item {item!r:.100}: the name of a table or view is a text, schema.table. "
            "`list_items()` has the names there are."
        )
    match = _NAME.fullmatch(item)
    if match is None:
        return None
    schema, plain_schema, table, plain_table = match.groups()
    return (
        plain_schema if schema is None else schema.replace('""', '"'),
        plain_table if table is None else table.replace('""', '"'),
    )


def is_text(value: str) -> bool:
    """Tell whether PostgreSQL can have this text."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
