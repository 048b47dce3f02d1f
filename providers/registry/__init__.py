"""
The engine: provider types, named registrations, and the guard before every instance.

It knows no family, no SDK and no framework.
"""

from __future__ import annotations

from .access import RegistryView, Role
from .breaker import BreakerState, CircuitBreaker, Transition
from .credentials import CredentialManager, Owner, is_sealed, key_id_of
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
from .log_masking import SecretFilter, masked_logs
from .metadata import (
    Capability,
    HealthResult,
    HealthStatus,
    ProviderInfo,
    ProviderMetadata,
    Status,
)
from .monitor import HealthMonitor
from .observed import Observation, Observer, Operation, Watch
from .provider import Call, Composite, Provider, ProviderConfig, operation
from .redaction import (
    MASK,
    UNCHANGED,
    MaskedError,
    Unchanged,
    mask,
    remember,
    scrub,
    secret_fields_of,
)
from .registration import Declaration
from .registry import ProviderRegistry
from .report import LoadReport, LoadRow, Outcome
from .shutdown import ShutdownReport
from .types import Family, ProviderType, ProviderTypes, default_types, register_provider

__all__ = [
    "MASK",
    "UNCHANGED",
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
    "CredentialManager",
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
    "MaskedError",
    "NotFoundError",
    "Observation",
    "Observer",
    "Operation",
    "OperationTimeoutError",
    "Outcome",
    "Owner",
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
    "SecretFilter",
    "ShutdownReport",
    "ShuttingDownError",
    "Status",
    "Transition",
    "Unchanged",
    "UnsupportedCapabilityError",
    "ValidationResult",
    "Watch",
    "answered_by",
    "declarations",
    "default_types",
    "graceful_shutdown",
    "guarded",
    "import_extra",
    "is_sealed",
    "key_id_of",
    "lifetime",
    "mask",
    "masked_logs",
    "operation",
    "register_provider",
    "remember",
    "scrub",
    "secret_fields_of",
]
