"""The guard: what every operation of a provider from a registry passes on its way in and out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from asyncio import get_running_loop
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel

from .errors import (
    ConnectionFailedError,
    CreationFailedError,
    InvalidStateError,
    OperationTimeoutError,
    RegistryError,
)
from .metadata import Status
from .provider import Call, Provider

__all__ = ["AnyProvider", "Guard", "Lease"]

AnyProvider = Provider[Any]
ResultT = TypeVar("ResultT")


class Guard:
    """
    Watches one instance: connects it on first use, counts who uses it, maps its errors.

    ``loop`` is the whole admission test of the fast path: it is the event loop on which the
    instance is ready, and None whenever a call has to be looked at more closely (not yet
    connected, draining, disposed). A circuit breaker's admission belongs beside that test.

    Args:
        name: The provider's name, for messages.
        family: The family's name, for messages.
        build: Makes the instance of ``config``; runs in no lock and does no I/O.
        config: What ``build`` is given: the provider class and its settings, in most cases.
        timeout: Seconds an operation may take, a stream's step each; None: as long as it likes.
        init_timeout: Seconds that connecting may take.
        dispose_timeout: Seconds that closing may take.
        on_failure: Told of every failure of the backend, with the error the caller gets.
    """

    __slots__ = (
        "_build",
        "_config",
        "_connecting",
        "_connector",
        "_idle_waiters",
        "_leases",
        "_lock",
        "_owner",
        "calls",
        "dispose_timeout",
        "draining",
        "failures",
        "family",
        "in_flight",
        "init_timeout",
        "instance",
        "last_error",
        "loop",
        "name",
        "on_failure",
        "seconds",
        "status",
        "timeout",
    )

    def __init__(
        self,
        name: str,
        family: str,
        build: Callable[[Any], AnyProvider],
        config: BaseModel | None,
        *,
        timeout: float | None = None,
        init_timeout: float = 30.0,
        dispose_timeout: float = 10.0,
        on_failure: Callable[[Guard, RegistryError], None] | None = None,
    ) -> None:
        self.name = name
        self.family = family
        self.timeout = timeout
        self.init_timeout = init_timeout
        self.dispose_timeout = dispose_timeout
        self.on_failure = on_failure
        self.loop: asyncio.AbstractEventLoop | None = None
        self.instance: AnyProvider | None = None
        self.status = Status.REGISTERED
        self.last_error: str | None = None
        self.in_flight = 0
        self.calls = 0
        self.failures = 0
        self.seconds = 0.0
        self.draining = False
        self._build = build
        self._config = config
        self._owner: asyncio.AbstractEventLoop | None = None
        self._connecting: asyncio.Future[None] | None = None
        self._connector: asyncio.Task[None] | None = None
        self._leases: dict[int, Lease] | None = None
        self._idle_waiters: list[concurrent.futures.Future[None]] | None = None
        self._lock = threading.Lock()

    # -- on the way in -------------------------------------------------------------------

    async def enter(self) -> None:
        """
        Let a call pass that the fast path did not: connect first, or say why not.

        Raises:
            InvalidStateError: The instance is disposed, or belongs to another event loop.
            RegistryError: Connecting failed; the next call tries again.
        """
        loop = get_running_loop()
        mine: asyncio.Future[None] | None = None
        with self._lock:
            if self.status is Status.DISPOSED or (self.draining and not self._leases):
                raise self._refusal()
            if self._owner is not None and self._owner is not loop:
                if not self._owner.is_closed():
                    raise self._foreign_loop()
                # The loop it lived on is gone, and with it every connection: start afresh.
                self.instance = self._connecting = self._connector = None
                self.status = Status.REGISTERED
            self._owner = loop
            if self.status is Status.READY:
                return  # draining, and somebody who holds a lease goes on with the work
            if self._connecting is None:
                mine = self._connecting = loop.create_future()
                self.status = Status.INITIALIZING
            connecting = self._connecting
            self.in_flight += 1  # who waits for the connection uses the instance already
        if mine is not None:
            # A task of its own: one caller's cancellation must not fail all who wait with it.
            self._connector = loop.create_task(self._connect(mine), name=f"connect {self.name}")
            self._connector.add_done_callback(functools.partial(self._settle, mine))
        try:
            await asyncio.shield(connecting)
            if self.instance is None:  # disposed before those who waited could go on
                raise self._refusal()
        finally:
            self.in_flight -= 1
            if self.draining:  # not at once: the call that waited counts itself first
                loop.call_soon(self.wake_if_idle)

    async def _connect(self, done: asyncio.Future[None]) -> None:
        instance: AnyProvider | None = None
        try:
            instance = self.peek()
            async with asyncio.timeout(self.init_timeout):
                await instance._connect()
            with self._lock:
                if self._connecting is not done:  # disposed while connecting
                    raise self._refusal()
                self._connecting = self._connector = None
                self.last_error = None
                self.status = Status.READY
                self.loop = None if self.draining else self._owner
        except BaseException as error:  # cancellation too must free what was made
            try:
                if instance is not None:
                    await self._close_quietly(instance)
            finally:
                with self._lock:
                    if self._connecting is done:
                        self._connecting = self._connector = self._owner = self.instance = None
                        self.status = Status.ERROR
            if not isinstance(error, Exception):
                raise
            failure = self._connect_failure(error, instance)
            self._note(failure)
            if failure is error:
                raise
            raise failure from error

    def _settle(self, done: asyncio.Future[None], task: asyncio.Task[None]) -> None:
        """Tell those who wait for a connection what became of it."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error if isinstance(error, Exception) else self._refusal())
            done.exception()  # perhaps nobody waits any more

    def peek(self) -> AnyProvider:
        """
        Return the instance, built but perhaps not connected.

        Raises:
            CreationFailedError: The provider class could not be built.
        """
        instance = self.instance
        if instance is None:
            try:
                instance = self._build(self._config)
            except RegistryError:
                raise
            except Exception as error:
                label = self.family.replace("_", " ").capitalize()
                raise CreationFailedError(
                    f"{label} creation failed: provider {self.name!r}: "
                    f"{type(error).__name__}: {error}",
                    self.name,
                ) from error
            with self._lock:  # two threads may have built one: the first stays
                if self.instance is None:
                    self.instance = instance
                instance = self.instance
        return instance

    # -- on the way out ------------------------------------------------------------------

    def reraise(self, error: Exception, operation: str, args: Any, kwargs: Any) -> NoReturn:
        """Raise ``error`` as the family's typed error, its cause kept."""
        timed_out = self.timeout is not None and isinstance(error, TimeoutError) and not error.args
        if timed_out:
            error = TimeoutError(f"no answer within {self.timeout:g} s")
        mapped = self._mapped(error, Call(operation, args, kwargs, self.name), self.instance)
        if timed_out and mapped is error:
            mapped = OperationTimeoutError(
                f"{operation} of provider {self.name!r} timed out: {error}", self.name
            )
        self._note(mapped)
        try:
            if mapped is error:
                raise error
            raise mapped from error
        finally:
            del error, mapped  # or the traceback would keep them, and the call's arguments, alive

    @staticmethod
    def _mapped(error: Exception, call: Call, instance: AnyProvider | None) -> Exception:
        if isinstance(error, RegistryError) or instance is None:
            return error
        return instance._translate(error, call) or error

    def _note(self, error: BaseException) -> None:
        if not isinstance(error, RegistryError):
            return
        if error.provider_name is None:
            error.provider_name = self.name
        if error.is_backend_failure:
            self.failures += 1
            self.last_error = error.message
            if self.on_failure is not None:
                self.on_failure(self, error)

    def _connect_failure(self, error: Exception, instance: AnyProvider | None) -> RegistryError:
        if isinstance(error, TimeoutError) and not error.args:
            error = TimeoutError(f"no connection within {self.init_timeout:g} s")
        mapped = self._mapped(error, Call("connect", (), {}, self.name), instance)
        if isinstance(mapped, RegistryError):
            return mapped
        kind = OperationTimeoutError if isinstance(mapped, TimeoutError) else ConnectionFailedError
        return kind(
            f"Cannot connect provider {self.name!r}: {type(mapped).__name__}: {mapped}", self.name
        )

    def _refusal(self) -> InvalidStateError:
        what = "is disposed" if self.status is Status.DISPOSED else "is being removed"
        return InvalidStateError(
            f"Provider {self.name!r} {what} and takes no more calls. Select it anew; if it is not "
            "to be had there either, it was unregistered or its container was shut down.",
            self.name,
        )

    def _foreign_loop(self) -> InvalidStateError:
        return InvalidStateError(
            f"Provider {self.name!r} belongs to the event loop that first used it and cannot be "
            "used from another one. Keep to one event loop per container, use "
            "container.blocking in code that has no event loop, or create an instance for this "
            f"loop with registry.create({self.name!r}).",
            self.name,
        )

    # -- who uses it ---------------------------------------------------------------------

    def add_lease(self, lease: Lease) -> None:
        """Note a lease; refused while draining and after disposal."""
        with self._lock:
            if self.draining or self.status is Status.DISPOSED:
                raise self._refusal()
            if self._leases is None:
                self._leases = {}
            self._leases[id(lease)] = lease

    def remove_lease(self, lease: Lease) -> None:
        """Forget a lease; forgetting it twice is no error."""
        with self._lock:
            (self._leases or {}).pop(id(lease), None)
        if self.draining:
            self.wake_if_idle()

    @property
    def holders(self) -> list[str]:
        """Who uses the instance now: the holder of each lease, and the calls in flight."""
        with self._lock:
            holders = [lease.holder for lease in (self._leases or {}).values()]
        if self.in_flight:
            holders.append(f"{self.in_flight} call{'s' * (self.in_flight > 1)} in flight")
        return holders

    @property
    def use_count(self) -> int:
        """How many leases and calls in flight there are."""
        return len(self._leases or ()) + self.in_flight

    def wake_if_idle(self) -> None:
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
        return await self._on_owner(self._close_if_idle)

    async def _close_if_idle(self) -> bool:
        with self._lock:
            if self.use_count:
                return False
            self.draining = True
            self.loop = None
            return True

    async def drain(self, timeout: float | None = None) -> bool:
        """
        Refuse new work, wait for the work under way; return whether all of it ended in time.

        Those who hold a lease go on with their calls; new leases are refused.
        """
        waiter: concurrent.futures.Future[None] = concurrent.futures.Future()

        async def begin() -> None:
            with self._lock:
                self.draining = True
                self.loop = None
                self._idle_waiters = [*(self._idle_waiters or []), waiter]
            self.wake_if_idle()

        await self._on_owner(begin)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wrap_future(waiter)
        except TimeoutError:
            # It may have been idle all along, and the timeout zero.
            return waiter.done() and not waiter.cancelled()
        return True

    async def _on_owner(self, function: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """
        Run on the loop the instance belongs to, where no call is between test and count.

        An instance whose loop is gone or stands still has no call that could be.
        """
        owner = self._owner
        if owner is None or owner is get_running_loop() or not owner.is_running():
            return await function()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(), owner))

    def resume(self) -> None:
        """Take work again after :meth:`drain`, or after :meth:`dispose` as if never used."""
        with self._lock:
            self.draining = False
            if self.status is Status.DISPOSED:
                self.status = Status.REGISTERED
            elif self.status is Status.READY:
                self.loop = self._owner

    # -- the end -------------------------------------------------------------------------

    async def dispose(self) -> None:
        """
        Close the instance for good; a second call does nothing.

        Runs on the event loop the instance belongs to, whichever calls.

        Raises:
            Exception: What the provider's own closing raised; it counts as disposed all the same.
            TimeoutError: Closing took longer than ``dispose_timeout``.
        """
        with self._lock:
            ready = self.status is Status.READY
            self.status = Status.DISPOSED
            self.loop = self._connecting = None
            instance, self.instance = self.instance, None
            owner, self._owner = self._owner, None
            connector, self._connector = self._connector, None
        if connector is not None:
            end = functools.partial(self._abandon, connector)
        elif ready and instance is not None:
            end = functools.partial(self._close, instance)
        else:
            return
        if owner is get_running_loop():
            await end()
        elif owner is not None and owner.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(end(), owner))

    async def _abandon(self, connector: asyncio.Task[None]) -> None:
        """End an attempt to connect, which closes what it made."""
        connector.cancel()
        async with asyncio.timeout(self.dispose_timeout):
            await asyncio.wait([connector])

    async def _close(self, instance: AnyProvider) -> None:
        async with asyncio.timeout(self.dispose_timeout):
            await instance._close()

    async def _close_quietly(self, instance: AnyProvider) -> None:
        """Close what a failed connection left; its own failure would hide the first one."""
        try:
            await self._close(instance)
        except Exception as error:
            self.last_error = f"closing after a failed connection: {error}"

    def refuse_if_disposed(self) -> None:
        """Raise if the instance is disposed; for calls that need no connection."""
        if self.status is Status.DISPOSED:
            raise self._refusal()

    # -- asked for on purpose ------------------------------------------------------------

    async def check_health(self) -> None:
        """Connect if need be and ask the backend; raises what went wrong, mapped."""
        if self.loop is not get_running_loop():
            await self.enter()
        try:
            await self.peek().check_health()
        except Exception as error:
            self.reraise(error, "check_health", (), {})


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
