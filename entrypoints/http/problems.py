"""Errors as problem details (RFC 9457), with the registry's codes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from ...providers.registry.errors import RegistryError
from .chat import errors as openai
from .problem import Problem

__all__ = ["as_response", "install"]

logger = logging.getLogger(__name__)

_PATTERNS = {
    "path.name": "must be 1 to 128 letters, digits, '_', '.' and '-', the first no '.' or '-'",
    "path.family": "must be 1 to 64 letters, digits, '_' and '-'",
    "path.type": "must be 1 to 128 letters, digits, '_', '.' and '-'",
}
"""What patterns of parameters ask for, in words."""


def as_response(problem: Problem, scope: Mapping[str, Any] | None = None) -> Response:
    """Return the answer that tells a problem, in the shape of the route of the request's scope."""
    if scope is not None and openai.is_below_v1(scope):
        return openai.as_answer(problem)
    return JSONResponse(
        problem.to_dict(),
        problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem."""

    def of_problem(request: Request, error: Exception) -> Response:
        return as_response(cast(Problem, error), request.scope)

    def of_registry(request: Request, error: Exception) -> Response:
        return as_response(Problem.of(cast(RegistryError, error)), request.scope)

    def of_validation(request: Request, error: Exception) -> Response:
        return as_response(_invalid(cast(RequestValidationError, error)), request.scope)

    def of_http(request: Request, error: Exception) -> Response:
        return as_response(_http(cast(HTTPException, error)), request.scope)

    def of_defect(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
        return as_response(
            Problem(500, "INTERNAL_ERROR", "A defect of the service; its log has the details."),
            request.scope,
        )

    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(RegistryError, of_registry)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, of_defect)


def _invalid(error: RequestValidationError) -> Problem:
    undecoded = next((one for one in error.errors() if one["type"] == "json_invalid"), None)
    if undecoded is not None:
        place = f"character {undecoded['loc'][-1]}"
        return Problem(422, "INVALID_REQUEST", f"The body is no JSON: {place}.")
    faults: list[dict[str, str]] = []
    for one in error.errors()[:100]:  # without what was given: it may be a secret
        at, reason = ".".join(str(part)[:100] for part in one["loc"]), one["msg"]
        if one["type"] == "string_pattern_mismatch":
            reason = _PATTERNS.get(at, "must have no control characters")
        faults.append({"at": at, "reason": reason})
    told = "; ".join(f"{one['at']}: {one['reason']}" for one in faults)
    return Problem(422, "INVALID_REQUEST", f"The request has faults: {told}.", faults=faults)


def _http(error: HTTPException) -> Problem:
    status = HTTPStatus(error.status_code)
    detail = {
        HTTPStatus.NOT_FOUND: "There is no such path. /openapi.json has those there are.",
        HTTPStatus.METHOD_NOT_ALLOWED: "The path does not take this method. "
        "/openapi.json has those it takes.",
    }
    told = str(error.detail)
    return Problem(
        status,
        status.name,
        detail.get(status, told) if told == status.phrase else told,
        headers=error.headers,
    )
