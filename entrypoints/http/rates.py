"""How often somebody may do something."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic

from .problem import Problem

__all__ = ["Rates", "Refusals", "too_often"]


class Rates:
    """
    A rate for each of many callers: so much a second, and so much at once.

    Of each only the moment is kept at which all he had is paid back (the virtual scheduling of
    GCRA, ITU-T I.371). Of the callers only the latest are kept; who is forgotten begins anew.

    Args:
        per_second: How often, in the long run.
        burst: How often at once.
        callers: How many callers are kept.
        clock: The time in seconds, of no particular beginning.
    """

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        callers: int = 10_000,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._interval = 1 / per_second
        self._ahead = (burst - 1) * self._interval
        self._callers = callers
        self._clock = clock
        self._paid_back: dict[str, float] = {}

    def take(self, caller: str) -> float:
        """Count one try; return 0, or for how many seconds the caller has to wait instead."""
        now = self._clock()
        paid_back = max(self._paid_back.pop(caller, now), now)
        wait = paid_back - now - self._ahead
        if len(self._paid_back) >= self._callers:
            del self._paid_back[next(iter(self._paid_back))]  # who was not seen for longest
        if wait > 1e-6:
            self._paid_back[caller] = paid_back
            return wait
        self._paid_back[caller] = paid_back + self._interval
        return 0.0


class Refusals:
    """How many refused callers are told of, so that they fill neither the log nor the records."""

    def __init__(self) -> None:
        self.tokens = Rates(per_second=0.2, burst=20)
        """Tokens of one address that open nothing: more are answered with 429."""
        self.lines = Rates(per_second=0.2, burst=20)
        """Lines of the log about callers without a token that opens anything, in all."""
        self.records = Rates(per_second=0.2, burst=20)
        """Records of what one caller was not allowed to do."""


def too_often(what: str, wait: float) -> Problem:
    """Return the problem of who asks too often, with the seconds he has to wait."""
    seconds = max(1, math.ceil(wait))
    return Problem(
        429,
        "TOO_MANY_REQUESTS",
        f"{what} Try again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )
