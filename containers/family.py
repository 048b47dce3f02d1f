"""One family: its registry, made from the settings, behind a selector."""

from __future__ import annotations

import functools
from typing import Any

from dependency_injector import containers
from dependency_injector import providers as di

from ..providers.registry import Declaration, Events, Family, ProviderRegistry, ProviderTypes
from ..settings import FamilySettings, ProviderSettings, Settings
from .selector import ProviderSelector

__all__ = ["FamilyContainer", "registry_from_settings"]


def registry_from_settings(
    family: Family, settings: Settings, types: ProviderTypes, events: Events
) -> ProviderRegistry[Any]:
    """
    Return a family's registry with all that the settings declare, and the embedded providers.

    Nothing is validated or imported here: each provider is when it is first needed.
    """
    declared = {
        row.name: Declaration(ProviderSettings(type=row.name), "builtin", "built in")
        for row in types.embedded(family.name)
    }
    of_family: FamilySettings = getattr(settings, family.name)
    for name, provider in of_family.providers.items():
        path = (family.name, "providers", name)
        origin = settings.origin(path)
        declared[name] = Declaration(
            provider,
            "environment" if _is_variable(origin) else "config",
            origin,
            functools.partial(_where, settings, path),
        )
    return ProviderRegistry(
        family,
        types=types,
        declared=declared,
        default=of_family.default,
        home=settings.home,
        settings=settings.registry,
        events=events,
    )


def _is_variable(origin: str) -> bool:
    return origin.removeprefix(".env: ").startswith("PURVEYOR_") and ": " not in origin[6:]


def _where(settings: Settings, provider: tuple[str, ...], path: tuple[str, ...]) -> str:
    return settings.origin((*provider, *path))


class FamilyContainer(containers.DeclarativeContainer):
    """
    What one family needs. The application container has one for each family; an application
    that wants a single family may use it by itself.
    """

    settings = di.Dependency(instance_of=Settings)
    types = di.Dependency(instance_of=ProviderTypes)
    events = di.Dependency(instance_of=Events)
    family = di.Dependency(instance_of=Family)
    select: ProviderSelector[Any] = ProviderSelector(
        registry_from_settings, family=family, settings=settings, types=types, events=events
    )
