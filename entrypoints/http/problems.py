"""Errors as problem details (RFC 9457), with the registry's codes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from ...providers.catalogue import CatalogueUnavailableError, ConflictError, TokenRefusedError
from ...providers.registry import errors
from ...providers.registry.errors import RegistryError
from ...providers.registry.redaction import mask, mask_within
from ...providers.web.errors import RateLimitedError
from ..plain import plain
from .chat import errors as openai

__all__ = ["Problem", "as_response", "install", "status_of"]

logger = logging.getLogger(__name__)

_STATUS: dict[type[BaseException], int] = {
    TokenRefusedError: 401,
    errors.PermissionDeniedError: 403,
    ConflictError: 412,
    CatalogueUnavailableError: 503,
    errors.AlreadyExistsError: 409,
    errors.InUseError: 409,
    errors.InvalidStateError: 409,
    errors.InvalidNameError: 422,
    errors.InvalidConfigError: 422,
    errors.PluginRejectedError: 422,
    errors.UnsupportedCapabilityError: 422,
    RateLimitedError: 429,
    errors.CircuitOpenError: 503,
    errors.ShuttingDownError: 503,
    errors.OperationTimeoutError: 504,
    errors.ConnectionFailedError: 502,
    errors.CredentialError: 500,
    errors.ImportFailedError: 501,
    errors.NotFoundError: 404,
    errors.ProviderError: 502,
    LookupError: 404,
    PermissionError: 403,
    TimeoutError: 504,
    ConnectionError: 502,
    ValueError: 422,
}


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """
    An answer that is a problem.

    Args:
        status: The HTTP status.
        code: Stable, upper-case reason, for programs.
        detail: For people: what happened, why, and what to do.
        headers: Further headers of the answer.
        extra: Further members of the problem.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = mask(detail)
        self.headers = dict(headers or {})
        self.extra: dict[str, Any] = mask_within(plain(extra))

    @classmethod
    def of(cls, error: RegistryError) -> Problem:
        """Return the problem that an error of a registry or a provider is."""
        headers: dict[str, str] = {}
        wait = getattr(error, "retry_after", None)
        if isinstance(wait, (int, float)) and math.isfinite(wait):
            headers["Retry-After"] = str(max(1, math.ceil(wait)))
        if isinstance(error, TokenRefusedError):
            headers["WWW-Authenticate"] = 'Bearer realm="purveyor", error="invalid_token"'
        return cls(
            status_of(error),
            error.code,
            error.message,
            headers=headers,
            provider_name=error.provider_name,
            context=error.context,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the members of the problem (RFC 9457, section 3)."""
        return {
            "type": f"urn:purveyor:problem:{self.code.lower().replace('_', '-')}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": plain(self.detail),
            "code": self.code,
            **self.extra,
        }


def status_of(error: RegistryError) -> int:
    """Return the HTTP status for an error: that of the nearest class that has one."""
    if error.code == "UNAUTHENTICATED":
        return 401
    if isinstance(error, errors.ProviderError):
        if isinstance(error, PermissionError):  # the backend refuses us, not we the caller
            return 502
        if not error.is_backend_failure:  # the caller's mistake: told by what Python calls it
            own = (cls for cls in type(error).__mro__ if cls is not errors.ProviderError)
            return next((_STATUS[cls] for cls in own if cls in _STATUS), 502)
    return next((_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS), 500)


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
    faults = [
        {"at": ".".join(str(part)[:100] for part in one["loc"]), "reason": one["msg"]}
        for one in error.errors()[:100]
    ]  # without what was given: it may be a secret
    told = "; ".join(f"{one['at']}: {one['reason']}" for one in faults)
    return Problem(422, "INVALID_REQUEST", f"The request has faults: {told}.", faults=faults)


def _http(error: HTTPException) -> Problem:
    code = HTTPStatus(error.status_code).name
    return Problem(error.status_code, code, str(error.detail), headers=error.headers)
