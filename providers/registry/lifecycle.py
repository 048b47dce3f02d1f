"""From first use to last: starting, stopping and checking the providers of a family."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

from ...settings import RegistrySettings
from .errors import ShuttingDownError
from .guard import Guard
from .health import HealthResult, check
from .lookup import Lookup
from .registration import Declaration
from .shutdown import ShutdownReport, dispose_all
from .types import Family, ProviderTypes

__all__ = ["Lifecycle", "lifetime"]

logger = logging.getLogger(__name__)

ProviderT = TypeVar("ProviderT")


class Lifecycle(Lookup[ProviderT]):
    """The providers of one family, to be started, stopped and checked by name."""

    def __init__(
        self,
        family: Family,
        types: ProviderTypes,
        declared: Mapping[str, Declaration],
        default: str | None,
        settings: RegistrySettings,
    ) -> None:
        super().__init__(family, types, declared, default)
        self._settings = settings
        self._closed = False

    async def initialize(self, name: str) -> None:
        """Connect a provider now; also one that was disposed."""
        self._refuse_closed(name)
        registration = self._find(name)
        if registration.guard is not None:
            registration.guard.resume()
            await registration.handle.initialize()

    async def dispose(self, name: str) -> None:
        """Close a provider's instance; it stays registered and refuses operations."""
        guard = self._find(name).guard
        if guard is not None:
            await guard.dispose()

    async def dispose_all(self, timeout: float | None = None) -> ShutdownReport:
        """Dispose every provider and every living instance, within one deadline."""
        limit = self._settings.lifecycle.graceful_shutdown_timeout if timeout is None else timeout
        return await dispose_all(self.guards(), limit)

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

    async def get_provider_health(self, name: str, *, timeout: float = 10.0) -> HealthResult:
        """
        Check a provider now.

        Raises:
            NotFoundError: There is none of that name.
        """
        return await check(name, self._find(name).guard, timeout)

    async def _prepare(self, name: str) -> None:
        """Start what a provider depends on."""
        for other in self._find(name).depends_on:
            await self.initialize(other)

    def _refuse_closed(self, name: str) -> None:
        if self._closed:
            raise ShuttingDownError(f"The {self.family.name} registry is shutting down.", name)


async def lifetime(
    registries: Mapping[str, Lifecycle[Any]], shutdown_timeout: float
) -> AsyncIterator[Mapping[str, Lifecycle[Any]]]:
    """
    Register what is declared and take work; in the end close everything within one deadline.

    An async generator of one step, which is what dependency-injector takes for a resource.

    Args:
        registries: By family.
        shutdown_timeout: Seconds for closing, all together.
    """
    for registry in registries.values():
        registry.reopen()
        registry.load()
    yield registries
    for registry in registries.values():
        registry.close()
    guards = [guard for registry in registries.values() for guard in registry.guards()]
    report = await dispose_all(guards, shutdown_timeout)
    logger.info("Shut down %d providers in %.3f s", len(report.disposed), report.seconds)
