"""How commands write: tables for people, tabs for pipes, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

__all__ = ["complain", "print_fields", "print_json", "print_table", "size_text", "tell"]


def complain(message: str) -> None:
    """Write an error to stderr."""
    typer.echo(f"error: {message}", err=True)


def tell(message: str) -> None:
    """Write a remark for people to stderr, where no program reads data."""
    typer.echo(message, err=True)


def print_json(data: Any) -> None:
    """Write JSON to stdout."""
    typer.echo(json.dumps(data, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """
    Write a table to stdout.

    On a terminal it is drawn, long texts folded. Elsewhere each row is one line, its values
    separated by tabs and complete, after a line with the columns' names.
    """
    texts = [[str(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in (columns, *texts):
            typer.echo("\t".join(value.replace("\n", " ").replace("\t", " ") for value in line))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in texts:
        table.add_row(*(Text(value) for value in line))
    Console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Write names and values to stdout, one a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        typer.echo(f"{name:<{width}}  {value}".rstrip())


def size_text(size: float) -> str:
    """Return a number of bytes for people: ``4.0 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
