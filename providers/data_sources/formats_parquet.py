"""Parquet files, read by pyarrow, which is imported when the first one is met."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ..registry.errors import RegistryError
from ..registry.extras import import_extra
from .base import Column, Table
from .errors import MalformedDataError

__all__ = ["columns", "preview", "row_count"]

_BUFFER = 64 * 1024


def preview(file: BinaryIO, rows: int, item: str) -> Table:
    """Return the first rows; pages are read one by one, not whole groups of rows."""
    with _opened(file, item) as found:
        batches = found.iter_batches(batch_size=rows, use_threads=False)
        batch = next(batches, None)
        values = [] if batch is None else [_values(column) for column in batch.columns]
        count = 0 if batch is None else batch.num_rows
        shown = tuple(zip(*values, strict=True)) if values else ((),) * count
        return Table(_columns(found.schema_arrow), shown, found.metadata.num_rows > count)


def columns(file: BinaryIO, item: str) -> tuple[Column, ...]:
    """Return the columns, from the end of the file."""
    with _opened(file, item) as found:
        return _columns(found.schema_arrow)


def row_count(file: BinaryIO, item: str) -> int:
    """Return how many rows there are, from the end of the file."""
    with _opened(file, item) as found:
        return found.metadata.num_rows


@contextmanager
def _opened(file: BinaryIO, item: str) -> Generator[Any, None, None]:
    arrow: Any = import_extra("pyarrow", extra="parquet")
    library: Any = import_extra("pyarrow.parquet", extra="parquet")
    try:
        yield library.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    except (arrow.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:
        # What the file itself raised passes as it is: that is no fault of what it holds.
        if isinstance(error, RegistryError) or getattr(error, "errno", None) is not None:
            raise
        reason = str(error).rstrip(".")
        raise MalformedDataError(
            f"{item!r} is no Parquet file, or a damaged or incomplete one: {reason}."
        ) from error


def _columns(schema: Any) -> tuple[Column, ...]:
    return tuple(Column(field.name, str(field.type), field.nullable) for field in schema)


def _values(column: Any) -> list[Any]:
    """Return a column's values; of times, whose nanoseconds Python lacks, to the microsecond."""
    arrow: Any = import_extra("pyarrow", extra="parquet")
    kind = column.type
    if arrow.types.is_temporal(kind) and getattr(kind, "unit", "") == "ns":
        if arrow.types.is_timestamp(kind):
            shorter = arrow.timestamp("us", tz=kind.tz)
        else:
            shorter = arrow.duration("us") if arrow.types.is_duration(kind) else arrow.time64("us")
        column = column.cast(shorter, safe=False)
    return column.to_pylist()
