"""What is known of a provider beside its settings: capabilities, metadata, status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .breaker import BreakerState

__all__ = [
    "Capability",
    "HealthResult",
    "HealthStatus",
    "ProviderInfo",
    "ProviderMetadata",
    "Status",
    "capability_set",
]


class Capability(StrEnum):
    """
    The capabilities every family shares.

    Families add their own as lower-case strings; a capability is always compared as a string.
    """

    COMPRESSION = "compression"
    ENCRYPTION = "encryption"
    STREAMING = "streaming"
    TRANSACTIONS = "transactions"
    REMOTE_STORAGE = "remote-storage"
    LOCAL_STORAGE = "local-storage"
    SEARCH = "search"
    REPLICATION = "replication"


class Status(StrEnum):
    """Where a registration stands."""

    REGISTERED = "registered"
    """Known, nothing started: the first operation connects it."""
    INITIALIZING = "initializing"
    READY = "ready"
    ERROR = "error"
    """The last attempt to connect failed; the next operation tries again."""
    DISPOSED = "disposed"


class HealthStatus(StrEnum):
    """How a provider is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


def capability_set(
    capabilities: Iterable[str] = (), metadata: Mapping[str, object] | None = None
) -> frozenset[str]:
    """
    Return capabilities as a set of lower-case, dash-separated strings.

    Metadata flags of the form ``supports_encryption=True`` name capabilities too.
    """
    names = {capabilities} if isinstance(capabilities, str) else set(map(str, capabilities))
    for key, value in (metadata or {}).items():
        if key.startswith("supports_") and value is True:
            names.add(key.removeprefix("supports_"))
    return frozenset(name.lower().replace("_", "-") for name in names)


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What a provider type says of itself, with the moment a provider of it was registered."""

    name: str
    display_name: str
    version: str
    description: str
    capabilities: frozenset[str]
    registered_at: datetime
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-safe data that :meth:`from_dict` reads back."""
        return {
            "name": self.name,
            "display_name": self.display_name,
            "version": self.version,
            "description": self.description,
            "capabilities": sorted(self.capabilities),
            "registered_at": self.registered_at.isoformat(),
            "extra": dict(self.extra),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProviderMetadata:
        """Rebuild metadata from :meth:`to_dict`'s data."""
        return cls(
            name=data["name"],
            display_name=data["display_name"],
            version=data["version"],
            description=data["description"],
            capabilities=frozenset(data["capabilities"]),
            registered_at=datetime.fromisoformat(data["registered_at"]),
            extra=MappingProxyType(dict(data.get("extra", {}))),
        )


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """One provider at one moment, without secrets: for lists, the CLI and HTTP."""

    name: str
    family: str
    type: str | None
    display_name: str
    version: str
    description: str
    capabilities: frozenset[str]
    status: Status
    source: str
    origin: str
    registered_at: datetime | None
    is_default: bool
    instance_count: int
    lease_count: int
    priority: int
    required: bool
    pipelines: tuple[str, ...]
    metadata: Mapping[str, Any]
    last_error: str | None = None
    health: HealthStatus = HealthStatus.UNKNOWN
    last_health_check: datetime | None = None
    breaker: BreakerState | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data; times are ISO 8601 in UTC."""
        checked = self.last_health_check
        return {
            **{item.name: getattr(self, item.name) for item in fields(self)},
            "capabilities": sorted(self.capabilities),
            "status": self.status.value,
            "registered_at": self.registered_at.isoformat() if self.registered_at else None,
            "pipelines": list(self.pipelines),
            "metadata": dict(self.metadata),
            "health": self.health.value,
            "last_health_check": checked.isoformat() if checked else None,
            "breaker": self.breaker.value if self.breaker else None,
        }


@dataclass(frozen=True, slots=True)
class HealthResult:
    """The answer to one check: status, seconds it took, when (UTC), and why if not healthy."""

    name: str
    status: HealthStatus
    latency: float
    checked_at: datetime
    message: str = ""
    code: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        return {
            "name": self.name,
            "status": self.status.value,
            "latency": round(self.latency, 6),
            "checked_at": self.checked_at.isoformat(),
            "message": self.message,
            "code": self.code,
        }
