"""How the providers are, in the shape of draft-inadarei-api-health-check-06."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ... import __version__
from ...containers import ApplicationContainer
from ...providers.families import DATA_SOURCES, STORAGE
from ...providers.registry import (
    HealthReport,
    HealthStatus,
    LoadRow,
    NotFoundError,
    mask,
)
from .parts import registry_of

__all__ = ["FAIL", "PASS", "REQUIRED", "WARN", "document", "known_group", "pipelines"]

PASS, WARN, FAIL = "pass", "warn", "fail"
REQUIRED = "required"
"""The group of those the application is not ready without."""

_DATASTORES = (STORAGE.name, DATA_SOURCES.name)


def pipelines(container: ApplicationContainer) -> list[str]:
    """Return the pipelines that some provider names, A to Z."""
    reports = (
        report
        for registry in container.registries().values()
        for report in registry.health_report().providers
    )
    return sorted({one for report in reports for one in report.pipelines} - {"*"})


def known_group(container: ApplicationContainer, group: str) -> str | None:
    """Return the name of a group as reports know it; None if there is no such group."""
    if group == REQUIRED:
        return group
    try:
        return registry_of(container, group).family.name
    except NotFoundError:
        return group if group in pipelines(container) else None


def document(
    container: ApplicationContainer, group: str | None = None, *, stopping: bool = False
) -> dict[str, Any]:
    """
    Tell how providers are, by what is known already: no backend is asked.

    Args:
        container: Whose providers.
        group: ``required``, a family or a pipeline; all when not given.
        stopping: Whether the service is ending.
    """
    discovery = container.discovery()
    failed = {(row.family, row.name): row for row in discovery.report.failed}
    reasons: list[str] = []
    if stopping:
        reasons.append("The service is ending.")
    if not discovery.complete:
        reasons.append("Where providers are registered could not be read yet: some may be missing.")
    checks: dict[str, list[dict[str, Any]]] = {}
    registries = container.registries()
    for family, registry in registries.items():
        for report in registry.health_report(group=group).providers:
            name, fault = report.name, failed.get((family, report.name))
            status, output = _verdict(report, fault, registered=registry.is_registered(name))
            checks[f"{family}:{name}"] = [_check(report, status, output)]
            if status == FAIL and report.required:
                reasons.append(f"{family}/{name} is required: {output}")
    for row in failed.values():
        there = row.family in registries and registries[row.family].has(row.name)
        if not row.name or there or not _concerns(row, group, registries):
            continue
        checks[f"{row.family}:{row.name}"] = [_unknown(row)]
        if row.required:
            reasons.append(f"{row.family}/{row.name} is required: {row.reason}")
    faults = [f"{row.origin}: {row.reason}" for row in discovery.report.failed if not row.name]
    well = all(one["status"] == PASS for entries in checks.values() for one in entries)
    told: dict[str, Any] = {
        "status": FAIL if reasons else PASS if well and not faults else WARN,
        "version": "1",
        "releaseId": __version__,
        "serviceId": "purveyor",
        "description": "Backing services by name.",
        "checks": checks,
    }
    if faults:
        told["notes"] = [mask(fault) for fault in faults]
    if reasons:
        told["output"] = mask("; ".join(reasons))
    return told


def _verdict(report: HealthReport, fault: LoadRow | None, *, registered: bool) -> tuple[str, str]:
    """Return how a provider is, and why if it is not well."""
    last = report.history[-1] if report.history else None
    said = last.message if last else ""
    if fault is not None and not registered:
        return FAIL, fault.reason
    if report.retry_after != 0:
        wait = "until it is reset" if report.retry_after is None else f"{report.retry_after:.0f} s"
        return FAIL, f"Its circuit breaker refuses calls: {wait}. {said}".rstrip()
    if report.status is HealthStatus.UNHEALTHY:
        return FAIL, said
    if report.required and not report.usable:
        return FAIL, "Nothing is known of it, and it is not connected."
    if report.status is HealthStatus.DEGRADED:
        return WARN, said
    if fault is not None:
        return WARN, f"Its new settings are not in force: {fault.reason}"
    if report.status is HealthStatus.UNKNOWN and last is not None:
        return WARN, "Its last check is too long ago."
    return PASS, ""


def _check(report: HealthReport, status: str, output: str) -> dict[str, Any]:
    check = _component(report.family, report.name, status, output, required=report.required)
    check |= {"state": report.state.value, "health": report.status.value}
    if report.breaker is not None:
        check["breaker"] = report.breaker.value
    if report.history:
        last = report.history[-1]
        check |= {
            "observedValue": round(last.latency * 1000, 3),
            "observedUnit": "ms",
            "time": last.checked_at.isoformat(),
            "age": round(report.age or 0.0, 3),
        }
    return check


def _unknown(row: LoadRow) -> dict[str, Any]:
    """Return the check of a provider whose entry could not even be read."""
    return _component(row.family, row.name, FAIL, row.reason, required=row.required)


def _component(
    family: str, name: str, status: str, output: str, *, required: bool
) -> dict[str, Any]:
    check: dict[str, Any] = {
        "componentId": f"{family}/{name}",
        "componentType": "datastore" if family in _DATASTORES else "component",
        "status": status,
        "required": required,
    }
    return check | {"output": mask(output)} if output else check


def _concerns(row: LoadRow, group: str | None, families: Collection[str]) -> bool:
    """Tell whether a provider of which nothing can be read is of a group, or may be."""
    if group == REQUIRED:
        return row.required
    return group is None or group not in families or group == row.family
