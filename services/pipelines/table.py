"""Tables of notes: CSV files, read as strictly as what is paid for them deserves."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import TableError, TableFault

__all__ = ["Row", "Table", "read_table"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row: the line it ends on, from 1, and its cells by column."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its file's name, its columns in order, and its rows."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Row]


def read_table(path: str | Path, *, delimiter: str | None = None) -> Table:
    """
    Return the table in a CSV file (RFC 4180) in UTF-8, whose first line names the columns.

    Args:
        path: The file.
        delimiter: Between cells; when not given, that of comma, semicolon and tab which the first
            line has most of.

    Raises:
        TableError: Of all that is wrong: an empty file, other encodings, no rows, columns without
            a name or named twice, rows with too few or too many cells, quotes that do not end.
        OSError: The file cannot be read.
    """
    path = Path(path)
    text = _decoded(path.name, path.read_bytes())
    first = text.split("\n", 1)[0]
    if delimiter and len(delimiter) != 1:
        raise TableError(
            path.name, [TableFault(f"The delimiter must be one character, not {delimiter!r}.")]
        )
    delimiter = delimiter or max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        lines += ((reader.line_num, cells) for cells in reader if cells)  # else it is empty
    except csv.Error as error:
        raise TableError(path.name, [TableFault(f"{error}", reader.line_num)]) from None
    if not lines:
        raise TableError(
            path.name, [TableFault("It is empty: the first line must name the columns.")]
        )
    line, header = lines[0]
    columns = [name.strip() for name in header]
    faults = list(_faults_of_header(line, columns))
    if len(lines) == 1:
        faults.append(TableFault("There are no rows below the line that names the columns."))
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            faults.append(
                TableFault(
                    f"there are {len(cells)} cells and {len(columns)} columns; put cells that "
                    f"hold a {delimiter!r} or a line break in double quotes.",
                    number,
                )
            )
    if faults:
        raise TableError(path.name, faults)
    rows = [Row(number, dict(zip(columns, cells, strict=True))) for number, cells in lines[1:]]
    return Table(path.name, columns, rows)


def _decoded(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        raise TableError(
            name,
            [
                TableFault(
                    f"byte {error.start - start + 1} of the line is no UTF-8. Save the file as "
                    "UTF-8.",
                    line,
                )
            ],
        ) from None


def _faults_of_header(line: int, columns: Sequence[str]) -> list[TableFault]:
    faults: list[TableFault] = []
    for number, name in enumerate(columns, 1):
        if not name:
            faults.append(TableFault(f"column {number} has no name.", line))
        elif name in columns[: number - 1]:
            faults.append(TableFault("there are two columns of that name.", line, name))
    return faults
