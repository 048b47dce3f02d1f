"""The sync: compare two listings, copy what is missing or older, many at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, closing
from time import perf_counter
from typing import TYPE_CHECKING, cast

from ...providers.registry import (
    CircuitOpenError,
    ConnectionFailedError,
    InvalidStateError,
    OperationTimeoutError,
    PermissionDeniedError,
    RegistryError,
    ShuttingDownError,
)
from ...providers.storage import (
    StorageFullError,
    StorageRootNotFoundError,
)
from ...providers.storage.keys import MANIFEST_NAME
from .account import Account, registry_error
from .compare import Comparison, Job
from .copier import Copier, CopyDone, CopyJob
from .ends import End, Source, Target, disabled_provider, storage_of
from .errors import StopError, SyncError
from .events import (
    ObjectDelayed,
    ObjectFinished,
    ObjectStarted,
    Observer,
)
from .manifest import Ledger
from .merge import Known
from .options import SyncOptions
from .places import Place, StoragePlace, parse_place
from .result import SyncResult
from .transfer import Copied, CopyError, Transfer

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["sync"]

QUEUE = 4096
"""Objects found and not yet copied, at most: what a sync holds in memory."""
RETRY_SECONDS = 0.5
"""Before the first further try; it doubles with each."""
HASTE = 5.0
"""Seconds that keeping the times of the sources may take when the sync is cancelled."""
REFUSALS = 10
"""So many objects refused by an end that takes none: it is the credentials, not the objects."""

_WHOLE = (
    CircuitOpenError,
    InvalidStateError,
    ShuttingDownError,
    StorageFullError,
    StorageRootNotFoundError,
)
_PERHAPS_WHOLE = (ConnectionFailedError, OperationTimeoutError, PermissionDeniedError)


async def sync(
    source: str | os.PathLike[str] | Place,
    target: str | os.PathLike[str] | Place,
    *,
    container: ApplicationContainer | None = None,
    options: SyncOptions | None = None,
    observer: Observer | None = None,
    copier: Copier | None = None,
) -> SyncResult:
    """
    Make a target hold what a source holds; what is only at the target stays, unless asked for.

    A place is ``NAME:key``, ``:key`` in the default provider, or a path of this machine. What
    lies below the source goes below the target, under the same relative keys. A source that is
    one object or file is copied as the target names it, or under its own name where the target
    is a folder, ends in a slash or is empty.

    What is the same at the target already is skipped: see :class:`SyncOptions`. Each copy is
    compared with what was read; see :class:`Transfer`. An object that fails is tried again, then
    noted in the result, and does not stop the others, unless the whole of an end has failed.
    Where the target cannot keep the time of an object's source, a manifest beside the objects
    does; see :mod:`purveyor.services.sync.manifest`.

    Args:
        source: Where from.
        target: Where to.
        container: Gives the providers by name; two local places need none.
        options: How; the usual when not given.
        observer: Called with each event, at once, on the event loop. One that raises is
            logged; the sync goes on.
        copier: Copies in place of this process, with limits of its own, by times or sizes.

    Returns:
        What became of it; ``success`` is False whenever anything at all went wrong.

    Raises:
        NotFoundError: No such provider.
        InvalidConfigError: A provider's settings have faults.
        SyncError: A place is empty, or in a provider and there is no container.
    """
    started = perf_counter()
    options = options or SyncOptions()
    one, other = parse_place(source), parse_place(target)
    result = SyncResult(str(one), str(other), dry_run=options.dry_run)
    disabled = disabled_provider(other, container)
    if disabled is not None:
        result.note = f"The provider {disabled!r} is disabled: nothing was copied."
    else:
        for place in (one, other):
            if isinstance(place, StoragePlace):
                storage_of(place, container)
        await _run(one, other, container, result, options, observer, copier)
    result.seconds = perf_counter() - started
    return result


async def _run(
    one: Place,
    other: Place,
    container: ApplicationContainer | None,
    result: SyncResult,
    options: SyncOptions,
    observer: Observer | None,
    copier: Copier | None,
) -> None:
    """Connect to both ends, then copy; what ends the whole becomes the result's error."""
    async with AsyncExitStack() as stack:
        try:
            source = await Source.open(one, container, stack)
            target = await Target.open(other, source, container, stack, dry_run=options.dry_run)
            ledger = stack.enter_context(closing(Ledger()))
            await _Run(source, target, result, options, observer, ledger, copier).run()
        except RegistryError as error:
            result.error = error


class _Run:
    """One sync under way."""

    def __init__(
        self,
        source: Source,
        target: Target,
        result: SyncResult,
        options: SyncOptions,
        observer: Observer | None,
        ledger: Ledger,
        copier: Copier | None,
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._ledger = ledger
        self._copier = copier
        self._refusals = 0
        self._delayed: list[Job] = []
        self._account = account = Account(result, observer)
        self._comparison = Comparison(source, target, options, ledger, account)
        self._transfer = Transfer(source.end, target.end, options, account.moved)

    async def run(self) -> None:
        """Compare and copy, copy again what failed, then remove what is beyond the source."""
        try:
            await self._copy(self._comparison.jobs())
            for wait in _waits(self._options.retries):
                if not self._delayed:
                    break
                await asyncio.sleep(wait)
                delayed, self._delayed = self._delayed, []
                await self._copy(_each(delayed))
            if self._options.delete:
                await self._delete()
        except StopError as stopped:
            self._account.result.error = stopped.error
        except asyncio.CancelledError:
            await self._write_manifest(HASTE)
            raise
        await self._write_manifest(None)

    async def _copy(self, jobs: AsyncGenerator[Job]) -> None:
        """Do all jobs, many at a time."""
        if self._copier is not None:
            await self._copy_elsewhere(self._copier, jobs)
            return
        queue: asyncio.Queue[Job | None] = asyncio.Queue(QUEUE)
        workers = max(1, self._options.jobs)
        try:
            async with asyncio.TaskGroup() as group, aclosing(jobs):
                for number in range(workers):
                    group.create_task(self._work(queue), name=f"sync {number}")
                async for job in jobs:
                    await queue.put(job)
                for _ in range(workers):
                    await queue.put(None)
        except* StopError as stopped:
            raise cast(StopError, stopped.exceptions[0]) from None

    async def _copy_elsewhere(self, copier: Copier, jobs: AsyncGenerator[Job]) -> None:
        flying: dict[str, Job] = {}

        async def given() -> AsyncGenerator[CopyJob]:
            async with aclosing(jobs):
                async for job in jobs:
                    info = job.info
                    flying[info.key] = job
                    yield CopyJob(
                        info.key, job.key, info.size, info.modified, job.modified, info.etag
                    )

        def done(one: CopyDone) -> None:
            job = flying.pop(one.key)
            if one.copied is None:
                self._delay_or_fail(job, one.error)
            else:
                self._finish(job, one.copied)

        try:
            await copier.copy(given(), done)
        except RegistryError as error:
            raise StopError(error) from error

    # -- doing it ------------------------------------------------------------------------

    async def _work(self, queue: asyncio.Queue[Job | None]) -> None:
        while (job := await queue.get()) is not None:
            try:
                await self._do(job)
            except CopyError as failed:
                if await self._concerns_all(failed):
                    raise StopError(registry_error(failed.error)) from failed
                self._delay_or_fail(job, failed.error)

    async def _do(self, job: Job) -> None:
        info, there = job.info, job.there
        if self._options.compare == "checksum" and there is not None and there.info is not None:
            same_size = there.info.size == info.size
            if same_size and await self._transfer.is_same(job.here, there):
                self._comparison.skip(job, there.info)
                return
        if self._options.dry_run:
            self._comparison.would_copy(job)
            return
        self._account.tell(ObjectStarted(info.key, info.size))
        self._finish(job, await self._transfer.copy(info, job.key, job.modified))

    def _finish(self, job: Job, copied: Copied) -> None:
        result = self._account.result
        result.files += 1
        result.bytes += copied.info.size
        result.verified[copied.verified] = result.verified.get(copied.verified, 0) + 1
        if self._comparison.keeps_manifest:
            known = Known.of(job.here.path, copied.info, job.modified, copied.md5)
            self._ledger.note(known, new=True)
        size, verified = copied.info.size, copied.verified
        self._account.tell(ObjectFinished(job.info.key, job.key, size, "copied", verified))

    def _delay_or_fail(self, job: Job, error: Exception | None) -> None:
        passing = isinstance(error, RegistryError) and error.is_backend_failure
        if passing and job.tries < self._options.retries and len(self._delayed) < QUEUE:
            job.tries += 1
            self._delayed.append(job)
            failure = registry_error(error)
            self._account.tell(ObjectDelayed(job.info.key, failure.code, failure.message))
        else:
            self._account.fail(job.info.key, error)

    async def _concerns_all(self, failed: CopyError) -> bool:
        """Tell whether a failure is the end's, so that the next objects would fail alike."""
        error, end = failed.error, failed.end
        if isinstance(error, _WHOLE):
            return True
        if not isinstance(error, _PERHAPS_WHOLE):
            return False
        if isinstance(error, PermissionDeniedError):
            if not end.is_here:
                self._refusals += 1
                if self._refusals >= REFUSALS and not self._account.result.files:
                    return True
            return not await _is_well(end)
        for wait in (0.0, *_waits(self._options.retries)):
            await asyncio.sleep(wait)
            if await _is_well(end):
                return False
        return True

    # -- removing ------------------------------------------------------------------------

    async def _delete(self) -> None:
        """Remove what is only at the target, or say why not."""
        result, options, count = self._account.result, self._options, self._ledger.extra_count
        if not count:
            return
        if result.failed:
            self._account.warn(
                f"Nothing was deleted ({count} would be): not everything was copied."
            )
            return
        if not self._comparison.found and not options.force:
            raise StopError(
                SyncError(
                    "EMPTY_SOURCE",
                    f"The source {self._source.end.label} holds nothing: {count} objects of the "
                    "target would be deleted, and none was. If that is meant, use --force.",
                )
            )
        if options.max_delete is not None and count > options.max_delete:
            raise StopError(
                SyncError(
                    "TOO_MANY_DELETIONS",
                    f"{count} objects of the target would be deleted, more than the "
                    f"{options.max_delete} that --max-delete allows; none was.",
                )
            )
        await self._copy_free(self._ledger.extras())

    async def _copy_free(self, paths: Iterator[str]) -> None:
        async def work() -> None:
            for path in paths:  # shared by all: each takes the next one
                await self._remove(path)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, self._options.jobs)):
                group.create_task(work())

    async def _remove(self, path: str) -> None:
        key = self._target.end.prefix + path
        if not self._options.dry_run:
            try:
                await self._transfer.delete(key)
            except (RegistryError, OSError) as error:
                self._account.fail(key, error)
                return
        self._account.result.deleted += 1
        self._ledger.forget(path)
        action = "would-delete" if self._options.dry_run else "deleted"
        self._account.tell(ObjectFinished(key, key, 0, action))

    # -- what the target cannot keep -----------------------------------------------------

    async def _write_manifest(self, seconds: float | None) -> None:
        """Keep what is known of the target, also when the sync ends early."""
        if not self._comparison.keeps_manifest or self._options.dry_run or not self._ledger.changed:
            return
        key = f"{self._target.end.prefix}{MANIFEST_NAME}"
        try:
            async with asyncio.timeout(seconds):
                await self._target.end.storage.put(key, self._ledger.manifest())
        except (RegistryError, OSError, TimeoutError, StopError) as failure:
            error = failure.error if isinstance(failure, StopError) else failure
            reason = registry_error(error).message
            self._account.warn(f"The times of the sources could not be kept in {key}: {reason}")


async def _is_well(end: End) -> bool:
    try:
        await end.storage.check_health()
    except (RegistryError, OSError):
        return False
    return True


def _waits(retries: int) -> Iterator[float]:
    """Yield the seconds to wait before each further try."""
    return (min(RETRY_SECONDS * 2**number, 30.0) for number in range(retries))


async def _each(jobs: Iterable[Job]) -> AsyncGenerator[Job]:
    for job in jobs:
        yield job
