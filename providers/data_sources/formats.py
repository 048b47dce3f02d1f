"""
What files hold: a look at tables and texts that reads no more than it shows.

Whatever a file holds, memory stays bounded: one row has at most a mebibyte. All functions are
synchronous; call them in a thread.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any, BinaryIO, cast

from ..registry.errors import ImportFailedError
from . import formats_parquet as parquet
from .base import Column, ItemInfo, ItemMetadata, Table
from .errors import MalformedDataError, UnsupportedFormatError
from .formats_text import LONGEST, JSONReader, cut, lines_of, too_long

__all__ = ["columns_of", "format_of", "metadata_of", "preview_of", "rows_of"]

_FORMATS = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "txt": "text",
    "md": "text",
    "log": "text",
}
_COLUMNS = 16_384
"""Columns of a table at most, as in a spreadsheet."""
_LOOKED_AT = 20
"""Rows of a JSON file that are looked at for its columns."""


def format_of(name: str) -> str | None:
    """Return the format of a file of that name, as in :class:`ItemInfo`; ``.gz`` may follow."""
    lower = name.rpartition("/")[2].lower()
    stem, dot, ending = lower.removesuffix(".gz").rpartition(".")
    found = _FORMATS.get(ending) if stem and dot else None
    return None if found == "parquet" and lower.endswith(".gz") else found


def preview_of(file: BinaryIO, format: str | None, rows: int, *, item: str = "the file") -> Table:
    """
    Return a file's first rows.

    Texts are UTF-8, with or without a byte order mark, and may be compressed by gzip. The first
    row of CSV and TSV has the columns' names; columns without a name, or with one that was there
    before, are given one. A row that is too short ends in None. JSON is an array of rows, or one
    row; a row that is no object is the value of one column, ``value``.

    Args:
        file: The file, seekable and at its beginning.
        format: As in :class:`ItemInfo`.
        rows: How many at most, at least 1.
        item: What an error calls the file.

    Raises:
        UnsupportedFormatError: ``format`` is None, or none of those known.
        MalformedDataError: The file is not of that format; the message says where.
        ImportFailedError: It is Parquet, and the library for it is not installed.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}.")
    if format == "parquet":
        return parquet.preview(file, rows, item)
    look = _LOOKS.get(format or "")
    if look is None:
        raise UnsupportedFormatError(
            f"{item!r} is neither a table nor a text that can be shown: its name must end in one "
            f"of {', '.join(f'.{ending}' for ending in _FORMATS)}. `fetch` gives the file as it is."
        )
    return look(file, rows, item)


def columns_of(file: BinaryIO, format: str | None, *, item: str = "the file") -> tuple[Column, ...]:
    """Return a file's columns, of JSON those of its first rows; see :func:`preview_of`."""
    if format == "parquet":
        return parquet.columns(file, item)
    look = _LOOKS.get(format or "")
    if look is None:
        return ()
    return look(file, _LOOKED_AT if format in ("json", "jsonl") else 1, item).columns


def rows_of(file: BinaryIO, format: str | None, *, item: str = "the file") -> int | None:
    """Return how many rows a file has, None where it would have to be read to know."""
    return parquet.row_count(file, item) if format == "parquet" else None


def metadata_of(file: BinaryIO, info: ItemInfo) -> ItemMetadata:
    """
    Return what a file says of itself.

    Of a file that is malformed, or that nothing here can read, ``details["unreadable"]`` is why.
    """
    found = ItemMetadata(info)
    try:
        found = replace(found, columns=columns_of(file, info.format, item=info.name))
        file.seek(0)
        return replace(found, rows=rows_of(file, info.format, item=info.name))
    except (MalformedDataError, ImportFailedError) as error:
        return replace(found, details=MappingProxyType({"unreadable": error.message}))


# -- tables of text ----------------------------------------------------------------------


def _preview_csv(file: BinaryIO, rows: int, item: str, delimiter: str = ",") -> Table:
    records = _records(lines_of(file, item), delimiter, item)
    names = next(records, None) or []
    found, truncated = cut(records, rows)
    columns = _columns(names, max((len(row) for row in found), default=0), item)
    filled = (tuple(row) + (None,) * (len(columns) - len(row)) for row in found)
    return Table(columns, tuple(filled), truncated)


def _preview_tsv(file: BinaryIO, rows: int, item: str) -> Table:
    return _preview_csv(file, rows, item, "\t")


def _records(lines: Iterable[str], delimiter: str, item: str) -> Generator[list[str], None, None]:
    size = 0

    def counted() -> Iterator[str]:
        nonlocal size
        for line in lines:
            size += len(line)
            if size > LONGEST:
                raise too_long(item, f"the row that begins before line {reader.line_num + 1}")
            yield line

    reader = csv.reader(counted(), delimiter=delimiter)
    while True:
        size, begin = 0, reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise MalformedDataError(
                f"{item!r} cannot be read as a table: the row at line {begin:,}: {error}."
            ) from error
        if row is None:
            return
        if row:  # an empty line is no row
            yield row


def _columns(names: list[str], width: int, item: str) -> tuple[Column, ...]:
    """Return a column for each name, and for what rows have beyond them, no two the same."""
    _check_width(max(len(names), width), item)
    given = [*names, *[""] * (width - len(names))]
    reserved, taken, numbers = set(given), dict[str, None](), Counter[str]()
    for place, name in enumerate(given, 1):
        wanted = unique = name or f"column_{place}"
        while unique in taken or (numbers[wanted] and unique in reserved):
            numbers[wanted] += 1
            unique = f"{wanted}_{numbers[wanted] + 1}"
        taken[unique] = None
    return tuple(map(Column, taken))


def _check_width(count: int, item: str) -> None:
    if count > _COLUMNS:
        raise MalformedDataError(
            f"{item!r} has {count:,} columns, and more than {_COLUMNS:,} are not read into memory. "
            "`fetch` gives the file as it is."
        )


def _preview_text(file: BinaryIO, rows: int, item: str) -> Table:
    found, truncated = cut((line.rstrip("\r\n") for line in lines_of(file, item)), rows)
    return Table((Column("line"),), tuple((line,) for line in found), truncated)


# -- JSON --------------------------------------------------------------------------------


def _preview_json(file: BinaryIO, rows: int, item: str) -> Table:
    return _table_of(*cut(JSONReader(file, item).values(), rows), item)


def _preview_jsonl(file: BinaryIO, rows: int, item: str) -> Table:
    return _table_of(*cut(_json_lines(file, item), rows), item)


def _json_lines(file: BinaryIO, item: str) -> Generator[Any, None, None]:
    for number, line in enumerate(lines_of(file, item), 1):
        if line.strip():
            try:
                yield json.loads(line.rstrip("\r\n"))
            except (ValueError, RecursionError) as error:
                fault = str(error).removesuffix(".")
                if isinstance(error, json.JSONDecodeError):
                    fault = f"column {error.pos + 1:,}: {error.msg}"
                raise MalformedDataError(
                    f"{item!r} is not JSON, one value a line: line {number:,}: {fault}."
                ) from error


def _table_of(values: list[Any], truncated: bool, item: str) -> Table:
    """Make rows of JSON values: the columns are all keys, in the order they were met."""
    rows = [
        cast("dict[str, Any]", value) if isinstance(value, dict) else {"value": value}
        for value in values
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_width(len(names), item)
    return Table(
        tuple(map(Column, names)), tuple(tuple(map(row.get, names)) for row in rows), truncated
    )


_LOOKS: dict[str, Callable[[BinaryIO, int, str], Table]] = {
    "csv": _preview_csv,
    "tsv": _preview_tsv,
    "json": _preview_json,
    "jsonl": _preview_jsonl,
    "text": _preview_text,
}
