"""Where settings come from, and how each is written there: environment, ``.env``, secrets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from .branches import ProviderSettings, gathered
from .errors import Problem
from .explain import Keys

__all__ = [
    "DELIMITER",
    "PREFIX",
    "Source",
    "Tree",
    "from_arguments",
    "from_dotenv",
    "from_secrets",
    "from_variables",
    "merged",
    "place",
    "read_dotenv",
    "under_options",
    "unreadable",
    "variable",
]

PREFIX = "PURVEYOR_"
DELIMITER = "__"
_MAX_SECRET = 1024 * 1024
_MAX_DEPTH = 8

Tree = dict[str, Any]
IsBranch = Callable[[Keys], bool]


@dataclass(slots=True, eq=False)
class Source:
    """
    The settings of one place, in the shape of the tree: a type's own settings under ``options``.

    Args:
        tree: Nested settings; keys are in lower case where the place knows no case.
        spell: Tells how a setting is written there, given its keys as written.
        prefix: What stands before that in messages: which place it is.
        problems: Why the place, or part of it, could not be read.
        names: Where each value stands, if every value has a place of its own.
        sections: Providers that are written elsewhere than in their family.
        nested: Settings of types that are written under ``options``.
    """

    tree: Tree = field(repr=False)
    spell: Callable[[Keys], str]
    prefix: str = ""
    problems: list[Problem] = field(default_factory=list[Problem])
    names: dict[Keys, str] = field(default_factory=dict[Keys, str])
    sections: dict[Keys, Keys] = field(default_factory=dict[Keys, Keys])
    nested: set[Keys] = field(default_factory=set[Keys])

    def contains(self, keys: Keys) -> bool:
        """Tell whether there is a value, an item of a list or a branch at ``keys``."""
        found: Any = self.tree
        for key in keys:
            if isinstance(found, (str, list, tuple)):  # a text may stand for a list
                return key.isdecimal()
            if not isinstance(found, dict) or key not in found:
                return False
            found = cast(Tree, found)[key]
        return True

    def where(self, keys: Keys) -> str:
        """Return where a setting stands, or would stand."""
        for length in range(len(keys), 0, -1) if self.contains(keys) else ():
            name = self.names.get(keys[:length])
            if name is not None:
                return name if length == len(keys) else f"{name} at {'.'.join(keys[length:])}"
        return self.label(self.written(keys))

    def label(self, keys: Keys) -> str:
        """Return where a setting is, given its keys as written."""
        return self.prefix + self.spell(keys)

    def leaves(self, keys: Keys) -> list[Keys]:
        """Return the settings at or below ``keys`` that have places of their own."""
        return [one for one in self.names if one[: len(keys)] == keys] or [keys]

    def settle(self, families: frozenset[str]) -> Source:
        """Bring what types are set to, flat or under ``options``, under ``options``."""
        for family in families & self.tree.keys():
            providers = _table(_table(self.tree[family]).get("providers"))
            for name, entry in providers.items():
                if isinstance(entry, Mapping):
                    provider = (family, "providers", str(name))
                    providers[name] = self._settled(provider, cast("Mapping[Any, Any]", entry))
        self.names = {under_options(keys, families): name for keys, name in self.names.items()}
        return self

    def _settled(self, provider: Keys, entry: Mapping[Any, Any]) -> Tree:
        settled, differing = gathered(entry)
        written: Any = entry.get("options")
        if isinstance(written, dict):
            self.nested |= {(*provider, "options", str(key)) for key in cast(Tree, written)}
        for key in differing:
            reason = "is set under options too, to something else; keep one of the two"
            where = self.label((*self.written(provider), key))
            self.problems.append(Problem(where, reason, (*provider, "options", key)))
        if not settled.get("options", True) and "options" not in entry:
            del settled["options"]  # nobody wrote it
        return settled

    def written(self, keys: Keys) -> Keys:
        """Return the keys of a setting as they are written here."""
        if len(keys) > 4 and keys[3] == "options" and keys[:5] not in self.nested:
            keys = keys[:3] + keys[4:]
        return self.sections.get(keys[:3], keys[:3]) + keys[3:]


def under_options(keys: Keys, families: frozenset[str]) -> Keys:
    """Return the place in the tree of a setting whose type's own settings may be written flat."""
    head, rest = keys[:3], keys[3:]
    if not rest or head[0] not in families or head[1] != "providers":
        return keys
    return keys if rest[0] in ProviderSettings.model_fields else (*head, "options", *rest)


def merged(trees: list[Tree]) -> Tree:
    """Return one tree of many; at each place the first that says something wins."""
    result: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            if key not in result:
                result[key] = merged([cast(Tree, value)]) if isinstance(value, dict) else value
            elif isinstance(result[key], dict) and isinstance(value, dict):
                result[key] = merged([result[key], cast(Tree, value)])
    return result


def variable(keys: Keys) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + DELIMITER.join(keys).upper()


def from_arguments(values: Mapping[str, Any]) -> Source:
    """Return the settings that a caller gives; models count as what they were given."""
    return Source(_plain(values), ".".join, "argument ")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        value = {key: getattr(value, key) for key in value.model_fields_set}
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(key): _plain(one) for key, one in items}
    return value


def from_variables(variables: Mapping[str, str], is_branch: IsBranch, prefix: str = "") -> Source:
    """
    Return the settings of variables ``PURVEYOR_A__B=value``.

    Args:
        variables: Names, in any case, and values.
        is_branch: Tells where a JSON object stands for a branch of the tree.
        prefix: What stands before the name of a variable in messages.
    """
    source = Source({}, variable, prefix)
    for name in sorted(variables):
        if name.upper().startswith(PREFIX) and len(name) > len(PREFIX):
            keys = tuple(name[len(PREFIX) :].lower().split(DELIMITER))
            _put(source, keys, variables[name], prefix + name.upper(), is_branch)
    return source


def _put(source: Source, keys: Keys, text: str, location: str, is_branch: IsBranch) -> None:
    def fault(reason: str) -> None:
        source.problems.append(Problem(location, reason, keys))

    if "" in keys:
        return fault(f"has an empty part beside {DELIMITER!r}")
    value: Any = text
    if text.lstrip().startswith("{") and is_branch(keys):
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            return fault(f"is no valid JSON: {error.msg} ({place(error.lineno, error.colno)})")
        except (ValueError, RecursionError):
            return fault("is no valid JSON")
    branch = source.tree
    for key in keys[:-1]:
        below: Any = branch.setdefault(key, {})
        if not isinstance(below, dict):
            return fault(f"{key!r} is set as a single value too; keep one of the two")
        branch = cast(Tree, below)
    present = branch.get(keys[-1])
    if keys in source.names:
        return fault("is set twice")
    if isinstance(present, dict) and not isinstance(value, dict):
        return fault("settings below it are set too; keep one of the two")
    if isinstance(present, dict):  # what is set by itself counts before what an object holds
        value = merged([cast(Tree, present), cast(Tree, value)])
    branch[keys[-1]] = value
    source.names[keys] = location
    return None


def read_dotenv(path: Path, problems: list[Problem]) -> dict[str, str]:
    """Return the variables of a ``.env`` file; none if there is no such file."""
    try:
        if not path.exists() or path.is_dir():  # some keep a virtual environment of that name
            return {}
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        problems.append(Problem(str(path), unreadable(error)))
        return {}
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    malformed = [one.original.line for one in parse_stream(StringIO(text)) if one.error]
    if malformed:  # not read at all, or dotenv would log what we tell
        reason = "line {} is not of the form NAME=value"
        problems += [Problem(str(path), reason.format(line)) for line in malformed]
        return {}
    values = dotenv_values(stream=StringIO(text))
    return {name: value for name, value in values.items() if value is not None}


def from_dotenv(
    path: Path, variables: Mapping[str, str], problems: list[Problem], is_branch: IsBranch
) -> Source:
    """Return the settings among the variables of a ``.env`` file."""
    source = from_variables(variables, is_branch, f"{path}: ")
    source.problems[:0] = problems
    return source


def from_secrets(folder: Path, is_branch: IsBranch) -> Source:
    """
    Return the settings of a directory with one file a value.

    A file is named like the variable without its prefix (``storage__providers__b__secret_key``)
    or lies in nested folders. Hidden entries are left out, which is how Kubernetes keeps its own.
    """
    source = Source({}, DELIMITER.join, f"{folder}/")
    if not folder.is_dir():
        reason = "is no directory" if folder.exists() else "does not exist"
        source.problems.append(Problem(str(folder), f"the secrets directory {reason}"))
        return source
    for path in _secret_files(folder, source.problems):
        parts = path.relative_to(folder).parts
        keys = tuple(key for part in parts for key in part.lower().split(DELIMITER))
        try:
            if path.stat().st_size > _MAX_SECRET:
                source.problems.append(Problem(str(path), "is larger than 1 MiB", keys))
                continue
            text = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            source.problems.append(Problem(str(path), unreadable(error), keys))
            continue
        _put(source, keys, text, str(path), is_branch)
    return source


def _secret_files(folder: Path, problems: list[Problem], depth: int = 0) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        problems.append(Problem(str(folder), unreadable(error)))
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir() and depth < _MAX_DEPTH:
            yield from _secret_files(path, problems, depth + 1)
        elif path.is_file() or not path.exists():  # a link to nowhere is told when it is read
            yield path


def place(line: int, column: int) -> str:
    """Return a place in a text as messages tell it."""
    return f"line {line}, column {column}"


def unreadable(error: OSError | ValueError) -> str:
    """Return why a file cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read: {reason or 'not a usable path'}"


def _table(value: Any) -> Tree:
    return cast(Tree, value) if isinstance(value, dict) else {}
