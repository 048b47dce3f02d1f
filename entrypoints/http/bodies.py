"""Bodies of requests: JSON that is data and no trap, read once the caller is known."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar, cast

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from .problem import Problem

__all__ = ["GivenSettings", "MaybeSettings", "body_of", "documented", "settings_documented"]

ModelT = TypeVar("ModelT", bound=BaseModel)

_DEEPEST = 32
"""How many arrays and objects may hold one another."""
_LARGEST = 2**63
"""Integers of so much and more are in no database."""


async def read_json(request: Request) -> Any:
    """
    Return the body of a request, None if it has none.

    Raises:
        Problem: It is no JSON (400, 415), or JSON that cannot be kept (422).
    """
    try:
        data = await request.body()
    except ClientDisconnect:
        raise Problem(400, "DISCONNECTED", "The request ended before its body did.") from None
    if not data:
        return None
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise Problem(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "The body has to be JSON: send it with `Content-Type: application/json`.",
            headers={"Accept": "application/json"},
        )
    try:
        value = json.loads(data.decode(), parse_constant=_no_number)
    except RecursionError:
        raise Problem(422, "INVALID_REQUEST", f"The body cannot be taken: {_TOO_DEEP}.") from None
    except ValueError as error:  # of the text, which may be a secret, only the place is told
        placed = isinstance(error, json.JSONDecodeError)
        place = f": line {error.lineno}, column {error.colno}" if placed else ""
        raise Problem(400, "MALFORMED_JSON", f"The body is no JSON{place}.") from None
    if fault := _fault_of(value):
        raise Problem(422, "INVALID_REQUEST", f"The body cannot be taken: {fault}.")
    return value


async def _read_settings(request: Request) -> dict[str, Any] | None:
    value = await read_json(request)
    if value is not None and not isinstance(value, dict):
        raise Problem(422, "INVALID_REQUEST", f"The body has to be an object{_OF_SETTINGS}.")
    return cast("dict[str, Any] | None", value)


async def _read_needed_settings(request: Request) -> dict[str, Any]:
    value = await _read_settings(request)
    if value is None:
        raise Problem(422, "INVALID_REQUEST", f"The body is missing: an object{_OF_SETTINGS}.")
    return value


_OF_SETTINGS = ' of settings, such as `{"type": "s3", "bucket": "nightly"}`'
_TOO_DEEP = f"more than {_DEEPEST} arrays and objects hold one another"

MaybeSettings = Annotated[dict[str, Any] | None, Depends(_read_settings)]
"""Settings of a provider, if there is a body. Stands behind the caller in a signature."""
GivenSettings = Annotated[dict[str, Any], Depends(_read_needed_settings)]
"""Settings of a provider. Stands behind the caller in a signature."""


def body_of(model: type[ModelT]) -> Any:
    """Return the dependency that gives a request's body as a model."""

    async def read(request: Request) -> ModelT:
        try:
            return model.model_validate(await read_json(request))
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            raise RequestValidationError(
                [{**one, "loc": ("body", *one["loc"])} for one in faults]
            ) from None

    return Depends(read)


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that :func:`body_of` reads."""
    return _documented(model.model_json_schema(), required=True)


def settings_documented(*, required: bool = True) -> dict[str, Any]:
    """Return what the OpenAPI document says of settings of a provider in a body."""
    schema = {
        "title": "Settings",
        "type": "object",
        "description": (
            "The settings of a provider, those of its type flat beside `type`, `enabled`, "
            "`priority` and the others that every provider takes; "
            "`GET /api/v1/types/{family}/{type}` has the schema."
        ),
        "additionalProperties": True,
        "examples": [{"type": "filesystem", "root": "/var/lib/backups", "priority": 60}],
    }
    return _documented(schema, required=required)


def _documented(schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}
    }


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _fault_of(value: Any) -> str:
    """Return why JSON cannot be kept; level by level, for it may be deep."""
    level: list[Any] = [value]
    for _ in range(_DEEPEST + 1):
        below: list[Any] = []
        for one in level:
            match one:
                case str():
                    if fault := _fault_of_text(one):
                        return fault
                case float():
                    if not math.isfinite(one):
                        return "a number is too large"
                case bool() | None:
                    continue
                case int():
                    if abs(one) >= _LARGEST:
                        return "a number is too large"
                case dict():
                    found = cast("dict[str, Any]", one)
                    below += [*found.keys(), *found.values()]
                case _:
                    below += cast("list[Any]", one)
        if not below:
            return ""
        level = below
    return _TOO_DEEP


def _fault_of_text(text: str) -> str:
    if "\0" in text:
        return "a text holds a null character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "a text holds half a character, which UTF-8 has not"
    return ""
