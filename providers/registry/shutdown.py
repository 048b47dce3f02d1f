"""The end of many providers at once: one deadline, and a report of who did not make it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from time import monotonic

from .daemon import leave_behind
from .dependencies import Needs
from .errors import OperationTimeoutError
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


async def dispose_all(
    guards: Collection[Guard], timeout: float, needs: Needs = lambda _: ()
) -> ShutdownReport:
    """
    Drain and dispose all ``guards``, within ``timeout`` seconds for the whole.

    All at the same time, but what others need comes after them, unless they take too long. One
    that fails or hangs never stops the rest; it is named in the report.

    Args:
        guards: Of whom.
        timeout: Seconds for all of them together.
        needs: Tells what a provider needs; both are written ``family:name``.
    """
    report = ShutdownReport()
    started = monotonic()
    deadline = started + timeout
    dependents = _dependents({_key(guard) for guard in guards}, needs)
    ending: dict[str, list[asyncio.Task[None]]] = {}

    async def end(guard: Guard) -> None:
        await asyncio.sleep(0)  # until all the tasks are there
        if before := [one for key in dependents.get(_key(guard), ()) for one in ending[key]]:
            await asyncio.wait(before, timeout=(deadline - monotonic()) * 2 / 3)
        # A third of the time for calls under way, the rest for closing.
        if not await guard.drain((deadline - monotonic()) / 3):
            logger.warning(
                "Provider %s is disposed while in use: %s", guard.name, ", ".join(guard.holders)
            )
        await guard.dispose()

    tasks: dict[asyncio.Task[None], Guard] = {}
    for guard in guards:
        task = asyncio.create_task(end(guard), name=f"dispose {guard.name}")
        ending.setdefault(_key(guard), []).append(task)
        tasks[task] = guard
    if tasks:
        late: set[asyncio.Task[None]] = set(tasks)
        try:
            _, late = await asyncio.wait(tasks, timeout=max(0.0, deadline - monotonic()))
        finally:  # also when the shutdown itself is cancelled
            for task in late:
                task.cancel()
        if late:  # one turn of the loop for those who heed the cancellation
            _, deaf = await asyncio.wait(late, timeout=0.1)
            for task in deaf:
                leave_behind(task)
    for task, guard in tasks.items():
        name = _key(guard)
        if not task.done() or task.cancelled():
            report.abandoned[name] = f"not closed within {timeout:g} s"
            logger.error("Provider %s was abandoned: not closed within %g s", name, timeout)
        elif isinstance(error := task.exception(), OperationTimeoutError):
            report.abandoned[name] = error.message
            logger.error("Provider %s was abandoned: %s", name, error.message)
        elif error is not None:
            report.failed[name] = f"{type(error).__name__}: {error}"
            logger.error("Closing provider %s failed: %s: %s", name, type(error).__name__, error)
        else:
            report.disposed.append(name)
    report.seconds = monotonic() - started
    return report


def _key(guard: Guard) -> str:
    return f"{guard.family}:{guard.name}"


def _dependents(keys: Collection[str], needs: Needs) -> Mapping[str, list[str]]:
    """Return who needs each of ``keys``, of those that are closed too."""
    found: dict[str, list[str]] = {}
    for key in keys:
        for needed in needs(key):
            if needed in keys:
                found.setdefault(needed, []).append(key)
    return found
