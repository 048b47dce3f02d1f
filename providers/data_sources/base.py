"""The data source interface: named items to look at, and to fetch into a local workspace."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

from ..registry.errors import UnsupportedCapabilityError
from ..registry.provider import ConfigT, Provider, operation
from .errors import InvalidItemError
from .workspace import Workspace

__all__ = [
    "Column",
    "DataSource",
    "FetchedItem",
    "ItemInfo",
    "ItemMetadata",
    "Table",
    "TableFormat",
    "Target",
    "check_item",
]

Target: TypeAlias = "Workspace | os.PathLike[str] | str"
"""Where data is fetched into: a workspace, or the folder to make one of."""

TableFormat: TypeAlias = Literal["csv", "parquet"]
"""The file formats that rows are written in."""

PREVIEW_ROWS = 20


@dataclass(frozen=True, slots=True)
class ItemInfo:
    """
    One item of a source.

    ``kind`` is ``file``, ``blob``, ``table`` or ``view``. ``size`` is in bytes and ``modified``
    in UTC; None where the source does not say. ``format`` is ``csv``, ``tsv``, ``json``,
    ``jsonl``, ``parquet``, ``text`` or None for anything else.
    """

    name: str
    kind: str
    size: int | None = None
    modified: datetime | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its type in the source's own words, whether it may be empty."""

    name: str
    type: str | None = None
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class ItemMetadata:
    """
    What is known of an item without reading all of it.

    ``rows`` is their number if that costs nothing to know, and an estimate where
    ``rows_estimated`` is set; None otherwise. ``details`` is whatever else the source says.
    """

    item: ItemInfo
    columns: tuple[Column, ...] = ()
    rows: int | None = None
    rows_estimated: bool = False
    details: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in memory. ``truncated``: there are more than these."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class FetchedItem:
    """
    A file that was fetched.

    ``size`` is in bytes, ``rows`` is None where they were not counted, ``sha256`` is in
    hexadecimal, ``fetched_at`` in UTC.
    """

    item: str
    path: Path
    size: int
    sha256: str
    fetched_at: datetime
    rows: int | None = None


class DataSource(Provider[ConfigT]):
    """
    A source of data: items by name, which are listed, looked at, and fetched.

    Nothing here changes the source. What is fetched appears whole or not at all in the
    workspace. Errors are those of :mod:`purveyor.providers.data_sources.errors`, whatever the
    backend.
    """

    family: ClassVar[str] = "data_sources"

    @operation
    def list_items(self, prefix: str = "") -> AsyncIterator[ItemInfo]:
        """
        Iterate over the items whose name begins with ``prefix``, in order of the name's bytes.

        Items that come or go meanwhile may or may not appear; all others appear exactly once.
        """
        raise NotImplementedError

    @operation
    async def preview(self, item: str, *, rows: int = PREVIEW_ROWS) -> Table:
        """
        Return an item's first rows, without reading all of it.

        Of a text that is no table, each line is a row of one column, ``line``.

        Args:
            item: Its name.
            rows: How many at most, at least 1.

        Raises:
            ItemNotFoundError: There is no such item.
            UnsupportedFormatError: It is neither a table nor a text.
            MalformedDataError: It is not what its name says it is.
        """
        raise NotImplementedError

    @operation
    async def get_metadata(self, item: str) -> ItemMetadata:
        """
        Return what is known of an item without reading all of it.

        Raises:
            ItemNotFoundError: There is no such item.
        """
        raise NotImplementedError

    @operation
    async def fetch(
        self, item: str, target: Target, *, format: TableFormat | None = None
    ) -> FetchedItem:
        """
        Fetch an item into a workspace, in bounded memory, whole or not at all.

        Args:
            item: Its name.
            target: The workspace, or its folder, which is made if it is not there.
            format: Of the file, for items that are tables and not files; CSV when not given.

        Raises:
            ItemNotFoundError: There is no such item, or it vanished meanwhile.
            UnsupportedFormatError: The item cannot be had in that format.
            WorkspaceError: The workspace cannot take it.
        """
        raise NotImplementedError

    @operation
    async def query(
        self, statement: str, parameters: Sequence[Any] = (), *, limit: int | None = None
    ) -> Table:
        """
        Ask the source a question in its own language (capability ``query``); changes nothing.

        Args:
            statement: The question.
            parameters: Values for its placeholders, never put into the text.
            limit: Rows to return at most; the table says whether there were more.

        Raises:
            UnsupportedCapabilityError: The type lacks the capability.
            InvalidQueryError: It is not well-formed, or would change something.
            ResultTooLargeError: Without ``limit``: there are more rows than the settings allow.
            DataSourceTimeoutError: It took longer than the settings allow.
        """
        raise self._unsupported("query")

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
        """
        Fetch the answer to a question into a workspace, of any size, in bounded memory.

        Args:
            statement: As for :meth:`query`.
            target: As for :meth:`fetch`.
            parameters: As for :meth:`query`.
            name: What the file is called, without its suffix.
            format: Of the file.

        Raises:
            RegistryError: As :meth:`query` and :meth:`fetch`.
        """
        raise self._unsupported("query")

    async def connect(self) -> None:
        """Connect now rather than at the first operation (S3's name of ``initialize``)."""
        await self.initialize()

    async def disconnect(self) -> None:
        """Close for good (S3's name of ``dispose``)."""
        await self.dispose()

    async def test_connection(self) -> bool:
        """
        Connect if need be and ask one cheap question; True if it is answered.

        Raises:
            RegistryError: Why it is not.
        """
        await self.initialize()
        await self.check_health()
        return True

    def _unsupported(self, capability: str) -> UnsupportedCapabilityError:
        return UnsupportedCapabilityError(
            f"{type(self).__name__} does not have the capability {capability!r}. "
            f"Choose a source that has it: purveyor providers find {capability}",
            context={"capability": capability},
        )


def check_item(item: str) -> str:
    """
    Return ``item`` if a file or a blob may have that name: a relative path without detours.

    Raises:
        InvalidItemError: It is empty, absolute, too long, no UTF-8, holds a control character, or
            a part of it is empty, ``.`` or ``..``.
    """
    if not isinstance(item, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidItemError(f"An item's name is a string, not {type(item).__name__}.")
    fault = ""
    if not item:
        fault = "it is empty"
    elif len(item.encode("utf-8", "surrogatepass")) > 1024:
        fault = "it has more than 1024 bytes"
    elif any(ord(character) < 32 or character == "\x7f" for character in item):
        fault = "it holds a control character"
    elif any("\ud800" <= character <= "\udfff" for character in item):
        fault = "it holds half a character, which UTF-8 has not"
    elif item.startswith("/"):
        fault = "it begins with /, and names are relative to the source"
    elif {"", ".", ".."} & set(item.split("/")):
        fault = "a part of it is empty, '.' or '..'"
    if fault:
        raise InvalidItemError(
            f"Invalid item {item[:100]!r}: {fault}. `list_items()` has the names there are."
        )
    return item
