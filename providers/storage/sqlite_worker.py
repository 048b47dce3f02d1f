"""A thread that owns one SQLite connection and runs what it is given in batches."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar

from .errors import not_connected

__all__ = ["Job", "SQLiteWorker"]

MAX_BATCH = 256
"""Jobs that share a transaction at most, which bounds how long the first waits for the last."""

T = TypeVar("T")
Job: TypeAlias = Callable[[sqlite3.Connection], T]
"""
Work on a connection, inside a transaction. It may run twice (the first time was rolled back),
so it changes nothing but the database.
"""

_Outcome: TypeAlias = tuple[Any, Exception | None]
_Item: TypeAlias = tuple[Job[Any], "asyncio.Future[Any] | None"]


class SQLiteWorker:
    """
    Runs jobs in a thread of its own, in the order they were given.

    All jobs that wait form one batch: one transaction, one commit and one wake-up of the event
    loop. A job that raises is undone alone and fails alone.

    Args:
        name: The thread's name.
        connect: Opens the connection, in the thread; it must be in autocommit mode.
        writes: Whether jobs may write. A failed one then has something to undo.
        idle: A small step of maintenance to run when no job waits, as long as it returns True.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        *,
        writes: bool,
        idle: Job[bool] | None = None,
    ) -> None:
        self._name = name
        self._connect = connect
        self._writes = writes
        self._idle = idle
        self._accepts = False
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Start the thread and open its connection; raises what ``connect`` raised."""
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        started = self._loop.create_future()
        self._ended = self._loop.create_future()
        # A daemon: a disk that hangs must not keep the process from exiting.
        self._thread = threading.Thread(
            target=self._serve, args=(started,), name=self._name, daemon=True
        )
        self._thread.start()
        self._accepts = True
        await started

    async def stop(self) -> None:
        """Finish what was given, close the connection and end the thread; refuse new jobs."""
        thread = self._thread
        self.abandon()
        if thread is not None:
            await self._ended
            thread.join()

    def abandon(self) -> None:
        """End the thread after what was given, from anywhere, without waiting for it."""
        thread, self._thread = self._thread, None
        self._accepts = False
        if thread is not None:
            self._queue.put(None)

    def run(self, job: Job[T]) -> asyncio.Future[T]:
        """
        Return a future of what ``job`` returns; it is set when the batch is committed.

        Raises:
            InvalidStateError: The worker is not started, or stopped.
        """
        if not self._accepts:
            raise not_connected()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((job, future))
        return future

    def post(self, job: Job[object]) -> None:
        """Give a job nobody waits for; a stopped worker drops it."""
        if self._accepts:
            self._queue.put((job, None))

    def _serve(self, started: asyncio.Future[None]) -> None:
        queue, ended = self._queue, self._ended
        try:
            with contextlib.closing(self._connect()) as connection:
                self._deliver([started], [(None, None)])
                self._work(connection, queue)
        except Exception as error:
            self._deliver([started], [(None, error)])
        finally:
            self._deliver([ended], [(None, None)])

    def _work(self, connection: sqlite3.Connection, queue: SimpleQueue[_Item | None]) -> None:
        item: _Item | None
        while True:
            if queue.empty():
                self._maintain(connection, queue)
            jobs: list[Job[Any]] = []
            futures: list[asyncio.Future[Any] | None] = []
            item = queue.get()
            with contextlib.suppress(Empty):
                while item is not None:
                    jobs.append(item[0])
                    futures.append(item[1])
                    if len(jobs) == MAX_BATCH:
                        break
                    item = queue.get_nowait()
            if jobs:
                self._deliver(futures, self._run(connection, jobs))
            if item is None:
                return

    def _maintain(self, connection: sqlite3.Connection, queue: SimpleQueue[_Item | None]) -> None:
        while self._idle is not None and queue.empty():
            try:
                more = self._idle(connection)
            except sqlite3.Error:
                return  # it is not needed now and is tried again after the next batch
            if not more:
                return

    def _run(self, connection: sqlite3.Connection, jobs: list[Job[Any]]) -> list[_Outcome]:
        try:
            connection.execute("BEGIN IMMEDIATE" if self._writes else "BEGIN")
        except sqlite3.Error as error:
            return [(None, error)] * len(jobs)
        try:
            attempt = self._attempt if self._writes else _read
            outcomes = [attempt(connection, job) for job in jobs]
            connection.execute("COMMIT")
            return outcomes
        except Exception as error:  # the transaction is lost as a whole: disk full, I/O error
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(jobs) == 1:
                return [(None, error)]
        # One of them is to blame, and the others shall not suffer for it.
        return [self._run(connection, [job])[0] for job in jobs]

    def _attempt(self, connection: sqlite3.Connection, job: Job[Any]) -> _Outcome:
        connection.execute("SAVEPOINT job")
        try:
            outcome: _Outcome = job(connection), None
        except Exception as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO job")
            outcome = None, error
        connection.execute("RELEASE job")
        return outcome

    def _deliver(
        self, futures: Iterable[asyncio.Future[Any] | None], outcomes: Iterable[_Outcome]
    ) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_settle, futures, outcomes)


def _read(connection: sqlite3.Connection, job: Job[Any]) -> _Outcome:
    try:
        return job(connection), None
    except Exception as error:
        if not connection.in_transaction:
            raise
        return None, error


def _settle(futures: Iterable[asyncio.Future[Any] | None], outcomes: Iterable[_Outcome]) -> None:
    for future, (result, error) in zip(futures, outcomes, strict=True):
        if future is None or future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
