"""What is to be fetched: items by name or pattern, and queries, of named data sources."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...providers.data_sources import TableFormat
from ..patterns import WILD, expression
from .errors import FetchError

__all__ = ["Query", "Wanted", "parse_wanted"]

_NAMED = re.compile(r"([\w.-]*):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Items of a data source.

    Args:
        source: Its name; None is the default one.
        item: A name, or a pattern: ``*`` and ``?`` stand for what is within one part of a path,
            ``**`` for any number of parts.
        format: Of the files, for items that are tables.
    """

    source: str | None
    item: str
    format: TableFormat | None = None

    @property
    def is_pattern(self) -> bool:
        """Whether it may name any number of items."""
        return WILD.search(self.item) is not None

    @property
    def prefix(self) -> str:
        """What every item that is meant begins with."""
        return WILD.split(self.item, maxsplit=1)[0]

    def matches(self, item: str) -> bool:
        """Tell whether the pattern means an item."""
        return expression(self.item).fullmatch(item) is not None

    def __str__(self) -> str:
        return f"{self.source or ''}:{self.item}"


@dataclass(frozen=True, slots=True)
class Query:
    """
    A question to a data source.

    Args:
        source: Its name; None is the default one.
        statement: The question, in the source's own language.
        name: What its file is called, without a suffix.
        parameters: Values for its placeholders.
        format: Of the file.
    """

    source: str | None
    statement: str
    name: str = "query"
    parameters: Sequence[Any] = ()
    format: TableFormat = "csv"

    def __str__(self) -> str:
        return f"{self.source or ''}:{self.name}"


def parse_wanted(text: str, *, format: TableFormat | None = None) -> Wanted:
    """
    Return what ``NAME:item`` means, or ``:item`` of the default source.

    Raises:
        FetchError: It is not of that form.
    """
    named = _NAMED.fullmatch(text)
    if named is None or not named[2]:
        raise FetchError(
            f"{text!r} names no item: write NAME:item, or :item of the default data source; "
            "patterns such as NAME:2024/*.csv are possible.",
            code="INVALID_PLACE",
        )
    return Wanted(named[1] or None, named[2], format)
