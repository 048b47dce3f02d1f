"""The life of one instance: built, connected once, used, closed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import os
import threading
import warnings
import weakref
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from .daemon import in_daemon_thread, leave_behind, within
from .errors import (
    ConnectionFailedError,
    CreationFailedError,
    InvalidStateError,
    OperationTimeoutError,
    RegistryError,
)
from .metadata import Status
from .provider import Call, Provider
from .redaction import mask, scrub

__all__ = ["AnyProvider", "Blueprint", "Connection", "run_hook"]

AnyProvider = Provider[Any]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Blueprint:
    """
    What an instance is made from.

    Args:
        name: The provider's name, for messages.
        family: The family's name, for messages.
        build: Makes the instance of ``config``; runs in no lock and does no I/O.
        config: What ``build`` is given: the type's settings.
        init_timeout: Seconds that connecting may take.
        dispose_timeout: Seconds that closing may take.
        prepare: Starts what has to be there before it is connected.
    """

    name: str
    family: str
    build: Callable[[Any], AnyProvider]
    config: BaseModel | None = None
    init_timeout: float = 30.0
    dispose_timeout: float = 10.0
    prepare: Callable[[], Awaitable[None]] | None = None


class Connection:
    """
    One instance, from building to closing. It belongs to the event loop that first used it.

    ``loop`` is the event loop on which the instance is ready, and None whenever a call has to
    be looked at more closely. ``started`` and ``ended`` count calls; ``watched`` is called as
    each of them ends, where somebody waits for the last.

    Args:
        blueprint: What to make the instance from.
    """

    __slots__ = (
        "__weakref__",
        "_connecting",
        "_connector",
        "_ending",
        "_lock",
        "_owner",
        "_unclosed",
        "blueprint",
        "ended",
        "instance",
        "last_error",
        "loop",
        "started",
        "status",
        "watched",
    )

    def __init__(self, blueprint: Blueprint) -> None:
        self.blueprint = blueprint
        self.loop: asyncio.AbstractEventLoop | None = None
        self.instance: AnyProvider | None = None
        self.started = 0
        self.ended = 0
        self.watched: Callable[[], None] | None = None
        self.status = Status.REGISTERED
        self.last_error: str | None = None
        self._owner: asyncio.AbstractEventLoop | None = None
        self._connecting: asyncio.Future[None] | None = None
        self._connector: asyncio.Task[None] | None = None
        self._ending: concurrent.futures.Future[None] | None = None
        self._unclosed: Callable[[], object] | None = None
        self._lock = threading.Lock()

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return self.started - self.ended

    def peek(self) -> AnyProvider:
        """
        Return the instance, built but perhaps not connected.

        Raises:
            CreationFailedError: The provider class could not be built.
        """
        instance = self.instance
        if instance is None:
            blueprint = self.blueprint
            try:
                instance = blueprint.build(blueprint.config)
            except RegistryError:
                raise
            except Exception as error:
                label = blueprint.family.replace("_", " ").capitalize()
                raise CreationFailedError(
                    f"{label} creation failed: provider {blueprint.name!r}: "
                    f"{type(error).__name__}: {error}",
                    blueprint.name,
                ) from scrub(error)
            with self._lock:  # two threads may have built one: the first stays
                if self.instance is None:
                    self.instance = instance
                instance = self.instance
        return instance

    # -- connecting ----------------------------------------------------------------------

    def claim(self) -> None:
        """
        Make sure that the running event loop is the instance's own.

        Raises:
            InvalidStateError: The instance is disposed, or belongs to another event loop.
        """
        loop = get_running_loop()
        with self._lock:
            if self.status is Status.DISPOSED:
                raise self.refusal()
            if self._owner is not None and self._owner is not loop:
                if not self._owner.is_closed():
                    raise self._foreign_loop()
                # The loop it lived on is gone, and with it every connection: start afresh.
                self.instance = self._connecting = self._connector = None
                self._forget_unclosed()
                self.status = Status.REGISTERED
            self._owner = loop

    async def connect(self, on_failure: Callable[[RegistryError], None]) -> None:
        """
        Connect once, however many ask; :meth:`claim` goes before.

        Args:
            on_failure: Told of a failure once, by the caller whose attempt it was.

        Raises:
            RegistryError: Connecting failed; the next call tries again.
        """
        mine: asyncio.Future[None] | None = None
        with self._lock:
            if self.status is Status.READY:
                return
            if self.status is Status.DISPOSED:  # by another thread, since it was claimed
                raise self.refusal()
            if self._connecting is None:
                mine = self._connecting = get_running_loop().create_future()
                self.status = Status.INITIALIZING
            connecting = self._connecting
            self.started += 1  # who waits for the connection uses the instance already
        if mine is not None:
            # A task of its own: one caller's cancellation must not fail all who wait with it.
            self._connector = get_running_loop().create_task(
                self._connect(mine, on_failure), name=f"connect {self.blueprint.name}"
            )
            self._connector.add_done_callback(functools.partial(self._settle, mine))
        try:
            await asyncio.shield(connecting)
            if self.instance is None:  # disposed before those who waited could go on
                raise self.refusal()
        finally:
            self.started -= 1
            if self.watched is not None:  # not at once: the call that waited counts itself first
                get_running_loop().call_soon(self.watched)

    async def _connect(
        self, done: asyncio.Future[None], on_failure: Callable[[RegistryError], None]
    ) -> None:
        blueprint = self.blueprint
        instance: AnyProvider | None = None
        try:
            instance = self.peek()
            if blueprint.prepare is not None:
                await blueprint.prepare()
            async with asyncio.timeout(blueprint.init_timeout):
                await run_hook(instance._connect)
            with self._lock:
                if self._connecting is not done:  # disposed while connecting
                    raise self.refusal()
                self._connecting = self._connector = None
                self.last_error = None
                self.status = Status.READY
                self.loop = None if self.watched is not None else self._owner
                names = blueprint.name, blueprint.family
                self._unclosed = weakref.finalize(self, _warn, *names, os.getpid())
        except GeneratorExit:  # left behind, and its event loop is gone: nothing can be awaited
            raise
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
            on_failure(failure)
            if failure is error:
                raise
            raise failure from error

    def _settle(self, done: asyncio.Future[None], task: asyncio.Task[None]) -> None:
        """Tell those who wait for a connection what became of it."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            scrub(error)  # its causes too: it is what all who wait are given
        if done.done():  # disposed meanwhile
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error if isinstance(error, Exception) else self.refusal())
            done.exception()  # perhaps nobody waits any more

    def _connect_failure(self, error: Exception, instance: AnyProvider | None) -> RegistryError:
        name, limit = self.blueprint.name, self.blueprint.init_timeout
        if isinstance(error, TimeoutError) and not error.args:
            error = TimeoutError(f"no connection within {limit:g} s")
        mapped = error
        if instance is not None and not isinstance(error, RegistryError):
            mapped = instance._translate(error, Call("connect", (), {}, name)) or error
        if isinstance(mapped, RegistryError):
            return mapped
        kind = OperationTimeoutError if isinstance(mapped, TimeoutError) else ConnectionFailedError
        return kind(f"Cannot connect provider {name!r}: {type(mapped).__name__}: {mapped}", name)

    def refusal(self) -> InvalidStateError:
        """Return the error for who comes too late."""
        what = "is disposed" if self.status is Status.DISPOSED else "is being removed"
        name = self.blueprint.name
        return InvalidStateError(
            f"Provider {name!r} {what} and takes no more calls. Select it anew; if it is not "
            "to be had there either, it was unregistered or its container was shut down.",
            name,
        )

    def _foreign_loop(self) -> InvalidStateError:
        name = self.blueprint.name
        return InvalidStateError(
            f"Provider {name!r} belongs to the event loop that first used it and cannot be "
            "used from another one. Keep to one event loop per container, use "
            "container.blocking in code that has no event loop, or create an instance for this "
            f"loop with registry.create({name!r}).",
            name,
        )

    # -- on the loop it belongs to -------------------------------------------------------

    def watch(self, watcher: Callable[[], None] | None) -> None:
        """Have ``watcher`` called as calls end, and all calls looked at; None: no longer."""
        with self._lock:
            self.watched = watcher
            ready = self.status is Status.READY
            self.loop = self._owner if ready and watcher is None else None

    async def on_owner(self, function: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """
        Run on the loop the instance belongs to, where no call is between test and count.

        An instance whose loop is gone or stands still has no call that could be.
        """
        owner = self._owner
        if owner is None or owner is get_running_loop() or not owner.is_running():
            return await function()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(), owner))

    # -- the end -------------------------------------------------------------------------

    def revive(self) -> None:
        """After :meth:`dispose`: as if never used."""
        with self._lock:
            if self.status is Status.DISPOSED:
                self.status = Status.REGISTERED

    async def dispose(self) -> None:
        """
        Close the instance for good; a second call waits for the first, and does nothing.

        Runs on the event loop the instance belongs to, whichever calls.

        Raises:
            Exception: What the provider's own closing raised; it counts as disposed all the same.
            OperationTimeoutError: Closing took longer than ``dispose_timeout``.
        """
        mine: concurrent.futures.Future[None] = concurrent.futures.Future()
        with self._lock:
            ready = self.status is Status.READY
            self.status = Status.DISPOSED
            self.loop = None
            connecting, self._connecting = self._connecting, None
            instance, self.instance = self.instance, None
            owner, self._owner = self._owner, None
            connector, self._connector = self._connector, None
            self._forget_unclosed()
            first = self._ending
            self._ending = first or mine
        try:
            if connector is not None and connecting is not None:
                end = functools.partial(self._abandon, connector, connecting)
            elif ready and instance is not None:
                end = functools.partial(self._close, instance)
            else:
                if first is not None:
                    await asyncio.wait([asyncio.wrap_future(first)])
                return
            if owner is get_running_loop():
                await end()
            elif owner is not None and owner.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(end(), owner))
        finally:
            if first is None:
                self._ending = None
                mine.set_result(None)

    async def _abandon(
        self, connector: asyncio.Task[None], connecting: asyncio.Future[None]
    ) -> None:
        """End an attempt to connect, which closes what it made."""
        connector.cancel()
        if not connecting.done():  # who waits for it need not wait for its end
            connecting.set_exception(self.refusal())
            connecting.exception()
        try:
            done, _ = await asyncio.wait([connector], timeout=self.blueprint.dispose_timeout)
        finally:
            leave_behind(connector)
        if not done:
            raise self._unended()

    async def _close(self, instance: AnyProvider) -> None:
        hook = instance._close
        try:
            await within(self.blueprint.dispose_timeout, run_hook(hook))
        except TimeoutError as error:
            if error.args:  # the provider's own
                raise
            raise self._unended() from None
        except Exception as error:
            clean = scrub(error)
            if clean is error:
                raise
        else:
            return
        raise clean  # not where the one it stands for would be its context

    def _unended(self) -> OperationTimeoutError:
        name, limit = self.blueprint.name, self.blueprint.dispose_timeout
        return OperationTimeoutError(f"not closed within {limit:g} s", name)

    async def _close_quietly(self, instance: AnyProvider) -> None:
        """Close what a failed connection left; its own failure would hide the first one."""
        try:
            await self._close(instance)
        except Exception as error:
            self.last_error = f"closing after a failed connection: {mask(str(error))}"

    def _forget_unclosed(self) -> None:
        if self._unclosed is not None:
            self._unclosed.detach()  # type: ignore[attr-defined]
            self._unclosed = None


async def run_hook(hook: Callable[[], Any]) -> Any:
    """Await a provider's hook; a plain function runs in a daemon thread, since it may block."""
    if inspect.iscoroutinefunction(hook):
        return await hook()
    answer = await in_daemon_thread(hook)
    return await answer if inspect.isawaitable(answer) else answer


def _warn(name: str, family: str, process: int) -> None:
    if process != os.getpid():
        return  # a fork's copy, which is not the child's to close
    warnings.warn(
        f"The {family} provider {name!r} was never closed. Use `async with container.lifespan():`, "
        "or dispose what create() returned.",
        ResourceWarning,
        stacklevel=2,
    )
