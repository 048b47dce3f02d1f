"""Two sorted listings side by side, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ...providers.registry import RegistryError
from ...providers.storage import ObjectInfo
from .errors import SyncError

__all__ = ["Entry", "Known", "merged", "microseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Known(NamedTuple):
    """What is known of an object of the target."""

    path: str
    size: int
    etag: str | None
    modified: int
    """Microseconds since 1970: when its source was last changed."""
    md5: str | None = None

    @classmethod
    def of(cls, path: str, info: ObjectInfo, modified: datetime, md5: str | None = None) -> Known:
        """Return what is known of an object that was just put, or found to be the same."""
        return cls(path, info.size, info.etag, microseconds(modified), md5)

    @property
    def time(self) -> datetime:
        """When its source was last changed."""
        return _EPOCH + timedelta(microseconds=self.modified)


def microseconds(time: datetime) -> int:
    """Return a time as whole microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One object of a listing.

    Args:
        path: Its key below the place that is listed, by which both sides are compared.
        info: What the listing says of it; None where it cannot be copied.
        fault: Why it cannot be copied.
        ignored: Why it is no object at all.
        known: What the manifest of its place knows of it.
    """

    path: str
    info: ObjectInfo | None = None
    fault: RegistryError | None = None
    ignored: str | None = None
    known: Known | None = None


async def merged(
    left: AsyncGenerator[Entry], right: AsyncGenerator[Entry]
) -> AsyncIterator[tuple[Entry | None, Entry | None]]:
    """
    Iterate over two listings in order of their paths, equal paths together.

    Raises:
        SyncError: A listing is out of order, so that it cannot be compared.
    """
    async with aclosing(_ordered(left)) as ones, aclosing(_ordered(right)) as others:
        one, other = await anext(ones, None), await anext(others, None)
        while one is not None or other is not None:
            if other is None or (one is not None and one.path < other.path):
                yield one, None
                one = await anext(ones, None)
            elif one is None or other.path < one.path:
                yield None, other
                other = await anext(others, None)
            else:
                yield one, other
                one, other = await anext(ones, None), await anext(others, None)


async def _ordered(entries: AsyncGenerator[Entry]) -> AsyncGenerator[Entry]:
    last = ""
    async with aclosing(entries):
        async for entry in entries:
            if entry.path < last:
                raise SyncError(
                    "OUT_OF_ORDER",
                    f"The listing has {entry.path!r} after {last!r}: a storage lists in order of "
                    "the keys' bytes. Its type has a fault; the conformance kit finds it.",
                )
            last = entry.path
            yield entry
