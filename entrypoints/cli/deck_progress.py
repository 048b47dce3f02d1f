"""The progress of a push of flashcards, drawn on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ...services.pipelines import CardsEvent, ItemFinished, RowFinished

__all__ = ["CardsProgress"]


class CardsProgress:
    """A bar of rows, and what they cost: a context manager whose value is an observer."""

    def __init__(self) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bars.add_task("", total=None)
        self._spent = "0"
        self._made = 0

    def __enter__(self) -> Callable[[CardsEvent], None]:
        self._bars.start()
        return self._observe

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def _observe(self, event: CardsEvent) -> None:
        if isinstance(event, ItemFinished):
            self._made, self._spent = event.done, str(event.spent)
        elif isinstance(event, RowFinished):
            self._bars.update(self._task, completed=event.done, total=event.total)
        self._bars.update(
            self._task, description=f"{self._made} pictures and sounds, {self._spent}"
        )
