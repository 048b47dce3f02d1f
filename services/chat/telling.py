"""What of fetched files a model is told: their texts within a budget, the rest by name only."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...providers.data_sources.base import ItemInfo
from ...providers.data_sources.formats import format_of, metadata_of
from ..fetch import ManifestItem

__all__ = ["Told", "tell"]

_COLUMNS = 100
_NAME = 100
_SNIFFED = 1024


@dataclass(frozen=True, slots=True)
class Told:
    """
    One fetched file, and what of it a model is told.

    Args:
        source: The data source.
        item: The item, or the name of the query.
        query: The statement whose answer it is, if it is one.
        size: Of the file, in bytes.
        rows: How many it has, where they were counted.
        columns: The names of the first 100, where it is a table that can be read.
        is_text: Whether it is text in UTF-8; of anything else nothing is told but this.
        told: Bytes of it the model is told.
        content: Those bytes, as text.
    """

    source: str
    item: str
    query: str | None
    size: int
    rows: int | None
    columns: tuple[str, ...]
    is_text: bool
    told: int
    content: str = field(repr=False)

    @property
    def is_cut(self) -> bool:
        """Whether the model is told less than there is."""
        return self.told < self.size

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of it as JSON-safe data, without the content."""
        return {
            "source": self.source,
            "item": self.item,
            **({} if self.query is None else {"query": self.query}),
            "size": self.size,
            "rows": self.rows,
            "columns": list(self.columns),
            "is_text": self.is_text,
            "told": self.told,
        }


def tell(
    items: Sequence[ManifestItem], folder: Path, *, item_bytes: int, total_bytes: int
) -> tuple[Told, ...]:
    """
    Return what a model is told of the files of a workspace, in their order; reads them.

    No file takes the room of the others: each has an equal share of what is left, and what a
    small one does not need is for the larger ones.
    """
    told: dict[int, Told] = {}
    left = total_bytes
    by_size = sorted(range(len(items)), key=lambda number: items[number].size)
    for before, number in enumerate(by_size):
        share = left // (len(items) - before)
        told[number] = _told(items[number], folder, min(item_bytes, share))
        left -= told[number].told
    return tuple(told[number] for number in range(len(items)))


def _told(item: ManifestItem, folder: Path, room: int) -> Told:
    path = folder / item.path
    kind = format_of(path.name)
    with path.open("rb") as file:
        text = _text(file.read(max(room, _SNIFFED)), room, item.size)
        file.seek(0)
        found = metadata_of(file, ItemInfo(item.item, "file", item.size, format=kind))
    columns = () if kind == "text" else found.columns[:_COLUMNS]
    return Told(
        source=item.source,
        item=item.item,
        query=item.query,
        size=item.size,
        rows=found.rows if item.rows is None else item.rows,
        columns=tuple(column.name[:_NAME] for column in columns),
        is_text=text is not None,
        told=len(text or b""),
        content=(text or b"").decode("utf-8-sig"),
    )


def _text(data: bytes, room: int, size: int) -> bytes | None:
    """Return the text at the beginning of a file that fits, None if it is none."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data, final=len(data) == size)
    except UnicodeDecodeError:
        return None
    if b"\0" in data:
        return None
    if size <= room:
        return data
    fits = data[:room]
    whole_lines = fits[: fits.rfind(b"\n") + 1]
    return whole_lines or fits.decode("utf-8", "ignore").encode()
