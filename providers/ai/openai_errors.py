"""
What OpenAI's errors mean, and those of services that speak its protocol.

The form is ``{"error": {"message", "type", "param", "code"}}``
(https://platform.openai.com/docs/guides/error-codes). Servers that are merely compatible leave out
or add what they like, so the status decides where the code says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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

__all__ = ["explain", "wait_of"]

_QUOTA = {
    "billing_hard_limit_reached",
    "credit_balance_exhausted",
    "insufficient_quota",
    "organization_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "project_spend_limit_exceeded",
}
_REFUSED = {
    "content_filter",
    "content_policy_violation",
    "invalid_prompt",  # against the usage policy, of models that reason
    "moderation_blocked",
}
_TOO_LONG = {"context_length_exceeded", "exceed_context_size_error"}
_NO_MODEL = {"DeploymentNotFound", "model_not_found"}
_LATER = {"rate_limit_error", "rate_limit_exceeded", "requests", "slow_down", "tokens"}
_STATUS = {  # of an error in the midst of a stream, which has no status of its own
    "authentication_error": 401,
    "invalid_api_key": 401,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "permission_error": 403,
    "timeout": 504,
}
_LENGTH = re.compile(r"context (length|size|window)|too many tokens", re.IGNORECASE)
_MODEL = re.compile(r"\bmodel\b", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNITS["d"] = 24 * _UNITS["h"]


def explain(answer: Answer) -> ServiceError:
    """Return the error to raise for an answer, or for an error in a stream (status 200)."""
    told = _told(answer)
    code, kind = str(told.get("code") or ""), str(told.get("type") or "")
    names = {code, kind}
    status = answer.status if answer.status >= 400 else _status_of(code, kind)
    message = str(told.get("message") or "")[:1000]
    said = f" The service says: {message}" if message else f" It sent {_form(answer)}."
    context: dict[str, object] = {"status": status}
    context |= {name: told[name] for name in ("code", "type", "param") if told.get(name)}
    if request := answer.headers.get("x-request-id"):
        context["request_id"] = request

    if names & _QUOTA or status == 402:
        return QuotaExhaustedError(
            f"The quota or the credit is used up; more must be bought or allowed.{said}",
            context=context,
            retry_after=retry_after(answer.headers),
        )
    if status == 429 or "slow_down" in names or (status == 500 and names & _LATER):
        return RateLimitedError(
            f"Too many requests, or too many tokens, of late.{said}",
            context=context,
            retry_after=wait_of(answer.headers),
        )
    if status == 401:  # what it says may quote the key
        return AuthenticationError(
            "The service does not accept the key. Check api_key.", context=context
        )
    if names & _NO_MODEL or (status == 404 and _MODEL.search(message)):
        return ModelNotFoundError(
            f"The service has no such model, or not for this key: see models().{said}",
            context=context,
        )
    if names & _REFUSED:
        return ContentRefusedError(f"The service refuses the content.{said}", context=context)
    if names & _TOO_LONG or status == 413 or (status == 400 and _LENGTH.search(message)):
        return ContextTooLongError(
            f"The prompt, with the answer asked for, is more than the model takes.{said}",
            context=context,
        )
    if status == 403:
        return AccessDeniedError(f"The key may not do this.{said}", context=context)
    if status == 404 and not told:
        return BadResponseError(
            "There is no OpenAI-compatible interface at base_url (404); it usually ends with /v1.",
            context=context,
        )
    if status in (408, 504):
        return ServiceTimeoutError(
            f"The service gave up: its time was over ({status}).{said}", context=context
        )
    if status >= 500:
        return OverloadedError(
            f"The service cannot serve just now ({status}).{said}",
            context=context,
            retry_after=retry_after(answer.headers),
        )
    return InvalidRequestError(
        f"The service does not take the request ({status}).{said}", context=context
    )


def wait_of(headers: Mapping[str, str]) -> float | None:
    """
    Return how many seconds an answer asks to wait; None where it does not say.

    ``retry-after-ms`` and ``retry-after`` come first; then what is used up of
    ``x-ratelimit-reset-requests`` and ``-tokens``, which are durations as ``1s`` or ``6m0s``.
    """
    wait = retry_after(headers)
    if wait is not None:
        return wait
    resets: dict[str, float] = {}
    for what in ("requests", "tokens"):
        seconds = _seconds(headers.get(f"x-ratelimit-reset-{what}", ""))
        if seconds is not None:
            resets[what] = seconds
    used_up = [
        seconds
        for what, seconds in resets.items()
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max(used_up or resets.values(), default=None)


def _seconds(duration: str) -> float | None:
    found = _DURATION.findall(duration)
    if not found or "".join(number + unit for number, unit in found) != duration.strip():
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in found)


def _told(answer: Answer) -> Mapping[str, Any]:
    found = answer.object()
    error = found.get("error", found)
    if isinstance(error, str):
        return {"message": error}
    told = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    if "message" not in told and isinstance(told.get("detail"), str):
        return {**told, "message": told["detail"]}
    return told


def _status_of(code: str, kind: str) -> int:
    if code.isdigit() and 400 <= int(code) < 600:  # as OpenRouter has it
        return int(code)
    return _STATUS.get(code) or _STATUS.get(kind) or 500


def _form(answer: Answer) -> str:
    return answer.media_type or "nothing" if answer.body.strip() else "an empty body"
