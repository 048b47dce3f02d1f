"""One provider, with all that may be told of it."""

from __future__ import annotations

import json
from typing import Any

from ...containers import ApplicationContainer
from ...providers.catalogue import CatalogueUnavailableError, Entry
from ...providers.registry import (
    HealthReport,
    LoadReport,
    NotFoundError,
    ProviderRegistry,
    RegistryError,
)
from ..plain import plain
from .etags import etag

__all__ = ["Details", "details_of"]


class Details:
    """
    What is shown of one provider, as JSON, with its tag.

    Args:
        shown: The answer.
        version: Of the entry in the catalogue, None if there is none.
    """

    def __init__(self, shown: dict[str, Any], version: int | None) -> None:
        self.body = json.dumps(plain(shown), ensure_ascii=False, separators=(",", ":")).encode()
        self.etag = etag(version, self.body)


async def details_of(
    container: ApplicationContainer, registry: ProviderRegistry[Any], name: str
) -> Details:
    """
    Return what is known of a provider, secrets masked; its settings may have faults.

    While the catalogue cannot be read, that is what this process knows, and no version of it.

    Raises:
        NotFoundError: There is none of that name; the message lists those there are.
        CatalogueUnavailableError: The catalogue cannot be read, and might have it.
    """
    family = registry.family.name
    entry = None
    try:
        entry = await container.catalogue().get(family, name)
    except CatalogueUnavailableError:
        if not registry.has(name):
            raise
    try:
        info = registry.info(name, faulty=True)
    except NotFoundError:
        if entry is None:
            raise
        await container.discovery().take_in([(family, name)])  # another process has added it
        info = registry.info(name, faulty=True)
    report = registry.health(name) if registry.has(name) else None
    shown = {
        **info.to_dict(),
        "settings": _settings_of(registry, name),
        "health_summary": _summary(report),
        "circuit_breaker": report.breaker
        and {
            "state": report.breaker.value,
            "retry_after": report.retry_after and round(report.retry_after, 1),
        }
        if report
        else None,
        "catalogue": _kept(entry, container.discovery().report),
    }
    return Details(shown, entry.version if entry else None)


def _settings_of(registry: ProviderRegistry[Any], name: str) -> dict[str, Any]:
    try:
        config = registry.config(name)
    except RegistryError:  # they have faults: `last_error` tells them
        return {}
    return {} if config is None else config.model_dump(mode="json")


def _summary(report: HealthReport | None) -> dict[str, Any]:
    return {
        "status": report.status.value if report else "unknown",
        "monitored": bool(report and report.monitored),
        "usable": bool(report and report.usable),
        "successes": report.successes if report else 0,
        "failures": report.failures if report else 0,
        "last": report.history[-1].to_dict() if report and report.history else None,
    }


def _kept(entry: Entry | None, report: LoadReport) -> dict[str, Any] | None:
    if entry is None:
        return None
    found = entry.to_dict()
    if found["fault"] is None:  # it can be read; perhaps it could not be put in force
        failed = (row.error for row in report.failed if row.family == entry.family
                  and row.name == entry.name and row.error)  # fmt: skip
        found["fault"] = next((error.to_dict() for error in failed), None)
    return {key: found[key] for key in ("version", "updated_at", "settings", "key_ids", "fault")}
