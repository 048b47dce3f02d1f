"""The guard: what every operation of a provider from a registry passes on its way in and out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from ...settings import BreakerSettings
from .breaker import CircuitBreaker, Era
from .connection import AnyProvider, Blueprint, Connection, run_hook
from .errors import (
    CreationFailedError,
    InvalidStateError,
    OperationTimeoutError,
    RegistryError,
    is_backend_failure,
)
from .metadata import HealthStatus, Status
from .provider import Call
from .redaction import mask, scrub

__all__ = ["Guard", "Lease"]

logger = logging.getLogger(__name__)

_NONE: Mapping[Connection, asyncio.Task[None] | None] = MappingProxyType({})
_NEVER_OPEN = CircuitBreaker("", BreakerSettings(enabled=False))


class Guard:
    """
    Watches one provider: admits calls, counts who uses it, maps its errors, swaps its instance.

    The whole admission test of the fast path is that ``breaker.era`` is there and that
    ``connection.loop`` is the running event loop; for any other call :meth:`enter` decides.

    Args:
        blueprint: What its instance is made from.
        breaker: The circuit breaker of its backend; none when not given.
        timeout: Seconds an operation may take, a stream's step each; None: as long as it likes.
        on_failure: Told of every failure of the backend, with the error the caller gets.
    """

    __slots__ = (
        "_calls_before",
        "_fresh",
        "_idle_waiters",
        "_leases",
        "_lock",
        "_retired",
        "_swapping",
        "breaker",
        "connection",
        "draining",
        "failures",
        "family",
        "last_error",
        "name",
        "on_failure",
        "successor",
        "timeout",
    )

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        breaker: CircuitBreaker | None = None,
        timeout: float | None = None,
        on_failure: Callable[[Guard, RegistryError], None] | None = None,
    ) -> None:
        self.name = blueprint.name
        self.family = blueprint.family
        self.breaker = breaker or _NEVER_OPEN
        self.connection = Connection(blueprint)
        self.timeout = timeout
        self.on_failure = on_failure
        self.successor: Any = None
        """The handle that takes its calls, once a provider of another type took its place."""
        self.draining = False
        self.failures = 0
        self.last_error: str | None = None
        self._calls_before = 0
        self._leases: dict[int, Lease] | None = None
        self._retired: Mapping[Connection, asyncio.Task[None] | None] = _NONE
        self._fresh: Connection | None = None
        self._swapping: asyncio.Lock | None = None
        self._idle_waiters: list[concurrent.futures.Future[None]] | None = None
        self._lock = threading.Lock()

    @property
    def status(self) -> Status:
        """Where its instance stands."""
        return self.connection.status

    @property
    def calls(self) -> int:
        """How many calls have ended."""
        return self._calls_before + sum(one.ended for one in self._connections())

    @property
    def in_flight(self) -> int:
        """How many calls are under way, on its instance and on those it replaced."""
        return sum(one.in_flight for one in self._connections())

    def _connections(self) -> tuple[Connection, ...]:
        return (self.connection, *self._retired)

    def heir(self) -> Any:
        """Return the last of its successors, which takes its calls; None: it does so itself."""
        while self.successor is not None and self.successor._guard.successor is not None:
            self.successor = self.successor._guard.successor  # what is between need not live on
        return self.successor

    @property
    def current(self) -> Guard:
        """The guard that stands for the provider now: this one, or that of the heir."""
        heir = self.heir()
        return self if heir is None else heir._guard

    def peek(self) -> AnyProvider:
        """Return the instance, built but perhaps not connected; see :meth:`Connection.peek`."""
        return self.current.connection.peek()

    # -- on the way in -------------------------------------------------------------------

    async def enter(self) -> tuple[Connection, Era]:
        """
        Let a call pass that the fast path did not: connect first, or say why not.

        Returns:
            The connection to use, and what the call is admitted in.

        Raises:
            InvalidStateError: The instance is disposed, or belongs to another event loop.
            CircuitOpenError: The backend failed too often of late.
            RegistryError: Connecting failed; the next call tries again.
        """
        while True:
            connection = self._claimed()
            era = self.breaker.admit()
            try:
                await connection.connect(functools.partial(self._note, era=era))
                return connection, era
            except BaseException as error:
                self.breaker.release(era)
                if connection is self.connection or not isinstance(error, InvalidStateError):
                    raise  # else it was swapped by another thread: once more, with the new one

    def enter_plain(self) -> tuple[AnyProvider, Era]:
        """Let a plain call pass, which cannot wait for a connection; see :meth:`enter`."""
        if self.status is Status.DISPOSED:
            raise self.connection.refusal()
        instance = self.connection.peek()
        return instance, self.breaker.admit()

    async def connect(self) -> Connection:
        """Connect if need be, asking no permission of the breaker; errors as :meth:`enter`."""
        if self.successor is not None:
            return await self.current.connect()
        connection = self._claimed()
        era = self.breaker.era or _void
        await connection.connect(functools.partial(self._note, era=era))
        return connection

    def _claimed(self) -> Connection:
        with self._lock:
            if self.draining and not self._leases:
                raise self.connection.refusal()
        while True:
            connection = self.connection
            try:
                connection.claim()
                return connection
            except InvalidStateError:
                if connection is self.connection:  # and was not swapped by another thread
                    raise

    # -- on the way out ------------------------------------------------------------------

    def reraise(
        self,
        error: Exception,
        instance: AnyProvider | None,
        era: Era,
        operation: str,
        args: Any,
        kwargs: Any,
    ) -> NoReturn:
        """Raise ``error`` of ``instance`` as the family's typed error, its cause kept."""
        timed_out = self.timeout is not None and isinstance(error, TimeoutError) and not error.args
        if timed_out:
            error = TimeoutError(f"no answer within {self.timeout:g} s")
        mapped = error
        if instance is not None and not isinstance(error, RegistryError):
            mapped = instance._translate(error, Call(operation, args, kwargs, self.name)) or error
        if timed_out and mapped is error:
            mapped = OperationTimeoutError(
                f"{operation} of provider {self.name!r} timed out: {error}", self.name
            )
        self._note(mapped, era, instance)
        raised = scrub(mapped)
        try:
            if raised is error:
                raise raised
            raise raised from error
        finally:
            scrub(raised)  # its causes too, now that it has them
            # Or the traceback would keep them, and the call's arguments, alive.
            del error, mapped, raised

    def _note(self, error: Exception, era: Era, instance: AnyProvider | None = None) -> None:
        if isinstance(error, RegistryError) and error.provider_name is None:
            error.provider_name = self.name
        counts = is_backend_failure if instance is None else instance._is_failure
        if not counts(error):
            hold = error.hold if isinstance(error, RegistryError) else None
            if hold:
                self.breaker.hold(era, hold, error)
            else:
                self.breaker.release(era)
            return
        self.failures += 1
        self.last_error = mask(str(error))
        self.breaker.fail(era, error)
        if self.on_failure is not None and isinstance(error, RegistryError):
            self.on_failure(self, error)

    # -- who uses it ---------------------------------------------------------------------

    def add_lease(self, lease: Lease) -> None:
        """Note a lease; refused while draining and after disposal."""
        with self._lock:
            if self.draining or self.status is Status.DISPOSED:
                raise self.connection.refusal()
            if self._leases is None:
                self._leases = {}
            self._leases[id(lease)] = lease

    def remove_lease(self, lease: Lease) -> None:
        """Forget a lease, also one that moved on; forgetting it twice is no error."""
        with self._lock:
            (self._leases or {}).pop(id(lease), None)
            heir = self.successor
        if heir is not None:
            heir._guard.remove_lease(lease)
        elif self.draining:
            self._wake_if_idle()

    @property
    def holders(self) -> list[str]:
        """Who uses the instance now: the holder of each lease, and the calls in flight."""
        with self._lock:
            holders = [lease.holder for lease in (self._leases or {}).values()]
        if in_flight := self.in_flight:
            holders.append(f"{in_flight} call{'s' * (in_flight > 1)} in flight")
        return holders

    @property
    def use_count(self) -> int:
        """How many leases and calls in flight there are."""
        return len(self._leases or ()) + self.in_flight

    def _wake_if_idle(self) -> None:
        """Tell those who wait for the last call to end."""
        if self.use_count:
            return
        with self._lock:
            waiters, self._idle_waiters = self._idle_waiters or [], None
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(None)

    async def close_to_new_work(self) -> bool:
        """Refuse new calls and leases if nobody uses the instance; tell whether that was so."""

        async def close_if_idle() -> bool:
            with self._lock:
                if self.use_count:
                    return False
                self.draining = True
            self.connection.watch(self._wake_if_idle)
            return True

        return await self.connection.on_owner(close_if_idle)

    async def drain(self, timeout: float | None = None) -> bool:
        """
        Refuse new work, wait for the work under way; return whether all of it ended in time.

        Those who hold a lease go on with their calls; new leases are refused.
        """
        waiter: concurrent.futures.Future[None] = concurrent.futures.Future()

        async def begin() -> None:
            with self._lock:
                self.draining = True
                self._idle_waiters = [*(self._idle_waiters or []), waiter]
            self.connection.watch(self._wake_if_idle)
            self._wake_if_idle()

        await self.connection.on_owner(begin)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wrap_future(waiter)
        except TimeoutError:
            # It may have been idle all along, and the timeout zero.
            return waiter.done() and not waiter.cancelled()
        return True

    def stop_draining(self) -> None:
        """Take work again after :meth:`drain`; what was disposed before stays so."""
        self.draining = False
        self.connection.watch(None)

    def resume(self) -> None:
        """Take work again after :meth:`drain`, or after :meth:`dispose` as if never used."""
        self.stop_draining()
        self.connection.revive()

    # -- another instance in its place ---------------------------------------------------

    async def swap(
        self, fresh: Connection, commit: Callable[[], None], successor: Any = None
    ) -> bool:
        """
        Put ``fresh`` in the place of the present instance; no call fails by it.

        If the present one is in use, the new one is connected and asked for its health first;
        calls under way end on the old one, which is closed after the last of them.

        Args:
            fresh: What takes its place.
            commit: Called when it does; what it raises leaves everything as it was.
            successor: The handle of ``fresh``, if that is of another type: it takes all further
                calls, and the leases.

        Returns:
            False if another successor was faster: nothing has changed.

        Raises:
            RegistryError: The new one cannot be connected or is not well: nothing has changed.
        """
        return await self.connection.on_owner(
            functools.partial(self._swap, fresh, commit, successor)
        )

    async def _swap(self, fresh: Connection, commit: Callable[[], None], successor: Any) -> bool:
        if self._swapping is None:
            self._swapping = asyncio.Lock()
        async with self._swapping:
            if self.successor is not None:
                return False
            in_use = self.status in (Status.READY, Status.INITIALIZING)
            try:
                if in_use:
                    self._fresh = fresh
                    fresh.claim()
                    await fresh.connect(lambda _: None)
                    await self._prove(fresh)
                    if Status.DISPOSED in (fresh.status, self.status):  # meanwhile
                        raise fresh.refusal()
                elif self.status is Status.DISPOSED:
                    fresh.status = Status.DISPOSED
                if successor is not None and self.draining and fresh.status is not Status.DISPOSED:
                    raise self.connection.refusal()  # it would outlive what is being stopped
                commit()
            except BaseException:
                await fresh.dispose()
                raise
            finally:
                self._fresh = None
            if successor is None:
                self._replace(fresh)
            else:
                self._hand_over(successor)
            if in_use:
                self.breaker.reset("a renewed instance answers", forced=False)
            return True

    async def _prove(self, fresh: Connection) -> None:
        """Make sure that a new instance is well."""
        limit = fresh.blueprint.init_timeout
        try:
            async with asyncio.timeout(limit):
                await self._ask(fresh)
        except RegistryError:
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            if isinstance(error, TimeoutError) and not error.args:
                told = f"no answer within {limit:g} s"
            raise CreationFailedError(
                f"The new instance of provider {self.name!r} is not well: {told}", self.name
            ) from error

    def _replace(self, fresh: Connection) -> None:
        old, guard = self.connection, self.current
        guard._retired = {**guard._retired, old: None}
        self.connection = fresh
        if self.draining:
            fresh.watch(self._wake_if_idle)
        old.watch(functools.partial(self._end_if_idle, old))
        self._end_if_idle(old)

    def _hand_over(self, successor: Any) -> None:
        heir: Guard = successor._guard
        ended = Connection(self.connection.blueprint)
        ended.status = Status.DISPOSED
        with self._lock:
            heir._leases, self._leases = self._leases, None
            self.successor = successor
        heir._retired, self._retired = self._retired, _NONE
        self._replace(ended)

    def _end_if_idle(self, old: Connection) -> None:
        guard = self.current
        if old.in_flight == 0 and guard._retired.get(old, _void) is None:
            task = asyncio.get_running_loop().create_task(self._end(old), name=f"close {self.name}")
            guard._retired = {**guard._retired, old: task}
        guard._wake_if_idle()

    async def _end(self, old: Connection) -> None:
        try:
            await old.dispose()
        except Exception as error:
            logger.error(
                "Closing the replaced instance of provider %s failed: %s: %s",
                self.name,
                type(error).__name__,
                error,
            )
        guard = self.current
        guard._calls_before += old.ended
        guard._retired = {one: task for one, task in guard._retired.items() if one is not old}

    # -- the end -------------------------------------------------------------------------

    async def dispose(self) -> None:
        """
        Close the instance for good, with those it replaced and one that is to replace it.

        Errors as :meth:`Connection.dispose`.
        """
        others = [self._end_at_once(old, task) for old, task in self._retired.items()]
        if self._fresh is not None:
            others.append(self._end(self._fresh))
        if others:
            await asyncio.gather(*others, self.connection.dispose())
        else:
            await self.connection.dispose()

    async def _end_at_once(self, old: Connection, task: asyncio.Task[None] | None) -> None:
        ending = functools.partial(self._end, old)
        if task is not None:
            ending = functools.partial(_ended, task)
        await old.on_owner(ending)

    # -- asked for on purpose ------------------------------------------------------------

    async def check_health(self) -> HealthStatus | None:
        """Connect if need be and ask the backend; raises what went wrong, mapped."""
        connection = self._claimed()
        # What a check finds is told to the breaker by whoever asked, once for all its attempts.
        await connection.connect(functools.partial(self._note, era=_void))
        return await self._ask(connection)

    async def _ask(self, connection: Connection) -> HealthStatus | None:
        instance = connection.peek()
        try:
            return await run_hook(instance.check_health)
        except RegistryError as error:
            scrub(error)
            raise
        except Exception as error:
            mapped = instance._translate(error, Call("check_health", (), {}, self.name))
            clean = scrub(error)
            if mapped is None and clean is error:
                raise
        if mapped is not None:
            raise mapped from clean
        raise clean


_void = Era((), 0.0)


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for a closing under way; cut it short when there is no time for that."""
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        raise


class Lease:
    """
    The note that somebody uses an instance: it is not removed while the note stands.

    A context manager, plain and async, that gives the instance.
    """

    __slots__ = ("_guard", "holder", "instance")

    def __init__(self, instance: Any, guard: Guard | None, holder: str) -> None:
        self.instance = instance
        self.holder = holder
        self._guard = guard
        if guard is not None:
            guard.add_lease(self)

    def release(self) -> None:
        """End the lease; ending it twice is no error."""
        if self._guard is not None:
            self._guard.remove_lease(self)

    def __enter__(self) -> Any:
        return self.instance

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    async def __aenter__(self) -> Any:
        return self.instance

    async def __aexit__(self, *exc_info: object) -> None:
        self.release()
