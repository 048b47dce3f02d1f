"""The progress of a sync, drawn on a terminal."""

from __future__ import annotations

import os
import sys
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from ...services.sync import (
    BytesMoved,
    ListingFinished,
    ObjectFailed,
    ObjectFinished,
    ObjectFound,
    Observer,
    SyncEvent,
)

__all__ = ["Progress", "wants_progress"]

INTERVAL = 0.1
"""Seconds between two updates of what is drawn."""


def wants_progress() -> bool:
    """Tell whether somebody sits before stderr."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class Progress:
    """
    A bar of bytes, and how many objects are done.

    A context manager whose value is an observer of a sync. Totals grow while the source is
    still being listed, so there is no remaining time before that ends.
    """

    def __init__(self) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bars.add_task("", total=None)
        self._found = self._done = 0
        self._bytes_found = self._bytes_done = 0
        self._listed = False
        self._drawn = 0.0

    def __enter__(self) -> Observer:
        self._bars.start()
        return self._observe

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def _observe(self, event: SyncEvent) -> None:
        if isinstance(event, BytesMoved):
            self._bytes_done += event.count
        elif isinstance(event, ObjectFound):
            self._found += 1
            self._bytes_found += event.size
        elif isinstance(event, ObjectFinished | ObjectFailed):
            self._done += 1
            if isinstance(event, ObjectFinished) and event.action == "skipped":
                self._bytes_found -= event.size
        elif isinstance(event, ListingFinished):
            self._listed = True
        now = monotonic()
        if now - self._drawn >= INTERVAL:
            self._drawn = now
            self._bars.update(
                self._task,
                description=f"{self._done}/{self._found}{'' if self._listed else '+'} objects",
                completed=self._bytes_done,
                total=self._bytes_found if self._listed else None,
            )
