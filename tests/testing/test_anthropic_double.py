"""The double of Anthropic refuses what the service refuses, in the service's words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Any

import pytest

from purveyor.testing.doubles import AnthropicDouble

LEAST = {"model": "model-a", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"name": "look", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "A cat."}
TEXT = {"type": "text", "text": "So."}


@pytest.fixture(scope="module")
def double() -> Iterator[AnthropicDouble]:
    with AnthropicDouble() as double:
        yield double


def ask(
    double: AnthropicDouble,
    body: object,
    path: str = "/v1/messages",
    method: str = "POST",
    **headers: str | None,
) -> tuple[int, Mapping[str, Any]]:
    given = {
        "content_type": "application/json",
        "x_api_key": double.key,
        "anthropic_version": "2026-10-21",
        **headers,
    }
    sent = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
    connection = HTTPConnection("127.0.0.1", double.port, timeout=5)
    try:
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def turns(*contents: Any) -> dict[str, Any]:
    """Return the messages of a conversation that the user begins."""
    roles = ("user", "assistant")
    return {
        "messages": [
            {"role": roles[number % 2], "content": content}
            for number, content in enumerate(contents)
        ]
    }


def test_a_good_request_is_answered(double: AnthropicDouble) -> None:
    status, answer = ask(double, LEAST)
    assert (status, answer["content"]) == (200, [{"type": "text", "text": "You said: Hi"}])
    assert ask(double, LEAST, x_api_key=None, authorization=f"Bearer {double.key}")[0] == 200
    assert ask(double, {**LEAST, "temperature": 1.0}, anthropic_version="2023-06-01")[0] == 200
    together = {"messages": [*turns("Hi")["messages"], *turns("you")["messages"]]}
    assert ask(double, {**LEAST, **together})[0] == 200


@pytest.mark.parametrize(
    ("headers", "status", "kind", "told"),
    [
        ({"anthropic_version": None}, 400, "invalid_request_error", "anthropic-version"),
        ({"anthropic_version": "2030-01-01"}, 400, "invalid_request_error", "not a valid version"),
        ({"x_api_key": None}, 401, "authentication_error", "header is required"),
        ({"x_api_key": "sk-wrong"}, 401, "authentication_error", "invalid x-api-key"),
        ({"content_type": "text/plain"}, 400, "invalid_request_error", "application/json"),
    ],
)
def test_headers_that_are_refused(
    double: AnthropicDouble, headers: dict[str, Any], status: int, kind: str, told: str
) -> None:
    got, answer = ask(double, LEAST, **headers)
    assert (got, answer["type"], answer["error"]["type"]) == (status, "error", kind)
    assert told in answer["error"]["message"]
    assert answer["request_id"].startswith("req_")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"top_k": 1}, "top_k: Extra inputs are not permitted"),
        ({"max_completion_tokens": 5}, "max_completion_tokens: Extra inputs"),
        ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 0}, "greater than or equal to 1"),
        ({"max_tokens": 10**6}, "maximum allowed number of output tokens"),
        ({"stop_sequences": [" "]}, "non-whitespace"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 'must use the "user" role'),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "name: Extra inputs"),
        (turns(""), "non-empty content"),
        (turns([{"type": "text", "text": " "}]), "non-whitespace text"),
        (turns([{"type": "image_url", "image_url": {}}]), "Input tag 'image_url'"),
        (turns("x", [{"type": "image", "source": {}}]), "Input tag 'image'"),
        (turns([{"type": "image", "source": {"type": "url", "url": "http://x"}}]), "HTTPS"),
        (turns("x", "Well "), "trailing whitespace"),
        (turns("x", [CALL]), "without `tool_result`"),
        (turns("x", [CALL], "y"), "without `tool_result`"),
        (turns("x", "y", [RESULT]), "unexpected `tool_use_id`"),
        (turns("x", [CALL], [TEXT, RESULT]), "must come first"),
        ({"tools": [{"type": "function", "function": {}}]}, "Input tag 'function'"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "should match pattern"),
        ({"tools": [{"name": "look"}]}, "input_schema: Field required"),
        ({"tools": [TOOL, TOOL]}, "must be unique"),
        ({"tool_choice": {"type": "auto"}}, "while providing tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "required"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "not found"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            "'additionalProperties' must be explicitly set to false",
        ),
        (
            {
                "output_config": {
                    "format": {"type": "json_schema", "schema": {"type": "integer", "minimum": 0}}
                }
            },
            "property 'minimum' is not supported",
        ),
    ],
)
def test_bodies_that_are_refused(
    double: AnthropicDouble, change: dict[str, Any], told: str
) -> None:
    status, answer = ask(double, {**LEAST, **change})
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert told in answer["error"]["message"]


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_what_must_be_said(double: AnthropicDouble, name: str) -> None:
    status, answer = ask(double, {key: value for key, value in LEAST.items() if key != name})
    assert (status, answer["error"]["message"]) == (400, f"{name}: Field required")


@pytest.mark.parametrize("body", [b"{", [1]])
def test_a_body_that_is_no_object(double: AnthropicDouble, body: object) -> None:
    assert ask(double, body)[0] == 400


def test_a_model_that_is_not_there(double: AnthropicDouble) -> None:
    status, answer = ask(double, {**LEAST, "model": "model-z"})
    assert (status, answer["error"]["type"]) == (404, "not_found_error")


def test_a_prompt_that_is_too_long(double: AnthropicDouble) -> None:
    status, answer = ask(double, {**LEAST, **turns("x" * (double.context + 1))})
    assert status == 400
    assert answer["error"]["message"].startswith("prompt is too long")


def test_counting_takes_nothing_of_the_answer(double: AnthropicDouble) -> None:
    path = "/v1/messages/count_tokens"
    body = {"model": "model-a", **turns("Hi")}
    assert ask(double, body, path)[1]["input_tokens"] > 0
    assert ask(double, {**body, "max_tokens": 5}, path)[0] == 400


def test_models_come_in_pages(double: AnthropicDouble) -> None:
    _, first = ask(double, None, "/v1/models?limit=1", "GET")
    assert (first["has_more"], first["last_id"]) == (True, "model-a")
    _, second = ask(double, None, "/v1/models?limit=1&after_id=model-a", "GET")
    assert [row["id"] for row in second["data"]] == ["model-b"]
    assert second["has_more"] is False
    assert ask(double, None, "/v1/models?limit=1001", "GET")[0] == 400
