"""The health of a family's providers: asked now, watched in the background, told at any time."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from ...settings import HealthSettings, ProviderSettings, RegistrySettings
from .errors import RegistryError
from .events import Events, HealthStatusChanged, ProviderRegistered
from .guard import Guard
from .health import HealthRecord, HealthReport, HealthSummary, check
from .lookup import Lookup
from .metadata import HealthResult, HealthStatus, Status
from .monitor import HealthMonitor
from .registration import Declaration, Registration
from .types import Family, ProviderTypes

__all__ = ["Checking"]

logger = logging.getLogger(__name__)

ProviderT = TypeVar("ProviderT")

_SOON = 1.0
"""Seconds within which a required provider is first checked: somebody waits to be ready."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for when watching began: None is the interval that the settings say."""

    interval: float | None
    in_use_only: bool = False


class Checking(Lookup[ProviderT]):
    """
    The providers of one family, with their health.

    What a check finds is told to the provider's circuit breaker, kept in its record, and
    announced when it changes the provider's status. It asks no permission of the breaker.
    """

    events: Events

    def __init__(
        self,
        family: Family,
        types: ProviderTypes,
        declared: Mapping[str, Declaration],
        default: str | None,
        settings: RegistrySettings,
        monitor: HealthMonitor | None = None,
    ) -> None:
        super().__init__(family, types, declared, default)
        self._settings = settings
        self._monitor = monitor or HealthMonitor()
        self._wishes: dict[str, _Wish] = {}
        self._wish_for_all: _Wish | None = None

    # -- asking now ----------------------------------------------------------------------

    async def get_provider_health(self, name: str, *, timeout: float | None = None) -> HealthResult:
        """
        Check one provider now, connecting it if need be; never raises for what the check finds.

        Args:
            name: The provider.
            timeout: Seconds the check may take; ``registry.health.timeout`` when not given.

        Raises:
            NotFoundError: There is none of that name.
        """
        registration = self._find(name)
        guard = registration.guard
        if guard is None:
            return _nothing_to_ask(name)
        settings = self._health_settings(registration.settings)
        connection = guard.connection
        result, error = await check(
            name,
            functools.partial(connection.on_owner, guard.check_health),
            timeout=settings.timeout if timeout is None else timeout,
            retries=settings.retries,
        )
        current = self._registrations.get(name)
        if (
            result.status is not HealthStatus.UNKNOWN
            and current is not None
            and current.guard is guard
            and guard.connection is connection
            and guard.status is not Status.DISPOSED
        ):  # else it was swapped, removed or closed meanwhile
            self._note(current, guard, result, error)
        return result

    async def get_all_provider_health(self) -> dict[str, HealthResult]:
        """
        Check every provider now, ``registry.health.max_concurrent`` at a time.

        Returns:
            A result for each name, A to Z; also for those whose settings have faults.
        """
        report = self._resolve_all()
        now = datetime.now(UTC)
        results = {
            row.name: HealthResult(row.name, HealthStatus.UNHEALTHY, 0.0, now, row.reason, row.code)
            for row in report.failed
        }
        room = asyncio.Semaphore(self._settings.health.max_concurrent)

        async def one(name: str) -> None:
            async with room:
                try:
                    results[name] = await self.get_provider_health(name)
                except RegistryError:  # unregistered meanwhile
                    return

        async with asyncio.TaskGroup() as group:
            for name in self._registrations.copy():
                group.create_task(one(name))
        return dict(sorted(results.items()))

    def _note(
        self,
        registration: Registration,
        guard: Guard,
        result: HealthResult,
        error: Exception | None,
    ) -> None:
        name, settings = registration.name, self._health_settings(registration.settings)
        counts = not isinstance(error, RegistryError) or error.is_backend_failure
        if counts and result.status is not HealthStatus.DEGRADED:  # no failure, and no proof either
            guard.breaker.checked(error)
        record = registration.health
        if record is None:
            record = registration.health = HealthRecord(self._monitor.clock)
        wish = self._wishes.get(name)
        before, after = record.add(result, settings, wish.interval if wish else None)
        if result.status is not HealthStatus.HEALTHY:
            defect = error is not None and result.code is None
            logger.log(
                logging.ERROR if defect else logging.WARNING,
                "The %s provider %s is %s: %s",
                self.family.name,
                name,
                result.status,
                result.message,
                exc_info=error if defect else None,
            )
        if before is not after and self.events.wanted(HealthStatusChanged):
            self.events.emit(HealthStatusChanged(self.family.name, name, before, after, result))

    # -- what is known -------------------------------------------------------------------

    def health(self, name: str) -> HealthReport:
        """
        Tell how a provider is, by the checks that were made; asks nobody.

        Raises:
            NotFoundError: There is none of that name.
        """
        if not self.has(name):
            raise self._not_found(name)
        return self._health_of(name)

    def health_report(self, *, group: str | None = None) -> HealthSummary:
        """
        Tell how the providers are, by the checks that were made; asks nobody.

        Args:
            group: ``required``, a family, or a pipeline; all of them when not given.
        """
        reports = [self._health_of(name) for name in self.names()]
        if group is not None:
            elsewhere = group != self.family.name and any(
                group == family.name for family in self.types.families()
            )
            reports = [one for one in reports if not elsewhere and one.belongs_to(group)]
        return HealthSummary(tuple(reports))

    def _health_of(self, name: str) -> HealthReport:
        registration = self._registrations.get(name)
        declaration = self._declared.get(name)
        if registration is None:  # its settings may have faults: nobody needed it yet
            settings = declaration.settings if declaration else ProviderSettings()
            return HealthReport(
                self.family.name,
                name,
                HealthStatus.UNKNOWN,
                settings.required,
                settings.pipelines,
                Status.REGISTERED,
                monitored=False,
            )
        record, breaker = registration.health, registration.breaker
        return HealthReport(
            self.family.name,
            name,
            record.status if record else HealthStatus.UNKNOWN,
            registration.required,
            registration.pipelines,
            registration.status,
            monitored=name in self._wishes,
            age=record.age if record else None,
            successes=record.successes if record else 0,
            failures=record.failures if record else 0,
            breaker=breaker.state if breaker else None,
            retry_after=breaker.retry_after if breaker else 0.0,
            history=tuple(record.history.copy()) if record else (),
        )

    # -- watching ------------------------------------------------------------------------

    def start_health_monitoring(self, name: str, interval: float | None = None) -> None:
        """
        Check a provider in the background from now on; once more changes the interval.

        Begins at once where there is an event loop, otherwise when the monitor is started.

        Args:
            name: The provider.
            interval: Seconds between two checks; ``check_interval`` of its settings, or of
                ``registry.health``, when not given.

        Raises:
            NotFoundError: There is none of that name.
            ValueError: The interval is not a positive number.
        """
        self._find(name)
        self._watch(name, _Wish(interval))
        self._start_monitor()

    def stop_health_monitoring(self, name: str) -> None:
        """
        Check a provider no more, and end the check that is under way; what is known stays.

        Raises:
            NotFoundError: There is none of that name.
        """
        if not self.has(name):
            raise self._not_found(name)
        self._forget_health(name)

    def start_health_monitoring_all(
        self, interval: float | None = None, *, in_use_only: bool = False
    ) -> None:
        """
        Check every provider in the background, also those that are registered later.

        Args:
            interval: Seconds between two checks; what the settings say when not given.
            in_use_only: Leave those alone that nobody used yet, unless they are required.
        """
        wish = _Wish(interval, in_use_only)
        if self._wish_for_all is None:
            self.events.on(ProviderRegistered, self._watch_new)
        self._wish_for_all = wish
        for name in self.names():
            declaration = self._declared.get(name)
            required = declaration is not None and declaration.settings.required
            try:
                if required or not in_use_only:
                    self._find(name)
            except RegistryError as error:
                logger.error("Cannot watch %s provider %s: %s", self.family.name, name, error)
            if name in self._registrations:
                self._watch(name, wish)
        self._start_monitor()

    def stop_health_monitoring_all(self) -> None:
        """Check no provider any more; what is known stays."""
        if self._wish_for_all is not None:
            self.events.off(ProviderRegistered, self._watch_new)
        self._wish_for_all = None
        for name in self._wishes.copy():
            self._forget_health(name)

    def _forget_health(self, name: str) -> None:
        """Watch a provider no more, whether it is still there or not."""
        self._wishes.pop(name, None)
        self._monitor.unwatch(self._watch_key(name))

    def _watch_new(self, event: ProviderRegistered) -> None:
        wish = self._wish_for_all
        if wish is not None and event.family == self.family.name and event.name not in self._wishes:
            self._watch(event.name, wish)

    def _watch(self, name: str, wish: _Wish) -> None:
        """Put a provider on the monitor's list, or change its interval there."""
        registration = self._registrations.get(name)
        if registration is None:
            return
        settings = self._health_settings(registration.settings)
        self._monitor.max_concurrent = self._settings.health.max_concurrent
        self._monitor.watch(
            self._watch_key(name),
            functools.partial(self._check_watched, name),
            wish.interval or settings.check_interval,
            jitter=settings.jitter,
            first_within=_SOON if registration.required and registration.health is None else None,
        )
        self._wishes[name] = wish

    async def _check_watched(self, name: str) -> None:
        registration, wish = self._registrations.get(name), self._wishes.get(name)
        if registration is None or wish is None:
            return
        ours = registration.status in (Status.READY, Status.ERROR) or registration.required
        if registration.status is not Status.DISPOSED and (ours or not wish.in_use_only):
            await self.get_provider_health(name)
        if self._wishes.get(name) is wish:
            self._watch(name, wish)  # the settings may be others now

    def _start_monitor(self) -> None:
        try:
            self._monitor.start()
        except RuntimeError:  # no event loop: whoever has one starts it
            return

    def _watch_key(self, name: str) -> str:
        return f"{self.family.name}:{name}"

    def _health_settings(self, settings: ProviderSettings) -> HealthSettings:
        return self._settings.health.with_overrides(settings.health)


def _nothing_to_ask(name: str) -> HealthResult:
    message = "a registered object without a health check"
    return HealthResult(name, HealthStatus.UNKNOWN, 0.0, datetime.now(UTC), message)
