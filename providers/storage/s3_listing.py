"""The order of a listing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore import ObjectMeta

__all__ = ["by_bytes", "part_of"]


def part_of(path: str, base: int) -> str:
    end = path.find("/", base)
    return path[base:] if end < 0 else path[base:end]


async def by_bytes(found: AsyncIterator[ObjectMeta], base: int) -> AsyncIterator[ObjectMeta]:
    """
    Put a listing that may be ordered by the keys' parts into the order of their bytes.

    The two differ only among keys that begin with one part and go on with ``/`` or a character
    before it (``a/b`` and ``a b``), and these stand together in both. So such a group is held
    and sorted: at most what is below one folder of the listed one and its likes.
    """
    group: list[ObjectMeta] = []
    part = ""
    async for meta in found:
        path = meta["path"]
        if group and not (path.startswith(part) and path[len(part) : len(part) + 1] <= "/"):
            for held in sorted(group, key=_path_of):
                yield held
            group.clear()
        if not group:
            part = path[:base] + part_of(path, base)
        group.append(meta)
    for held in sorted(group, key=_path_of):
        yield held


def _path_of(meta: ObjectMeta) -> str:
    return meta["path"]
