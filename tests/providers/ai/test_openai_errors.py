"""What OpenAI's errors are called, and those of services that speak its protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from purveyor.providers.ai.errors import (
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
from purveyor.providers.ai.openai_errors import explain, wait_of
from purveyor.providers.web.transport import Answer


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, data)


def error(message: str = "", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": None, "code": None, **fields}}


CASES: list[tuple[int, Any, type[ServiceError]]] = [
    (401, error(code="invalid_api_key"), AuthenticationError),
    (401, error("You must be a member of an organization"), AuthenticationError),
    (403, error(code="unsupported_country_region_territory"), AccessDeniedError),
    (403, error(code="model_not_found"), ModelNotFoundError),
    (404, error(code="model_not_found"), ModelNotFoundError),
    (404, error("model 'x' not found, try pulling it first", type="api_error"), ModelNotFoundError),
    (404, error(code="DeploymentNotFound"), ModelNotFoundError),
    (404, error("no such thing"), InvalidRequestError),
    (400, error(code="context_length_exceeded"), ContextTooLongError),
    (400, error("This model's maximum context length is 4096 tokens"), ContextTooLongError),
    (400, error("the request exceeds the available context size"), ContextTooLongError),
    (413, error("Request too large"), ContextTooLongError),
    (400, error(code="content_policy_violation"), ContentRefusedError),
    (400, error(code="content_filter"), ContentRefusedError),
    (400, error(code="invalid_prompt"), ContentRefusedError),
    (400, error(code="unsupported_parameter", param="max_tokens"), InvalidRequestError),
    (422, {"detail": [{"loc": ["body"], "msg": "missing"}]}, InvalidRequestError),
    (400, {"error": "invalid"}, InvalidRequestError),
    (400, {"object": "error", "message": "max context length", "code": 40303}, ContextTooLongError),
    (429, error(code="rate_limit_exceeded", type="tokens"), RateLimitedError),
    (429, error(code="slow_down"), RateLimitedError),
    (503, error(code="slow_down"), RateLimitedError),
    (429, b"Too Many Requests", RateLimitedError),
    *(
        (429, error(code=code), QuotaExhaustedError)
        for code in (
            "credit_balance_exhausted",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
            "insufficient_quota",
        )
    ),
    (429, error(type="insufficient_quota"), QuotaExhaustedError),
    (402, error("Insufficient Balance"), QuotaExhaustedError),
    (500, error(type="server_error"), OverloadedError),
    (502, b"<html><title>Bad Gateway</title>", OverloadedError),
    (503, b"", OverloadedError),
    (529, error("overloaded"), OverloadedError),
    (504, b"", ServiceTimeoutError),
    (408, error("took too long"), ServiceTimeoutError),
]


@pytest.mark.parametrize(("status", "body", "expected"), CASES)
def test_each_error_has_its_class(status: int, body: Any, expected: type[ServiceError]):
    assert type(explain(answer(status, body))) is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"code": "rate_limit_exceeded"}, RateLimitedError),
        ({"type": "insufficient_quota"}, QuotaExhaustedError),
        ({"code": "invalid_api_key"}, AuthenticationError),
        ({"type": "authentication_error"}, AuthenticationError),
        ({"type": "invalid_request_error"}, InvalidRequestError),
        ({"code": "content_filter"}, ContentRefusedError),
        ({"type": "server_error"}, OverloadedError),
        ({"code": 429}, RateLimitedError),
        ({"code": 502}, OverloadedError),
        ({}, OverloadedError),
    ],
)
def test_an_error_in_a_stream_is_told_by_what_it_says(
    fields: dict[str, Any], expected: type[ServiceError]
):
    assert type(explain(answer(200, error("what it says", **fields)))) is expected


def test_what_the_service_says_is_told():
    told = explain(
        answer(
            400,
            error("Unknown parameter: 'x'.", type="invalid_request_error", param="x"),
            {"x-request-id": "req_1"},
        )
    )
    assert "The service says: Unknown parameter: 'x'." in str(told)
    assert told.context == {
        "status": 400,
        "type": "invalid_request_error",
        "param": "x",
        "request_id": "req_1",
    }


def test_what_is_no_json_is_told_by_its_kind():
    told = explain(Answer(502, {"Content-Type": "text/html; charset=utf-8"}, b"<html>"))
    assert "It sent text/html." in str(told)
    assert "It sent an empty body." in str(explain(Answer(503, {}, b"")))


def test_an_address_without_the_interface_is_told():
    told = explain(Answer(404, {"Content-Type": "text/plain"}, b"404 page not found"))
    assert isinstance(told, BadResponseError)
    assert "base_url (404); it usually ends with /v1" in str(told)


def test_what_is_said_of_a_key_is_not_repeated():
    told = explain(answer(401, error("Incorrect API key provided: sk-canary.")))
    assert "sk-canary" not in f"{told}{told.context}"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "9", "x-ratelimit-reset-requests": "1s"}, 9.0),
        ({"x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-reset-tokens": "1s"}, 360.0),
        (
            {
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-reset-tokens": "1.5s",
                "x-ratelimit-remaining-requests": "3",
                "x-ratelimit-remaining-tokens": "0",
            },
            1.5,
        ),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-reset-tokens": "1h2m3s"}, 3723.0),
        ({"x-ratelimit-reset-tokens": "soon"}, None),
        ({"x-ratelimit-reset-tokens": "1s or so"}, None),
        ({"x-ratelimit-reset-tokens": ""}, None),
    ],
)
def test_how_long_to_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float | None):
    assert wait_of(headers) == (None if seconds is None else pytest.approx(seconds))
    told = explain(answer(429, error(), headers))
    assert isinstance(told, RateLimitedError)
    assert (told.retry_after is None) is (seconds is None)
