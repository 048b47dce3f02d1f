"""The storage types and the process-wide storage registry, as functions."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ...settings import Settings, load_settings
from ..families import STORAGE
from ..registry import (
    LoadReport,
    ProviderDiscovery,
    ProviderRegistry,
    ProviderType,
    default_types,
)
from ..registry.validation import validated_config
from . import types as _types  # its rows
from .base import StorageProvider

__all__ = [
    "create_storage",
    "get_all_providers",
    "get_config_class",
    "get_provider_class",
    "get_provider_metadata",
    "get_storage_class",
    "get_supported_providers",
    "initialize_storage",
    "load_plugin_providers",
    "register_builtin_providers",
    "storage_registry",
    "validate_config",
]

_lock = threading.Lock()
_registries: list[ProviderRegistry[StorageProvider[Any]]] = []
_discoveries: list[ProviderDiscovery] = []
_built_in = _types.STORAGE_TYPES


def get_config_class(provider: str, *, family: str = "storage") -> type[BaseModel]:
    """
    Return the config model of a provider type.

    Raises:
        NotFoundError: No such type; the message lists those there are.
    """
    return default_types.get(family, provider).config_class


def get_provider_class(provider: str, *, family: str = "storage") -> type[Any]:
    """
    Return the class of a provider type.

    Raises:
        NotFoundError: No such type; the message lists those there are.
    """
    return default_types.get(family, provider).loaded_class


get_storage_class = get_provider_class
"""The same, by the name it has in storage services."""


def get_provider_metadata(provider: str, *, family: str = "storage") -> Mapping[str, Any]:
    """
    Return what a provider type says of itself beside its capabilities.

    Raises:
        NotFoundError: No such type; the message lists those there are.
    """
    return default_types.get(family, provider).metadata


def get_supported_providers(family: str = "storage") -> list[str]:
    """Return the names of a family's provider types, A to Z."""
    return default_types.names(family)


def get_all_providers(family: str = "storage") -> dict[str, ProviderType]:
    """Return a family's provider types by name, with description, capabilities and metadata."""
    return {row.name: row for row in default_types.all(family)}


def validate_config(
    provider: str, config: Mapping[str, Any], *, home: Path = Path(".purveyor")
) -> BaseModel:
    """
    Return settings as the config model of a provider type.

    Raises:
        NotFoundError: No such type; the message lists those there are.
        InvalidConfigError: The settings have faults; all of them are named.
    """
    row = default_types.get("storage", provider)
    return validated_config(row, config, name=provider, home=home)


def storage_registry() -> ProviderRegistry[StorageProvider[Any]]:
    """
    Return the process-wide storage registry, made when first asked for: ``STORAGE_REGISTRY``.

    It is empty at first. Applications use a container's registry instead, which is their own.
    """
    with _lock:
        if not _registries:
            _registries.append(ProviderRegistry(STORAGE))
        return _registries[0]


async def register_builtin_providers(
    registry: ProviderRegistry[StorageProvider[Any]] | None = None,
) -> None:
    """
    Register ``filesystem`` and ``sqlite`` with their default settings; the first is the default.

    Args:
        registry: Where; the process-wide registry when not given.

    Raises:
        AlreadyExistsError: One of them is registered.
    """
    registry = registry or storage_registry()
    for row in _built_in:
        if row.embedded:
            await registry.register(row.name, source="builtin")
    registry.set_default(STORAGE.fallback)


async def load_plugin_providers(path: Path, settings: Settings | None = None) -> LoadReport:
    """
    Load the plugins of a folder, and register the storages they bring in the process-wide registry.

    Their types are known from then on. A plugin runs only if it is allowed and pinned.

    Args:
        path: The folder of plugins.
        settings: Say which plugins are allowed; those of the environment when not given.

    Returns:
        What became of each plugin and provider; one that fails never ends the rest.
    """
    settings = settings or load_settings()
    with _lock:
        if not _discoveries:  # kept, since it knows which plugins are in use
            _discoveries.append(
                ProviderDiscovery(lambda: {STORAGE.name: storage_registry()}, settings)
            )
    (discovery,) = _discoveries
    discovery.settings = settings
    return await discovery.discover_from_plugins(path)


async def initialize_storage(settings: Settings | None = None) -> LoadReport:
    """
    Register the built-in storages and then those of plugins, in the process-wide registry.

    Args:
        settings: Name the folder of plugins (``registry.discovery.plugin_path``), if there is one;
            those of the environment when not given.

    Returns:
        What became of each plugin and its providers.

    Raises:
        AlreadyExistsError: The built-in storages are registered.
    """
    settings = settings or load_settings()
    await register_builtin_providers()
    path = settings.registry.discovery.plugin_path
    return LoadReport() if path is None else await load_plugin_providers(path, settings)


async def create_storage(
    provider: str, config: Mapping[str, Any] | None = None, instance_id: str | None = None
) -> StorageProvider[Any]:
    """
    Return a connected storage of the caller's own, of a provider of the process-wide registry.

    Args:
        provider: Name of the provider.
        config: Settings in place of the registered ones.
        instance_id: A name for it in lists and messages.

    Raises:
        NotFoundError: No such provider.
        InvalidConfigError: The settings have faults; all of them are named.
        RegistryError: It cannot be connected.
    """
    storage = storage_registry().create(provider, config, instance_id=instance_id)
    await storage.initialize()
    return storage
