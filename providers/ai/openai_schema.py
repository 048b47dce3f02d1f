"""
JSON schemas in the form OpenAI keeps to strictly.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["is_strict", "strict"]

_BY_NAME = ("properties", "$defs", "definitions")
_FREE = ("oneOf", "allOf", "not", "if", "patternProperties", "dependentRequired")


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a schema made as strict as it can be, which takes no more than ``schema`` does.

    Objects have no other properties than those that are named, and all of those. An object that
    is free by intent stays so.
    """
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # nothing may stand beside it
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, Mapping):
            named = cast("Mapping[str, Any]", value)
            made[key] = {name: _made(one) for name, one in named.items()}
        elif key != "default":
            made[key] = _made(value) if key not in ("enum", "const", "required") else value
    if "properties" in made and not made.get("additionalProperties"):
        made["additionalProperties"] = False
        made["required"] = list(made["properties"])
    return made


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Tell whether OpenAI takes the schema as a strict one, as far as its objects go."""
    if "$ref" in schema:
        return True
    if not schema or any(key in schema for key in _FREE):
        return False
    kinds = schema.get("type", ())
    if (kinds == "object" or "object" in kinds) and schema.get("additionalProperties") is not False:
        return False
    inner = [schema[key] for key in ("items",) if key in schema] + list(schema.get("anyOf", ()))
    for key in _BY_NAME:
        inner += schema.get(key, {}).values()
    return all(isinstance(one, Mapping) and is_strict(cast("Any", one)) for one in inner)


def _made(value: Any) -> Any:
    if isinstance(value, Mapping):
        return strict(cast("Mapping[str, Any]", value))
    if isinstance(value, list):
        return [_made(one) for one in cast("list[Any]", value)]
    return value
