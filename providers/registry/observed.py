"""The observed outside: a guarded instance that tells an observer of every operation."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from .connection import AnyProvider
from .guard import Guard
from .guarded import Guarded, guarded_class, kind_of
from .provider import Composite, is_operation

if TYPE_CHECKING:
    from .checking import Checking

__all__ = ["Observation", "Observed", "Observer", "Operation", "Watch", "observed_class"]


@dataclass(frozen=True, slots=True)
class Operation:
    """
    What is observed: one operation of one provider.

    Args:
        family: The provider's family.
        provider: The provider's name.
        provider_type: Its type; the name of its class if it was registered as an object.
        name: The operation.
        composed: Whether the provider is made of others, which are observed too.
        config: Gives the provider's settings as they are now; None for an object.
    """

    family: str
    provider: str
    provider_type: str
    name: str
    composed: bool
    config: Callable[[], BaseModel | None]


class Observation(Protocol):
    """One call, from its beginning to its end. Nothing of it may raise or wait."""

    @property
    def within(self) -> AbstractContextManager[None] | None:
        """What the call runs in, of a stream each step; None: nothing."""
        ...

    def first(self) -> None:
        """Take note that the first item of a stream came."""

    def end(self, error: BaseException | None, answer: Any = None) -> None:
        """
        Take note that the call ended: exactly once.

        Args:
            error: What the caller gets; ``GeneratorExit`` where he left a stream before its end.
            answer: What the call returned, of a stream the last item.
        """


Watch = Callable[[Mapping[str, Any]], Observation]
"""Called as a call of one operation begins, with its keyword arguments."""


class Observer(Protocol):
    """Who is told of the operations of a registry's providers; any thread may tell."""

    def know(self, registry: Checking[Any]) -> None:
        """Take note of a registry whose providers are to be observed."""

    def watch(self, operation: Operation) -> Watch:
        """Return what is told of each call of an operation; asked for once a provider."""
        ...


class Observed(Guarded):
    """
    The outside of a guarded instance whose operations are observed.

    Calls of a provider that another one took the place of are its heir's, and observed there.
    """

    _observer: Observer
    _provider_type: str
    _watches: dict[str, Watch]

    def __init__(self, guard: Guard, observer: Observer, provider_type: str) -> None:
        super().__init__(guard)
        object.__setattr__(self, "_observer", observer)
        object.__setattr__(self, "_provider_type", provider_type)
        object.__setattr__(self, "_watches", {})

    def _watch(self, name: str) -> Watch:
        guard = self._guard
        operation = Operation(
            guard.family,
            guard.name,
            self._provider_type,
            name,
            isinstance(self, Composite),
            lambda: guard.connection.blueprint.config,
        )
        watch = self._watches[name] = self._observer.watch(operation)
        return watch


def observed_class(cls: type[AnyProvider]) -> type[Observed]:
    """Return the observed subclass of a provider class, made once and kept on the class."""
    made = cls.__dict__.get("__observed__")
    if made is None:
        guarded = guarded_class(cls)
        namespace: dict[str, Any] = {
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
        }
        for name in dir(cls):
            if is_operation(cls, name):
                observe = _OBSERVED[kind_of(cls, name)]
                namespace[name] = observe(name, getattr(guarded, name))
        made = type(cls.__name__, (Observed, guarded), namespace)
        type.__setattr__(cls, "__observed__", made)
    return made


def _coroutine(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(self: Observed, /, *args: Any, **kwargs: Any) -> Any:
        if self._guard.successor is not None:
            return await getattr(self._guard.heir(), name)(*args, **kwargs)
        observation = (self._watches.get(name) or self._watch(name))(kwargs)
        try:
            within = observation.within
            if within is None:
                answer = await function(self, *args, **kwargs)
            else:
                with within:
                    answer = await function(self, *args, **kwargs)
        except BaseException as error:
            observation.end(error)
            raise
        observation.end(None, answer)
        return answer

    return call


def _stream(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(self: Observed, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if self._guard.successor is not None:
            async with aclosing(getattr(self._guard.heir(), name)(*args, **kwargs)) as items:
                async for item in items:
                    yield item
            return
        observation = (self._watches.get(name) or self._watch(name))(kwargs)
        within = observation.within or nullcontext()  # never around a yield: it is the caller's
        item: Any = _END
        try:
            async with aclosing(function(self, *args, **kwargs)) as items:
                with within:
                    item = await anext(items, _END)
                if item is not _END:
                    observation.first()
                    yield item
                    if observation.within is None:
                        async for item in items:
                            yield item
                    else:
                        while True:
                            with within:
                                following = await anext(items, _END)
                            if following is _END:
                                break
                            yield (item := following)
        except BaseException as error:
            observation.end(error)
            raise
        observation.end(None, None if item is _END else item)

    return call


def _plain(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(self: Observed, /, *args: Any, **kwargs: Any) -> Any:
        if self._guard.successor is not None:
            return getattr(self._guard.heir(), name)(*args, **kwargs)
        observation = (self._watches.get(name) or self._watch(name))(kwargs)
        try:
            with observation.within or nullcontext():
                answer = function(self, *args, **kwargs)
        except BaseException as error:
            observation.end(error)
            raise
        observation.end(None, answer)
        return answer

    return call


_OBSERVED = {"coroutine": _coroutine, "stream": _stream, "plain": _plain}
_END: Any = object()
