"""What a list of providers is narrowed down to; a value that there is not is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ...containers import ApplicationContainer
from ...providers.registry import HealthStatus, ProviderInfo, ProviderRegistry, Status
from ...providers.registry.errors import nearest_first
from .problem import Problem

__all__ = ["one_of", "supported_providers", "wanted_by"]


def supported_providers(container: ApplicationContainer) -> dict[str, list[str]]:
    """Return the provider types that can be configured by family, as the registries know them."""
    return {
        registry.family.name: registry.types.names(registry.family.name)
        for registry in container.registries().values()
    }


def wanted_by(
    container: ApplicationContainer,
    *,
    family: str | None = None,
    type: str | None = None,
    capability: str | None = None,
    status: Status | None = None,
    health: HealthStatus | None = None,
    text: str | None = None,
) -> tuple[list[str] | None, Callable[[ProviderInfo], bool] | None]:
    """
    Return the families to look in (None: all) and what a provider has to be (None: anything).

    Raises:
        Problem: There is no such family, type or capability; those there are are named.
    """
    registries = _registries(container, family)
    tests: list[Callable[[ProviderInfo], bool]] = []
    if type is not None:
        types = {row.name for one in registries for row in [one.types.find(one.family.name, type)]
                 if row is not None}  # fmt: skip
        if not types:
            one_of("type", type, (name for one in registries for name in _types(one)))
        tests.append(lambda info: info.type in types)
    if capability is not None:
        one_of("capability", capability, _capabilities(registries, capability))
        tests.append(lambda info: capability in info.capabilities)
    if status is not None:
        tests.append(lambda info: info.status is status)
    if health is not None:
        tests.append(lambda info: info.health is health)
    if text:
        part = text.casefold()
        tests.append(lambda info: part in _text_of(info))
    names = None if family is None else [registries[0].family.name]
    return names, (lambda info: all(test(info) for test in tests)) if tests else None


def one_of(parameter: str, value: str, there_are: Iterable[str]) -> str:
    """
    Return a value that is one of those there are.

    Raises:
        Problem: It is none of them; all are named.
    """
    names = nearest_first(value, set(there_are))
    if value not in names:
        raise Problem(
            422,
            f"UNKNOWN_{parameter.upper()}",
            f"Unknown {parameter}: {value}. There are these: {', '.join(names) or 'none'}.",
            context={"available": names},
        )
    return value


def _registries(container: ApplicationContainer, family: str | None) -> list[ProviderRegistry[Any]]:
    registries = list(container.registries().values())
    if family is None:
        return registries
    found = [one for one in registries if family in (one.family.name, *one.family.aliases)]
    if not found:
        one_of("family", family, (one.family.name for one in registries))
    return found


def _types(registry: ProviderRegistry[Any]) -> list[str]:
    return registry.types.names(registry.family.name)


def _capabilities(registries: Iterable[ProviderRegistry[Any]], wanted: str) -> set[str]:
    """Return the capabilities of all types, or of all providers if no type has the wanted one."""
    registries = list(registries)
    rows = (row for one in registries for row in one.types.all(one.family.name))
    known = {name for row in rows for name in row.capabilities}
    if wanted not in known:
        known.update(
            name for one in registries for info in one.list() for name in info.capabilities
        )
    return known


def _text_of(info: ProviderInfo) -> str:
    parts = (info.name, info.type or "", info.display_name, info.description)
    return "\n".join(parts).casefold()
