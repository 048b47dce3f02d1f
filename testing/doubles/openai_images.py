"""OpenAI's images on loopback."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Mapping
from typing import Any, cast

from aiohttp import web

from .base import Double
from .pictures import picture

__all__ = ["OpenAIImagesDouble"]

_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "background": str,
    "model": str,
    "moderation": str,
    "n": int,
    "output_compression": int,
    "output_format": str,
    "prompt": str,
    "quality": str,
    "size": str,
    "user": str,
}
_VALUES: Mapping[str, frozenset[str]] = {
    "background": frozenset({"transparent", "opaque", "auto"}),
    "moderation": frozenset({"low", "auto"}),
    "output_format": frozenset({"png", "jpeg", "webp"}),
    "quality": frozenset({"low", "medium", "high", "auto"}),
}
_SIZES = frozenset({"1024x1024", "1536x1024", "1024x1536", "auto"})


class OpenAIImagesDouble(Double):
    """
    ``GET /v1/models`` and ``POST /v1/images/generations``, for one key and some models.

    A field that the service does not have, one of another type, or a value or size that the model
    lacks is refused as the service does. A prompt with the word ``forbidden`` is blocked by
    moderation. Each picture is another one, of the size and format asked for.
    """

    models = frozenset({"gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2"})
    """Those there are; gpt-image-2 takes any size of multiples of 16."""

    def __init__(self, *, key: str = "sk-double") -> None:
        super().__init__()
        self.key = key
        """The key that is accepted."""
        self._shades = itertools.cycle(range(256))

    @property
    def base_url(self) -> str:
        """The setting ``base_url`` of a provider of it."""
        return f"{self.url}/v1"

    def routes(self) -> list[web.RouteDef]:
        """Return the two routes."""
        return [
            web.get("/v1/models", self._models),
            web.post("/v1/images/generations", self._generate),
        ]

    async def _models(self, request: web.Request) -> web.Response:
        if (refusal := self._unauthorized(request)) is not None:
            return refusal
        models = [{"id": name, "object": "model", "created": 0} for name in sorted(self.models)]
        return web.json_response({"object": "list", "data": models})

    async def _generate(self, request: web.Request) -> web.Response:
        if (refusal := self._unauthorized(request)) is not None:
            return refusal
        if request.content_type != "application/json":
            return _refused(400, f"Unsupported content type: {request.content_type!r}.")
        try:
            parsed: Any = json.loads(await request.read())
        except ValueError:
            return _refused(400, "We could not parse the JSON body of your request.")
        body = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
        if (refusal := self._invalid(body)) is not None:
            return refusal
        size = body.get("size", "auto")
        width, height = (1024, 1024) if size == "auto" else map(int, size.split("x"))
        kind, count = body.get("output_format", "png"), body.get("n", 1)
        data = [picture(kind, width, height, shade=next(self._shades)) for _ in range(count)]
        return web.json_response(
            {
                "created": 1_789_000_000,
                "data": [{"b64_json": base64.b64encode(one).decode()} for one in data],
                "background": "opaque",
                "output_format": kind,
                "quality": body.get("quality", "auto").replace("auto", "medium"),
                "size": f"{width}x{height}",
                "usage": {
                    "input_tokens": 10,
                    "input_tokens_details": {"image_tokens": 0, "text_tokens": 10},
                    "output_tokens": 1000 * count,
                    "total_tokens": 10 + 1000 * count,
                },
            }
        )

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if given == f"Bearer {self.key}":
            return None
        told = (
            f"Incorrect API key provided: {given}." if given else "You didn't provide an API key."
        )
        return _refused(401, told, code="invalid_api_key")

    def _invalid(self, body: dict[str, Any]) -> web.Response | None:
        if "prompt" not in body:
            return _refused(400, "Missing required parameter: 'prompt'.", "prompt")
        for name, value in body.items():
            if name not in _FIELDS:
                told = f"Unknown parameter: '{name}'."
                return _refused(400, told, name, code="unknown_parameter")
            if not isinstance(value, _FIELDS[name]) or isinstance(value, bool):
                return _refused(400, f"Invalid type for '{name}'.", name, code="invalid_type")
            if value not in _VALUES.get(name, {value}):
                return _refused(400, f"Invalid value: '{value}'.", name, code="invalid_value")
        model, size = body.get("model", "dall-e-2"), body.get("size", "auto")
        if model not in self.models:
            told = f"The model '{model}' does not exist."
            return _refused(404, told, "model", code="model_not_found")
        if not 1 <= body.get("n", 1) <= 10:
            return _refused(400, "Expected a value from 1 to 10.", "n", code="invalid_value")
        if size not in _SIZES and (model != "gpt-image-2" or not _is_flexible(size)):
            return _refused(400, f"Invalid value: '{size}'.", "size", code="invalid_value")
        if "forbidden" in body["prompt"]:
            told = "Your request was rejected by the safety system."
            return _refused(
                400, told, code="moderation_blocked", kind="image_generation_user_error"
            )
        return None


def _is_flexible(size: str) -> bool:
    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        return False
    sides = sorted((int(width), int(height)))
    return (
        not any(side % 16 for side in sides)
        and sides[1] <= 3840
        and sides[1] <= 3 * sides[0]
        and 655_360 <= sides[0] * sides[1] <= 8_294_400
    )


def _refused(
    status: int,
    message: str,
    param: str | None = None,
    *,
    code: str | None = None,
    kind: str = "invalid_request_error",
) -> web.Response:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return web.json_response({"error": error}, status=status)
