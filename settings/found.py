"""A further file of providers: each entry is good or faulty by itself."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from .branches import AISettings, FamilySettings, ProviderSettings
from .errors import Problem
from .explain import UNKNOWN, Keys, explain
from .files import from_file
from .sources import Source, read_dotenv, variable

__all__ = ["FoundProvider", "ProvidersFile", "is_required", "read_providers"]


@dataclass(frozen=True, slots=True)
class FoundProvider:
    """One entry: its settings, or what is wrong with them."""

    family: str
    name: str
    origin: str
    settings: ProviderSettings | None
    problems: tuple[Problem, ...]
    where: Callable[[Keys], str]
    required: bool
    """Whether the application is not ready without it, its settings faulty or not."""


@dataclass(frozen=True, slots=True)
class ProvidersFile:
    """What a file of providers says; ``problems`` are those of no single entry."""

    path: Path
    providers: tuple[FoundProvider, ...]
    problems: tuple[Problem, ...]


def read_providers(path: Path, families: frozenset[str]) -> ProvidersFile:
    """
    Read a file of providers: the families' part of the tree of settings, and nothing else.

    Args:
        path: A TOML, YAML or JSON file, as for ``PURVEYOR_CONFIG_FILE``.
        families: The names of the families there are.
    """
    faults: list[Problem] = []
    source = from_file(path, {**read_dotenv(Path(".env"), faults), **os.environ}).settle(families)
    problems = faults + source.problems
    found: list[FoundProvider] = []
    for family, branch in source.tree.items():
        if family not in families:
            reason = f"{UNKNOWN} in a file of providers; there are: {', '.join(sorted(families))}"
            problems.append(Problem(source.label((family,)), reason, (family,)))
            continue
        entries = _table(_table(branch).get("providers"))
        model = AISettings if family == "ai" else FamilySettings
        try:  # the entries each by itself
            model.model_validate({**branch, "providers": {}} if entries else branch)
        except ValidationError as error:
            for keys, reason in explain(error, model):
                path_to = (family, *keys)
                problems.append(Problem(source.where(path_to), reason, path_to))
        for key in (model.model_fields.keys() - {"providers"}) & _table(branch).keys():
            reason = f"is not taken from a file of providers; set {variable((family, key))}"
            problems.append(Problem(source.where((family, key)), reason, (family, key)))
        found += [_found(source, family, str(name), entry) for name, entry in entries.items()]
    own = {problem for one in found for problem in one.problems}
    others = dict.fromkeys(one for one in problems if one not in own)
    return ProvidersFile(path, tuple(found), tuple(others))


def _found(source: Source, family: str, name: str, entry: Any) -> FoundProvider:
    place: Keys = (family, "providers", name)
    where = functools.partial(_where, source, place)
    places = (place, source.written(place))
    problems = [one for one in source.problems if one.path[:3] in places]
    settings = None
    try:
        settings = ProviderSettings.model_validate(entry)
    except ValidationError as error:
        told = {problem.path for problem in problems}
        for keys, reason in explain(error, ProviderSettings):
            path = (*place, *keys)
            if path not in told:
                problems.append(Problem(source.where(path), reason, path))
    if problems:
        settings = None
    return FoundProvider(
        family, name, source.where(place), settings, tuple(problems), where, is_required(entry)
    )


def is_required(entry: Any) -> bool:
    """
    Tell whether an entry that may have faults is of a required provider.

    What is not plainly a no is a yes: not to be ready is the lesser harm.
    """
    said = _table(entry)
    return _is_yes(said.get("required", False)) and _is_yes(said.get("enabled", True))


def _is_yes(value: Any) -> bool:
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return True


def _where(source: Source, place: Keys, keys: Keys) -> str:
    return source.where((*place, "options", *keys) if keys else place)


def _table(value: Any) -> Mapping[Any, Any]:
    return cast("Mapping[Any, Any]", value) if isinstance(value, dict) else {}
