"""Failover: a provider that is a list of others, of which the first that can answers."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field, field_validator

from ...settings.branches import Names
from .arguments import Arguments
from .errors import (
    CircuitOpenError,
    CreationFailedError,
    ImportFailedError,
    InvalidConfigError,
    InvalidStateError,
    RegistryError,
    UnsupportedCapabilityError,
    is_backend_failure,
)
from .events import ProviderFailedOver
from .guarded import kind_of
from .metadata import HealthStatus, Status
from .outage import outage, reason_of
from .provider import Composite, ProviderConfig, is_operation
from .stand_in import StandIn, made_of, stand_in_waits, why_not_yet

__all__ = ["Failover", "FailoverConfig", "answered_by", "stand_in_waits", "why_not_yet"]

logger = logging.getLogger(__name__)

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_answered_by: ContextVar[str | None] = ContextVar("purveyor_answered_by", default=None)
_END = object()


def answered_by() -> str | None:
    """
    Return which member answered the last failover call of this task.

    Of nested groups it is the whole way, ``group/primary``. An answer is also the error that comes
    through; None: no member could answer. Of a stream it is told from the first item on.
    """
    return _answered_by.get()


class FailoverConfig(ProviderConfig):
    """Who stands in for whom."""

    members: Names = Field(
        min_length=1, description="Providers of the same family, in the order they are asked."
    )

    @field_validator("members")
    @classmethod
    def _each_once(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if not all(members):
            raise ValueError("must not hold an empty name")
        twice = sorted({name for name in members if members.count(name) > 1})
        if twice:
            raise ValueError(f"names {', '.join(twice)} more than once")
        return members


class Failover(Composite[FailoverConfig]):
    """
    Several providers of a family as one: each call goes to the first member that can answer.

    A member whose circuit breaker is open, or that was unhealthy when it was last checked, is
    asked only if no other one could answer. A call moves on to the next member for what another
    one could cure: a backend that fails or cannot be reached, a member that is not there, a
    capability it lacks; never for the caller's own mistake. A stream moves on before its first
    item only, and a call whose argument was read from only if that can be wound back.

    A family's own class derives from this one and the family's base, and is complete with that;
    by itself it forwards whatever its members have as an operation.
    """

    comes_through: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors that are always the caller's to see, also where a member could not be connected."""

    def __init__(self, config: FailoverConfig) -> None:
        super().__init__(config)
        self._answering = config.members[0]
        self._told: dict[str, str] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in dir(cls):
            owner = next(base for base in cls.__mro__ if name in (*vars(base), "__class__"))
            if is_operation(cls, name) and not issubclass(owner, Failover):
                forward = _FORWARDS[kind_of(cls, name)](name)
                setattr(cls, name, functools.wraps(getattr(cls, name))(forward))

    @classmethod
    def members_of(cls, config: FailoverConfig) -> Sequence[str]:
        """Return the names of the members."""
        return config.members

    @property
    def capabilities(self) -> frozenset[str]:
        """What all members can do, of those that are there; connects none."""
        if self._siblings is None:
            return frozenset()
        common: frozenset[str] | None = None
        for name in self.config.members:
            try:
                self._found(name)
                known = self._siblings.info(name).capabilities
            except RegistryError:  # it cannot answer, and so break no promise
                continue
            common = known if common is None else common & known
        return common or frozenset()

    async def check_health(self) -> HealthStatus | None:
        """
        Ask all members at the same time: it is as the best of them, known with the first good one.

        Raises:
            RegistryError: All of them failed; the message names each with its reason.
        """
        errors: dict[str, Exception] = {}

        async def ask(name: str) -> HealthStatus:
            try:
                return await self._found(name).check_health() or HealthStatus.HEALTHY
            except Exception as error:
                errors[name] = error
                return HealthStatus.UNHEALTHY

        tasks = [asyncio.create_task(ask(name)) for name in self.config.members]
        try:
            for answer in asyncio.as_completed(tasks):
                if await answer is HealthStatus.HEALTHY:
                    return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        found = {task.result() for task in tasks} - {HealthStatus.UNHEALTHY}
        if not found:
            raise self._outage("check_health", errors)
        return HealthStatus.DEGRADED if HealthStatus.DEGRADED in found else HealthStatus.UNKNOWN

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_"):
                for _, member in self._candidates({}):
                    if is_operation(type(member), name):
                        return _FORWARDS[kind_of(type(member), name)](name).__get__(self)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- for the calls -------------------------------------------------------------------

    def _moves_on(self, error: Exception, member: Any) -> bool:
        """Tell whether another member could cure ``error`` of this one."""
        if isinstance(error, _CURABLE):
            return True
        counts: Callable[[Exception], bool] = getattr(member, "_is_failure", is_backend_failure)
        return counts(error)

    def _candidates(self, errors: dict[str, Exception]) -> Iterator[tuple[str, Any]]:
        """Yield whom to ask, one after the other; note in ``errors`` who is not to be had."""
        last: list[tuple[str, Any]] = []
        for name in self.config.members:
            try:
                member = self._found(name)
            except RegistryError as error:
                if "cycle" in error.context:
                    raise
                errors[name] = error.with_traceback(None)
                self._tell_once(name, error)
                continue
            if self._why_not_yet(name, member):
                last.append((name, member))
            else:
                yield name, member
        yield from last

    def _found(self, name: str) -> Any:
        member = self.member(name)
        self._refuse_cycle(member, (self._name, name))
        if self._told:
            self._told.pop(name, None)
        return member

    def _refuse_cycle(self, member: Any, path: tuple[str, ...]) -> None:
        for name in made_of(member):
            way = (*path, name)
            if name in path:
                raise InvalidConfigError(
                    f"Configuration invalid: {' -> '.join(way)}: a failover provider cannot be "
                    "its own member. Take one out of members.",
                    self._name,
                    {"cycle": list(way)},
                )
            try:
                inner = self.member(name)
            except RegistryError:  # told when it is needed
                continue
            self._refuse_cycle(inner, way)

    def _why_not_yet(self, name: str, member: Any) -> str:
        return why_not_yet(name, member, self._siblings)

    def _could_answer(self, name: str) -> bool:
        try:
            return not self._why_not_yet(name, self._found(name))
        except RegistryError:
            return False

    def _tell_once(self, name: str, error: RegistryError) -> None:
        if self._told.get(name) != error.message:
            self._told[name] = error.message
            logger.error(
                "Member %s of failover provider %s cannot be used: %s", name, self._name, error
            )

    def _tell_moved_on(self, name: str, error: Exception) -> None:
        siblings = self._siblings
        if siblings is not None and siblings.events.wanted(ProviderFailedOver):
            family = siblings.family.name
            siblings.events.emit(ProviderFailedOver(family, self._name, name, error))

    def _tell_answering(self, name: str, errors: dict[str, Exception]) -> None:
        lacking = [isinstance(error, UnsupportedCapabilityError) for error in errors.values()]
        if name == self._answering or (lacking and all(lacking)):
            return
        before, self._answering = self._answering, name
        why = {one: reason_of(error) for one, error in errors.items()}
        for one in self.config.members[: self.config.members.index(name)]:
            if one not in why:
                why[one] = self._why_not_yet(one, self.member(one)) or "it was not asked"
        logger.warning(
            "Failover provider %s: %s answers now, %s did before%s",
            self._name,
            name,
            before,
            "".join(f"; {one}: {reason}" for one, reason in why.items()),
        )

    def _outage(self, operation: str, errors: dict[str, Exception]) -> RegistryError:
        in_order = {name: errors[name] for name in self.config.members if name in errors}
        return outage(operation, self._name, in_order)


_CURABLE = (
    CircuitOpenError,
    CreationFailedError,
    ImportFailedError,
    InvalidStateError,
    UnsupportedCapabilityError,
)


class _Attempt:
    """One call of a failover provider, on its way from member to member."""

    __slots__ = ("_asked", "_group", "_member", "_operation", "arguments", "connects", "errors")

    def __init__(
        self, group: Failover, operation: str, args: Any, kwargs: Any, *, connects: bool = True
    ) -> None:
        self.arguments = Arguments(args, kwargs)
        self.connects = connects
        self.errors: dict[str, Exception] = {}
        self._group = group
        self._operation = operation
        self._asked = ""
        self._member: Any = None
        _answered_by.set(None)

    def methods(self) -> Iterator[Callable[..., Any]]:
        """
        Yield what to call, until somebody answers.

        Raises:
            Exception: The last one, if an argument is spent; or the one for all, if nobody could.
        """
        for name, member in self._group._candidates(self.errors):
            if self._asked:
                self._move_on()
            method = getattr(member, self._operation, None)
            if method is None:
                self.errors[name] = UnsupportedCapabilityError(
                    f"Provider {name!r} has no operation {self._operation!r}.", name
                )
                continue
            self._asked, self._member = name, member
            yield method
        raise self._group._outage(self._operation, self.errors)

    def _move_on(self) -> None:
        name, self._asked = self._asked, ""
        spent = self.arguments.again()
        if spent is not None:
            self.errors[name].add_note(
                f"No further member of failover provider {self._group._name!r} was asked: the "
                f"{type(spent).__name__} it was given can be read only once, and some of it "
                "was read."
            )
            raise self.errors[name]
        if not isinstance(self.errors[name], CircuitOpenError):  # then it was not even asked
            self._group._tell_moved_on(name, self.errors[name])

    def goes_on(self, error: Exception) -> bool:
        """Note that the member asked last failed; tell whether to ask the next one."""
        guard = getattr(self._member, "_guard", None)
        unconnected = self.connects and guard is not None and guard.status in _UNCONNECTED
        curable = unconnected or self._group._moves_on(error, self._member)
        if curable and not isinstance(error, self._group.comes_through):
            self.errors[self._asked] = error
            return True
        self.answered()
        return False

    def answered(self) -> None:
        """Note that the member asked last answered, if only with the caller's own mistake."""
        inner = _answered_by.get() if isinstance(self._member, Failover) else None
        _answered_by.set(f"{self._asked}/{inner}" if inner else self._asked)
        self._group._tell_answering(self._asked, self.errors)

    def asking(self) -> StandIn:
        """Return the context in which to await the member: it knows who else could answer."""
        members = self._group.config.members
        others = [one for one in members if one != self._asked and one not in self.errors]
        return StandIn(self._group._could_answer, others)


_UNCONNECTED = (Status.ERROR, Status.INITIALIZING)
"""States in which no operation can have run: the failure was one to connect."""


def _coroutine(name: str) -> Callable[..., Any]:
    async def call(self: Failover, /, *args: Any, **kwargs: Any) -> Any:
        attempt = _Attempt(self, name, args, kwargs)
        try:
            for method in attempt.methods():
                try:
                    with attempt.asking():
                        answer = await method(*attempt.arguments.args, **attempt.arguments.kwargs)
                except Exception as error:
                    if not attempt.goes_on(error):
                        raise
                else:
                    attempt.answered()
                    return answer
        finally:
            del attempt  # or the errors' tracebacks would keep it, and it them, alive

    return call


def _stream(name: str) -> Callable[..., Any]:
    async def call(self: Failover, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        attempt = _Attempt(self, name, args, kwargs)
        try:
            for method in attempt.methods():
                items = method(*attempt.arguments.args, **attempt.arguments.kwargs)
                async with aclosing(items) if hasattr(items, "aclose") else nullcontext():
                    try:
                        with attempt.asking():
                            item = await anext(items, _END)
                    except Exception as error:
                        if not attempt.goes_on(error):
                            raise
                        continue
                    attempt.answered()
                    if item is not _END:
                        yield item
                        async for item in items:
                            yield item
                    return
        finally:
            del attempt

    return call


def _plain(name: str) -> Callable[..., Any]:
    def call(self: Failover, /, *args: Any, **kwargs: Any) -> Any:
        attempt = _Attempt(self, name, args, kwargs, connects=False)
        try:
            for method in attempt.methods():
                try:
                    answer = method(*attempt.arguments.args, **attempt.arguments.kwargs)
                except Exception as error:
                    if not attempt.goes_on(error):
                        raise
                else:
                    attempt.answered()
                    return answer
        finally:
            del attempt

    return call


_FORWARDS = {"coroutine": _coroutine, "stream": _stream, "plain": _plain}
