"""Pydantic's errors in a user's words: which setting, what is wrong, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

__all__ = ["explain"]

Path = tuple[str, ...]

_REASONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is required",
    "greater_than": lambda ctx: f"must be greater than {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']:g}",
    "less_than": lambda ctx: f"must be less than {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']:g}",
    "float_parsing": lambda _: "must be a number",
    "float_type": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "int_parsing": lambda _: "must be a whole number",
    "int_type": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "bool_parsing": lambda _: "must be true or false",
    "bool_type": lambda _: "must be true or false",
    "string_type": lambda _: "must be text",
    "path_type": lambda _: "must be a path",
    "literal_error": lambda ctx: f"must be {ctx['expected']}",
    "enum": lambda ctx: f"must be {ctx['expected']}",
    "model_type": lambda _: "must be a table of settings, not a single value",
    "model_attributes_type": lambda _: "must be a table of settings, not a single value",
    "dict_type": lambda _: "must be a table of settings, not a single value",
    "value_error": lambda ctx: str(ctx["error"]),
}


def explain(error: ValidationError, model: type[BaseModel]) -> list[tuple[Path, str]]:
    """
    Return each fault as its path below ``model`` and a reason that says what is allowed.

    No value is quoted: it may be a secret, also one in the wrong place.
    """
    return [
        (tuple(str(part) for part in fault["loc"]), _reason(fault, model))
        for fault in error.errors(include_input=False, include_url=False)
    ]


def _reason(fault: Mapping[str, Any], model: type[BaseModel]) -> str:
    kind = fault["type"]
    if kind == "extra_forbidden":
        *parents, wrong = map(str, fault["loc"])
        return _unknown(wrong, _names_at(model, parents))
    known = _REASONS.get(kind)
    if known is not None:
        return known(fault.get("ctx", {}))
    message: str = fault["msg"]
    return message.replace("Input should", "must").replace("String should", "must")


def _unknown(wrong: str, names: list[str]) -> str:
    near = difflib.get_close_matches(wrong, names, n=1)
    if near:
        return f"unknown setting; did you mean {near[0]!r}?"
    return f"unknown setting; there are: {', '.join(names)}" if names else "unknown setting"


def _names_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the names of the settings that there are at a place in the tree."""
    found: Any = model
    for part in path:
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.model_fields.get(part)
            found = None if field is None else field.annotation
        elif get_origin(found) in (dict, Mapping):
            found = get_args(found)[1]
        found = _without_none(found)
    if isinstance(found, type) and issubclass(found, BaseModel):
        return sorted(found.model_fields)
    return []


def _without_none(annotation: Any) -> Any:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) in (dict, Mapping, list, tuple) or len(kinds) != 1:
        return annotation
    return kinds[0]
