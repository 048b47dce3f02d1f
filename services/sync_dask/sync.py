"""The whole of a sync on Dask: compare here, copy there, one result."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from time import perf_counter
from typing import TYPE_CHECKING, cast

from ...providers.registry import RegistryError
from ...providers.storage import InvalidKeyError, check_key
from ..sync import (
    FailedObject,
    LocalPlace,
    ObjectFailed,
    ObjectFinished,
    ObjectFound,
    ObjectIgnored,
    Observer,
    Place,
    StoragePlace,
    SyncError,
    SyncEvent,
    SyncResult,
    parse_place,
)
from ..sync.ends import Source, Target
from ..sync.merge import Entry, merged
from ..sync.transfer import Verify
from .cluster import Cluster
from .copier import DaskCopier
from .ranges import CopyJob, RangeDone

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["sync_on_dask"]

logger = logging.getLogger(__name__)


async def sync_on_dask(
    source: str | os.PathLike[str] | Place,
    target: str | os.PathLike[str] | Place,
    *,
    container: ApplicationContainer | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    jobs: int = 16,
    verify: Verify = "auto",
    dry_run: bool = False,
    observer: Observer | None = None,
) -> SyncResult:
    """
    Do what :func:`purveyor.services.sync.sync` does, with the workers of a Dask cluster.

    This process compares the two listings; the workers copy ranges of keys, with providers of
    their own, made from their own environment. Nothing secret leaves this process.

    Args:
        source: Where from.
        target: Where to.
        container: Gives the providers by name; two local places need none.
        scheduler: The cluster's address; without it, worker processes of this machine, which are
            started if there is anything to copy.
        workers: How many to start on this machine.
        jobs: Objects that each range copies at the same time.
        verify: ``auto``, ``full`` or ``size``.
        dry_run: Do everything but write; needs no cluster.
        observer: Called with each event; objects that were copied are told of range by range.

    Returns:
        What became of it; ``success`` is False whenever anything at all went wrong.

    Raises:
        NotFoundError: No such provider.
        SyncError: A place is empty.
    """
    started = perf_counter()
    one, other = _place(source), _place(target)
    result = SyncResult(str(one), str(other), dry_run=dry_run)
    cluster = Cluster(scheduler, workers=workers)
    copier = DaskCopier(cluster, one, other, container, concurrency=jobs, verify=verify)
    async with AsyncExitStack() as stack:
        try:
            here = await Source.open(one, container, stack)
            there = await Target.open(other, here, container, stack, dry_run=dry_run)
            await _Run(here, there, result, observer).run(None if dry_run else copier)
        except RegistryError as error:
            result.error = error
    result.seconds = perf_counter() - started
    return result


def _place(place: str | os.PathLike[str] | Place) -> Place:
    return place if isinstance(place, LocalPlace | StoragePlace) else parse_place(place)


class _Run:
    def __init__(
        self, source: Source, target: Target, result: SyncResult, observer: Observer | None
    ) -> None:
        self._source = source
        self._target = target
        self._result = result
        self._observer = observer

    async def run(self, copier: DaskCopier | None) -> None:
        async with aclosing(self._jobs()) as jobs:
            if copier is not None:
                await copier.copy(jobs, self._done)
                return
            async for job in jobs:
                self._result.files += 1
                self._result.bytes += job.size
                self._tell(ObjectFinished(job.key, job.target, job.size, "would-copy"))

    async def _jobs(self) -> AsyncGenerator[CopyJob]:
        """Iterate over what is missing or older at the target."""
        pairs = cast(
            "AsyncGenerator[tuple[Entry | None, Entry | None]]",
            merged(self._source.entries(), self._target.entries()),
        )
        async with aclosing(pairs):
            async for here, there in pairs:
                if here is not None and (job := self._job(here, there)) is not None:
                    yield job

    def _job(self, here: Entry, there: Entry | None) -> CopyJob | None:
        result, info = self._result, here.info
        key = self._source.end.prefix + here.path
        if here.ignored is not None:
            result.ignored += 1
            self._tell(ObjectIgnored(key, here.ignored))
            return None
        target = self._target.end.prefix + (self._target.name or here.path)
        fault = here.fault
        try:
            check_key(target)
        except InvalidKeyError as error:
            fault = fault or error
        if fault is not None or info is None:
            fault = fault or SyncError("OBJECT_FAILED", "It cannot be read.")
            self._fail(FailedObject(key, fault.code, fault.message))
            return None
        self._tell(ObjectFound(info.key, info.size))
        old = None if there is None else there.info
        if old is not None and old.size == info.size and old.modified >= info.modified:
            result.skipped += 1
            self._tell(ObjectFinished(info.key, target, info.size, "skipped"))
            return None
        return CopyJob(info.key, target, info.size, info.modified, info.etag)

    def _done(self, done: RangeDone) -> None:
        result = self._result
        for one in done.copied:
            result.files += 1
            result.bytes += one.size
            result.verified[one.verified] = result.verified.get(one.verified, 0) + 1
            self._tell(ObjectFinished(one.key, one.target, one.size, "copied", one.verified))
        for failure in done.failed:
            self._fail(failure)

    def _fail(self, failure: FailedObject) -> None:
        self._result.failed.append(failure)
        self._tell(ObjectFailed(failure.key, failure.code, failure.reason))

    def _tell(self, event: SyncEvent) -> None:
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception:
            logger.exception("The observer of a sync raised; the sync goes on")
