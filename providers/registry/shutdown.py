"""The end of many providers at once: one deadline, and a report of who did not make it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic

from .guard import Guard

__all__ = ["ShutdownReport", "dispose_all"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ShutdownReport:
    """
    How a shutdown went: names of the providers disposed, and of those that failed or were
    abandoned at the deadline, each with the reason. ``seconds`` is how long it took.
    """

    disposed: list[str] = field(default_factory=list[str])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    abandoned: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether everything was disposed."""
        return not self.failed and not self.abandoned


async def dispose_all(guards: Iterable[Guard], timeout: float) -> ShutdownReport:
    """
    Drain and dispose all ``guards`` at the same time, within ``timeout`` seconds for the whole.

    One that fails or hangs never stops the rest; it is named in the report.
    """
    report = ShutdownReport()
    started = monotonic()
    deadline = started + timeout

    async def end(guard: Guard) -> None:
        # A third of the time for calls under way, the rest for closing.
        if not await guard.drain((deadline - monotonic()) / 3):
            logger.warning(
                "Provider %s is disposed while in use: %s", guard.name, ", ".join(guard.holders)
            )
        await guard.dispose()

    tasks = {
        asyncio.create_task(end(guard), name=f"dispose {guard.name}"): guard for guard in guards
    }
    if tasks:
        late: set[asyncio.Task[None]] = set(tasks)
        try:
            _, late = await asyncio.wait(tasks, timeout=max(0.0, deadline - monotonic()))
        finally:  # also when the shutdown itself is cancelled
            for task in late:
                task.cancel()
        if late:  # one turn of the loop for those who heed the cancellation
            await asyncio.wait(late, timeout=0.1)
    for task, guard in tasks.items():
        name = f"{guard.family}:{guard.name}"
        if not task.done() or task.cancelled():
            report.abandoned[name] = f"not closed within {timeout:g} s"
            logger.error("Provider %s was abandoned: not closed within %g s", name, timeout)
        elif error := task.exception():
            report.failed[name] = f"{type(error).__name__}: {error}"
            logger.error("Closing provider %s failed: %s: %s", name, type(error).__name__, error)
        else:
            report.disposed.append(name)
    report.seconds = monotonic() - started
    return report
