"""What OpenAI's errors mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from purveyor.providers.web.errors import (
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
from purveyor.providers.web.openai import QUOTA_CODES, openai_error
from purveyor.providers.web.transport import Answer


def answered(status: int, error: Any, headers: dict[str, str] | None = None) -> ServiceError:
    body = error if isinstance(error, bytes) else json.dumps({"error": error}).encode()
    return openai_error(Answer(status, headers or {}, body))


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, {"message": "Incorrect API key", "code": "invalid_api_key"}, AuthenticationError),
        (403, {"message": "m", "code": "unsupported_country"}, AccessDeniedError),
        (403, {"message": "m", "code": "model_not_found"}, ModelNotFoundError),
        (404, {"message": "m", "code": "model_not_found"}, ModelNotFoundError),
        (404, {"message": "m", "param": "model"}, ModelNotFoundError),
        (404, {"message": "m"}, InvalidRequestError),
        (400, {"message": "m", "code": "context_length_exceeded"}, ContextTooLongError),
        (400, {"message": "m", "code": "moderation_blocked"}, ContentRefusedError),
        (400, {"message": "m", "code": "content_policy_violation"}, ContentRefusedError),
        (400, {"message": "m", "code": "billing_hard_limit_reached"}, QuotaExhaustedError),
        (429, {"message": "m", "type": "insufficient_quota"}, QuotaExhaustedError),
        (402, {"message": "m"}, QuotaExhaustedError),
        (429, {"message": "m", "code": "rate_limit_exceeded"}, RateLimitedError),
        (429, {"message": "m", "code": "slow_down"}, RateLimitedError),
        (408, {"message": "m"}, ServiceTimeoutError),
        (400, {"message": "m", "param": "size"}, InvalidRequestError),
        (413, {"message": "m"}, InvalidRequestError),
        (500, {"message": "m"}, OverloadedError),
        (503, "overloaded", OverloadedError),
        (400, b"", BadResponseError),
        (404, b"<html>", BadResponseError),
        (401, b"<html>", AuthenticationError),
        (403, b"<html>", AccessDeniedError),
        (429, b"", RateLimitedError),
        (502, b"<html>", OverloadedError),
        (400, [], BadResponseError),
    ],
)
def test_an_answer_has_one_meaning(status: int, error: Any, kind: type[ServiceError]) -> None:
    assert type(answered(status, error)) is kind


@pytest.mark.parametrize("code", sorted(QUOTA_CODES))
def test_a_spent_quota_is_no_rate_limit(code: str) -> None:
    assert type(answered(429, {"message": "m", "code": code})) is QuotaExhaustedError


def test_the_wait_is_told() -> None:
    error = answered(429, {"message": "m"}, {"retry-after": "7"})
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == 7.0


def test_what_the_service_says_is_in_the_message_and_the_details() -> None:
    error = answered(400, {"message": "Bad size.", "param": "size", "code": "invalid_value"})
    assert "Bad size." in str(error)
    assert error.context == {"param": "size", "code": "invalid_value"}


def test_what_it_says_of_the_key_is_not_repeated() -> None:
    assert "sk-abc" not in str(answered(401, {"message": "Incorrect API key provided: sk-abc"}))
