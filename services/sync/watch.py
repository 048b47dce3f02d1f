"""Following a folder: a sync whenever something in it has changed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .engine import sync
from .errors import SyncError
from .events import Observer
from .local import walk
from .options import SyncOptions
from .places import LocalPlace, Place, parse_place
from .result import SyncResult

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["follow"]

PATIENCE = 60.0
"""Seconds between two tries, at most, while they fail."""


async def follow(
    source: str | Path | LocalPlace,
    target: str | Path | Place,
    done: Callable[[SyncResult], object],
    *,
    container: ApplicationContainer | None = None,
    options: SyncOptions | None = None,
    interval: float = 2.0,
    observer: Observer | None = None,
) -> None:
    """
    Sync, and sync again whenever the folder ``source`` has changed, until cancelled.

    The folder is looked at in intervals, which misses no change and works on every file system;
    a sync begins when it looks the same twice in a row. One that fails is tried again, after
    twice as long each time.

    Args:
        source: A folder of this machine.
        target: Where to.
        done: Called with the result of each sync.
        container: Gives the providers by name.
        options: How.
        interval: Seconds between two looks.
        observer: Called with each event of each sync.

    Raises:
        SyncError: ``source`` is no folder of this machine, or is gone.
    """
    place = source if isinstance(source, LocalPlace) else parse_place(source)
    if not isinstance(place, LocalPlace) or not place.path.expanduser().is_dir():
        raise SyncError(
            "INVALID_PLACE",
            f"Only a folder of this machine can be watched, and {str(place)!r} is none.",
        )
    folder = place.path.expanduser().resolve()
    wait = interval
    while True:
        seen = await _look(folder)
        result = await sync(place, target, container=container, options=options, observer=observer)
        done(result)
        if not result.success:
            await asyncio.sleep(wait)
            wait = min(wait * 2, max(PATIENCE, interval))
            continue
        wait = interval
        now = seen
        while now == seen:
            await asyncio.sleep(interval)
            now = await _look(folder)
        while (later := await _settled(folder, interval)) != now:
            now = later


async def _settled(folder: Path, interval: float) -> bytes:
    await asyncio.sleep(interval)
    return await _look(folder)


async def _look(folder: Path) -> bytes:
    """Return a fingerprint of names, sizes and times; the content itself is not read."""
    digest = hashlib.blake2b(digest_size=16)
    async for entry in walk(folder):
        info = entry.info
        seen = (entry.path, info and (info.size, info.modified), entry.ignored, entry.fault is None)
        digest.update(repr(seen).encode())
    return digest.digest()
