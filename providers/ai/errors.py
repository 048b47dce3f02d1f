"""What goes wrong with an AI service: the errors of all services, and one of its own."""

from __future__ import annotations

from ..web.errors import (
    AccessDeniedError,
    ApplicationNotRunningError,
    AuthenticationError,
    BadResponseError,
    ContentRefusedError,
    ContextTooLongError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
    StreamInterruptedError,
)

__all__ = [
    "AccessDeniedError",
    "ApplicationNotRunningError",
    "AuthenticationError",
    "BadResponseError",
    "ContentRefusedError",
    "ContextTooLongError",
    "InvalidOutputError",
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


class InvalidOutputError(ServiceError):
    """
    The model wrote what cannot be used: a tool call or an answer that is not the JSON asked for.

    ``context["output"]`` has it, ``context["finish_reason"]`` why it ended there. The service
    works, so this does not count against it.
    """

    default_code = "INVALID_OUTPUT"
    is_backend_failure = False
