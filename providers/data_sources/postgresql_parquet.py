"""Rows of PostgreSQL as Parquet: a schema first, then batch for batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..registry.extras import import_extra
from .errors import MalformedDataError, UnsupportedFormatError
from .postgresql_queries import TEXT
from .workspace import Draft

__all__ = ["ArrowSchema", "ParquetFile"]

GROUP_BYTES = 4 * 1024 * 1024
"""About the size of a group of rows, before it is compressed."""

SCALARS = {
    "bool": "bool",
    "int2": "int16",
    "int4": "int32",
    "int8": "int64",
    "oid": "int64",
    "float4": "float32",
    "float8": "float64",
    "text": "string",
    "varchar": "string",
    "bpchar": "string",
    "name": "string",
    "json": "string",
    "jsonb": "string",
    "bytea": "binary",
    "date": "date32",
    "time": "time64[us]",
    "timestamp": "timestamp[us]",
}
"""Arrow's names of PostgreSQL's types; whatever is not here becomes text."""


class ArrowSchema:
    """
    The Arrow schema of a statement's answer.

    ``expressions`` are what to select of each column, for :func:`.postgresql_queries.wrap`.

    Args:
        attributes: asyncpg's description of the answer.
        typmods: Precision and scale of the columns that are numerics, where that is known.

    Raises:
        UnsupportedFormatError: There are no columns.
    """

    def __init__(self, attributes: Sequence[Any], typmods: Sequence[int | None] = ()) -> None:
        self._arrow: Any = import_extra("pyarrow", extra="parquet")
        import_extra("pyarrow.parquet", extra="parquet")
        self.expressions: list[str] = []
        fields: list[Any] = []
        known = [*typmods, *[None] * (len(attributes) - len(typmods))]
        for attribute, typmod in zip(attributes, known, strict=True):
            kind = self._kind(attribute.type, typmod)
            self.expressions.append(TEXT if kind is None else "{0}")
            fields.append(self._arrow.field(attribute.name, kind or self._arrow.string()))
        if not fields:
            raise UnsupportedFormatError(
                "It has no columns, and a Parquet file has to have some. Fetch it as CSV."
            )
        self.schema = self._arrow.schema(fields)

    def _kind(self, pg_type: Any, typmod: int | None) -> Any:
        """Return the Arrow type, None for what has to be text."""
        name: str = pg_type.name
        if pg_type.schema != "pg_catalog":
            return None
        if name.endswith("[]"):
            inner = self._scalar(name[:-2])
            return None if inner is None else self._arrow.list_(inner)
        if name == "numeric" and typmod is not None:
            precision, scale = typmod >> 16, typmod & 0x7FF
            if scale <= precision <= 38:
                return self._arrow.decimal128(precision, scale)
            return self._arrow.decimal256(precision, scale) if scale <= precision <= 76 else None
        return self._scalar(name)

    def _scalar(self, name: str) -> Any:
        if name == "timestamptz":
            return self._arrow.timestamp("us", tz="UTC")
        alias = SCALARS.get(name)
        return None if alias is None else self._arrow.type_for_alias(alias)

    def batch(self, records: Sequence[Any]) -> Any:
        """
        Return rows as a record batch.

        Raises:
            MalformedDataError: A value has no place in the column's Arrow type.
        """
        arrays: list[Any] = []
        for field, values in zip(self.schema, zip(*records, strict=True), strict=True):
            try:
                arrays.append(self._arrow.array(values, type=field.type))
            except (self._arrow.ArrowException, OverflowError, TypeError, ValueError) as error:
                raise MalformedDataError(
                    f"Column {field.name!r} has a value that Parquet's {field.type} cannot hold "
                    f"({type(error).__name__}). Fetch it as CSV, or cast the column to text in a "
                    "fetch_query.",
                    context={"column": field.name},
                ) from error
        return self._arrow.record_batch(arrays, schema=self.schema)


class ParquetFile:
    """A Parquet file in the making; its methods are for a thread that may wait for the disk."""

    def __init__(self, draft: Draft, schema: ArrowSchema) -> None:
        self._arrow: Any = import_extra("pyarrow", extra="parquet")
        library: Any = import_extra("pyarrow.parquet", extra="parquet")
        self._schema = schema
        self._batches: list[Any] = []
        self._bytes = 0
        self._file = self._arrow.PythonFile(_Sink(draft), mode="w")
        self._writer = library.ParquetWriter(self._file, schema.schema)

    def add(self, records: Sequence[Any]) -> int:
        """Add rows, and return their size."""
        batch = self._schema.batch(records)
        self._batches.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= GROUP_BYTES:
            self._flush()
        return batch.nbytes

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        if self._batches:
            self._flush()
        self._writer.close()
        self._file.close()

    def abandon(self) -> None:
        """End without what is left."""
        self._batches.clear()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        table = self._arrow.Table.from_batches(self._batches)
        self._batches, self._bytes = [], 0
        self._writer.write_table(table, row_group_size=len(table))


class _Sink:
    """A draft as a file that Arrow writes to."""

    closed = False

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def write(self, data: bytes) -> int:
        self._draft.write_now(data)
        return len(data)

    def tell(self) -> int:
        return self._draft.size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
