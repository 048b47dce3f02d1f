"""What callers do to providers; every change leaves a record."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ...containers import ApplicationContainer
from ...providers.registry import HealthResult
from .container import HttpContainer
from .identity import Caller
from .parts import registry_of

__all__ = ["Actions"]


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
    async def recorded(self, action: str, target: str) -> AsyncGenerator[None]:
        """Record what becomes of the block, an error among others."""
        audit = self._parts.audit()
        try:
            yield
        except BaseException as error:
            await audit.write(self._caller.name, action, target, error)
            raise
        await audit.write(self._caller.name, action, target)

    async def test(self, family: str, name: str) -> HealthResult:
        """Ask a provider's backend now how it is; that changes nothing and leaves no record."""
        return await registry_of(self._container, family).get_provider_health(name)

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

    async def unregister(self, family: str, name: str, *, version: int | None = None) -> None:
        """
        Remove a provider: from the catalogue, if it is there, else from this process.

        Args:
            family: The family.
            name: The provider.
            version: Of the catalogue's entry that was looked at; not given, any.
        """
        registry = registry_of(self._container, family)
        async with self.recorded("unregister", f"{family}/{name}"):
            catalogue = self._container.catalogue()
            if await catalogue.get(registry.family.name, name) is not None:
                await catalogue.remove(registry.family.name, name, version=version)
            else:
                await registry.unregister(name, mode="drain")
