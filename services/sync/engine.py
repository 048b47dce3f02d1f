"""The sync: compare two listings, copy what is missing or older, many at a time."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, closing
from dataclasses import dataclass, replace
from datetime import datetime
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
    InvalidKeyError,
    ObjectInfo,
    StorageFullError,
    StorageRootNotFoundError,
    check_key,
)
from ...providers.storage.keys import MANIFEST_NAME
from .copier import Copier, CopyDone, CopyJob
from .ends import End, Source, Target, disabled_provider, storage_of
from .errors import SyncError
from .events import (
    BytesMoved,
    ListingFinished,
    ObjectDelayed,
    ObjectFailed,
    ObjectFinished,
    ObjectFound,
    ObjectIgnored,
    ObjectStarted,
    Observer,
    SyncEvent,
)
from .manifest import Ledger, joined, read_manifest
from .merge import Entry, Known, merged, microseconds
from .options import SyncOptions
from .places import Place, StoragePlace, parse_place
from .result import FailedObject, SyncResult
from .transfer import Copied, CopyError, Transfer

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["sync"]

logger = logging.getLogger(__name__)

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


class _StopError(Exception):
    """The whole cannot go on."""

    def __init__(self, error: RegistryError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(slots=True)
class _Job:
    """An object that is to be copied, or compared and then perhaps copied."""

    here: Entry
    info: ObjectInfo
    key: str
    there: Entry | None
    tries: int = 0

    @property
    def modified(self) -> datetime:
        """When the object was last changed, as far as is known."""
        return self.here.known.time if self.here.known else self.info.modified


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
        self._result = result
        self._options = options
        self._observer = observer
        self._ledger = ledger
        self._copier = copier
        self._refusals = 0
        self._found = 0
        self._delayed: list[_Job] = []
        self._transfer = Transfer(source.end, target.end, options, self._moved)
        # A single object is compared with one answer; there a manifest would cost more.
        many = source.name is None
        self._reads_times = many and not source.end.keeps_times
        self._writes_times = many and (
            not target.end.keeps_times or (options.compare == "checksum" and not target.end.is_here)
        )

    async def run(self) -> None:
        """Compare and copy, copy again what failed, then remove what is beyond the source."""
        try:
            await self._copy(self._compared())
            for wait in _waits(self._options.retries):
                if not self._delayed:
                    break
                await asyncio.sleep(wait)
                delayed, self._delayed = self._delayed, []
                await self._copy(_each(delayed))
            if self._options.delete:
                await self._delete()
        except _StopError as stopped:
            self._result.error = stopped.error
        except asyncio.CancelledError:
            await self._write_manifest(HASTE)
            raise
        await self._write_manifest(None)

    async def _copy(self, jobs: AsyncGenerator[_Job]) -> None:
        """Do all jobs, many at a time."""
        if self._copier is not None:
            await self._copy_elsewhere(self._copier, jobs)
            return
        queue: asyncio.Queue[_Job | None] = asyncio.Queue(QUEUE)
        workers = max(1, self._options.jobs)
        try:
            async with asyncio.TaskGroup() as group, aclosing(jobs):
                for number in range(workers):
                    group.create_task(self._work(queue), name=f"sync {number}")
                async for job in jobs:
                    await queue.put(job)
                for _ in range(workers):
                    await queue.put(None)
        except* _StopError as stopped:
            raise cast(_StopError, stopped.exceptions[0]) from None

    async def _copy_elsewhere(self, copier: Copier, jobs: AsyncGenerator[_Job]) -> None:
        flying: dict[str, _Job] = {}

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
            raise _StopError(error) from error

    # -- finding what to do --------------------------------------------------------------

    async def _compared(self) -> AsyncGenerator[_Job]:
        """Iterate over what is to be copied; settle at once what is not."""
        pairs = cast(
            "AsyncGenerator[tuple[Entry | None, Entry | None]]",
            merged(self._here(), self._there()),
        )
        try:
            async with aclosing(pairs):
                async for here, there in pairs:
                    if here is None:
                        if there is not None:
                            self._beyond(there)
                    elif (job := self._job(here, there)) is not None:
                        yield job
        except RegistryError as error:  # a listing broke off: what comes after it is unknown
            raise _StopError(error) from error
        self._tell(ListingFinished())

    async def _here(self) -> AsyncGenerator[Entry]:
        async with aclosing(self._entries(self._source, self._reads_times)) as entries:
            async for entry in entries:
                name = self._target.name  # a single object may get another one
                if name is not None:
                    yield replace(entry, path=name)
                elif self._options.filters.admit(entry.path):
                    yield entry

    def _there(self) -> AsyncGenerator[Entry]:
        return self._entries(self._target, self._writes_times)

    def _entries(self, side: Source | Target, with_manifest: bool) -> AsyncGenerator[Entry]:
        end, entries = side.end, side.entries()
        if not with_manifest:
            return entries
        return joined(entries, read_manifest(end.storage, end.prefix), self._warn)

    def _beyond(self, there: Entry) -> None:
        """Note what is only at the target: what was left out at the source stays."""
        if there.known is not None:
            self._ledger.note(there.known, new=False)
        if self._options.delete and self._options.filters.admit(there.path):
            self._ledger.note_extra(there.path)

    def _job(self, here: Entry, there: Entry | None) -> _Job | None:
        """Return what is to be copied or looked at closely; settle at once what is not."""
        result, info = self._result, here.info
        if here.ignored is not None:
            result.ignored += 1
            self._tell(ObjectIgnored(self._source.end.prefix + here.path, here.ignored))
            return None
        key = self._target.end.prefix + here.path
        fault = here.fault
        if fault is None:
            try:
                check_key(key)  # with the target's prefix it may be too long
            except InvalidKeyError as error:
                fault = error
        if fault is not None or info is None:
            self._fail(self._source.end.prefix + here.path, fault)
            return None
        self._found += 1
        self._tell(ObjectFound(info.key, info.size))
        job = _Job(here, info, key, there)
        if there is not None and there.info is not None and there.info.size == info.size:
            match self._options.compare:
                case "checksum" if not self._options.dry_run:
                    return job
                case "checksum":
                    same = False
                case "size":
                    same = True
                case "time":
                    same = self._is_current(job, there, there.info)
            if same:
                self._skip(job, there.info)
                return None
        if self._options.dry_run:
            result.files += 1
            result.bytes += info.size
            self._tell(ObjectFinished(info.key, key, info.size, "would-copy"))
            return None
        return job

    def _is_current(self, job: _Job, there: Entry, info: ObjectInfo) -> bool:
        if there.known is not None:  # it is what was copied then: has the source changed since?
            return there.known.modified == microseconds(job.modified)
        modified = job.modified
        if self._target.end.keeps_times and info.modified.microsecond == 0:
            modified = modified.replace(microsecond=0)  # it keeps whole seconds
        return info.modified >= modified

    # -- doing it ------------------------------------------------------------------------

    async def _work(self, queue: asyncio.Queue[_Job | None]) -> None:
        while (job := await queue.get()) is not None:
            try:
                await self._do(job)
            except CopyError as failed:
                if await self._concerns_all(failed):
                    raise _StopError(_registry_error(failed.error)) from failed
                self._delay_or_fail(job, failed.error)

    async def _do(self, job: _Job) -> None:
        info, there = job.info, job.there
        if self._options.compare == "checksum" and there is not None and there.info is not None:
            same_size = there.info.size == info.size
            if same_size and await self._transfer.is_same(job.here, there):
                self._skip(job, there.info)
                return
        self._tell(ObjectStarted(info.key, info.size))
        self._finish(job, await self._transfer.copy(info, job.key, job.modified))

    def _finish(self, job: _Job, copied: Copied) -> None:
        result = self._result
        result.files += 1
        result.bytes += copied.info.size
        result.verified[copied.verified] = result.verified.get(copied.verified, 0) + 1
        if self._writes_times:
            known = Known.of(job.here.path, copied.info, job.modified, copied.md5)
            self._ledger.note(known, new=True)
        size, verified = copied.info.size, copied.verified
        self._tell(ObjectFinished(job.info.key, job.key, size, "copied", verified))

    def _skip(self, job: _Job, there: ObjectInfo) -> None:
        self._result.skipped += 1
        if self._writes_times:
            before = job.there.known if job.there else None
            md5 = before.md5 if before else None
            known = Known.of(job.here.path, there, job.modified, md5)
            self._ledger.note(known, new=known != before)
        self._tell(ObjectFinished(job.info.key, job.key, job.info.size, "skipped"))

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
                if self._refusals >= REFUSALS and not self._result.files:
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
        result, options, count = self._result, self._options, self._ledger.extra_count
        if not count:
            return
        if result.failed:
            self._warn(f"Nothing was deleted ({count} would be): not everything was copied.")
            return
        if not self._found and not options.force:
            raise _StopError(
                SyncError(
                    "EMPTY_SOURCE",
                    f"The source {self._source.end.label} holds nothing: {count} objects of the "
                    "target would be deleted, and none was. If that is meant, use --force.",
                )
            )
        if options.max_delete is not None and count > options.max_delete:
            raise _StopError(
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
                self._fail(key, error)
                return
        self._result.deleted += 1
        self._ledger.forget(path)
        action = "would-delete" if self._options.dry_run else "deleted"
        self._tell(ObjectFinished(key, key, 0, action))

    # -- what the target cannot keep -----------------------------------------------------

    async def _write_manifest(self, seconds: float | None) -> None:
        """Keep what is known of the target, also when the sync ends early."""
        if not self._writes_times or self._options.dry_run or not self._ledger.changed:
            return
        key = f"{self._target.end.prefix}{MANIFEST_NAME}"
        try:
            async with asyncio.timeout(seconds):
                await self._target.end.storage.put(key, self._ledger.manifest())
        except (RegistryError, OSError, TimeoutError) as error:
            reason = _registry_error(error).message
            self._warn(f"The times of the sources could not be kept in {key}: {reason}")

    # -- telling -------------------------------------------------------------------------

    def _fail(self, key: str, error: Exception | None) -> None:
        failure = _registry_error(error)
        self._result.failed.append(FailedObject(key, failure.code, failure.message))
        self._tell(ObjectFailed(key, failure.code, failure.message))

    def _delay_or_fail(self, job: _Job, error: Exception | None) -> None:
        passing = isinstance(error, RegistryError) and error.is_backend_failure
        if passing and job.tries < self._options.retries and len(self._delayed) < QUEUE:
            job.tries += 1
            self._delayed.append(job)
            failure = _registry_error(error)
            self._tell(ObjectDelayed(job.info.key, failure.code, failure.message))
        else:
            self._fail(job.info.key, error)

    def _warn(self, text: str) -> None:
        logger.warning("%s", text)
        self._result.warnings.append(text)

    def _moved(self, key: str, count: int) -> None:
        self._tell(BytesMoved(key, count))

    def _tell(self, event: SyncEvent) -> None:
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception:
            logger.exception("The observer of a sync raised; the sync goes on")


async def _is_well(end: End) -> bool:
    try:
        await end.storage.check_health()
    except (RegistryError, OSError):
        return False
    return True


def _waits(retries: int) -> Iterator[float]:
    """Yield the seconds to wait before each further try."""
    return (min(RETRY_SECONDS * 2**number, 30.0) for number in range(retries))


async def _each(jobs: Iterable[_Job]) -> AsyncGenerator[_Job]:
    for job in jobs:
        yield job


def _registry_error(error: Exception | None) -> RegistryError:
    if isinstance(error, RegistryError):
        return error
    return SyncError("OBJECT_FAILED", str(error))
