"""Pydantic's errors in a user's words: which setting, what is wrong, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Secret, ValidationError
from pydantic_core import ErrorDetails

__all__ = ["UNKNOWN", "Keys", "annotation_at", "explain", "nearest"]

Keys = tuple[str, ...]

UNKNOWN = "unknown setting"
"""How the reason of a key that does not exist begins."""

Details = Mapping[str, Any]


def _always(reason: str) -> Callable[[Details], str]:
    return lambda _: reason


def _bound(text: str, name: str) -> Callable[[Details], str]:
    return lambda details: f"must be {text} {_number(details[name])}"


def _length(text: str, bound: str, one: str, many: str) -> Callable[[Details], str]:
    def reason(details: Details) -> str:
        return f"must have {text} {details[bound]} {one if details[bound] == 1 else many}"

    return reason


def _choice(details: Details) -> str:
    choices: str = details["expected"]
    return f"must be one of {choices}" if " or " in choices else f"must be {choices}"


_REASONS: dict[str, Callable[[Details], str]] = {
    "missing": _always("is required"),
    "greater_than": _bound("greater than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "too_short": _length("at least", "min_length", "entry", "entries"),
    "too_long": _length("at most", "max_length", "entry", "entries"),
    "string_too_short": _length("at least", "min_length", "character", "characters"),
    "string_too_long": _length("at most", "max_length", "character", "characters"),
    "finite_number": _always("must be a finite number"),
    "string_type": _always("must be text"),
    "path_type": _always("must be a path"),
    "uuid_parsing": _always("must be a UUID"),
    "literal_error": _choice,
    "enum": _choice,
    "union_tag_invalid": lambda details: f"must be one of {details['expected_tags']}",
    **dict.fromkeys(("float_parsing", "float_type"), _always("must be a number")),
    **dict.fromkeys(
        ("int_parsing", "int_parsing_size", "int_type", "int_from_float"),
        _always("must be a whole number"),
    ),
    **dict.fromkeys(("bool_parsing", "bool_type"), _always("must be true or false")),
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type", "mapping_type"),
        _always("must be a table of settings, not a single value"),
    ),
    **dict.fromkeys(
        ("list_type", "tuple_type", "set_type", "frozen_set_type"), _always("must be a list")
    ),
}


def explain(error: ValidationError, model: type[BaseModel]) -> list[tuple[Keys, str]]:
    """
    Return each fault as its path below ``model`` and a reason that says what is allowed.

    No value is quoted: it may be a secret, also one in the wrong place.
    """
    reasons: dict[Keys, list[str]] = {}
    for fault in error.errors(include_url=False):
        path, parent = _place(fault, model)
        reason = _reason(fault, path, parent)
        if reason not in reasons.setdefault(path, []):
            reasons[path].append(reason)
    return [(path, " or ".join(alternatives)) for path, alternatives in reasons.items()]


def annotation_at(model: type[BaseModel], path: Keys) -> Any:
    """Return the type of the setting at a path, without ``None`` and marks; None if unknown."""
    found: Any = model
    for part in path:
        found = _below(found, part)
    return found


def _place(fault: ErrorDetails, model: type[BaseModel]) -> tuple[Keys, Any]:
    """Return the path of a fault, without pydantic's labels for unions, and what it is part of."""
    keys: list[str] = []
    found: Any = model
    parent: Any = model
    for part in map(str, fault["loc"]):
        if get_origin(found) in (Union, UnionType):
            found = next((one for one in get_args(found) if _label(one) == part), None)
            if found is None:
                break
            continue
        keys.append(part)
        parent, found = found, _below(found, part)
    return tuple(keys), parent


def _label(annotation: Any) -> str:
    return getattr(annotation, "__name__", "")


def _reason(fault: ErrorDetails, path: Keys, parent: Any) -> str:
    kind, details = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(path[-1], parent)
    if kind in _REASONS:
        return _REASONS[kind](details)
    reason = str(details["error"]) if kind == "value_error" else fault["msg"]
    given = fault["input"]
    if isinstance(given, str) and len(given) > 2 and given in reason:
        return "is not valid"  # whoever wrote the message quoted the value
    return re.sub(r"^(Input|String|Value|List|Tuple|Set|Dictionary|Data) should", "must", reason)


def nearest(wrong: str, annotation: Any) -> str | None:
    """Return the setting of a model that an unknown one most resembles, if any does."""
    names = getattr(annotation, "model_fields", ())
    return next(iter(difflib.get_close_matches(wrong, names, n=1)), None)


def _unknown(wrong: str, annotation: Any) -> str:
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return UNKNOWN
    meant = nearest(wrong, annotation)
    if meant is not None:
        return f"{UNKNOWN}; did you mean {meant!r}?"
    names = sorted(annotation.model_fields)
    return f"{UNKNOWN}; there are: {', '.join(names)}" if names else UNKNOWN


def _number(bound: Any) -> str:
    return str(int(bound)) if isinstance(bound, float) and bound.is_integer() else str(bound)


def _below(annotation: Any, part: str) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        found = fields.get(part) or next(
            (one for one in fields.values() if one.alias == part), None
        )
        return None if found is None else _bare(found.annotation)
    kind, arguments = get_origin(annotation), get_args(annotation)
    if not (isinstance(kind, type) and arguments):
        return None
    if issubclass(kind, Mapping):
        return _bare(arguments[1])
    return _bare(arguments[0]) if issubclass(kind, (list, tuple, set, frozenset)) else None


def _bare(annotation: Any) -> Any:
    kind, arguments = get_origin(annotation), get_args(annotation)
    if kind is Annotated or kind is Secret:
        return _bare(arguments[0])
    if kind in (Union, UnionType):
        kinds = [one for one in arguments if one is not type(None)]
        return _bare(kinds[0]) if len(kinds) == 1 else annotation
    return annotation
