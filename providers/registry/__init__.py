"""
The engine: provider types, named registrations, and the guard before every instance.

It knows no family, no SDK and no framework.
"""

from __future__ import annotations

from .access import RegistryView, Role
from .discovery import LoadReport, LoadRow, Outcome
from .errors import (
    AlreadyExistsError,
    CircuitOpenError,
    ConnectionFailedError,
    CreationFailedError,
    CredentialError,
    HookFailedError,
    ImportFailedError,
    InUseError,
    InvalidConfigError,
    InvalidNameError,
    InvalidStateError,
    NotFoundError,
    OperationTimeoutError,
    PermissionDeniedError,
    PluginRejectedError,
    ProviderError,
    RegistrationFailedError,
    RegistryError,
    ShuttingDownError,
    UnsupportedCapabilityError,
)
from .events import (
    Event,
    Events,
    ProviderErrorOccurred,
    ProviderRegistered,
    ProviderUnregistered,
)
from .extras import import_extra
from .guard import Lease
from .guarded import guarded
from .health import HealthResult, HealthStatus
from .lifecycle import lifetime
from .metadata import Capability, ProviderInfo, ProviderMetadata, Status
from .provider import Call, Provider, ProviderConfig, operation
from .registration import Declaration
from .registry import ProviderRegistry
from .shutdown import ShutdownReport
from .types import Family, ProviderType, ProviderTypes, default_types, register_provider

__all__ = [
    "AlreadyExistsError",
    "Call",
    "Capability",
    "CircuitOpenError",
    "ConnectionFailedError",
    "CreationFailedError",
    "CredentialError",
    "Declaration",
    "Event",
    "Events",
    "Family",
    "HealthResult",
    "HealthStatus",
    "HookFailedError",
    "ImportFailedError",
    "InUseError",
    "InvalidConfigError",
    "InvalidNameError",
    "InvalidStateError",
    "Lease",
    "LoadReport",
    "LoadRow",
    "NotFoundError",
    "OperationTimeoutError",
    "Outcome",
    "PermissionDeniedError",
    "PluginRejectedError",
    "Provider",
    "ProviderConfig",
    "ProviderError",
    "ProviderErrorOccurred",
    "ProviderInfo",
    "ProviderMetadata",
    "ProviderRegistered",
    "ProviderRegistry",
    "ProviderType",
    "ProviderTypes",
    "ProviderUnregistered",
    "RegistrationFailedError",
    "RegistryError",
    "RegistryView",
    "Role",
    "ShutdownReport",
    "ShuttingDownError",
    "Status",
    "UnsupportedCapabilityError",
    "default_types",
    "guarded",
    "import_extra",
    "lifetime",
    "operation",
    "register_provider",
]
