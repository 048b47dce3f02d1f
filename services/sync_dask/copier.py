"""The driver: ranges go out to the workers, a bounded number at a time, and come back done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ...providers.registry.extras import import_extra
from ..sync import (
    CopyDone,
    CopyJob,
    Filters,
    LocalPlace,
    Place,
    StoragePlace,
    SyncError,
    SyncOptions,
)
from .cluster import Cluster
from .ranges import RangeDone, RangeTask, cut, settings_digest
from .worker import copy_range, stop_run

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["DaskCopier"]

RETRIES = 2
"""A range whose worker raised something unforeseen is given to another one so often."""
AHEAD = 2
"""Ranges under way for each thread of the workers: one is copied, one waits at hand."""


class DaskCopier:
    """
    Copies objects from one place to another on the workers of a cluster.

    A worker that is lost takes its ranges with it, which others then copy anew.

    Args:
        cluster: The workers; connected when there is something for them to do.
        source: Where from.
        target: Where to.
        container: Knows the providers; each worker has its own, and they are compared.
        options: How; ``jobs`` are the objects that each range copies at the same time.
    """

    def __init__(
        self,
        cluster: Cluster,
        source: Place,
        target: Place,
        container: ApplicationContainer | None,
        options: SyncOptions,
    ) -> None:
        self._cluster = cluster
        self._source = _named(source, container)
        self._target = _named(target, container)
        self._options = replace(options, filters=Filters())  # they have had their say
        self._run = uuid4().hex
        self._settings = tuple(
            (place.provider, settings_digest(container, place.provider))
            for place in (self._source, self._target)
            if isinstance(place, StoragePlace) and place.provider and container is not None
        )

    async def copy(self, jobs: AsyncIterable[CopyJob], done: Callable[[CopyDone], None]) -> None:
        """
        Copy all objects; what became of those of a range is told to ``done`` as it ends.

        No more ranges are held than the workers can use soon. When this is cancelled, or a range
        says that the whole cannot go on, the workers stop what they do.

        Raises:
            RegistryError: Why a range says that the whole cannot go on.
        SyncError: There is no cluster, or it was lost; a place is a path of this machine, and
            there are workers on others.
        ImportFailedError: The extra ``dask`` is not installed.
        """
        async with aclosing(cut(jobs)) as ranges:
            first = await anext(ranges, None)
            if first is None:
                return
            async with self._cluster:
                self._refuse_distant_paths()
                try:
                    await self._copy(first, ranges, done)
                except BaseException:
                    await self._stop()
                    raise

    async def _copy(
        self,
        first: tuple[CopyJob, ...],
        rest: AsyncIterable[tuple[CopyJob, ...]],
        done: Callable[[CopyDone], None],
    ) -> None:
        queue: asyncio.Queue[RangeTask | None] = asyncio.Queue(1)
        flights = max(1, AHEAD * self._cluster.threads)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(flights):
                    group.create_task(self._fly(queue, done))
                await queue.put(self._task(0, first))
                number = 1
                async for jobs in rest:
                    await queue.put(self._task(number, jobs))
                    number += 1
                for _ in range(flights):
                    await queue.put(None)
        except BaseExceptionGroup as errors:  # the first is why the others were given up
            raise errors.exceptions[0] from None

    def _refuse_distant_paths(self) -> None:
        for place in (self._source, self._target):
            if isinstance(place, LocalPlace) and not self._cluster.is_local:
                raise SyncError(
                    "LOCAL_PLACE",
                    f"{str(place)!r} is a path of this machine, and there are workers on others. "
                    "Name a provider: one of type filesystem can have a folder that they share.",
                )

    def _task(self, number: int, jobs: tuple[CopyJob, ...]) -> RangeTask:
        return RangeTask(
            self._run,
            number,
            self._source,
            self._target,
            jobs,
            self._options,
            self._settings,
        )

    async def _fly(
        self, queue: asyncio.Queue[RangeTask | None], done: Callable[[CopyDone], None]
    ) -> None:
        while (task := await queue.get()) is not None:
            result = await self._copied(task)
            for one in result.objects:
                done(one)
            if result.error is not None:
                raise result.error

    async def _copied(self, task: RangeTask) -> RangeDone:
        distributed: Any = import_extra("distributed", extra="dask")
        future = self._cluster.client.submit(
            copy_range,
            task,
            key=f"purveyor-sync-{self._run}-{task.number}",
            retries=RETRIES,
            pure=False,
        )
        try:
            return await future
        except distributed.KilledWorker:
            error = SyncError(
                "WORKER_LOST", "The workers that copied its range ended, one after the other."
            )
            return RangeDone(task.number, [CopyDone(job.key, error=error) for job in task.jobs])
        except distributed.client.FutureCancelledError as error:
            raise SyncError(
                "NO_CLUSTER", f"The connection to the Dask scheduler was lost: {error}"
            ) from error
        except Exception as error:  # whatever a worker of another make may raise
            raise SyncError(
                "WORKER_FAILED",
                f"A worker could not copy its range: {type(error).__name__}: {error}. Install the "
                "same version of purveyor on all workers, with the extras that the storages need.",
            ) from error
        finally:
            future.release()

    async def _stop(self) -> None:
        """Let the workers stop what they copy of this; what they have copied stays."""
        client = self._cluster.client
        if client.status == "running":
            await client.run(stop_run, self._run, on_error="ignore")


def _named(place: Place, container: ApplicationContainer | None) -> Place:
    """Return a place that means the same in every process of this machine."""
    if isinstance(place, LocalPlace):
        return LocalPlace(place.path.expanduser().absolute(), place.is_folder)
    if place.provider is None and container is not None:
        return replace(place, provider=container.storage.registry.default_name())
    return place
