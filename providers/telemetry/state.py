"""How the providers are at this moment, as gauges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..registry import BreakerState, HealthStatus, RegistryError
from ..registry.checking import Checking
from .series import Attributes

__all__ = ["GAUGES", "Reading", "readings"]

GAUGES: dict[str, tuple[str, str]] = {
    "purveyor.providers": ("{provider}", "Providers by family and status."),
    "purveyor.operation.active": ("{operation}", "Operations under way."),
    "purveyor.provider.leases": ("{lease}", "Leases that are held."),
    "purveyor.circuit_breaker.state": ("1", "1 for the state the circuit breaker is in, else 0."),
    "purveyor.health.status": ("1", "1 for the status the provider has, else 0."),
    "purveyor.health.check.duration": ("s", "How long the last health check took."),
    "purveyor.health.check.age": ("s", "How long ago the last health check was."),
}
"""The gauges: name, unit and meaning."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a gauge shows for one set of attributes."""

    name: str
    attributes: Attributes
    value: float


def readings(registries: Iterable[Checking[Any]], limit: int) -> Iterator[Reading]:
    """
    Yield what the gauges show; asks nobody, and registers nothing.

    Args:
        registries: Whose providers.
        limit: Of how many providers each is shown by itself; of all others only the numbers by
            family and status are.
    """
    for registry in registries:
        statuses = Counter({"declared": len(registry.names())})
        for name, handle in registry.handles.copy().items():
            try:
                health = registry.health(name)
            except RegistryError:  # unregistered meanwhile
                continue
            statuses[health.state.value] += 1
            statuses["declared"] -= 1
            if limit <= 0:
                continue
            limit -= 1
            one = {"purveyor.family": registry.family.name, "purveyor.provider": name}
            guard = getattr(handle, "_guard", None)
            if guard is not None:
                active = guard.in_flight
                yield Reading("purveyor.operation.active", one, active)
                yield Reading("purveyor.provider.leases", one, max(0, guard.use_count - active))
            if health.breaker is not None:
                for state in BreakerState:
                    attributes = {**one, "purveyor.circuit_breaker.state": state.value}
                    is_now = float(health.breaker is state)
                    yield Reading("purveyor.circuit_breaker.state", attributes, is_now)
            for status in HealthStatus:
                attributes = {**one, "purveyor.health.status": status.value}
                is_now = float(health.status is status)
                yield Reading("purveyor.health.status", attributes, is_now)
            if health.history:
                yield Reading("purveyor.health.check.duration", one, health.history[-1].latency)
                yield Reading("purveyor.health.check.age", one, health.age or 0.0)
        for status, count in statuses.items():
            attributes = {"purveyor.family": registry.family.name, "purveyor.status": status}
            yield Reading("purveyor.providers", attributes, max(0, count))
