"""
Errors in OpenAI's shape, for the routes below ``/v1``.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi.responses import Response
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..problem import Problem

__all__ = ["ErrorAnswer", "as_answer", "as_event", "as_json", "is_below_v1"]


class Error(TypedDict):
    """What went wrong: for people, its kind, the parameter it is about, and for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(TypedDict):
    """An answer that is an error."""

    error: Error


class _Shape(NamedTuple):
    status: int
    code: str
    param: str | None = None


_SHAPES: Mapping[str, _Shape] = {
    "UNAUTHENTICATED": _Shape(401, "invalid_api_key"),
    "INVALID_REQUEST": _Shape(400, "invalid_value"),
    "UNSUPPORTED_PARAMETER": _Shape(400, "unsupported_parameter"),
    "UNSUPPORTED_CAPABILITY": _Shape(400, "unsupported_capability"),
    "CONTEXT_TOO_LONG": _Shape(400, "context_length_exceeded", "messages"),
    "CONTENT_REFUSED": _Shape(400, "content_policy_violation"),
    "INVALID_PLACE": _Shape(400, "invalid_value", "data_sources"),
    "TOO_MANY_ITEMS": _Shape(400, "too_many_items", "data_sources"),
    "MODEL_NOT_FOUND": _Shape(404, "model_not_found", "model"),
    "FETCH_FAILED": _Shape(424, "fetch_failed", "data_sources"),
    "RATE_LIMITED": _Shape(429, "rate_limit_exceeded"),
    "TOO_MANY_REQUESTS": _Shape(429, "rate_limit_exceeded"),
    "QUOTA_EXHAUSTED": _Shape(429, "insufficient_quota"),
    "INVALID_CONFIG": _Shape(500, "invalid_config"),
    "OVERLOADED": _Shape(503, "overloaded"),
    "CIRCUIT_OPEN": _Shape(503, "circuit_open"),
    "SHUTTING_DOWN": _Shape(503, "shutting_down"),
    "TIMEOUT": _Shape(504, "timeout"),
}
_NOT_AGAIN = frozenset(
    ("AUTHENTICATION_FAILED", "IMPORT_FAILED", "INVALID_CONFIG", "QUOTA_EXHAUSTED")
)
"""What only an operator can mend: OpenAI's clients make no request again with this header."""


def is_below_v1(scope: Mapping[str, Any]) -> bool:
    """Tell whether a request is to a route whose errors have OpenAI's shape."""
    path: str = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    return path == "/v1" or path.startswith("/v1/")


def as_json(
    data: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer of JSON, which may have broken characters, as models may write them."""
    return Response(json.dumps(data), status, headers, "application/json")


def as_answer(problem: Problem) -> Response:
    """Return the answer that tells a problem."""
    headers = dict(problem.headers)
    if problem.code in _NOT_AGAIN:
        headers["x-should-retry"] = "false"
    return as_json(as_event(problem), _shape(problem).status, headers)


def as_event(problem: Problem) -> ErrorAnswer:
    """Return the event of a stream that tells a problem, after which nothing comes."""
    shape, provider = _shape(problem), problem.extra.get("provider_name")
    named = not provider or provider in problem.detail
    return {
        "error": {
            "message": problem.detail if named else f"{provider}: {problem.detail}",
            "type": _type(problem.code, shape.status),
            "param": problem.extra.get("param") or _param(problem) or shape.param,
            "code": shape.code,
        }
    }


def _shape(problem: Problem) -> _Shape:
    if problem.status == 401:
        return _Shape(401, "invalid_api_key")
    status = 400 if problem.status == 422 else problem.status
    return _SHAPES.get(problem.code) or _Shape(status, problem.code.lower())


def _type(code: str, status: int) -> str:
    if code == "QUOTA_EXHAUSTED":
        return "insufficient_quota"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _param(problem: Problem) -> str | None:
    """Return what the first fault of a request is about, as a path."""
    faults: list[dict[str, str]] = problem.extra.get("faults") or [{}]
    place = faults[0].get("at", "").removeprefix("body").removeprefix(".")
    return place if place and not place.isdecimal() else None
