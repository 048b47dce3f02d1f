"""What Anthropic takes of JSON schema for an answer, and how the rest is told to the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from .errors import InvalidRequestError

__all__ = ["strict"]

# https://platform.claude.com/docs/en/build-with-claude/structured-outputs (limitations)
KEPT = frozenset(("$ref", "type", "enum", "const", "description", "title", "required"))
NESTED = frozenset(("$defs", "definitions", "properties"))
BRANCHES = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)


def strict(schema: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """
    Return a schema as the service takes it: objects are closed, and what it refuses is told.

    Bounds (``minimum``, ``maxLength``, ``pattern`` and their like) are refused with 400 if sent,
    so they are written into the description instead; whether they were kept is for the reader to
    check.

    Raises:
        InvalidRequestError: An object has no properties of its own, such as ``dict[str, int]``:
            closed, nothing could be in it.
    """
    made: dict[str, Any] = {}
    told: list[str] = []
    for name, value in schema.items():
        if name in KEPT:
            made[name] = value
        elif name in NESTED:
            made[name] = {key: strict(inner, f"{place}.{key}") for key, inner in value.items()}
        elif name in BRANCHES:
            made[BRANCHES[name]] = [strict(inner, place) for inner in value]
        elif name == "items" and isinstance(value, Mapping):
            made[name] = strict(cast("Mapping[str, Any]", value), f"{place}[]")
        elif (name == "format" and value in FORMATS) or (name == "minItems" and value in (0, 1)):
            made[name] = value
        elif name != "additionalProperties":
            told.append(f"{name}: {json.dumps(value)}")
    if "$ref" in made:  # nothing may stand beside it
        return {name: made[name] for name in ("$ref", "$defs", "definitions") if name in made}
    if "object" in made.get("type", ()):  # one type, or a list of them
        if not made.get("properties"):
            raise InvalidRequestError(
                f"The schema has an object without properties at {place or 'its top'}: Anthropic "
                "takes only objects whose properties are named. Use a list of names and values."
            )
        made["additionalProperties"] = False
    if told:
        description = [made["description"]] if "description" in made else []
        made["description"] = "\n\n".join([*description, "{" + ", ".join(told) + "}"])
    return made
