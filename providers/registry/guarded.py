"""The outside of a guarded instance: its class, with every operation passing the guard."""

from __future__ import annotations

import asyncio
import functools
import inspect
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, nullcontext
from typing import Any, NoReturn, TypeVar, cast

from .connection import AnyProvider, Blueprint
from .guard import Guard
from .metadata import HealthStatus
from .provider import is_operation

__all__ = ["Guarded", "guarded", "guarded_class"]

ProviderT = TypeVar("ProviderT", bound=AnyProvider)


class Guarded:
    """
    The outside of a guarded instance: the provider's class with every operation guarded.

    It stands before the instance proper, which it builds when first needed. Data attributes are
    the instance's own; a method that is no operation runs on the outside, so that the operations
    it is made of are guarded.
    """

    _guard: Guard

    def __init__(self, guard: Guard) -> None:
        object.__setattr__(self, "_guard", guard)

    def __getattr__(self, name: str) -> Any:
        if name == "_guard":
            raise AttributeError(name)
        return getattr(self._guard.peek(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._guard.peek(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._guard.peek(), name)

    async def initialize(self) -> None:
        """Connect now rather than at the first operation."""
        if self._guard.connection.loop is not get_running_loop():
            await self._guard.connect()

    async def dispose(self) -> None:
        """Wait for nothing, close, and refuse further operations."""
        await self._guard.current.dispose()

    async def check_health(self) -> HealthStatus | None:
        """Ask the backend one cheap question; raises the family's error if it is not well."""
        return await self._guard.current.check_health()

    def __repr__(self) -> str:
        guard = self._guard.current
        return f"<{type(self).__name__} {guard.name!r} {guard.status}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"Provider {self._guard.name!r} cannot be pickled or copied: it holds connections and "
            "credentials. Pass its name and select it again on the other side."
        )


class _InstanceAttribute:
    """A data attribute of the class, which the instance may have set to something else."""

    def __init__(self, name: str, value: Any) -> None:
        self._name = name
        self._value = value

    def __get__(self, outside: Guarded | None, owner: type) -> Any:
        return self._value if outside is None else getattr(outside._guard.peek(), self._name)


def guarded(instance: ProviderT, *, name: str, timeout: float | None = None) -> ProviderT:
    """
    Return ``instance`` behind a guard of its own, without a registry.

    It connects on first use and raises its family's errors; ``initialize()``, ``dispose()``
    and ``async with`` end it.
    """
    guard = Guard(Blueprint(name, instance.family, lambda _: instance), timeout=timeout)
    return cast(ProviderT, guarded_class(type(instance))(guard))


def guarded_class(cls: type[AnyProvider]) -> type[Guarded]:
    """Return the guarded subclass of a provider class, made once and kept on the class."""
    made = cls.__dict__.get("__guarded__")
    if made is None:
        namespace: dict[str, Any] = {
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
        }
        for name in dir(cls):
            if is_operation(cls, name):
                namespace[name] = _guarded_operation(name, getattr(cls, name), kind_of(cls, name))
            elif not name.startswith("__"):
                value = inspect.getattr_static(cls, name)
                if not hasattr(value, "__get__"):
                    namespace[name] = _InstanceAttribute(name, value)
        made = type(cls.__name__, (Guarded, cls), namespace)
        type.__setattr__(cls, "__guarded__", made)
    return made


def kind_of(cls: type, name: str) -> str:
    """Tell how an operation answers: what its family says of it holds for every type."""
    kind = "plain"
    for base in reversed(cls.__mro__):
        function = base.__dict__.get(name)
        if function is None:
            continue
        if inspect.isasyncgenfunction(function):
            return "stream"
        if inspect.iscoroutinefunction(function):
            return "coroutine"
        if "AsyncIterator" in str(getattr(function, "__annotations__", {}).get("return", "")):
            return "stream"
    return kind


def _guarded_operation(name: str, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    return {"coroutine": _coroutine, "stream": _stream, "plain": _plain}[kind](name, function)


def _coroutine(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(self: Guarded, /, *args: Any, **kwargs: Any) -> Any:
        guard = self._guard
        connection = guard.connection
        era = guard.breaker.era
        if era is None or connection.loop is not get_running_loop():
            if (heir := guard.heir()) is not None:
                return await getattr(heir, name)(*args, **kwargs)
            connection, era = await guard.enter()
        instance = connection.instance
        connection.started += 1
        try:
            if guard.timeout is None:
                # Empty keywords cost as much as the rest of the guard.
                awaitable = (
                    function(instance, *args, **kwargs) if kwargs else function(instance, *args)
                )
                answer = await awaitable
            else:
                async with asyncio.timeout(guard.timeout):
                    answer = await function(instance, *args, **kwargs)
            if era.pending:
                guard.breaker.succeed(era)
            return answer
        except Exception as error:
            guard.reraise(error, instance, era, name, args, kwargs)
        except BaseException:  # the task or the program ends: that says nothing of the backend
            guard.breaker.release(era)
            raise
        finally:
            connection.ended += 1
            if connection.watched is not None:
                connection.watched()

    return call


def _stream(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(self: Guarded, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        guard = self._guard
        connection = guard.connection
        era = guard.breaker.era
        if era is None or connection.loop is not get_running_loop():
            if (heir := guard.heir()) is not None:
                async with aclosing(getattr(heir, name)(*args, **kwargs)) as items:
                    async for item in items:
                        yield item
                return
            connection, era = await guard.enter()
        instance = connection.instance
        connection.started += 1
        try:
            items: Any = function(instance, *args, **kwargs)
            async with aclosing(items) if hasattr(items, "aclose") else nullcontext():
                if guard.timeout is None:
                    async for item in items:
                        yield item
                else:
                    while True:
                        async with asyncio.timeout(guard.timeout):
                            try:
                                item = await anext(items)
                            except StopAsyncIteration:
                                break
                        yield item
            if era.pending:
                guard.breaker.succeed(era)
        except Exception as error:
            guard.reraise(error, instance, era, name, args, kwargs)
        except BaseException:
            guard.breaker.release(era)
            raise
        finally:
            connection.ended += 1
            if connection.watched is not None:
                connection.watched()

    return call


def _plain(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function cannot wait for a connection: it works on the instance as it stands."""

    @functools.wraps(function)
    def call(self: Guarded, /, *args: Any, **kwargs: Any) -> Any:
        guard = self._guard
        instance = guard.connection.instance
        era = guard.breaker.era
        if era is None or instance is None:
            if (heir := guard.heir()) is not None:
                return getattr(heir, name)(*args, **kwargs)
            instance, era = guard.enter_plain()
        try:
            answer = function(instance, *args, **kwargs)
            if era.pending:
                guard.breaker.succeed(era)
            return answer
        except Exception as error:
            guard.reraise(error, instance, era, name, args, kwargs)
        except BaseException:
            guard.breaker.release(era)
            raise

    return call
