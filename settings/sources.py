"""Where settings come from: environment, ``.env``, a file, a directory of secrets."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from .errors import Problem

__all__ = [
    "PREFIX",
    "Source",
    "contains",
    "from_dotenv",
    "from_environment",
    "from_file",
    "from_secrets",
]

PREFIX = "PURVEYOR_"
DELIMITER = "__"
_MAX_SECRET = 1024 * 1024
_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_]\w*)(?::([^}]*))?\}")

Keys = tuple[str, ...]
Tree = dict[str, Any]


@dataclass(slots=True)
class Source:
    """
    The settings of one place.

    Args:
        tree: Nested settings, keys in lower case where the place knows no case.
        name: Tells how a setting is written there.
        problems: Why the place, or part of it, could not be read.
    """

    tree: Tree
    name: Callable[[Keys], str]
    problems: list[Problem] = field(default_factory=list[Problem])


def contains(tree: Mapping[str, Any], keys: Keys) -> bool:
    """Tell whether a tree has a value or a branch at ``keys``."""
    found: Any = tree
    for key in keys:
        if not isinstance(found, Mapping) or key not in found:
            return False
        found = cast("Mapping[str, Any]", found)[key]
    return True


def variable(keys: Keys) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + DELIMITER.join(keys).upper()


def from_environment(variables: Mapping[str, str], *, label: str = "") -> Source:
    """
    Return the settings of environment variables ``PURVEYOR_A__B=value``.

    Args:
        variables: Names, in any case, and values.
        label: What stands before the name of a variable in messages.
    """
    source = Source({}, lambda keys: label + variable(keys))
    for name in sorted(variables):
        if name.upper().startswith(PREFIX) and len(name) > len(PREFIX):
            keys = tuple(name[len(PREFIX) :].lower().split(DELIMITER))
            _put(source, keys, _decoded(variables[name]), label + name.upper())
    return source


def _decoded(value: str) -> Any:
    """Return a JSON object as the branch it stands for, anything else as it is."""
    if value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _put(source: Source, keys: Keys, value: Any, location: str) -> None:
    branch = source.tree
    if "" in keys:
        source.problems.append(Problem(location, f"has an empty part between {DELIMITER!r}", keys))
        return
    for key in keys[:-1]:
        below = branch.setdefault(key, {})
        if not isinstance(below, dict):
            source.problems.append(
                Problem(
                    location, f"{key!r} is set as a single value too; keep one of the two", keys
                )
            )
            return
        branch = cast(Tree, below)
    present = branch.get(keys[-1])
    if isinstance(present, dict) and not isinstance(value, dict):
        source.problems.append(
            Problem(location, "settings below it are set too; keep one of the two", keys)
        )
    elif isinstance(present, dict):
        branch[keys[-1]] = {**value, **present}
    else:
        branch[keys[-1]] = value


def from_dotenv(path: Path) -> Source:
    """Return the settings of a ``.env`` file; none if there is no such file."""
    label = f"{path}: "
    if not path.is_file():
        return from_environment({}, label=label)
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return Source({}, variable, [Problem(str(path), _unreadable(error))])
    return from_environment({k: v for k, v in values.items() if v is not None}, label=label)


def from_file(path: Path) -> Source:
    """
    Return the settings of a TOML, YAML or JSON file, ``${VAR}`` and ``${VAR:default}`` replaced.

    ``$${`` stands for a literal ``${``.
    """
    source = Source({}, lambda keys: f"{path}: {'.'.join(keys)}")
    try:
        loaded = _load(path)
    except _FileError as fault:
        source.problems.append(Problem(fault.location, fault.reason))
        return source
    if loaded is None:
        return source
    if not isinstance(loaded, dict):
        reason = "must hold a table of settings at its top"
        source.problems.append(Problem(str(path), reason))
        return source
    source.tree = _interpolated(cast(Tree, loaded), (), source)
    return source


class _FileError(Exception):
    def __init__(self, location: str, reason: str) -> None:
        super().__init__(reason)
        self.location = location
        self.reason = reason


def _load(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _FileError(str(path), _unreadable(error)) from None
    suffix = path.suffix.lower()
    if suffix == ".toml":
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _FileError(str(path), f"is no valid TOML: {error}") from None
    if suffix == ".json":
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            raise _FileError(str(path), f"is no valid JSON: {error.msg} (at {place})") from None
    if suffix in (".yaml", ".yml"):
        return _load_yaml(path, text)
    raise _FileError(str(path), "must end in .toml, .yaml, .yml or .json")


def _load_yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        reason = "needs PyYAML. Install it with: pip install 'purveyor[yaml]'"
        raise _FileError(str(path), reason) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or "not well-formed"
        raise _FileError(str(path), f"is no valid YAML: {problem}{place}") from None


def _unreadable(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8"
    return f"cannot be read: {error.strerror or type(error).__name__}"


def _interpolated(value: Any, keys: Keys, source: Source) -> Any:
    if isinstance(value, dict):
        items = cast("dict[object, Any]", value).items()
        return {str(key): _interpolated(one, (*keys, str(key)), source) for key, one in items}
    if isinstance(value, list):
        return [_interpolated(one, keys, source) for one in cast("list[Any]", value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replaced(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name is None:
            return "${"
        found = os.environ.get(name, default)
        if found is None:
            reason = (
                f"names the environment variable {name}, which is not set. Set it, or give a "
                f"default: ${{{name}:default}}"
            )
            source.problems.append(Problem(source.name(keys), reason, keys))
            return ""
        return found

    return _VARIABLE.sub(replaced, value)


def from_secrets(folder: Path) -> Source:
    """
    Return the settings of a directory with one file a value.

    A file is named like the variable without its prefix (``storage__providers__b__secret_key``)
    or lies in nested folders. Hidden entries are left out, which is how Kubernetes keeps its own.
    """
    source = Source({}, lambda keys: f"{folder}/{DELIMITER.join(keys)}")
    if not folder.is_dir():
        problem = "is no directory" if folder.exists() else "does not exist"
        source.problems.append(Problem(str(folder), f"the secrets directory {problem}"))
        return source
    for path in _secret_files(folder):
        relative = path.relative_to(folder)
        keys = tuple(key for part in relative.parts for key in part.lower().split(DELIMITER))
        try:
            if path.stat().st_size > _MAX_SECRET:
                source.problems.append(Problem(str(path), "is larger than 1 MiB", keys))
                continue
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            source.problems.append(Problem(str(path), _unreadable(error), keys))
            continue
        _put(source, keys, value, str(path))
    return source


def _secret_files(folder: Path, depth: int = 0) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and depth < 8:
            yield from _secret_files(path, depth + 1)
        elif path.is_file():
            yield path
