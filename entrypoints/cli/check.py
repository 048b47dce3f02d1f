"""``purveyor check``: is everything that is configured right, and does it answer?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer

from ...containers import ApplicationContainer
from ...providers.registry import (
    HealthStatus,
    LoadReport,
    Outcome,
    ProviderRegistry,
    RegistryError,
)
from ...settings import SettingsError
from .output import complain, print_json, print_table, tell
from .session import FAILED, Session

__all__ = ["check"]


@dataclass(slots=True)
class _Findings:
    problems: list[str] = field(default_factory=list[str])
    remarks: list[str] = field(default_factory=list[str])
    providers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def check(
    context: typer.Context,
    connect: Annotated[
        bool, typer.Option("--connect", help="Also connect to each provider and ask if it is well.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """
    Check the settings and every provider, and tell all faults at once.

    Exits with 1 if anything is at fault; that a family has no default is only remarked.

    Example: purveyor check --connect
    """
    session: Session = context.obj
    try:
        found = session.run(lambda container: _check(container, connect=connect))
    except SettingsError as error:
        found = _Findings([str(problem) for problem in error.problems])
    if as_json:
        print_json({"ok": not found.problems, **asdict(found)})
    elif found.providers:
        columns = ("family", "name", "state", "settings from")
        print_table(columns, [[one[key] for key in _KEYS] for one in found.providers])
    for remark in found.remarks if not as_json else ():
        tell(f"note: {remark}")
    for problem in found.problems:
        complain(problem)
    if found.problems:
        count = len(found.problems)
        tell(f"{count} fault{'s' * (count > 1)}")
        raise typer.Exit(FAILED)


_KEYS = ("family", "name", "state", "origin")


async def _check(container: ApplicationContainer, *, connect: bool) -> _Findings:
    found = _Findings()
    registries: Mapping[str, ProviderRegistry[Any]] = container.registries()
    elsewhere = [row for row in container.discovery().report.failed if not row.family]
    found.problems += [f"{row.origin}: {row.reason}" for row in elsewhere]
    for registry in registries.values():
        discovered = container.discovery().report
        report = registry.load()
        undeclared = set(discovered.names_of(registry.family.name)) - set(registry.declared())
        faulty = [row for row in discovered.failed if row.family == registry.family.name]
        report += LoadReport(tuple(row for row in faulty if row.name in undeclared))
        _note_default(registry, found)
        found.problems += [row.reason for row in report.failed]
        found.problems += [
            f"{registry.info(name).origin}: {error.message}"
            for name, error in registry.dangling().items()
        ]
        states = await _states(registry, report, found) if connect else {}
        found.providers += [
            {
                "family": row.family,
                "name": row.name,
                "state": states.get(row.name) or _WORDS[row.outcome],
                "origin": row.origin,
            }
            for row in report.rows
        ]
    return found


_WORDS = {Outcome.REGISTERED: "ok", Outcome.SKIPPED: "disabled", Outcome.FAILED: "faulty"}


def _note_default(registry: ProviderRegistry[Any], found: _Findings) -> None:
    if not registry.names():
        return
    try:
        name = registry.default_name()
    except RegistryError as error:
        found.remarks.append(error.message)
        return
    try:
        if not registry.has(name):
            registry.require(name)
    except RegistryError as error:
        found.problems.append(error.message)


async def _states(
    registry: ProviderRegistry[Any], report: LoadReport, found: _Findings
) -> dict[str, str]:
    names = report.registered
    results = await asyncio.gather(*(registry.get_provider_health(name) for name in names))
    for result in results:
        if result.status is HealthStatus.UNHEALTHY:
            found.problems.append(f"{registry.info(result.name).origin}: {result.message}")
    return {result.name: result.status.value for result in results}
