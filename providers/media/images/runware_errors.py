"""What Runware's errors mean (https://runware.ai/docs/platform/errors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...web.errors import (
    AccessDeniedError,
    AuthenticationError,
    BadResponseError,
    ContentRefusedError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceError,
    ServiceTimeoutError,
)

__all__ = ["runware_error"]

# The service has hundreds of codes and changes them; their words are more lasting. Sought in this
# order, in lower case, in the code.
_WORDS: tuple[tuple[type[ServiceError], tuple[str, ...]], ...] = (
    (QuotaExhaustedError, ("credit", "quota", "balance", "paymentrequired")),
    (RateLimitedError, ("ratelimit", "toomanyrequests", "concurren")),
    (
        ContentRefusedError,
        ("contentpolicy", "sensitivecontent", "unsafecontent", "nsfw", "blocked", "moderat"),
    ),
    (ServiceTimeoutError, ("timeout",)),
    (ModelNotFoundError, ("unknownmodel", "invalidmodel", "modelnotfound", "modeldisabled")),
    (InvalidRequestError, ("taskfailedornotfound", "taskcancelled")),
    (
        OverloadedError,
        (
            "provider",  # one behind the service, also where it refuses the service's key
            "internalserver",
            "serverunavailable",
            "serviceunavailable",
            "noavailableserver",
            "inferenceerror",
            "processingfailed",
            "taskfailed",
            "modelunavailable",
            "modelnotready",
        ),
    ),
    (AuthenticationError, ("apikey", "unauthorized", "authentication", "credentials", "token")),
    (
        AccessDeniedError,
        ("forbidden", "permission", "suspended", "accountdisabled", "organizationdisabled"),
    ),
    (
        InvalidRequestError,
        (
            "invalid",
            "missing",
            "unsupported",
            "unknownparameter",
            "conflict",
            "incompatible",
            "duplicate",
            "max",
            "min",
            "value",
            "array",
            "notfound",
            "expired",
        ),
    ),
)
_STATUSES: Mapping[int, type[ServiceError]] = {
    401: AuthenticationError,
    402: QuotaExhaustedError,
    403: AccessDeniedError,
    408: ServiceTimeoutError,
    429: RateLimitedError,
}
_TOLD: Mapping[type[ServiceError], str] = {
    AuthenticationError: "The service does not accept the key. Check api_key.",
    AccessDeniedError: "The account may not do this: {told}",
    ContentRefusedError: "The service refuses the content: {told} Say it differently.",
    InvalidRequestError: "The service does not take this request: {told}",
    ModelNotFoundError: "{told} Check model: Runware names them as runware:101@1.",
    OverloadedError: "The service could not do it: {told} Try again later.",
    QuotaExhaustedError: "What was paid for is used up: {told} Add credit.",
    RateLimitedError: "Too many requests: {told} Ask less often.",
    ServiceTimeoutError: "The service gave up: {told} Try again.",
    ServiceError: "The service failed: {told}",
}


def runware_error(
    error: Mapping[str, Any], status: int = 200, *, wait: float | None = None
) -> ServiceError:
    """
    Make the error for one entry of ``errors``: ``{code, message, parameter, taskUUID}``.

    Args:
        error: The entry; an empty one for an answer that has none.
        status: Of the answer: what counts where the code says nothing.
        wait: Seconds the answer asks to wait.
    """
    code = str(error.get("code") or "")
    kind = _kind_of(code, status)
    if not error and kind is InvalidRequestError:
        return BadResponseError(
            f"The answer was {status} and no error of this protocol. Check base_url, and whether "
            "a proxy answers in the service's place."
        )
    told = str(error.get("message") or code or f"status {status}")[:1000]
    message = _TOLD[kind].format(told=told)
    names = ("code", "parameter", "taskUUID")
    details = {name: error[name] for name in names if error.get(name)}
    if issubclass(kind, (OverloadedError, QuotaExhaustedError, RateLimitedError)):
        return kind(message, context=details, retry_after=wait)
    return kind(message, context=details)


def _kind_of(code: str, status: int) -> type[ServiceError]:
    lowered = code.lower()
    for kind, words in _WORDS:
        if any(word in lowered for word in words):
            return kind
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= 500:
        return OverloadedError
    return InvalidRequestError if status >= 400 else ServiceError
