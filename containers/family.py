"""One family: its registry, made from the settings, behind a selector."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from dependency_injector import containers
from dependency_injector import providers as di

from ..providers.registry import (
    Events,
    Family,
    HealthMonitor,
    Observer,
    ProviderRegistry,
    ProviderTypes,
    declarations,
)
from ..settings import FamilySettings, Settings
from .selector import ProviderSelector

__all__ = ["FamilyContainer", "registry_from_settings"]


def registry_from_settings(
    family: Family,
    settings: Settings,
    types: ProviderTypes,
    events: Events,
    monitor: HealthMonitor | None = None,
    peers: Callable[[], Mapping[str, ProviderRegistry[Any]]] | None = None,
    observer: Observer | None = None,
) -> ProviderRegistry[Any]:
    """
    Return a family's registry with all that the settings declare, and the embedded providers.

    Nothing is validated or imported here: each provider is when it is first needed.
    """
    of_family: FamilySettings = getattr(settings, family.name)
    return ProviderRegistry(
        family,
        types=types,
        declared=declarations(family, settings, types, os.environ),
        default=of_family.default,
        home=settings.home,
        settings=settings.registry,
        events=events,
        monitor=monitor,
        peers=peers,
        observer=observer,
    )


class FamilyContainer(containers.DeclarativeContainer):
    """
    What one family needs. The application container has one for each family; an application
    that wants a single family may use it by itself.
    """

    settings = di.Dependency(instance_of=Settings)
    types = di.Dependency(instance_of=ProviderTypes)
    events = di.Dependency(instance_of=Events)
    monitor: di.Provider[HealthMonitor | None] = di.Object(None)
    peers: di.Provider[Any] = di.Object(None)
    telemetry: di.Provider[Observer | None] = di.Object(None)
    family = di.Dependency(instance_of=Family)
    select: ProviderSelector[Any] = ProviderSelector(
        registry_from_settings,
        family=family,
        settings=settings,
        types=types,
        events=events,
        monitor=monitor,
        peers=peers,
        observer=telemetry,
    )
