"""From first use to last: starting and stopping the providers of a family, and all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ...settings import RegistrySettings
from .checking import Checking
from .dependencies import needed_by, refuse_cycle
from .errors import (
    ConnectionFailedError,
    InUseError,
    NotFoundError,
    RegistryError,
    ShuttingDownError,
)
from .guard import Guard
from .metadata import Status
from .monitor import HealthMonitor
from .registration import Declaration, Registration
from .report import LoadReport, LoadRow, Outcome
from .shutdown import ShutdownReport, dispose_all
from .types import Family, ProviderTypes

__all__ = ["Lifecycle", "graceful_shutdown"]

logger = logging.getLogger(__name__)

ProviderT = TypeVar("ProviderT")
Peers = Callable[[], Mapping[str, "Lifecycle[Any]"]]


class Lifecycle(Checking[ProviderT]):
    """The providers of one family, to be started, stopped and restarted by name."""

    def __init__(
        self,
        family: Family,
        types: ProviderTypes,
        declared: Mapping[str, Declaration],
        default: str | None,
        settings: RegistrySettings,
        monitor: HealthMonitor | None = None,
        peers: Peers | None = None,
    ) -> None:
        super().__init__(family, types, declared, default, settings, monitor)
        self._peers = peers or (lambda: {family.name: self})
        self._closed = False

    # -- one provider --------------------------------------------------------------------

    async def initialize(self, name: str) -> None:
        """
        Connect a provider now, what it depends on first; also one that was disposed.

        Asks no permission of the circuit breaker.

        Raises:
            NotFoundError: There is none of that name.
            RegistryError: It, or what it depends on, cannot be connected.
        """
        self._refuse_closed(name)
        registration = self._find(name)
        guard = registration.guard
        if guard is not None:
            if guard.status is Status.DISPOSED:
                guard.resume()
            await registration.handle.initialize()

    async def start(self, name: str) -> None:
        """Connect a provider and watch its health from now on; errors as :meth:`initialize`."""
        await self.initialize(name)
        self._refuse_closed(name)  # it may be shutting down since
        self.start_health_monitoring(name)

    async def stop(self, name: str, *, timeout: float | None = None) -> list[str]:
        """
        Stop a provider: those that depend on it first, its health no longer watched.

        It refuses new work, ends what is under way, closes, and stays registered. :meth:`start`
        and :meth:`initialize` make it ready again.

        Args:
            name: The provider.
            timeout: Seconds to wait for the work under way;
                ``registry.lifecycle.graceful_shutdown_timeout`` when not given.

        Returns:
            All that were stopped, in that order, as ``family:name``.

        Raises:
            NotFoundError: There is none of that name.
            InUseError: The work under way did not end in time; that provider goes on.
        """
        self._find(name)
        limit = self._settings.lifecycle.graceful_shutdown_timeout if timeout is None else timeout
        stopped: list[str] = []
        for key in [*self._running_dependents(name), self._key(name)]:
            registry, other = self._owner_of(key)
            await registry._stop(other, limit)
            stopped.append(key)
        return stopped

    async def restart(self, name: str, *, timeout: float | None = None) -> None:
        """
        Stop a provider and connect it again, and those running ones that depend on it.

        Their health is watched afterwards if it was before. Its circuit breaker is closed,
        whatever it was. Errors as :meth:`stop` and :meth:`initialize`.
        """
        self._find(name)
        keys = [*self._running_dependents(name), self._key(name)]
        wishes = {
            key: registry._wishes.get(one)
            for key in keys
            for registry, one in [self._owner_of(key)]
        }
        for key in reversed(await self.stop(name, timeout=timeout)):
            registry, other = self._owner_of(key)
            if breaker := registry._find(other).breaker:
                breaker.reset("restarted")
            await registry.initialize(other)
            if (wish := wishes.get(key)) is not None:
                registry._watch(other, wish)

    def reset_breaker(self, name: str) -> None:
        """
        Let a provider's circuit breaker admit calls again, whatever it was.

        Raises:
            NotFoundError: There is none of that name.
        """
        breaker = self._find(name).breaker
        if breaker is not None:
            breaker.reset()

    async def dispose(self, name: str) -> None:
        """Close a provider's instance at once; it stays registered and refuses operations."""
        guard = self._find(name).guard
        if guard is not None:
            await guard.dispose()

    # -- all of them ---------------------------------------------------------------------

    async def initialize_all(self) -> LoadReport:
        """Connect every provider; a failure is logged and a row of the report."""
        return await self._each(self.initialize)

    async def start_all(self) -> LoadReport:
        """Start every provider; a failure is logged and a row of the report."""
        return await self._each(self.start)

    async def stop_all(self, *, timeout: float | None = None) -> ShutdownReport:
        """Stop watching and close every provider, dependents first, within one deadline."""
        self.stop_health_monitoring_all()
        return await self.dispose_all(timeout)

    async def dispose_all(self, timeout: float | None = None) -> ShutdownReport:
        """
        Dispose every provider and every living instance, within one deadline.

        Args:
            timeout: Seconds; ``registry.lifecycle.graceful_shutdown_timeout`` when not given.
        """
        limit = self._settings.lifecycle.graceful_shutdown_timeout if timeout is None else timeout
        return await dispose_all(self.guards(), limit, self._needs)

    async def graceful_shutdown(self, timeout: float | None = None) -> ShutdownReport:
        """
        Take no more registrations, stop watching, dispose everything within one deadline.

        Args:
            timeout: Seconds; ``registry.lifecycle.graceful_shutdown_timeout`` when not given.
        """
        limit = self._settings.lifecycle.graceful_shutdown_timeout if timeout is None else timeout
        return await graceful_shutdown([self], limit)

    def guards(self) -> Sequence[Guard]:
        """Return the guards of all providers and living instances."""
        return [
            guard
            for registration in self._registrations.copy().values()
            for guard in (
                registration.guard,
                *(one._guard for one in registration.live_instances().values()),
            )
            if guard is not None
        ]

    def close(self) -> None:
        """Take no more registrations: the container is shutting down."""
        self._closed = True

    def reopen(self) -> None:
        """Take work again after :meth:`close`; disposed providers connect anew when used."""
        self._closed = False
        for registration in self._registrations.copy().values():
            if registration.guard is not None:
                registration.guard.resume()

    # -- inside --------------------------------------------------------------------------

    async def _stop(self, name: str, timeout: float) -> None:
        registration = self._find(name)
        guard = registration.guard
        if guard is None:
            return
        self.stop_health_monitoring(name)
        if not await guard.drain(timeout):
            guard.stop_draining()
            holders = ", ".join(registration.holders())
            raise InUseError(
                f"Provider {name} was not stopped: after {timeout:g} s it is still used by "
                f"{holders}. Wait for them, give it more time, or dispose it.",
                name,
                {"holders": registration.holders()},
            )
        await guard.dispose()

    async def _each(self, work: Callable[[str], Coroutine[Any, Any, None]]) -> LoadReport:
        report = self.load()

        async def one(row: LoadRow) -> LoadRow:
            try:
                await work(row.name)
            except RegistryError as error:
                logger.error("Starting provider %s failed: %s", row.name, error)
                reason = error.message
                return LoadRow(
                    row.family, row.name, Outcome.FAILED, row.origin, error.code, reason, error
                )
            return row

        rows = list(report.of(Outcome.SKIPPED, Outcome.FAILED))
        good = [
            LoadRow(self.family.name, one.name, Outcome.REGISTERED, one.origin)
            for one in self._registrations.copy().values()
        ]
        return LoadReport((*(await asyncio.gather(*map(one, good))), *rows))

    async def _prepare(self, name: str, depends_on: Iterable[str]) -> None:
        """Start what a provider depends on."""
        for key in self._keys(depends_on):
            try:
                registry, other = self._owner_of(key)
                await registry.initialize(other)
            except RegistryError as error:
                kind = NotFoundError if isinstance(error, NotFoundError) else ConnectionFailedError
                raise kind(
                    f"Cannot connect provider {name!r}: it depends on {key}: {error.message}",
                    name,
                    {"depends_on": key, "cause": error.code},
                ) from error

    def _key(self, name: str) -> str:
        return f"{self.family.name}:{name}"

    def _keys(self, names: Iterable[str]) -> list[str]:
        """Return what settings name as ``family:name``: their own family where they say none."""
        return [name if ":" in name else self._key(name) for name in names]

    def _owner_of(self, key: str) -> tuple[Lifecycle[Any], str]:
        family, _, name = key.partition(":")
        registry = self if family == self.family.name else self._peers().get(family)
        if registry is None:
            families = ", ".join(self._peers())
            raise NotFoundError(
                f"Provider not found: {key}: there is no family {family}. There are these: "
                f"{families}.",
                name,
            )
        return registry, name

    def _needs(self, key: str) -> Collection[str]:
        """Tell what a provider needs, whichever family it is of; nothing if it is not there."""
        try:
            registry, name = self._owner_of(key)
        except NotFoundError:
            return ()
        return registry._needs_of(name)

    def _needs_of(self, name: str) -> Collection[str]:
        registration = self._registrations.get(name)
        if registration is not None:
            return self._keys((*registration.depends_on, *registration.members))
        declaration = self._declared.get(name)
        return self._keys(declaration.settings.depends_on) if declaration else ()

    def _refuse_cycle(self, registration: Registration) -> None:
        """Refuse a provider that needs itself, directly or not."""
        mine = self._keys((*registration.depends_on, *registration.members))
        if mine:
            key = self._key(registration.name)
            refuse_cycle(key, lambda one: mine if one == key else self._needs(one))

    def _running_dependents(self, name: str) -> list[str]:
        running = {
            registry._key(one.name)
            for registry in {self.family.name: self, **self._peers()}.values()
            for one in registry._registrations.copy().values()
            if one.guard is not None
            and one.status in (Status.READY, Status.INITIALIZING)
            and one.depends_on
        }
        needs = {key: self._needs(key) for key in running}
        return needed_by(self._key(name), running, lambda key: needs[key])

    def _refuse_closed(self, name: str) -> None:
        if self._closed:
            raise ShuttingDownError(f"The {self.family.name} registry is shutting down.", name)


async def graceful_shutdown(
    registries: Collection[Lifecycle[Any]], timeout: float
) -> ShutdownReport:
    """
    End everything: no new work, no more checks, leases drained, all disposed, dependents first.

    Args:
        registries: Of all families.
        timeout: Seconds for all of it together.
    """
    for registry in registries:
        registry.close()
        registry.stop_health_monitoring_all()
    guards = [guard for registry in registries for guard in registry.guards()]
    needs = {
        key: registry._needs(key)
        for registry in registries
        for key in [registry._key(name) for name in registry._registrations.copy()]
    }
    report = await dispose_all(guards, timeout, lambda key: needs.get(key, ()))
    logger.info("Shut down %d providers in %.3f s", len(report.disposed), report.seconds)
    return report
