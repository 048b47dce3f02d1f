"""
The circuit breaker: after too many failures of a backend, refuse to ask it for a while.

Only failures need remembering, so admitting a call while closed is one attribute read, and a
success with nothing to clear writes nothing and takes no lock. Every transition is made under one
lock that is never held across foreign code.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from ...settings import BreakerSettings
from .errors import CircuitOpenError

__all__ = ["BreakerState", "CircuitBreaker", "Era", "Transition"]


logger = logging.getLogger(__name__)

LONGEST_HOLD = 86_400.0
"""Seconds a backend can have itself left alone at most; if it means longer, it says so again."""


class BreakerState(StrEnum):
    """Whether calls pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Transition:
    """
    One change of state.

    Args:
        before: The state that ended.
        after: The state that began.
        reason: Why, for people.
        failures: Failures counted when it opened; 0 if it was asked to wait.
        wait: Seconds until a probe may pass, if it opened; None: until it is reset.
    """

    before: BreakerState
    after: BreakerState
    reason: str
    failures: int = 0
    wait: float | None = None


class Era:
    """
    What a call was admitted in; its result counts only while that lasts.

    ``pending`` is what a success has to answer to: while it is empty, a success need not be
    told of. In a closed era these are the failures so far; for a probe it is not empty until
    the probe has given its slot back.
    """

    __slots__ = ("pending", "started")

    def __init__(self, pending: Collection[float], started: float) -> None:
        self.pending = pending
        self.started = started


_PROBE = (0.0,)


class CircuitBreaker:
    """
    Counts the failures of one backend; any number of threads and event loops may share it.

    ``era`` is the whole admission test of the fast path: what to admit a call in while closed,
    None whenever :meth:`admit` must decide. Afterwards each call tells how it ended, once: by
    :meth:`succeed` (not needed while ``era.pending`` is empty), :meth:`fail`, :meth:`hold` where
    the backend asks to be left alone, or :meth:`release` for what counts neither way. Results of
    an era that has ended are void.

    Args:
        name: What it protects, for messages.
        settings: Thresholds and times, in seconds.
        listener: Told of each transition, once and in order, while no lock is held.
        clock: Seconds that only grow; should they jump back, the wait begins anew.
        chance: A number from 0 up to 1, for the jitter of the wait.
    """

    __slots__ = (
        "_chance",
        "_clock",
        "_failed_checks",
        "_failures",
        "_forced",
        "_growth",
        "_last_error",
        "_last_failure",
        "_listener",
        "_lock",
        "_probes",
        "_settings",
        "_speaking",
        "_state",
        "_successes",
        "_unspoken",
        "_wait",
        "_why",
        "era",
        "name",
    )

    era: Era | None

    def __init__(
        self,
        name: str,
        settings: BreakerSettings | None = None,
        *,
        listener: Callable[[CircuitBreaker, Transition], None] | None = None,
        clock: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._settings = settings or BreakerSettings()
        self._listener = listener
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._speaking = threading.Lock()
        self._unspoken: tuple[Transition, ...] = ()
        self._state = BreakerState.CLOSED
        self._failures: deque[float] | tuple[()] = ()
        self._failed_checks = 0
        self._probes: tuple[Era, ...] = ()
        self._successes = 0
        self._last_failure = 0.0
        self._last_error = self._why = ""
        self._wait: float | None = 0.0
        self._growth = 0.0
        self._forced = False
        self._begin_closed(self._clock())

    # -- asking --------------------------------------------------------------------------

    @property
    def state(self) -> BreakerState:
        """The state; an open breaker turns half-open when a call comes after the wait."""
        return self._state

    @property
    def settings(self) -> BreakerSettings:
        """The settings in force."""
        return self._settings

    @property
    def failures(self) -> int:
        """Failures remembered, of those that may still count."""
        with self._lock:
            now, period = self._clock(), self._settings.monitoring_period
            return sum(1 for time in self._failures if now - time <= period)

    @property
    def last_error(self) -> str:
        """Type of the last error that counted, or asked to wait; empty where there was none."""
        return self._last_error

    @property
    def retry_after(self) -> float | None:
        """Seconds until a probe may pass: 0 if a call may come now, None: not by itself."""
        with self._lock:
            return self._remaining(self._clock())

    # -- a call's way --------------------------------------------------------------------

    def admit(self) -> Era:
        """
        Return what to admit a call in.

        Raises:
            CircuitOpenError: Refused; says how many seconds to wait.
        """
        with self._lock:
            era = self.era
            if era is not None:
                return era
            now = self._clock()
            wait = self._remaining(now)
            if wait == 0.0 and self._state is BreakerState.OPEN:
                self._turn(BreakerState.HALF_OPEN, "the wait is over")
            if self._state is BreakerState.HALF_OPEN:
                self._drop_lost_probes(now)
                if len(self._probes) < self._settings.half_open_max_calls:
                    era = Era(_PROBE, now)
                    self._probes = (*self._probes, era)
            admission = era or self._refusal(wait)
        self._speak()
        if isinstance(admission, CircuitOpenError):
            raise admission
        return admission

    def succeed(self, era: Era) -> None:
        """Tell that a call succeeded."""
        with self._lock:
            if era is self.era:
                self._forget_failures()
            elif self._is_probe(era):
                era.pending = ()
                self._probe_succeeded()
        self._speak()

    def fail(self, era: Era, error: BaseException | str) -> None:
        """Tell that the backend failed a call, with the error or its type's name."""
        with self._lock:
            if era is self.era and not self._forced and self._settings.enabled:
                self._count(error)
            elif self._is_probe(era):
                self._reopen(error)
        self._speak()

    def hold(self, era: Era, seconds: float, error: BaseException | str) -> None:
        """
        Tell that the backend asked to be left alone for a while: refuse all calls until then.

        That is no failure. Afterwards a probe passes, as after any wait. A wait that is under way
        stays as it is: the call is of an era that has ended.

        Args:
            era: What the call was admitted in.
            seconds: How long; at most :data:`LONGEST_HOLD`.
            error: What the call got, or the name of its type.
        """
        with self._lock:
            counting = era is self.era and not self._forced and self._settings.enabled
            if counting or self._is_probe(era):
                self._note(error, ", asked to wait after")
                self._wait = min(seconds, LONGEST_HOLD)
                self._begin_refusing(BreakerState.OPEN, "the backend asked to wait")
        self._speak()

    def release(self, era: Era) -> None:
        """
        Tell that a call ended in a way that says nothing of the backend: cancelled, say.

        Takes no lock: the garbage collector may close a coroutine in the midst of a transition.
        """
        if era.pending is _PROBE:
            era.pending = ()

    def checked(self, error: BaseException | str | None) -> None:
        """
        Tell what a health check found, which asks for no permission.

        While closed, a good check is a success like a call's, and ``failure_threshold`` bad ones
        in a row open it. Once the wait is over, a check counts as a probe.

        Args:
            error: What was wrong; None if all is well.
        """
        with self._lock:
            if self._forced or not self._settings.enabled:
                return
            now = self._clock()
            if self._state is BreakerState.OPEN and self._remaining(now) == 0.0:
                self._turn(BreakerState.HALF_OPEN, "the wait is over")
            if self._state is BreakerState.HALF_OPEN:
                self._probe_succeeded() if error is None else self._reopen(error)
            elif self._state is BreakerState.CLOSED:
                if error is None:
                    self._failed_checks = 0
                    self._forget_failures()
                else:
                    self._failed_checks += 1
                    if self._failed_checks >= self._settings.failure_threshold:
                        self._note(error)
                        count = self._failed_checks
                        self._open(f"{count} failed checks in a row", count)
        self._speak()

    # -- by hand -------------------------------------------------------------------------

    def force_open(self, reason: str = "by hand") -> None:
        """Refuse all calls until :meth:`reset`."""
        with self._lock:
            self._forced = True
            self._wait = None
            self._begin_refusing(BreakerState.OPEN, reason)
        self._speak()

    def force_closed(self, reason: str = "by hand") -> None:
        """Let all calls pass and count nothing, until :meth:`reset`."""
        with self._lock:
            self._close(reason)
            self._forced = True
        self._speak()

    def reset(self, reason: str = "by hand", *, forced: bool = True) -> None:
        """Close it and forget all failures; ``forced=False`` leaves one alone that was forced."""
        with self._lock:
            if self._forced and not forced:
                return
            self._close(reason)
            self._growth = 0.0
            self._last_error = self._why = ""
        self._speak()

    def configure(self, settings: BreakerSettings) -> None:
        """Take new settings; the state, the failures and a wait under way stay."""
        with self._lock:
            self._settings = settings
            if self._failures:
                self._remember(self._failures)
            if not settings.enabled and not self._forced:
                self._close("switched off")
        self._speak()

    # -- under the lock ------------------------------------------------------------------

    def _remaining(self, now: float) -> float | None:
        if self._state is not BreakerState.OPEN:
            return 0.0
        if self._wait is None:
            return None
        self._last_failure = min(self._last_failure, now)  # a clock that jumped back
        return max(0.0, self._last_failure + self._wait - now)

    def _count(self, error: BaseException | str) -> None:
        now = self._note(error)
        earlier = (min(time, now) for time in self._failures)  # a clock that jumped back
        failures = self._remember([*earlier, now])
        count, period = len(failures), self._settings.monitoring_period
        if count == self._settings.failure_threshold and now - failures[0] <= period:
            self._open(f"{count} failures within {period:g} s", count)

    def _remember(self, failures: Iterable[float]) -> deque[float]:
        """Keep the last failures, as many as it takes to open."""
        kept = self._failures = deque(failures, maxlen=self._settings.failure_threshold)
        if self.era is not None:
            self.era.pending = kept if self._settings.reset_on_success else ()
        return kept

    def _forget_failures(self) -> None:
        if self.era is not None and self._settings.reset_on_success:
            self._failures = self.era.pending = ()

    def _note(self, error: BaseException | str, why: str = " after") -> float:
        self._last_failure = now = self._clock()
        self._last_error = error if isinstance(error, str) else type(error).__name__
        self._why = f"{why} {self._last_error}"
        return now

    def _open(self, reason: str, count: int) -> None:
        """Open after failures; trips soon after one another can lengthen the wait."""
        settings, era = self._settings, self.era
        first, factor = settings.recovery_timeout, settings.recovery_factor
        calm = era is not None and self._last_failure - era.started > settings.monitoring_period
        self._growth = 1.0 if calm or factor == 1.0 else max(1.0, self._growth * factor)
        grown = max(first, min(first * self._growth, settings.recovery_cap))
        self._wait = grown * (1.0 + settings.recovery_jitter * self._chance())
        self._begin_refusing(BreakerState.OPEN, reason, count)

    def _reopen(self, error: BaseException | str) -> None:
        self._note(error)
        self._open("a probe failed", 1)

    def _probe_succeeded(self) -> None:
        self._successes += 1
        if self._successes >= self._settings.success_threshold:
            self._close("the backend answers again")

    def _close(self, reason: str) -> None:
        self._forced = False
        self._begin_closed(self._clock())
        self._turn(BreakerState.CLOSED, reason)

    def _begin_closed(self, now: float) -> None:
        self._failures = ()
        self._failed_checks = self._successes = 0
        self._probes = ()
        self.era = Era((), now)

    def _begin_refusing(self, state: BreakerState, reason: str, count: int = 0) -> None:
        self.era = None
        self._failures = ()
        self._failed_checks = self._successes = 0
        self._probes = ()
        self._turn(state, reason, count)

    def _turn(self, state: BreakerState, reason: str, count: int = 0) -> None:
        if state is not self._state:
            wait = self._wait if state is BreakerState.OPEN else 0.0
            turn = Transition(self._state, state, reason, count, wait)
            self._unspoken = (*self._unspoken, turn)
            self._state = state

    def _drop_lost_probes(self, now: float) -> None:
        ttl = self._settings.probe_ttl
        for probe in self._probes:
            probe.started = min(probe.started, now)  # a clock that jumped back
        self._probes = tuple(
            probe for probe in self._probes if probe.pending and now - probe.started < ttl
        )

    def _is_probe(self, era: Era) -> bool:
        return bool(era.pending) and era in self._probes

    def _refusal(self, wait: float | None) -> CircuitOpenError:
        if wait is None:
            when = "It was opened by hand and stays so until it is reset."
        elif self._state is BreakerState.OPEN:
            when = f"The next attempt is made in {wait:.1f} s."
        else:
            when = "An attempt is under way; try again shortly."
        return CircuitOpenError(
            f"Provider {self.name!r} was not asked: its circuit breaker is {self._state}"
            f"{self._why}. {when}",
            self.name,
            {
                "state": self._state.value,
                "retry_after": wait,
                "last_error": self._last_error or None,
            },
        )

    # -- telling -------------------------------------------------------------------------

    def _speak(self) -> None:
        """Tell the listener what happened; one thread at a time, or the order would be lost."""
        while self._unspoken and self._speaking.acquire(blocking=False):
            try:
                while self._unspoken:
                    with self._lock:
                        transition, *left = self._unspoken
                        self._unspoken = tuple(left)
                    try:
                        if self._listener is not None:
                            self._listener(self, transition)
                    except Exception:
                        logger.exception("The listener of circuit breaker %r raised", self.name)
            finally:
                self._speaking.release()
