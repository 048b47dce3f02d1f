"""The sync: compare two listings, copy what is missing or older, many at a time."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
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
from .ends import Source, Target, disabled_provider, storage_of
from .errors import SyncError
from .events import (
    BytesMoved,
    ListingFinished,
    ObjectFailed,
    ObjectFinished,
    ObjectFound,
    ObjectIgnored,
    ObjectStarted,
    Observer,
    SyncEvent,
)
from .merge import Entry, merged
from .places import LocalPlace, Place, StoragePlace, parse_place
from .result import FailedObject, SyncResult
from .transfer import CopyError, Transfer, Verify

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["sync"]

logger = logging.getLogger(__name__)

QUEUE = 4096
"""Objects found and not yet copied, at most: what a sync holds in memory."""
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
    jobs: int = 16,
    verify: Verify = "auto",
    dry_run: bool = False,
    observer: Observer | None = None,
) -> SyncResult:
    """
    Make a target hold what a source holds; what is only at the target stays.

    A place is ``NAME:key``, ``:key`` in the default provider, or a path of this machine. What
    lies below the source goes below the target, under the same relative keys. A source that is
    one object or file is copied as the target names it, or under its own name where the target
    is a folder, ends in a slash or is empty.

    What has the same size at the target and is not older there is skipped. Each copy is
    compared with what was read; see :class:`Transfer`. An object that fails is noted in the
    result and does not stop the others, unless the whole of an end has failed.

    Args:
        source: Where from.
        target: Where to.
        container: Gives the providers by name; two local places need none.
        jobs: Objects copied at the same time.
        verify: ``auto``, ``full`` or ``size``.
        dry_run: Do everything but write.
        observer: Called with each event, at once, on the event loop. One that raises is
            logged; the sync goes on.

    Returns:
        What became of it; ``success`` is False whenever anything at all went wrong.

    Raises:
        NotFoundError: No such provider.
        InvalidConfigError: A provider's settings have faults.
        SyncError: A place is empty, or in a provider and there is no container.
    """
    started = perf_counter()
    one, other = _place(source), _place(target)
    result = SyncResult(str(one), str(other), dry_run=dry_run)
    disabled = disabled_provider(other, container)
    if disabled is not None:
        result.note = f"The provider {disabled!r} is disabled: nothing was copied."
    else:
        for place in (one, other):
            if isinstance(place, StoragePlace):
                storage_of(place, container)
        await _run(one, other, container, result, jobs, verify, observer)
    result.seconds = perf_counter() - started
    return result


def _place(place: str | os.PathLike[str] | Place) -> Place:
    return place if isinstance(place, LocalPlace | StoragePlace) else parse_place(place)


async def _run(
    one: Place,
    other: Place,
    container: ApplicationContainer | None,
    result: SyncResult,
    jobs: int,
    verify: Verify,
    observer: Observer | None,
) -> None:
    """Connect to both ends, then copy; what ends the whole becomes the result's error."""
    async with AsyncExitStack() as stack:
        try:
            source = await Source.open(one, container, stack)
            target = await Target.open(other, source, container, stack, dry_run=result.dry_run)
            await _Run(source, target, result, verify, observer).run(max(1, jobs))
        except RegistryError as error:
            result.error = error


class _StopError(Exception):
    """The whole cannot go on."""

    def __init__(self, error: RegistryError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class _Job:
    info: ObjectInfo
    key: str


class _Run:
    """One sync under way."""

    def __init__(
        self,
        source: Source,
        target: Target,
        result: SyncResult,
        verify: Verify,
        observer: Observer | None,
    ) -> None:
        self._source = source
        self._target = target
        self._result = result
        self._observer = observer
        self._refusals = 0
        self._transfer = Transfer(source.end, target.end, verify, self._moved)

    async def run(self, jobs: int) -> None:
        queue: asyncio.Queue[_Job | None] = asyncio.Queue(QUEUE)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(jobs):
                    group.create_task(self._work(queue), name=f"sync {number}")
                await self._compare(queue)
                for _ in range(jobs):
                    await queue.put(None)
        except* _StopError as stopped:
            self._result.error = cast(_StopError, stopped.exceptions[0]).error

    # -- finding what to do --------------------------------------------------------------

    async def _compare(self, queue: asyncio.Queue[_Job | None]) -> None:
        pairs = cast(
            "AsyncGenerator[tuple[Entry | None, Entry | None]]",
            merged(self._entries(), self._target.entries()),
        )
        try:
            async with aclosing(pairs):
                async for here, there in pairs:
                    if here is None:
                        continue  # only at the target, where it stays
                    if (job := self._job(here, there)) is not None:
                        await queue.put(job)
        except RegistryError as error:  # a listing broke off: what comes after it is unknown
            raise _StopError(error) from error
        self._tell(ListingFinished())

    async def _entries(self) -> AsyncGenerator[Entry]:
        async with aclosing(self._source.entries()) as entries:
            async for entry in entries:
                name = self._target.name  # a single object may get another one
                yield entry if name is None else replace(entry, path=name)

    def _job(self, here: Entry, there: Entry | None) -> _Job | None:
        """Return what is to be copied; settle at once what is not."""
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
        self._tell(ObjectFound(info.key, info.size))
        if there is not None and there.info is not None and _is_current(info, there.info):
            result.skipped += 1
            self._tell(ObjectFinished(info.key, key, info.size, "skipped"))
            return None
        if result.dry_run:
            result.files += 1
            result.bytes += info.size
            self._tell(ObjectFinished(info.key, key, info.size, "would-copy"))
            return None
        return _Job(info, key)

    # -- doing it ------------------------------------------------------------------------

    async def _work(self, queue: asyncio.Queue[_Job | None]) -> None:
        result = self._result
        while (job := await queue.get()) is not None:
            info = job.info
            self._tell(ObjectStarted(info.key, info.size))
            try:
                size, verified = await self._transfer.copy(info, job.key)
            except CopyError as failed:
                if await self._concerns_all(failed):
                    raise _StopError(_registry_error(failed.error)) from failed
                self._fail(info.key, failed.error)
                continue
            result.files += 1
            result.bytes += size
            result.verified[verified] = result.verified.get(verified, 0) + 1
            self._tell(ObjectFinished(info.key, job.key, size, "copied", verified))

    async def _concerns_all(self, failed: CopyError) -> bool:
        """Tell whether a failure is the end's, so that the next objects would fail alike."""
        error, end = failed.error, failed.end
        if isinstance(error, _WHOLE):
            return True
        if not isinstance(error, _PERHAPS_WHOLE):
            return False
        if isinstance(error, PermissionDeniedError) and "local-storage" not in end.capabilities:
            self._refusals += 1
            if self._refusals >= REFUSALS and not self._result.files:
                return True
        try:
            await end.storage.check_health()
        except (RegistryError, OSError):
            return True
        return False

    # -- telling -------------------------------------------------------------------------

    def _fail(self, key: str, error: Exception | None) -> None:
        failure = _registry_error(error)
        self._result.failed.append(FailedObject(key, failure.code, failure.message))
        self._tell(ObjectFailed(key, failure.code, failure.message))

    def _moved(self, key: str, count: int) -> None:
        self._tell(BytesMoved(key, count))

    def _tell(self, event: SyncEvent) -> None:
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception:
            logger.exception("The observer of a sync raised; the sync goes on")


def _is_current(here: ObjectInfo, there: ObjectInfo) -> bool:
    return here.size == there.size and there.modified >= here.modified


def _registry_error(error: Exception | None) -> RegistryError:
    if isinstance(error, RegistryError):
        return error
    return SyncError("OBJECT_FAILED", str(error))
