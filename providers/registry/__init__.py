"""
The engine: provider types, named registrations, and the guard before every instance.

It knows no family, no SDK and no framework.
"""

from __future__ import annotations

from .access import RegistryView, Role
from .breaker import BreakerState, CircuitBreaker, Transition
from .discovery import ProviderDiscovery, ValidationResult, declarations
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
    CircuitBreakerClosed,
    CircuitBreakerHalfOpened,
    CircuitBreakerOpened,
    DiscoveryFailed,
    Event,
    Events,
    HealthStatusChanged,
    LeaseDenied,
    ProviderErrorOccurred,
    ProviderFailedOver,
    ProviderRegistered,
    ProviderReloaded,
    ProviderUnregistered,
)
from .extras import import_extra
from .failover import answered_by
from .guard import Lease
from .guarded import guarded
from .health import HealthReport, HealthSummary
from .lifecycle import graceful_shutdown
from .lifetime import lifetime
from .metadata import (
    Capability,
    HealthResult,
    HealthStatus,
    ProviderInfo,
    ProviderMetadata,
    Status,
)
from .monitor import HealthMonitor
from .provider import Call, Composite, Provider, ProviderConfig, operation
from .registration import Declaration
from .registry import ProviderRegistry
from .report import LoadReport, LoadRow, Outcome
from .shutdown import ShutdownReport
from .types import Family, ProviderType, ProviderTypes, default_types, register_provider

__all__ = [
    "AlreadyExistsError",
    "BreakerState",
    "Call",
    "Capability",
    "CircuitBreaker",
    "CircuitBreakerClosed",
    "CircuitBreakerHalfOpened",
    "CircuitBreakerOpened",
    "CircuitOpenError",
    "Composite",
    "ConnectionFailedError",
    "CreationFailedError",
    "CredentialError",
    "Declaration",
    "DiscoveryFailed",
    "Event",
    "Events",
    "Family",
    "HealthMonitor",
    "HealthReport",
    "HealthResult",
    "HealthStatus",
    "HealthStatusChanged",
    "HealthSummary",
    "HookFailedError",
    "ImportFailedError",
    "InUseError",
    "InvalidConfigError",
    "InvalidNameError",
    "InvalidStateError",
    "Lease",
    "LeaseDenied",
    "LoadReport",
    "LoadRow",
    "NotFoundError",
    "OperationTimeoutError",
    "Outcome",
    "PermissionDeniedError",
    "PluginRejectedError",
    "Provider",
    "ProviderConfig",
    "ProviderDiscovery",
    "ProviderError",
    "ProviderErrorOccurred",
    "ProviderFailedOver",
    "ProviderInfo",
    "ProviderMetadata",
    "ProviderRegistered",
    "ProviderRegistry",
    "ProviderReloaded",
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
    "Transition",
    "UnsupportedCapabilityError",
    "ValidationResult",
    "answered_by",
    "declarations",
    "default_types",
    "graceful_shutdown",
    "guarded",
    "import_extra",
    "lifetime",
    "operation",
    "register_provider",
]
