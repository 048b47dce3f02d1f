"""Where providers are found: settings, a file of providers, plugins, well-known variables."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ...settings import (
    AISettings,
    FamilySettings,
    FoundProvider,
    ProviderSettings,
    Settings,
    read_providers,
)
from .errors import InvalidConfigError, RegistryError
from .registration import Declaration
from .report import LoadRow, Outcome
from .types import Family, ProviderTypes

__all__ = [
    "Candidate",
    "ExtraSource",
    "Found",
    "from_embedded",
    "from_file_of_providers",
    "from_settings",
    "from_well_known",
    "winners",
]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that was found: what is declared of it, or why it cannot be."""

    family: str
    name: str
    source: str
    origin: str
    declaration: Declaration | None = None
    error: RegistryError | None = None
    required: bool = False
    """Whether the application is not ready without it, where there is no declaration to say so."""

    @property
    def key(self) -> tuple[str, str]:
        """Family and name, of which there can be one."""
        return self.family, self.name

    def row(self, outcome: Outcome, reason: str = "") -> LoadRow:
        """Return what became of it as a row of a report."""
        return LoadRow(self.family, self.name, outcome, self.origin, reason=reason)

    def failure(self, error: RegistryError) -> LoadRow:
        """Return its failure as a row of a report."""
        return LoadRow(
            self.family,
            self.name,
            Outcome.FAILED,
            self.origin,
            error.code,
            error.message,
            error,
            self.required,
        )


@dataclass(slots=True)
class Found:
    """What one place has: providers, and the faults of no single one."""

    candidates: list[Candidate] = field(default_factory=list[Candidate])
    faults: list[LoadRow] = field(default_factory=list[LoadRow])

    def stand_in(self, last: Iterable[Candidate]) -> None:
        """Add what was found the last time, where a fault may hide that it is still there."""
        if self.faults:
            there = {one.key for one in self.candidates}
            self.candidates += [one for one in last if one.key not in there]


class ExtraSource(Protocol):
    """
    A place of providers of which the engine knows no more than this. It comes before the settings.
    """

    async def find(self, keys: Collection[tuple[str, str]] | None = None) -> Found:
        """
        Return what it has: all, or what is of the families and names given.

        If it cannot be asked that is a fault, and what it had the last time stays in force. An
        error that it raises keeps the application from starting.
        """
        ...

    async def has_changed(self) -> bool:
        """Tell whether it may have something else than when all of it was last found."""
        ...

    def listen(
        self, changed: Callable[[Collection[tuple[str, str]] | None], Awaitable[object]]
    ) -> None:
        """Await ``changed`` from now on when others changed it: of these keys, or of any (None)."""
        ...

    async def close(self) -> None:
        """Listen no longer, and close what is open; asked again, it opens anew."""
        ...


def from_settings(settings: Settings, family: Family) -> list[Candidate]:
    """Return the providers of a family that the settings name."""
    of_family: FamilySettings = getattr(settings, family.name)
    found: list[Candidate] = []
    for name, provider in of_family.providers.items():
        path = (family.name, "providers", name)
        origin = settings.origin(path)
        source = "environment" if _is_variable(origin) else "config"
        where = functools.partial(_where, settings, path)
        declaration = Declaration(provider, source, origin, where)
        found.append(Candidate(family.name, name, source, origin, declaration))
    if isinstance(of_family, AISettings):
        for name, provider in of_family.alias_providers.items():
            origin = settings.origin((family.name, "aliases", name))
            source = "environment" if _is_variable(origin) else "config"
            declaration = Declaration(provider, source, origin, functools.partial(_here, origin))
            found.append(Candidate(family.name, name, source, origin, declaration))
    return found


def _here(origin: str, _: tuple[str, ...]) -> str:
    return origin


def _is_variable(origin: str) -> bool:
    return origin.removeprefix(".env: ").startswith("PURVEYOR_") and ": " not in origin[6:]


def _where(settings: Settings, provider: tuple[str, ...], path: tuple[str, ...]) -> str:
    return settings.origin((*provider, *path))


def from_file_of_providers(path: Path, families: Iterable[str]) -> Found:
    """Return the providers that a further file names; each is good or faulty by itself."""
    file = read_providers(path, frozenset(families))
    found = Found([_candidate(one) for one in file.providers])
    for problem in file.problems:
        found.faults.append(
            LoadRow("", "", Outcome.FAILED, problem.location, "INVALID_CONFIG", problem.reason)
        )
    return found


def _candidate(one: FoundProvider) -> Candidate:
    if one.settings is not None:
        declaration = Declaration(one.settings, "config", one.origin, one.where)
        return Candidate(one.family, one.name, "config", one.origin, declaration)
    problems = [{"where": fault.location, "reason": fault.reason} for fault in one.problems]
    lines = "".join(f"\n  {fault}" for fault in one.problems)
    error = InvalidConfigError(
        f"Configuration invalid: {one.family} provider {one.name!r}{lines}",
        one.name,
        {"problems": problems},
    )
    return Candidate(one.family, one.name, "config", one.origin, error=error, required=one.required)


def from_well_known(
    types: ProviderTypes, family: Family, variables: Mapping[str, str]
) -> list[Candidate]:
    """Return the providers that well-known variables make, each named as its type."""
    found: list[Candidate] = []
    for row in types.all(family.name):
        given = {
            option: (variable, variables[variable])
            for option, variable in row.well_known.items()
            if variables.get(variable)
        }
        needed = next(iter(row.well_known), None)
        if needed is None or needed not in given:
            continue
        settings = ProviderSettings.model_validate(
            {"type": row.name, "options": {option: value for option, (_, value) in given.items()}}
        )
        origin = row.well_known[needed]
        names = {option: variable for option, (variable, _) in given.items()}
        where = functools.partial(_well_known_where, names, row.name)
        declaration = Declaration(settings, "environment", origin, where)
        found.append(Candidate(family.name, row.name, "environment", origin, declaration))
    return found


def _well_known_where(names: Mapping[str, str], type_name: str, path: tuple[str, ...]) -> str:
    return names.get(path[0], path[0]) if path else type_name


def from_embedded(types: ProviderTypes, family: Family) -> list[Candidate]:
    """Return the providers of the types that work with no settings at all."""
    return [
        Candidate(
            family.name,
            row.name,
            "builtin",
            "built in",
            Declaration(ProviderSettings(type=row.name), "builtin", "built in"),
        )
        for row in types.embedded(family.name)
    ]


def winners(
    candidates: Iterable[Candidate],
) -> tuple[dict[tuple[str, str], Candidate], list[tuple[Candidate, Candidate]]]:
    """
    Return the first candidate of each name, and the others each with the one that shadows it.

    Args:
        candidates: In order of precedence.
    """
    first: dict[tuple[str, str], Candidate] = {}
    shadowed: list[tuple[Candidate, Candidate]] = []
    for one in candidates:
        winner = first.setdefault(one.key, one)
        if winner is not one:
            shadowed.append((one, winner))
    return first, shadowed
