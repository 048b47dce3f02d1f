"""What runs on a worker: a range of keys copied, with providers of the worker's own settings."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from ...containers.process import process_container
from ...providers.registry import (
    CircuitOpenError,
    ConnectionFailedError,
    InvalidStateError,
    NotFoundError,
    OperationTimeoutError,
    PermissionDeniedError,
    RegistryError,
    ShuttingDownError,
)
from ...providers.storage import ObjectInfo, StorageFullError, StorageRootNotFoundError
from ..sync import CopyDone, CopyJob, SyncError
from ..sync.ends import Source, Target
from ..sync.transfer import CopyError, Transfer
from .ranges import RangeDone, RangeTask, settings_digest

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["copy_range", "dask_setup", "stop_run"]

_running: dict[str, set[asyncio.Task[RangeDone]]] = {}
_stopped: set[str] = set()

_WHOLE = (
    CircuitOpenError,
    InvalidStateError,
    ShuttingDownError,
    StorageFullError,
    StorageRootNotFoundError,
)
_PERHAPS_WHOLE = (ConnectionFailedError, OperationTimeoutError, PermissionDeniedError)


def copy_range(task: RangeTask) -> RangeDone:
    """
    Copy a range of objects; the function of every task of a sync on Dask.

    All tasks of a worker process share one container, made from its environment, and the event
    loop that belongs to it. An object that fails is noted; only cancellation raises.
    """
    try:
        container = process_container()
    except RegistryError as error:
        return RangeDone(task.number, error=error)
    try:
        return container.blocking.run(_copy_range(task, container))
    except CancelledError:
        if task.run not in _stopped:
            raise
        return RangeDone(task.number)


def stop_run(run: str) -> None:
    """Cancel all ranges of a sync that this worker process copies, or will be asked to."""
    _stopped.add(run)
    for task in [*_running.get(run, ())]:
        task.get_loop().call_soon_threadsafe(task.cancel)


def dask_setup(worker: object) -> None:
    """
    Leave Ctrl-C, and what is to be told, to who started this worker process.

    A terminal sends Ctrl-C to both, but the workers have to be there to be told to stop; and what
    they log of connections that end then is of no use to anybody. Dask calls this by its name, in
    the workers that are started on this machine.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


async def _copy_range(task: RangeTask, container: ApplicationContainer) -> RangeDone:
    started = perf_counter()
    done = RangeDone(task.number)
    this = asyncio.current_task()
    running = _running.setdefault(task.run, set())
    running.add(this)  # pyright: ignore[reportArgumentType] - it is of this coroutine
    try:
        if task.run in _stopped:
            raise asyncio.CancelledError
        _check_settings(task, container)
        async with AsyncExitStack() as stack:
            source = await Source.open(task.source, container, stack)
            target = await Target.open(task.target, source, container, stack, dry_run=False)
            transfer = Transfer(source.end, target.end, task.options, lambda key, count: None)
            await _copy_all(task, transfer, done)
    except RegistryError as error:
        done.error = error
    finally:
        running.discard(this)  # pyright: ignore[reportArgumentType]
        if not running:
            _running.pop(task.run, None)
    done.seconds = perf_counter() - started
    return done


def _check_settings(task: RangeTask, container: ApplicationContainer) -> None:
    """
    Refuse a worker whose providers are others than those of who started the sync.

    Raises:
        SyncError: It would copy from, or to, somewhere else.
    """
    for name, digest in task.settings:
        try:
            found = settings_digest(container, name)
        except NotFoundError as error:
            raise SyncError("WORKER_SETTINGS", f"On a worker: {error.message}") from error
        if found != digest:
            raise SyncError(
                "WORKER_SETTINGS",
                f"A worker has other settings for the provider {name!r} than this process: it "
                "would copy from or to somewhere else. Start the workers with the same "
                "environment variables and settings file.",
            )


async def _copy_all(task: RangeTask, transfer: Transfer, done: RangeDone) -> None:
    jobs = iter(task.jobs)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(task.options.jobs, len(task.jobs))):
            group.create_task(_copy_some(jobs, transfer, done))


async def _copy_some(jobs: Iterator[CopyJob], transfer: Transfer, done: RangeDone) -> None:
    for job in jobs:
        if done.error is not None:
            return
        info = ObjectInfo(job.key, job.size, job.listed, job.etag)
        try:
            copied = await transfer.copy(info, job.target, job.modified)
        except CopyError as failed:
            error = failed.error
            if not isinstance(error, RegistryError):
                error = SyncError("OBJECT_FAILED", str(error))
            if await _is_of_the_end(failed):
                done.error = error
                return
            done.objects.append(CopyDone(job.key, error=error))
        else:
            # Its metadata is not asked for, and of a kind that does not travel.
            told = replace(copied, info=replace(copied.info, metadata={}))
            done.objects.append(CopyDone(job.key, told))


async def _is_of_the_end(failed: CopyError) -> bool:
    """Tell whether a failure is the end's, so that all other objects would fail alike."""
    if isinstance(failed.error, _PERHAPS_WHOLE):
        try:
            await failed.end.storage.check_health()
        except (RegistryError, OSError):
            return True
    return isinstance(failed.error, _WHOLE)
