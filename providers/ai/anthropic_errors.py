"""What an error of Anthropic means: by its type where it has one, else by the status of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from ..web.retry import retry_after
from ..web.transport import Answer
from .errors import (
    AccessDeniedError,
    AuthenticationError,
    BadResponseError,
    ContentRefusedError,
    ContextTooLongError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceError,
    ServiceTimeoutError,
)

__all__ = ["error_of", "explain"]

# https://platform.claude.com/docs/en/api/errors
STATUS_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
REMEDIES: Mapping[str, tuple[type[ServiceError], str]] = {
    "authentication_error": (AuthenticationError, "Set api_key to a key that is valid."),
    "billing_error": (QuotaExhaustedError, "See to the payment in Anthropic's console."),
    "permission_error": (AccessDeniedError, "Let the key's workspace do this, or ask otherwise."),
    "request_too_large": (ContextTooLongError, "Send less: shorter messages, smaller images."),
    "rate_limit_error": (RateLimitedError, "Ask again later, or less often."),
    "timeout_error": (ServiceTimeoutError, "Ask again, for less, or as a stream."),
    "overloaded_error": (OverloadedError, "Ask again later, or another provider."),
    "api_error": (OverloadedError, "Ask again later, or another provider."),
    "not_found_error": (InvalidRequestError, "Check base_url: it ends before /v1."),
    "invalid_request_error": (InvalidRequestError, "Change the request."),
}
# The service tells these apart by their text only.
PHRASES: tuple[tuple[str, type[ServiceError], str], ...] = (
    ("prompt is too long", ContextTooLongError, "Send less, or ask a model that takes more."),
    ("exceed context limit", ContextTooLongError, "Send less, or lower max_tokens."),
    ("maximum context length", ContextTooLongError, "Send less, or ask a model that takes more."),
    ("credit balance", QuotaExhaustedError, "Buy credits in Anthropic's console."),
    ("usage limits", QuotaExhaustedError, "Raise the limit in Anthropic's console, or wait."),
    ("spend limit", QuotaExhaustedError, "Raise the limit in Anthropic's console, or wait."),
    ("content filtering policy", ContentRefusedError, "Ask otherwise."),
)


def explain(answer: Answer) -> ServiceError:
    """Return the error of an answer whose status is not a good one."""
    body = answer.object()
    if answer.status == 404 and not body:
        return BadResponseError(
            "There is no Messages interface at base_url (404); base_url ends before /v1."
        )
    return error_of(answer.status, answer.headers, body, answer.media_type or "an empty body")


def error_of(
    status: int, headers: Mapping[str, str], body: Mapping[str, Any], form: str = ""
) -> ServiceError:
    """
    Return the error that the service tells of.

    Args:
        status: Of HTTP; 200 for an error in a stream.
        headers: Found whatever their case.
        body: The object ``{"type": "error", "error": {"type", "message"}, "request_id"}``.
        form: What was sent, for a message where it was no such object.
    """
    error = _object(body.get("error"))
    kind = str(error.get("type") or STATUS_TYPES.get(status, ""))
    code = str(_object(error.get("details")).get("error_code") or "")
    message = str(error.get("message") or "").strip()[:1000]
    made, remedy = _class_of(status, kind, message.lower(), code)
    request_id = str(body.get("request_id") or headers.get("request-id", ""))
    context = {"type": kind, "error_code": code, "request_id": request_id}
    context = {name: value for name, value in context.items() if value}
    what = f"answered {status}" if status >= 400 else "broke off the stream"
    said = f": {message.rstrip('.')}" if message else f", with {form}" if form else ""
    told = f"Anthropic {what}{f' ({kind})' if kind else ''}{said}. {remedy}"
    if issubclass(made, (RateLimitedError, OverloadedError, QuotaExhaustedError)):
        return made(told, context=context, retry_after=_wait(headers))
    return made(told, context=context)


def _class_of(status: int, kind: str, said: str, code: str) -> tuple[type[ServiceError], str]:
    if code.endswith("spend_limit_reached"):
        return QuotaExhaustedError, "Raise the limit in Anthropic's console."
    if kind in ("invalid_request_error", "rate_limit_error", "request_too_large"):
        for phrase, made, remedy in PHRASES:
            if phrase in said:
                return made, remedy
    if kind == "not_found_error" and said.startswith("model"):
        return ModelNotFoundError, "Correct the model's name."
    if kind in REMEDIES:
        return REMEDIES[kind]
    if status >= 500:
        return REMEDIES["api_error"]
    if 400 <= status < 500:
        return REMEDIES["invalid_request_error"]
    return ServiceError, "Ask again."


def _object(found: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


def _wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait: as said, or until every limit that is reached is reset."""
    wait = retry_after(headers)
    if wait is not None:
        return wait
    given = {name.lower(): value for name, value in headers.items()}
    waits: list[float] = []
    for name, value in given.items():
        limit, _, last = name.rpartition("-")
        if last != "reset" or not limit.startswith("anthropic-ratelimit"):
            continue
        if given.get(f"{limit}-remaining", "0").strip() != "0":
            continue
        try:
            until = datetime.fromisoformat(value.strip())
        except ValueError:
            continue
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        waits.append(max(0.0, (until - datetime.now(UTC)).total_seconds()))
    return max(waits, default=None)
