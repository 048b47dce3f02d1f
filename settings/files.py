"""Configuration files: TOML, YAML, JSON, variables replaced, older layouts understood."""

from __future__ import annotations

import difflib
import json
import logging
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from .errors import Problem
from .explain import UNKNOWN, Keys
from .sources import Source, Tree, merged, place, unreadable

__all__ = ["from_file"]

logger = logging.getLogger(__name__)

_SUFFIXES = (".toml", ".yaml", ".yml", ".json")
_VARIABLE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_]\w*)(?::([^}]*))?\})?", re.ASCII)

_SECTIONS = {"audio": "audio", "image": "images", "sync": "flashcards", "data": "data_sources"}
"""Sections below ``providers`` in configuration files of media applications, and their families."""


class _FileError(Exception):
    """Why a file cannot be used, as a user is told."""


def from_file(path: Path, variables: Mapping[str, str]) -> Source:
    """
    Return the settings of a TOML, YAML or JSON file.

    ``${VAR}`` and ``${VAR:default}`` in values are replaced; ``$${`` stands for ``${``.

    Args:
        path: The file; its suffix tells the format.
        variables: The values of variables.
    """
    source = Source({}, ".".join, f"{path}: ")
    try:
        loaded = _load(path)
        if not isinstance(loaded, dict):
            raise _FileError("must hold a table of settings at its top")
        source.tree = _replaced(cast("dict[Any, Any]", loaded), (), source, variables)
    except _FileError as fault:
        source.problems.append(Problem(str(path), str(fault)))
    except RecursionError:
        source.problems.append(Problem(str(path), "is nested too deeply"))
    _families_of_sections(source)
    return source


def _load(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise _FileError(f"must end in one of {', '.join(_SUFFIXES)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise _FileError(unreadable(error)) from None
    if suffix == ".toml":
        return _load_toml(text)
    if suffix == ".json":
        return _load_json(text)
    return _load_yaml(text)


def _load_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        end = text.count("\n") + 1, len(text) - text.rfind("\n")
        reason = str(error).replace("at end of document", f"at {place(*end)}")
        raise _FileError(f"is no valid TOML: {_unquoted(reason)}") from None


def _load_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except json.JSONDecodeError as error:
        where = place(error.lineno, error.colno)
        raise _FileError(f"is no valid JSON: {error.msg} (at {where})") from None
    except ValueError:  # a number of thousands of digits
        raise _FileError("is no valid JSON: it has a number that is too long") from None


def _load_yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise _FileError("needs PyYAML. Install it with: pip install 'purveyor[yaml]'") from None
    try:
        loader = _yaml_loader(text)
        try:
            loaded = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (at {place(mark.line + 1, mark.column + 1)})" if mark else ""
        reason = _unquoted(error.problem or "not well-formed")
        raise _FileError(f"is no valid YAML: {reason}{where}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        where = place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise _FileError(f"is no valid YAML: a character is not allowed (at {where})") from None
    except ValueError:  # what looks like a date and is none
        raise _FileError("is no valid YAML: it has a date or number that is none") from None
    return {} if loaded is None else loaded


def _without_twins(pairs: list[tuple[str, Any]]) -> Tree:
    """Make a table of its entries; of two with one name, one would be lost unseen."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise _FileError(f"has {twin!r} twice in one table; keep one of them")
    return table


def _yaml_loader(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """The safe loader, which refuses a name that stands twice in one table."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                if key_node.tag == "tag:yaml.org,2002:merge":
                    continue
                key = key_node.value
                if isinstance(key, str) and key in seen:
                    mark = key_node.start_mark
                    where = place(mark.line + 1, mark.column + 1)
                    raise _FileError(
                        f"has {key!r} twice in one table; keep one of them (at {where})"
                    )
                if isinstance(key, str):
                    seen.add(key)
            return super().construct_mapping(node, deep)

    return Loader(text)


def _unquoted(reason: str) -> str:
    """Leave out what a parser quotes of the file, except single characters and token names."""

    def keep(match: re.Match[str]) -> str:
        return match[0] if len(match[0]) < 4 or match[0].startswith("'<") else "..."

    return re.sub(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", keep, reason)


def _replaced(value: Any, keys: Keys, source: Source, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {
            str(key): _replaced(one, (*keys, str(key)), source, variables) for key, one in items
        }
    if isinstance(value, list):
        return [_replaced(one, keys, source, variables) for one in cast("list[Any]", value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name: str | None = match[1]
        found = None if name is None else variables.get(name, match[2])
        if found is not None:
            return found
        if name is None:
            reason = "has a ${ that begins no ${VAR} or ${VAR:default}; a literal one is $${"
        else:
            reason = (
                f"names the environment variable {name}, which is not set. Set it, or give a "
                f"default: ${{{name}:default}}"
            )
        problem = Problem(source.label(keys), reason, keys)
        if problem not in source.problems:
            source.problems.append(problem)
        return ""

    return _VARIABLE.sub(replace, value)


def _families_of_sections(source: Source) -> None:
    """Read a media application's ``providers: {audio: ..., image: ..., sync: ...}`` as families."""
    sections: Any = source.tree.get("providers", {})
    if sections is not None and not isinstance(sections, dict):
        return  # told as an unknown setting
    source.tree.pop("providers", None)
    for section, entries in cast(Tree, sections or {}).items():
        family = _SECTIONS.get(section)
        if family is None:
            path = ("providers", section)
            source.problems.append(Problem(source.label(path), _unknown_section(section), path))
        elif not isinstance(entries, dict):
            if entries is not None:
                logger.warning(
                    "Skipped %s: it is no table of settings", source.label(("providers", section))
                )
        else:
            _add_section(source, section, family, cast(Tree, entries))


def _add_section(source: Source, section: str, family: str, entries: Tree) -> None:
    providers: Tree = {}
    of_family = source.tree.get(family)
    for name, entry in entries.items():
        written = ("providers", section, name)
        if not isinstance(entry, dict):
            logger.warning("Skipped %s: it is no table of settings", source.label(written))
            continue
        place_in_tree = (family, "providers", name)
        if source.contains(place_in_tree):
            reason = f"is set at {'.'.join(place_in_tree)} too; keep one of the two"
            source.problems.append(Problem(source.label(written), reason, place_in_tree))
            continue
        providers[name] = entry
        source.sections[place_in_tree] = written
    if of_family is None or isinstance(of_family, dict):
        source.tree[family] = merged([cast(Tree, of_family or {}), {"providers": providers}])


def _unknown_section(section: str) -> str:
    near = difflib.get_close_matches(section, _SECTIONS, n=1)
    return (
        f"{UNKNOWN}; did you mean {near[0]!r}?"
        if near
        else (f"{UNKNOWN}; there are: {', '.join(_SECTIONS)}")
    )
