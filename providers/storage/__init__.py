"""
The storage family: objects by key, the same for a folder, a database and a cloud.

Importing this package makes the built-in types known; it imports none of their libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import (
    Delete,
    ObjectInfo,
    ObjectSource,
    Put,
    StorageProvider,
    StorageStats,
    StorageTransaction,
    check_range,
    chunks_of,
    not_found,
)
from .blocking import BlockingStorage
from .errors import (
    EncryptionKeyError,
    ForeignObjectError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidRangeError,
    KeyConflictError,
    ObjectChangedError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageConnectionError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageRootNotFoundError,
    StorageTimeoutError,
)
from .keys import check_key, check_prefix
from .metadata import check_metadata
from .registry import (
    create_storage,
    get_all_providers,
    get_config_class,
    get_provider_class,
    get_provider_metadata,
    get_storage_class,
    get_supported_providers,
    initialize_storage,
    load_plugin_providers,
    register_builtin_providers,
    storage_registry,
    validate_config,
)
from .types import STORAGE_TYPES

if TYPE_CHECKING:
    from typing import Any

    from ..registry import ProviderRegistry

    STORAGE_REGISTRY: ProviderRegistry[StorageProvider[Any]]

__all__ = [
    "STORAGE_REGISTRY",
    "STORAGE_TYPES",
    "BlockingStorage",
    "Delete",
    "EncryptionKeyError",
    "ForeignObjectError",
    "InvalidKeyError",
    "InvalidMetadataError",
    "InvalidRangeError",
    "KeyConflictError",
    "ObjectChangedError",
    "ObjectDamagedError",
    "ObjectExistsError",
    "ObjectInfo",
    "ObjectNotFoundError",
    "ObjectSource",
    "Put",
    "StorageConnectionError",
    "StorageError",
    "StorageFullError",
    "StoragePermissionError",
    "StorageProvider",
    "StorageRootNotFoundError",
    "StorageStats",
    "StorageTimeoutError",
    "StorageTransaction",
    "check_key",
    "check_metadata",
    "check_prefix",
    "check_range",
    "chunks_of",
    "create_storage",
    "get_all_providers",
    "get_config_class",
    "get_provider_class",
    "get_provider_metadata",
    "get_storage_class",
    "get_supported_providers",
    "initialize_storage",
    "load_plugin_providers",
    "not_found",
    "register_builtin_providers",
    "storage_registry",
    "validate_config",
]


def __getattr__(name: str) -> object:
    if name == "STORAGE_REGISTRY":
        return storage_registry()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
