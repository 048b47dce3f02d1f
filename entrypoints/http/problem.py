"""An answer that is a problem (RFC 9457), and the statuses of the registry's errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from ...providers.catalogue import CatalogueUnavailableError, ConflictError, TokenRefusedError
from ...providers.registry import errors
from ...providers.registry.errors import RegistryError
from ...providers.registry.redaction import mask, mask_within
from ...providers.web.errors import RateLimitedError
from ..plain import plain

__all__ = ["Problem", "status_of"]

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
