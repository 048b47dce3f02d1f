"""
What goes wrong with a web service, the same for every service and family.

An application that asks several services handles "too many requests" once. Which of these count
for the circuit breaker says ``is_backend_failure``: an overloaded, silent or babbling service
does; what the caller asked wrongly, a key that is refused and a spent quota do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..registry.errors import (
    ConnectionFailedError,
    OperationTimeoutError,
    PermissionDeniedError,
    ProviderError,
)

__all__ = [
    "AccessDeniedError",
    "ApplicationNotRunningError",
    "AuthenticationError",
    "BadResponseError",
    "ContentRefusedError",
    "ContextTooLongError",
    "InvalidRequestError",
    "ModelNotFoundError",
    "OverloadedError",
    "QuotaExhaustedError",
    "RateLimitedError",
    "ServiceConnectionError",
    "ServiceError",
    "ServiceTimeoutError",
    "StreamInterruptedError",
]


class ServiceError(ProviderError):
    """Base of what a service's provider raises; raised itself where nothing narrower fits."""

    default_code = "SERVICE_FAILED"


class AuthenticationError(ServiceError, PermissionDeniedError):
    """The service does not accept the key, or there is none."""

    default_code = "AUTHENTICATION_FAILED"
    is_backend_failure = False


class AccessDeniedError(ServiceError, PermissionDeniedError):
    """The service knows the key, and does not let it do this."""

    default_code = "PERMISSION_DENIED"
    is_backend_failure = False


class InvalidRequestError(ServiceError, ValueError):
    """The request is not one the service or the model takes."""

    default_code = "INVALID_REQUEST"
    is_backend_failure = False


class ContextTooLongError(InvalidRequestError):
    """The prompt, with the answer asked for, is more than the model takes."""

    default_code = "CONTEXT_TOO_LONG"


class ModelNotFoundError(InvalidRequestError, LookupError):
    """The service has no such model, or not for this key."""

    default_code = "MODEL_NOT_FOUND"


class ContentRefusedError(ServiceError):
    """The service refuses the content that was asked for, or to ask for it."""

    default_code = "CONTENT_REFUSED"
    is_backend_failure = False


class _LaterError(ServiceError):
    """The service asks to come again later."""

    def __init__(
        self,
        message: str,
        provider_name: str | None = None,
        context: Mapping[str, object] | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        """
        Args:
            message: For people.
            provider_name: The provider it happened to.
            context: JSON-safe details.
            retry_after: Seconds the service asks to wait, None where it does not say.
        """
        given = {} if retry_after is None else {"retry_after": float(retry_after)}
        if retry_after:
            message = f"{message} It asks to wait {math.ceil(retry_after)} s."
        super().__init__(message, provider_name, {**(context or {}), **given})

    @property
    def retry_after(self) -> float | None:
        """Seconds the service asks to wait; None where it does not say."""
        wait = self.context.get("retry_after")
        return wait if isinstance(wait, float) else None


class _LimitError(_LaterError):
    """The service takes no more requests of this key for a while, which is no fault of its own."""

    is_backend_failure = False

    @property
    def hold(self) -> float | None:
        """Seconds for which nothing is asked: ``retry_after``."""
        return self.retry_after


class RateLimitedError(_LimitError):
    """Too many requests of late; the same one may be made again after ``retry_after`` seconds."""

    default_code = "RATE_LIMITED"


class QuotaExhaustedError(_LimitError):
    """What was paid for, or allowed for the day, is used up: the same request will not do soon."""

    default_code = "QUOTA_EXHAUSTED"


class OverloadedError(_LaterError):
    """The service is there, and cannot serve: overloaded, or broken inside."""

    default_code = "OVERLOADED"


class ServiceTimeoutError(ServiceError, OperationTimeoutError):
    """The service did not answer in time."""

    default_code = "TIMEOUT"


class ServiceConnectionError(ServiceError, ConnectionFailedError):
    """The service cannot be reached, or the connection to it was lost."""

    default_code = "CONNECTION_FAILED"


class ApplicationNotRunningError(ServiceConnectionError):
    """Nothing listens at an address of this machine: the application there is not running."""

    default_code = "NOT_RUNNING"


class BadResponseError(ServiceError):
    """The service answered, and nothing that the protocol knows."""

    default_code = "BAD_RESPONSE"


class StreamInterruptedError(ServiceError):
    """A stream ended before its end; what had come of it is in :attr:`partial`."""

    default_code = "STREAM_INTERRUPTED"

    def __init__(
        self,
        message: str,
        provider_name: str | None = None,
        context: Mapping[str, object] | None = None,
        *,
        partial: str | None = None,
    ) -> None:
        """
        Args:
            message: For people.
            provider_name: The provider it happened to.
            context: JSON-safe details.
            partial: The text that had come.
        """
        given = {} if partial is None else {"partial": partial}
        super().__init__(message, provider_name, {**(context or {}), **given})

    @property
    def partial(self) -> str:
        """The text that had come before the end."""
        return str(self.context.get("partial", ""))
