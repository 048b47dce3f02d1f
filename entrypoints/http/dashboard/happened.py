"""Events in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

__all__ = ["detail", "kind"]

_KIND = {
    "circuit-breaker-closed": "good",
    "circuit-breaker-half-opened": "warn",
    "circuit-breaker-opened": "bad",
    "discovery-failed": "bad",
    "lease-denied": "warn",
    "provider-error": "bad",
    "provider-failed-over": "warn",
}
_KIND_OF_HEALTH = {"healthy": "good", "degraded": "warn", "unhealthy": "bad"}


class _Told(Protocol):
    @property
    def event(self) -> str: ...

    @property
    def data(self) -> Mapping[str, Any]: ...


def kind(event: _Told) -> str:
    """Return the mark an event gets."""
    if event.event == "health-status-changed":
        return _KIND_OF_HEALTH.get(event.data.get("after", ""), "none")
    return _KIND.get(event.event, "none")


def detail(event: _Told) -> str:
    """Return what an event says beside its name and its provider."""
    data = event.data
    said = [str(data[key]) for key in ("source", "holder", "member", "reason") if data.get(key)]
    if "after" in data:
        said.insert(0, f"{data.get('before')} → {data['after']}")
    for key in ("error", "result"):
        told: object = data.get(key)
        if isinstance(told, Mapping) and (message := cast("dict[str, Any]", told).get("message")):
            said.append(str(message))
    return ": ".join(said)
