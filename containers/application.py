"""The application container: every family by name, from the settings of the environment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from dependency_injector import containers
from dependency_injector import providers as di

from ..providers import families
from ..providers.ai.types import AI_TYPES
from ..providers.catalogue import Catalogue
from ..providers.data_sources.types import DATA_SOURCE_TYPES
from ..providers.media.types import MEDIA_TYPES
from ..providers.registry import (
    Events,
    HealthMonitor,
    ProviderDiscovery,
    ProviderRegistry,
    ProviderTypes,
    default_types,
    lifetime,
)
from ..providers.storage.types import STORAGE_TYPES
from ..settings import Settings, load_settings
from .ai import AIFamilyContainer, AISelector
from .blocking import BlockingContainer, awaited
from .family import FamilyContainer
from .selector import ProviderSelector

if TYPE_CHECKING:
    from ..providers.data_sources.base import DataSource
    from ..providers.media.audio.base import AudioProvider
    from ..providers.media.flashcards.base import FlashcardProvider
    from ..providers.media.images.base import ImageProvider
    from ..providers.storage.base import StorageProvider
    from ..providers.telemetry import Telemetry

__all__ = ["ApplicationContainer", "PurveyorContainer"]

Registries = Mapping[str, ProviderRegistry[Any]]


def _types() -> ProviderTypes:
    for row in (*STORAGE_TYPES, *DATA_SOURCE_TYPES, *AI_TYPES, *MEDIA_TYPES):
        default_types.add(row)
    return default_types


def _registries(*selectors: ProviderSelector[Any]) -> Registries:
    return {selector.registry.family.name: selector.registry for selector in selectors}


def _telemetry(settings: Settings) -> Telemetry | None:
    if not settings.telemetry.enabled:
        return None
    from ..providers.telemetry import Telemetry

    return Telemetry(settings.telemetry)


def _discovery(container: Any) -> Callable[[], ProviderDiscovery]:
    return container.discovery


def _peers(container: Any) -> Callable[[], Registries]:
    return container.registries


class PurveyorContainer(containers.DynamicContainer):
    """What an :class:`ApplicationContainer` instance is."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[PurveyorContainer, None]:
        """
        Register what the settings declare; in the end dispose everything, within one deadline.

        The same as ``await init_resources()`` ... ``await shutdown_resources()``.
        """
        await awaited(self.init_resources())
        try:
            yield self
        finally:
            await awaited(self.shutdown_resources())

    @property
    def blocking(self) -> BlockingContainer:
        """The same families without ``await``, for code that has no event loop."""
        found = self.__dict__.get("_blocking")
        if found is None:  # two threads may make one each: neither has a loop yet, one stays
            found = self.__dict__.setdefault("_blocking", BlockingContainer(self))
        return found


class ApplicationContainer(containers.DeclarativeContainer):
    """
    Backing services by name: ``ApplicationContainer().storage("backups")``.

    Settings come from the environment; ``ApplicationContainer(settings=Settings(...))`` takes
    others. Any provider can be replaced as dependency-injector does it.
    """

    instance_type = PurveyorContainer

    settings: di.Provider[Settings] = di.ThreadSafeSingleton(load_settings)
    types: di.Provider[ProviderTypes] = di.Callable(_types)
    events: di.Provider[Events] = di.ThreadSafeSingleton(Events)
    monitor: di.Provider[HealthMonitor] = di.ThreadSafeSingleton(HealthMonitor)
    monitoring: di.Provider[bool] = di.Object(True)
    telemetry: di.Provider[Telemetry | None] = di.ThreadSafeSingleton(_telemetry, settings)
    __self__ = cast(Any, di.Self())
    peers: di.Provider[Callable[[], Registries]] = di.Callable(_peers, __self__)

    _shared: ClassVar[dict[str, Any]] = {
        "settings": settings,
        "types": types,
        "events": events,
        "monitor": monitor,
        "peers": peers,
        "telemetry": telemetry,
    }
    storage_family: Any = di.Container(FamilyContainer, family=families.STORAGE, **_shared)
    data_sources_family: Any = di.Container(
        FamilyContainer, family=families.DATA_SOURCES, **_shared
    )
    ai_family: Any = di.Container(AIFamilyContainer, family=families.AI, **_shared)
    images_family: Any = di.Container(FamilyContainer, family=families.IMAGES, **_shared)
    audio_family: Any = di.Container(FamilyContainer, family=families.AUDIO, **_shared)
    flashcards_family: Any = di.Container(FamilyContainer, family=families.FLASHCARDS, **_shared)

    storage: ProviderSelector[StorageProvider[Any]] = storage_family.select
    data_sources: ProviderSelector[DataSource[Any]] = data_sources_family.select
    ai: AISelector = ai_family.select
    images: ProviderSelector[ImageProvider[Any]] = images_family.select
    audio: ProviderSelector[AudioProvider[Any]] = audio_family.select
    flashcards: ProviderSelector[FlashcardProvider[Any]] = flashcards_family.select

    registries: di.Provider[Registries] = di.Callable(
        _registries, storage, data_sources, ai, audio, images, flashcards
    )
    catalogue: di.Provider[Catalogue] = di.ThreadSafeSingleton(
        Catalogue, settings, di.Callable(_discovery, __self__)
    )
    discovery: di.Provider[ProviderDiscovery] = di.ThreadSafeSingleton(
        ProviderDiscovery, registries.provider, settings, catalogue
    )
    lifecycle = di.Resource(lifetime, discovery, monitor=monitoring)

    if TYPE_CHECKING:  # the instance is a PurveyorContainer

        def lifespan(self) -> AbstractAsyncContextManager[Self]: ...

        @property
        def blocking(self) -> BlockingContainer: ...
