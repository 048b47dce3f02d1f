"""What callers do to providers; every change leaves a record."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ...containers import ApplicationContainer
from ...providers.registry import (
    AlreadyExistsError,
    HealthResult,
    HealthStatus,
    LoadReport,
    Outcome,
    ProviderRegistry,
)
from .container import HttpContainer
from .etags import Conditions
from .identity import Caller
from .parts import registry_of
from .problem import Problem

__all__ = ["Actions"]

_ANY = Conditions()


@dataclass(slots=True)
class Record:
    """A record to be written when the change ends; False if nothing changed."""

    is_wanted: bool = True


class Actions:
    """
    The changes one caller makes.

    Whether he may is asked by the route; here each is recorded, with what became of it.

    Args:
        container: Whose providers.
        parts: Have the records.
        caller: Who does it.
    """

    def __init__(
        self, container: ApplicationContainer, parts: HttpContainer, caller: Caller
    ) -> None:
        self._container = container
        self._parts = parts
        self._caller = caller

    @asynccontextmanager
    async def recorded(self, action: str, target: str) -> AsyncGenerator[Record]:
        """Record what becomes of the block, an error among others."""
        audit, record = self._parts.audit(), Record()
        try:
            yield record
        except BaseException as error:
            await audit.write(self._caller.name, action, target, error)
            raise
        if record.is_wanted:
            await audit.write(self._caller.name, action, target)

    # -- one provider --------------------------------------------------------------------

    async def test(self, family: str, name: str) -> HealthResult:
        """Ask a provider's backend now how it is; that changes nothing and leaves no record."""
        return await registry_of(self._container, family).get_provider_health(name)

    async def try_out(self, family: str, name: str, config: Mapping[str, Any]) -> HealthResult:
        """
        Connect to a provider with some settings, which are not kept.

        That is recorded: somebody's credentials are used, wherever the settings say.
        """
        registry = registry_of(self._container, family)
        async with self.recorded("try", f"{family}/{name}"):
            return await self._container.catalogue().try_out(registry.family.name, name, config)

    async def start(self, family: str, name: str) -> None:
        """Connect a provider, and what it depends on."""
        async with self.recorded("start", f"{family}/{name}"):
            await registry_of(self._container, family).start(name)

    async def stop(self, family: str, name: str) -> None:
        """Close a provider's instance; the next call does not connect it again."""
        async with self.recorded("stop", f"{family}/{name}"):
            await registry_of(self._container, family).stop(name)

    async def restart(self, family: str, name: str) -> None:
        """Close a provider's instance, and connect anew."""
        async with self.recorded("restart", f"{family}/{name}"):
            await registry_of(self._container, family).restart(name)

    async def reset_breaker(self, family: str, name: str) -> None:
        """Let a provider's circuit breaker admit calls again."""
        async with self.recorded("reset-breaker", f"{family}/{name}"):
            registry_of(self._container, family).reset_breaker(name)

    async def register(
        self,
        family: str,
        name: str,
        config: Mapping[str, Any],
        *,
        conditions: Conditions = _ANY,
        test: bool = False,
    ) -> Outcome:
        """
        Have the catalogue hold a provider with these settings; the same ones again change nothing.

        Args:
            family: The family.
            name: The provider.
            config: All its settings but stored secrets, which stay if they are left out.
            conditions: A change of what is there has to name the version that was looked at.
            test: Connect first; one that does not answer is not registered.

        Returns:
            ``REGISTERED``, ``RELOADED`` or ``UNCHANGED``, which is not recorded.

        Raises:
            Problem: It is there already, or somebody else changed it (412, 428); or it did not
                answer (422).
            RegistryError: The settings have faults, the name is taken by another, or the catalogue
                cannot be written.
        """
        registry = registry_of(self._container, family)
        async with self.recorded("register", f"{registry.family.name}/{name}") as record:
            outcome = await self._put(registry, name, config, conditions, test=test)
            record.is_wanted = outcome is not Outcome.UNCHANGED
        return outcome

    async def _put(
        self,
        registry: ProviderRegistry[Any],
        name: str,
        config: Mapping[str, Any],
        conditions: Conditions,
        *,
        test: bool,
    ) -> Outcome:
        family = registry.family.name
        catalogue = self._container.catalogue()
        target = f"The {family} provider {name!r}"
        entry = await catalogue.get(family, name)
        if entry is None:
            conditions.version_of(target, None)
            if conditions.only_new and registry.has(name):
                raise _there_already(target)
            if test:
                await self._prove(family, name, config)
            try:
                await catalogue.add(family, name, config)
            except AlreadyExistsError:  # by somebody else this moment, with the same settings?
                entry = await catalogue.get(family, name)
                if entry is None:
                    raise
            else:
                return Outcome.REGISTERED
        if conditions.only_new:
            raise _there_already(target)
        if catalogue.holds(entry, config):
            return Outcome.UNCHANGED
        version = conditions.version_of(target, entry.version, needed=True)
        if test:
            await self._prove(family, name, config)
        await catalogue.update(family, name, config, version=version or entry.version)
        return Outcome.RELOADED

    async def _prove(self, family: str, name: str, config: Mapping[str, Any]) -> None:
        result = await self._container.catalogue().try_out(family, name, config)
        if result.status is HealthStatus.UNHEALTHY:
            raise Problem(
                422,
                "TEST_FAILED",
                f"The {family} provider {name!r} was not registered: it does not answer. "
                f"{result.message}",
                provider_name=name,
                context={"cause": result.code},
            )

    async def unregister(self, family: str, name: str, *, conditions: Conditions = _ANY) -> None:
        """
        Remove a provider: from the catalogue, if it is there, else from this process.

        Work under way ends first. One of settings returns when they are next read.

        Args:
            family: The family.
            name: The provider.
            conditions: May name the version that was looked at.

        Raises:
            Problem: It is another version (412).
            RegistryError: It is not there, or its work does not end in time.
        """
        registry = registry_of(self._container, family)
        family = registry.family.name
        async with self.recorded("unregister", f"{family}/{name}"):
            catalogue = self._container.catalogue()
            entry = await catalogue.get(family, name)
            version = conditions.version_of(
                f"The {family} provider {name!r}", entry.version if entry else None
            )
            if entry is not None:
                await catalogue.remove(family, name, version=version)
            else:
                await registry.unregister(name, mode="drain")

    # -- all of them ---------------------------------------------------------------------

    async def refresh(self) -> LoadReport:
        """Read the settings anew, and bring the registries in step with all there is to find."""
        async with self.recorded("refresh", "registries"):
            return await self._container.discovery().refresh()


def _there_already(target: str) -> Problem:
    return Problem(
        412,
        "ALREADY_EXISTS",
        f"{target} is there already, and If-None-Match: * asks for a new one. Choose another name, "
        "or get it and change it with If-Match.",
    )
