"""What OpenAI's errors mean, and those of the many services that took over their form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

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
from .retry import retry_after
from .transport import Answer

__all__ = ["QUOTA_CODES", "openai_error"]

QUOTA_CODES = frozenset(
    {
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_exhausted",
        "insufficient_quota",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)
_REFUSAL_CODES = frozenset(
    {"content_filter", "content_policy_violation", "moderation_blocked", "invalid_prompt"}
)
_CONTEXT_CODES = frozenset({"context_length_exceeded", "context_window_exceeded"})


def openai_error(answer: Answer) -> ServiceError:
    """
    Make the error of an answer whose status is not a good one.

    The form is ``{"error": {"message", "type", "param", "code"}}``; what counts is the code, then
    the status. An answer of another form may come from anybody on the way.
    """
    found = answer.object().get("error")
    if isinstance(found, str):
        found = {"message": found}
    if not isinstance(found, dict):
        return _foreign(answer)
    error = cast("Mapping[str, Any]", found)
    told = str(error.get("message") or f"status {answer.status}").strip()[:1000]
    names = {str(error.get("code")), str(error.get("type"))}
    details = {name: error[name] for name in ("code", "type", "param") if error.get(name)}
    wait = retry_after(answer.headers)
    match answer.status:
        case _ if names & QUOTA_CODES or answer.status == 402:
            return QuotaExhaustedError(
                f"What was paid for, or allowed, is used up: {told} Add credit or raise the "
                "limit; trying again changes nothing.",
                context=details,
                retry_after=wait,
            )
        case 401:
            # What it says of the key may quote it.
            return AuthenticationError(
                "The service does not accept the key. Check api_key, and that it belongs to "
                "this base_url.",
                context=details,
            )
        case _ if names & _REFUSAL_CODES:
            return ContentRefusedError(
                f"The service refuses the content: {told} Say it differently.", context=details
            )
        case _ if names & _CONTEXT_CODES:
            return ContextTooLongError(
                f"{told} Send less, or choose a model that takes more.", context=details
            )
        case _ if "model_not_found" in names or (
            answer.status == 404 and error.get("param") == "model"
        ):
            return ModelNotFoundError(
                f"{told} Check model, and that the key may use it.", context=details
            )
        case 403:
            return AccessDeniedError(
                f"The key may not do this: {told} Check its permissions.", context=details
            )
        case 408:
            return ServiceTimeoutError(f"The service gave up: {told} Try again.", context=details)
        case 429:
            return RateLimitedError(
                f"Too many requests: {told} Ask less often.", context=details, retry_after=wait
            )
        case status if status >= 500:
            return OverloadedError(
                f"The service failed with {status}: {told} Try again later.",
                context=details,
                retry_after=wait,
            )
        case _:
            return InvalidRequestError(
                f"The service does not take this request: {told}", context=details
            )


def _foreign(answer: Answer) -> ServiceError:
    status, wait = answer.status, retry_after(answer.headers)
    if status == 401:
        return AuthenticationError("The service does not accept the key. Check api_key.")
    if status == 403:
        return AccessDeniedError("Access is refused. Check the key's permissions and base_url.")
    if status == 429:
        return RateLimitedError("Too many requests. Ask less often.", retry_after=wait)
    if status >= 500:
        return OverloadedError(
            f"The service failed with {status}. Try again later.", retry_after=wait
        )
    return BadResponseError(
        f"The answer was {status} and no error of this protocol. Check base_url, and whether a "
        "proxy answers in the service's place.",
        context={"content_type": answer.media_type},
    )
