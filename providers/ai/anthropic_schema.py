"""What Anthropic takes of JSON schema for an answer, and how the rest is told to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["strict"]

# https://platform.claude.com/docs/en/build-with-claude/structured-outputs (limitations)
KEPT = frozenset(
    ("$ref", "type", "enum", "const", "description", "title", "default", "required", "pattern")
)
NESTED = ("$defs", "definitions", "properties")
BRANCHES = ("anyOf", "allOf", "oneOf")
FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a schema as the service takes it: objects are closed, and what it refuses is told.

    Bounds (``minimum``, ``maxLength`` and their like) are refused with 400 if sent, so they are
    written into the description instead; whether they were kept is for the reader to check.
    """
    made: dict[str, Any] = {}
    told: list[str] = []
    for name, value in schema.items():
        if name in KEPT:
            made[name] = value
        elif name in NESTED:
            made[name] = {key: strict(inner) for key, inner in value.items()}
        elif name in BRANCHES:
            made["allOf" if name == "allOf" else "anyOf"] = [strict(inner) for inner in value]
        elif name == "items" and isinstance(value, Mapping):
            made[name] = strict(cast("Mapping[str, Any]", value))
        elif (name == "format" and value in FORMATS) or (name == "minItems" and value in (0, 1)):
            made[name] = value
        elif name != "additionalProperties":
            told.append(f"{name}: {value}")
    if schema.get("type") == "object" or "properties" in schema:
        made["additionalProperties"] = False
    if told:
        description = [made["description"]] if "description" in made else []
        made["description"] = "\n\n".join([*description, "{" + ", ".join(told) + "}"])
    return made
