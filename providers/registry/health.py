"""Is a provider well? One cheap question to its backend, and what the last answers add up to."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, perf_counter
from typing import Any

from ...settings import HealthSettings
from .breaker import BreakerState
from .errors import InvalidStateError, RegistryError, is_backend_failure
from .metadata import HealthResult, HealthStatus, Status

__all__ = ["HealthRecord", "HealthReport", "HealthSummary", "check"]


async def check(
    name: str,
    ask: Callable[[], Awaitable[HealthStatus | None]],
    *,
    timeout: float,
    retries: int = 0,
) -> tuple[HealthResult, Exception | None]:
    """
    Ask one provider how it is; never raises for what it finds.

    Args:
        name: The provider's name, for the result.
        ask: Asks the backend: None and no exception is healthy.
        timeout: Seconds for all attempts together.
        retries: Further attempts, after a short pause each, while the backend fails.

    Returns:
        The result, and the exception that told; ``unknown`` where the backend was not asked.
    """
    checked_at, started = datetime.now(UTC), perf_counter()
    pause = min(1.0, timeout / (4 * (retries + 1)))
    status, message, code, failure = HealthStatus.UNHEALTHY, "", None, None
    try:
        async with asyncio.timeout(timeout):
            while True:
                started = perf_counter()
                try:
                    status = await ask() or HealthStatus.HEALTHY
                    if status is HealthStatus.UNKNOWN:
                        message = "nothing was asked: no question to it is free"
                    break
                except Exception as error:
                    if retries == 0 or not is_backend_failure(error):
                        raise
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    raise RuntimeError("the check was cancelled from within") from error
                retries -= 1
                await asyncio.sleep(pause)
    except InvalidStateError as error:  # refused on this side: that says nothing of the backend
        status, message, code, failure = HealthStatus.UNKNOWN, error.message, error.code, error
    except TimeoutError as error:
        message, code = str(error) or f"no answer within {timeout:g} s", "TIMEOUT"
        failure = error
    except RegistryError as error:
        message, code, failure = error.message, error.code, error
    except Exception as error:  # a provider's own defect is a finding, not ours to raise
        message, failure = f"{type(error).__name__}: {error}", error
    latency = perf_counter() - started
    return HealthResult(name, status, latency, checked_at, message, code), failure


class HealthRecord:
    """
    The last results of one provider, and what they add up to.

    ``unhealthy_threshold`` failures in a row make it unhealthy, ``healthy_threshold`` good
    results in a row well again; in between it is degraded, and also while it says so itself.
    Once the last result is older than ``stale_after`` intervals the status is unknown, and
    what comes then starts afresh.

    Args:
        clock: Seconds that only grow, for ages; results carry the time of day beside.
    """

    __slots__ = (
        "_clock",
        "_fresh_for",
        "_ill",
        "_lock",
        "_noted_at",
        "_status",
        "failures",
        "history",
        "successes",
    )

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.history: deque[HealthResult] = deque()
        """The last results, oldest first."""
        self.successes = 0
        """Good results in a row, up to now."""
        self.failures = 0
        """Failures in a row, up to now."""
        self._clock = clock
        self._ill = False
        self._status = HealthStatus.UNKNOWN
        self._noted_at = 0.0
        self._fresh_for = 0.0
        self._lock = threading.Lock()

    @property
    def last(self) -> HealthResult | None:
        """The last result."""
        return self.history[-1] if self.history else None

    @property
    def age(self) -> float | None:
        """Seconds since the last result; None while there is none."""
        if not self.history:
            return None
        now = self._clock()
        self._noted_at = min(self._noted_at, now)  # a clock that jumped back
        return now - self._noted_at

    @property
    def status(self) -> HealthStatus:
        """What the results add up to now."""
        age = self.age
        return HealthStatus.UNKNOWN if age is None or age > self._fresh_for else self._status

    def add(
        self, result: HealthResult, settings: HealthSettings, interval: float | None = None
    ) -> tuple[HealthStatus, HealthStatus]:
        """
        Note a result.

        Args:
            result: What a check found.
            settings: Thresholds, and how many results are kept.
            interval: Seconds until the next check; ``check_interval`` when not given.

        Returns:
            The status before and the status now.
        """
        with self._lock:
            before = self.status
            if before is HealthStatus.UNKNOWN:
                self.successes = self.failures = 0
                self._ill = False
            if result.status is HealthStatus.UNHEALTHY:
                self.successes, self.failures = 0, self.failures + 1
                self._ill = self._ill or self.failures >= settings.unhealthy_threshold
                after = HealthStatus.UNHEALTHY if self._ill else HealthStatus.DEGRADED
            else:
                self.successes, self.failures = self.successes + 1, 0
                self._ill = self._ill and self.successes < settings.healthy_threshold
                after = HealthStatus.DEGRADED if self._ill else result.status
            if self.history.maxlen != settings.history:
                self.history = deque(self.history, settings.history)
            self.history.append(result)
            self._fresh_for = settings.stale_after * (interval or settings.check_interval)
            self._noted_at = self._clock()
            self._status = after
        return before, after


@dataclass(frozen=True, slots=True)
class HealthReport:
    """
    How one provider is, by what is known already: making it asks nobody.

    Args:
        family: The provider's family.
        name: The provider's name.
        status: What the last results add up to; unknown if there is none, or it is too old.
        required: Whether the application is not ready without it.
        pipelines: The pipelines that may use it; ``*`` is all.
        state: Where its instance stands.
        monitored: Whether it is checked in the background.
        age: Seconds since the last result.
        successes: Good results in a row.
        failures: Failures in a row.
        breaker: State of its circuit breaker; a plain object has none.
        retry_after: Seconds for which the breaker refuses calls: 0: none, None: until reset.
        history: The last results, oldest first.
    """

    family: str
    name: str
    status: HealthStatus
    required: bool
    pipelines: tuple[str, ...]
    state: Status
    monitored: bool
    age: float | None = None
    successes: int = 0
    failures: int = 0
    breaker: BreakerState | None = None
    retry_after: float | None = 0.0
    history: tuple[HealthResult, ...] = ()

    @property
    def usable(self) -> bool:
        """
        Whether the application can work with it: what readiness asks of a required one.

        It cannot while it is unhealthy, while its breaker refuses calls, and while nothing is
        known of it and it is not connected either.
        """
        if self.status is HealthStatus.UNHEALTHY or self.retry_after != 0:
            return False
        return self.status is not HealthStatus.UNKNOWN or self.state is Status.READY

    def belongs_to(self, group: str) -> bool:
        """Tell whether it is of a group: see :class:`HealthSummary`."""
        if group in ("required", self.family):
            return group != "required" or self.required
        return group in self.pipelines or "*" in self.pipelines

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        return {
            "family": self.family,
            "name": self.name,
            "status": self.status.value,
            "required": self.required,
            "usable": self.usable,
            "pipelines": list(self.pipelines),
            "state": self.state.value,
            "monitored": self.monitored,
            "age": self.age,
            "successes": self.successes,
            "failures": self.failures,
            "breaker": self.breaker.value if self.breaker else None,
            "retry_after": self.retry_after,
            "history": [result.to_dict() for result in self.history],
        }


_WORST_LAST = (
    HealthStatus.HEALTHY,
    HealthStatus.DEGRADED,
    HealthStatus.UNKNOWN,
    HealthStatus.UNHEALTHY,
)


@dataclass(frozen=True, slots=True)
class HealthSummary:
    """
    How many providers are, of one family or of all.

    A group is ``required`` (those the application is not ready without), the name of a family,
    or else the name of a pipeline (those it may use).
    """

    providers: Sequence[HealthReport]

    @property
    def status(self) -> HealthStatus:
        """The worst status among the required ones; healthy where none is required."""
        statuses = [one.status for one in self.providers if one.required]
        return max(statuses, key=_WORST_LAST.index, default=HealthStatus.HEALTHY)

    @property
    def ready(self) -> bool:
        """Whether all required ones are usable; how the others are does not matter."""
        return all(one.usable for one in self.providers if one.required)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        return {
            "status": self.status.value,
            "ready": self.ready,
            "providers": [one.to_dict() for one in self.providers],
        }
