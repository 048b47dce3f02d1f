"""What a route can ask for: the application container, and the parts of the API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from ...containers import ApplicationContainer
from ...providers.registry import NotFoundError, ProviderRegistry
from ...providers.registry.errors import nearest_first
from .container import HttpContainer

__all__ = ["Container", "Parts", "parts_of", "registry_of"]


def parts_of(request: Request) -> HttpContainer:
    """Return the parts of the API that answers a request."""
    return request.app.state.parts


async def _parts(request: Request) -> HttpContainer:  # a plain function is given to a thread
    return parts_of(request)


async def _container(request: Request) -> Any:
    return request.app.state.container


Parts = Annotated[HttpContainer, Depends(_parts)]
Container = Annotated[ApplicationContainer, Depends(_container)]


def registry_of(container: ApplicationContainer, family: str) -> ProviderRegistry[Any]:
    """
    Return a family's registry.

    Raises:
        NotFoundError: There is no such family; the message lists those there are.
    """
    registries = container.registries()
    for registry in registries.values():
        if family in (registry.family.name, *registry.family.aliases):
            return registry
    names = nearest_first(family, registries)
    raise NotFoundError(
        f"Unknown family: {family}. There are these: {', '.join(names)}.",
        context={"available": names},
    )
