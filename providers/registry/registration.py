"""The registry's record of one provider."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ...settings import ProviderSettings
from .breaker import CircuitBreaker
from .guard import Guard
from .guarded import Guarded
from .health import HealthRecord
from .metadata import HealthStatus, ProviderInfo, ProviderMetadata, Status
from .types import ProviderType

__all__ = ["Declaration", "Registration", "calling_place"]

_numbers = itertools.count(1)
_PACKAGE = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class Declaration:
    """
    A provider that the settings name: validated and registered when first needed.

    Args:
        settings: Its envelope and raw options.
        source: ``config``, ``environment``, ``builtin`` ...
        origin: Where it was declared, for messages.
        where: Tells where one of its settings is made, for messages.
        shared: Others than who runs this process may have written it.
    """

    settings: ProviderSettings
    source: str
    origin: str
    where: Callable[[tuple[str, ...]], str] | None = None
    shared: bool = False


class Registration:
    """One provider: its name, type, config, who registered it, and what stands for it."""

    __slots__ = (
        "_capabilities",
        "_instances",
        "config",
        "depends_on",
        "family",
        "guard",
        "handle",
        "health",
        "members",
        "metadata",
        "name",
        "origin",
        "pipelines",
        "priority",
        "provider_type",
        "registered_at",
        "required",
        "settings",
        "source",
    )

    def __init__(
        self,
        *,
        name: str,
        family: str,
        provider_type: ProviderType | None,
        config: BaseModel | None,
        handle: Any,
        guard: Guard | None,
        settings: ProviderSettings,
        capabilities: frozenset[str],
        source: str,
        origin: str,
        registered_at: datetime,
        members: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.family = family
        self.provider_type = provider_type
        self.config = config
        self.handle = handle
        self.guard = guard
        self._capabilities = capabilities
        self.source = source
        self.origin = origin
        self.registered_at = registered_at
        self.settings = settings
        self.priority = settings.priority
        self.required = settings.required
        self.depends_on = tuple(settings.depends_on)
        self.members = tuple(members)
        self.pipelines = tuple(settings.pipelines)
        self.metadata: Mapping[str, Any] = settings.metadata
        self.health: HealthRecord | None = None
        self._instances: weakref.WeakValueDictionary[str, Guarded] | None = None

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do; one made of others can do what all of them can."""
        return self.handle.capabilities if self.members else self._capabilities

    @property
    def breaker(self) -> CircuitBreaker | None:
        """The circuit breaker of its backend; a plain object has none."""
        return self.guard.breaker if self.guard else None

    @property
    def status(self) -> Status:
        """Where it stands; a registered object without a guard is always ready."""
        return self.guard.status if self.guard else Status.READY

    def stand_for(self, before: Registration) -> None:
        """Take over what callers hold of the registration whose settings these replace."""
        self.handle, self.guard = before.handle, before.guard
        self._instances = before._instances
        self.health = before.health
        self.registered_at = before.registered_at

    # -- instances that callers own ------------------------------------------------------

    def track(self, instance: Guarded, instance_id: str | None) -> bool:
        """Remember an instance weakly; False if the id is that of a living one."""
        if self._instances is None:
            self._instances = weakref.WeakValueDictionary()
        known = None if instance_id is None else self._instances.get(instance_id)
        if known is not None and known._guard.status is not Status.DISPOSED:
            return False
        self._instances[instance_id or f"#{next(_numbers)}"] = instance
        return True

    def live_instances(self) -> dict[str, Guarded]:
        """Return the instances whose owners still hold them and have not disposed them."""
        found: dict[str, Guarded] = {}
        # Not items(): another thread may add one meanwhile.
        for reference in () if self._instances is None else self._instances.valuerefs():
            instance = reference()
            if instance is not None and instance._guard.status is not Status.DISPOSED:
                found[reference.key] = instance
        return found

    def holders(self) -> list[str]:
        """Name all who keep it from being removed."""
        holders = self.guard.holders if self.guard else []
        return [*holders, *(f"instance {name}" for name in self.live_instances())]

    # -- for people ----------------------------------------------------------------------

    def provider_metadata(self) -> ProviderMetadata:
        """Return what the type says of itself, with this provider's name and time."""
        row = self.provider_type
        return ProviderMetadata(
            name=self.name,
            display_name=(row.display_name if row else "") or self.name,
            version=row.version if row else "",
            description=row.description if row else "",
            capabilities=self.capabilities,
            registered_at=self.registered_at,
            extra={**(row.metadata if row else {}), **self.metadata},
        )

    def moment(self) -> tuple[object, ...]:
        """Return what of :meth:`info` may be another the next time, cheaper than all of it."""
        guard, health = self.guard, self.health
        return (
            self,
            self.source,
            self.origin,
            self.handle.capabilities if self.members else None,
            len(self.live_instances()) if self._instances else 0,
            guard and (guard.status, guard.use_count, guard.last_error, guard.breaker.state),
            health and (health.status, health.last),
        )

    def info(self, *, is_default: bool) -> ProviderInfo:
        """Return a picture of this moment, without secrets."""
        metadata = self.provider_metadata()
        last = self.health.last if self.health else None
        return ProviderInfo(
            name=self.name,
            family=self.family,
            type=self.provider_type.name if self.provider_type else None,
            display_name=metadata.display_name,
            version=metadata.version,
            description=metadata.description,
            capabilities=self.capabilities,
            status=self.status,
            source=self.source,
            origin=self.origin,
            registered_at=self.registered_at,
            is_default=is_default,
            instance_count=len(self.live_instances()),
            lease_count=self.guard.use_count if self.guard else 0,
            priority=self.priority,
            required=self.required,
            pipelines=self.pipelines,
            metadata=metadata.extra,
            last_error=self.guard.last_error if self.guard else None,
            health=self.health.status if self.health else HealthStatus.UNKNOWN,
            last_health_check=last.checked_at if last else None,
            breaker=self.guard.breaker.state if self.guard else None,
        )


def calling_place() -> str:
    """Return file and line of the code outside this package that called into it."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
