"""Whether another provider could answer in the place of one: who is down, and who is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, cast

from .errors import RegistryError
from .metadata import HealthStatus
from .outage import reason_of
from .provider import Composite, Siblings

__all__ = ["StandIn", "made_of", "stand_in_waits", "why_not_yet"]

_stand_in: ContextVar[StandIn | None] = ContextVar("purveyor_stand_in", default=None)


def stand_in_waits() -> bool:
    """
    Tell whether another member of a failover group will be asked, should this call fail.

    Then nothing is to be tried again below it: there is one layer of retries, the group.
    """
    stand_in = _stand_in.get()
    return stand_in is not None and stand_in.waits()


def why_not_yet(name: str, provider: Any, siblings: Siblings | None = None) -> str:
    """
    Tell why others are to be asked before a provider; empty if they are not.

    One that is made of others is as the best of them.
    """
    guard = getattr(provider, "_guard", None)
    if guard is not None and guard.breaker.era is None and guard.breaker.retry_after != 0:
        return "its circuit breaker is open"
    if siblings is not None and siblings.health(name).status is HealthStatus.UNHEALTHY:
        return "it is unhealthy"
    reason = ""
    for one in made_of(provider):
        try:
            reason = why_not_yet(one, provider.member(one), siblings)
        except RegistryError as error:
            reason = reason_of(error)
        if not reason:
            break
    return reason


def made_of(provider: Any) -> Sequence[str]:
    """Return the names of the providers that one is made of; none for most."""
    if not isinstance(provider, Composite):
        return ()
    composite = cast("Composite[Any]", provider)
    return composite.members_of(composite.config)


class StandIn:
    """
    While the ``with`` block lasts, in which a member is asked: whether another could answer.

    Args:
        could_answer: Tells of a member, by name, whether it could.
        names: The members that are left to be asked.
    """

    __slots__ = ("_around", "_could_answer", "_names")

    def __init__(self, could_answer: Callable[[str], bool], names: Sequence[str]) -> None:
        self._around: StandIn | None = None
        self._could_answer = could_answer
        self._names = names

    def waits(self) -> bool:
        """Tell so, as it is now; also of the group that this one is a member of."""
        return any(map(self._could_answer, self._names)) or (
            self._around is not None and self._around.waits()
        )

    def __enter__(self) -> None:
        self._around = _stand_in.get()
        _stand_in.set(self)

    def __exit__(self, *_: object) -> None:
        _stand_in.set(self._around)
        self._names, self._around = (), None  # what the member left running has no stand-in
