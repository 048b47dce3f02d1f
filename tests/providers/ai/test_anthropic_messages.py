"""Anthropic's Messages interface: what is sent, and what answers, events and errors say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from purveyor.providers.ai import (
    FinishReason,
    Image,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from purveyor.providers.ai.anthropic_errors import error_of, explain
from purveyor.providers.ai.anthropic_messages import (
    MessageReducer,
    body_of,
    completion_of,
    countable,
)
from purveyor.providers.ai.anthropic_schema import strict
from purveyor.providers.ai.base import Request
from purveyor.providers.ai.errors import (
    AccessDeniedError,
    AuthenticationError,
    BadResponseError,
    ContentRefusedError,
    ContextTooLongError,
    InvalidOutputError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceError,
    ServiceTimeoutError,
    StreamInterruptedError,
)
from purveyor.providers.ai.wire import WireEvent
from purveyor.providers.web.transport import Answer

NEW, OLD = "2026-10-21", "2023-06-01"
WEATHER = Tool("weather", "Tells it.", {"type": "object", "properties": {"in": {}}})


def asked(*messages: Message, **more: Any) -> Request:
    return Request("claude-x", messages or [Message("user", "Hi")], **more)


# -- bodies ------------------------------------------------------------------------------


def test_the_least_a_body_has() -> None:
    assert body_of(asked(), NEW) == {
        "model": "claude-x",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_what_is_said_is_sent() -> None:
    body = body_of(
        asked(
            system="Be brief.",
            max_tokens=9,
            stop=["END"],
            tools=[WEATHER, Tool("clock")],
            extra={"thinking": {"type": "adaptive"}},
        ),
        NEW,
    )
    assert body["system"] == "Be brief."
    assert (body["max_tokens"], body["stop_sequences"]) == (9, ["END"])
    assert body["thinking"] == {"type": "adaptive"}
    assert body["tools"] == [
        {
            "name": "weather",
            "description": "Tells it.",
            "input_schema": {"type": "object", "properties": {"in": {}}},
        },
        {"name": "clock", "input_schema": {"type": "object", "properties": {}}},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
    ],
)
def test_which_tool_to_use(choice: str, sent: Mapping[str, str]) -> None:
    assert body_of(asked(tools=[WEATHER], tool_choice=choice), NEW)["tool_choice"] == sent


def test_parts_become_blocks_and_results_come_first() -> None:
    body = body_of(
        asked(
            Message("user", [Text("See"), Image(b"png"), Image(url="https://x/y.png")]),
            Message("assistant", [Text("Well"), ToolCall("t1", "weather", {"in": "Bonn"})]),
            Message(
                "user", [Text("so?"), ToolResult("t1", "rain"), ToolResult("t2", "no", failed=True)]
            ),
        ),
        NEW,
    )
    png = {"type": "base64", "media_type": "image/png", "data": "cG5n"}
    assert [message["content"] for message in body["messages"]] == [
        [
            {"type": "text", "text": "See"},
            {"type": "image", "source": png},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        ],
        [
            {"type": "text", "text": "Well"},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"in": "Bonn"}},
        ],
        [
            {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
            {"type": "tool_result", "tool_use_id": "t2", "content": "no", "is_error": True},
            {"type": "text", "text": "so?"},
        ],
    ]


@pytest.mark.parametrize(
    "more", [{"temperature": 0.0}, {"extra": {"top_k": 1}}, {"extra": {"top_p": 1.0}}]
)
def test_sampling_is_refused_by_name_where_the_version_has_none(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"(temperature|top_k|top_p).*2023-06-01"):
        body_of(asked(**more), NEW)
    assert len(body_of(asked(**more), OLD)) == 4


def test_extra_does_not_say_twice_what_the_call_says() -> None:
    for name in ("max_tokens", "stream", "messages"):
        with pytest.raises(InvalidRequestError, match=f"extra has {name}"):
            body_of(asked(extra={name: 1}), NEW)


def test_a_schema_goes_beside_other_settings_of_the_output() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    body = body_of(asked(schema=schema, extra={"output_config": {"effort": "low"}}), NEW)
    closed = {**schema, "additionalProperties": False}
    form = {"type": "json_schema", "schema": closed}
    assert body["output_config"] == {"effort": "low", "format": form}


def test_only_what_is_read_is_counted() -> None:
    body = body_of(asked(system="s", max_tokens=5, stop=["x"], temperature=1.0), OLD)
    assert sorted(countable(body)) == ["messages", "model", "system"]


class Leaf(BaseModel):
    size: float = Field(gt=0)


class Tree(BaseModel):
    name: str = Field(min_length=1, description="Of the tree.")
    leaves: list[Leaf] = Field(max_length=9)
    born: datetime | None = None


def test_a_schema_is_sent_as_the_service_takes_it() -> None:
    made = strict(Tree.model_json_schema())
    assert made["additionalProperties"] is False
    name, leaves, born = (made["properties"][key] for key in ("name", "leaves", "born"))
    assert name["description"] == "Of the tree.\n\n{minLength: 1}"
    assert leaves["description"] == "{maxItems: 9}"
    assert leaves["items"] == {"$ref": "#/$defs/Leaf"}
    assert born["anyOf"] == [{"type": "string", "format": "date-time"}, {"type": "null"}]
    leaf = made["$defs"]["Leaf"]
    assert leaf["additionalProperties"] is False
    assert leaf["properties"]["size"]["description"] == "{exclusiveMinimum: 0}"
    assert "exclusiveMinimum" not in leaf["properties"]["size"]


@pytest.mark.parametrize("free", [dict[str, int], dict[str, Any]])
def test_an_object_whose_properties_have_no_names_is_refused(free: Any) -> None:
    items = TypeAdapter(free).json_schema()
    schema = {"type": "object", "properties": {"sizes": {"type": "array", "items": items}}}
    with pytest.raises(InvalidRequestError, match=r"without properties at \.sizes\[\]"):
        strict(schema)


def test_nothing_stands_beside_a_reference() -> None:
    assert strict({"$ref": "#/$defs/Leaf", "description": "Big.", "default": None}) == {
        "$ref": "#/$defs/Leaf"
    }


# -- answers -----------------------------------------------------------------------------


def said(*blocks: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "model": "claude-x-1",
        "content": blocks,
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 3},
        **more,
    }


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def call(**arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "t1", "name": "weather", "input": arguments}


def test_an_answer_is_its_texts_and_its_calls() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    answer = completion_of(
        said(thought, text("It "), text("rains."), call(x=1), stop_reason="tool_use")
    )
    assert (answer.text, answer.model, answer.id) == ("It rains.", "claude-x-1", "msg_1")
    assert answer.tool_calls == (ToolCall("t1", "weather", {"x": 1}),)
    assert answer.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("pause_turn", FinishReason.PAUSED),
        ("refusal", FinishReason.REFUSED),
        ("of_tomorrow", FinishReason.UNKNOWN),
        (None, FinishReason.UNKNOWN),
    ],
)
def test_why_an_answer_ended(reason: str | None, finish: FinishReason) -> None:
    assert completion_of(said(stop_reason=reason)).finish_reason is finish


def test_all_that_was_read_counts_as_input() -> None:
    counts = {
        "input_tokens": 1,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 300,
        "output_tokens": 4,
        "service_tier": "standard",
    }
    assert completion_of(said(usage=counts)).usage == Usage(321, 4, 20)
    odd = {"input_tokens": 7, "cache_read_input_tokens": None}
    assert completion_of(said(usage=odd)).usage == Usage(7, 0, 0)


def test_a_call_that_max_tokens_cut_off_is_no_call() -> None:
    with pytest.raises(InvalidOutputError, match=r"'weather' was cut off by max_tokens") as caught:
        completion_of(said(call(), stop_reason="max_tokens"))
    assert caught.value.context["finish_reason"] == "length"
    whole = completion_of(said(call(x=1), text("and"), stop_reason="max_tokens"))
    assert whole.tool_calls[0].arguments == {"x": 1}


@pytest.mark.parametrize(
    "answer", [{}, {"content": 5}, {"content": [{}]}, {"content": ["x"]}, {"content": []}]
)
def test_an_answer_that_is_no_message_is_told(answer: dict[str, Any]) -> None:
    with pytest.raises(BadResponseError, match="not what the protocol says"):
        completion_of(answer)


# -- streams -----------------------------------------------------------------------------


def events(*given: dict[str, Any]) -> list[WireEvent]:
    return [WireEvent(str(event["type"]), event) for event in given]


def begun(index: int, block: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def written(*pieces: str, index: int = 1) -> list[dict[str, Any]]:
    return [delta(index, "input_json_delta", partial_json=piece) for piece in pieces]


START = {"type": "message_start", "message": said(stop_reason=None)}
STOP = {"type": "message_stop"}


def end(reason: str = "end_turn", **usage: Any) -> dict[str, Any]:
    usage = {"output_tokens": 9, **usage}
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


def reduced(*given: dict[str, Any]) -> MessageReducer:
    reducer = MessageReducer()
    for event in events(*given):
        reducer.take(event)
    return reducer


def test_a_stream_says_what_the_whole_answer_says() -> None:
    reducer = MessageReducer()
    texts = [
        reducer.take(event)
        for event in events(
            START,
            {"type": "ping"},
            begun(0, text("")),
            delta(0, "text_delta", text="It "),
            {"type": "of_tomorrow", "delta": 5},
            delta(0, "rumour_delta", rumour="x"),
            delta(0, "text_delta", text="rains."),
            {"type": "content_block_stop", "index": 0},
            begun(1, call()),
            *written("", '{"x"', ": 1}"),
            end("tool_use", input_tokens=6, cache_read_input_tokens=2),
            STOP,
        )
    ]
    assert [piece for piece in texts if piece] == ["It ", "rains."]
    answer = reducer.completion()
    assert (answer.text, answer.model, answer.id) == ("It rains.", "claude-x-1", "msg_1")
    assert answer.tool_calls == (ToolCall("t1", "weather", {"x": 1}),)
    assert answer.finish_reason is FinishReason.TOOL_CALLS
    assert answer.usage == Usage(8, 9, 2)


def test_a_call_without_arguments_has_none() -> None:
    answer = reduced(START, begun(1, call()), *written(""), end("tool_use"), STOP).completion()
    assert answer.tool_calls == (ToolCall("t1", "weather", {}),)


def test_a_stream_without_its_end_is_interrupted() -> None:
    reducer = reduced(START, begun(0, text("")), delta(0, "text_delta", text="It "), end())
    with pytest.raises(StreamInterruptedError, match="message_stop") as caught:
        reducer.completion()
    assert caught.value.partial == "It "


@pytest.mark.parametrize(
    ("pieces", "reason", "told"),
    [
        (['{"x": '], "max_tokens", r"'weather' was cut off by max_tokens"),
        (['{"x": '], "tool_use", r"'weather' has arguments that are no JSON object"),
        (["[1]"], "tool_use", r"'weather' has arguments that are no JSON object"),
        ([""], "max_tokens", r"'weather' was cut off by max_tokens"),
    ],
)
def test_a_call_with_unusable_arguments_is_told(pieces: list[str], reason: str, told: str) -> None:
    reducer = reduced(START, begun(1, call()), *written(*pieces), end(reason), STOP)
    with pytest.raises(InvalidOutputError, match=told) as caught:
        reducer.completion()
    assert caught.value.context["tool"] == "weather"
    assert caught.value.context["output"] == ("".join(pieces) or "{}")


def test_an_error_in_a_stream_is_the_error_it_names() -> None:
    body = error_body("overloaded_error", "Overloaded")
    with pytest.raises(OverloadedError, match=r"broke off the stream \(overloaded_error\)"):
        reduced(START, body)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta"},
        {"type": "content_block_delta", "delta": "x"},
        {"type": "content_block_start", "index": 0, "content_block": None},
        {"type": "message_start"},
    ],
)
def test_a_known_event_that_is_nonsense_is_told(event: dict[str, Any]) -> None:
    with pytest.raises(BadResponseError, match="not what the protocol says"):
        reduced(event)


def test_a_stream_that_never_began_is_no_answer() -> None:
    with pytest.raises(BadResponseError):
        reduced(STOP).completion()


# -- errors ------------------------------------------------------------------------------


def error_body(kind: str, message: str, **details: Any) -> dict[str, Any]:
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    return {"type": "error", "error": error, "request_id": "req_7"}


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (400, "invalid_request_error", "max_tokens: Field required", InvalidRequestError),
        (400, "invalid_request_error", "prompt is too long: 9 > 8", ContextTooLongError),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 9 + 9 > 8",
            ContextTooLongError,
        ),
        (400, "invalid_request_error", "Your credit balance is too low", QuotaExhaustedError),
        (
            400,
            "invalid_request_error",
            "You have reached your specified API usage limits.",
            QuotaExhaustedError,
        ),
        (
            400,
            "invalid_request_error",
            "Output blocked by content filtering policy",
            ContentRefusedError,
        ),
        (401, "authentication_error", "invalid x-api-key", AuthenticationError),
        (402, "billing_error", "Pay.", QuotaExhaustedError),
        (403, "permission_error", "No.", AccessDeniedError),
        (404, "not_found_error", "model: claude-9", ModelNotFoundError),
        (404, "not_found_error", "Not Found", InvalidRequestError),
        (413, "request_too_large", "Request exceeds the maximum size", ContextTooLongError),
        (429, "rate_limit_error", "Slow down.", RateLimitedError),
        (500, "api_error", "Internal server error", OverloadedError),
        (504, "timeout_error", "Request timeout", ServiceTimeoutError),
        (529, "overloaded_error", "Overloaded", OverloadedError),
        (418, "of_tomorrow_error", "New.", InvalidRequestError),
        (200, "overloaded_error", "Overloaded", OverloadedError),
        (200, "of_tomorrow_error", "New.", ServiceError),
    ],
)
def test_an_error_is_what_its_type_says(
    status: int, kind: str, message: str, expected: type[ServiceError]
) -> None:
    error = error_of(status, {}, error_body(kind, message))
    assert type(error) is expected
    assert message.rstrip(".") in str(error)
    assert error.context["type"] == kind
    assert error.context["request_id"] == "req_7"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (402, QuotaExhaustedError),
        (403, AccessDeniedError),
        (404, BadResponseError),
        (408, ServiceTimeoutError),
        (413, ContextTooLongError),
        (429, RateLimitedError),
        (502, OverloadedError),
        (503, OverloadedError),
        (529, OverloadedError),
    ],
)
def test_an_error_of_who_stands_between_is_what_its_status_says(
    status: int, expected: type[ServiceError]
) -> None:
    html = Answer(status, {"Content-Type": "text/html"}, b"<title>Proxy</title>")
    assert type(explain(html)) is expected


@pytest.mark.parametrize(
    "code", ["contract_spend_limit_reached", "linked_organization_spend_limit_reached"]
)
def test_a_spend_limit_is_a_quota_and_no_rate(code: str) -> None:
    body = error_body("rate_limit_error", "Limit.", error_code=code)
    error = error_of(429, {"retry-after": "5"}, body)
    assert isinstance(error, QuotaExhaustedError)
    assert error.context["error_code"] == code


def test_the_id_of_a_request_is_kept_from_its_header_too() -> None:
    assert error_of(500, {"request-id": "req_h"}, {}).context["request_id"] == "req_h"


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def test_the_wait_is_what_is_said_or_until_the_limit_is_reset() -> None:
    def wait(headers: Mapping[str, str]) -> float | None:
        error = error_of(429, headers, error_body("rate_limit_error", "Slow."))
        assert isinstance(error, RateLimitedError)
        return error.retry_after

    requests, tokens = "anthropic-ratelimit-requests", "Anthropic-RateLimit-Tokens"
    reset = {
        f"{requests}-remaining": "5",
        f"{requests}-reset": in_seconds(900),
        f"{tokens}-Remaining": "0",
        f"{tokens}-Reset": in_seconds(20),
    }
    assert wait({"retry-after": "2.5", **reset}) == 2.5
    assert wait(reset) == pytest.approx(20, abs=2)
    assert wait({f"{tokens}-reset": in_seconds(-5)}) == 0
    assert wait({f"{tokens}-reset": "soon"}) is None
    assert wait({}) is None


def test_a_message_is_whole_sentences_and_says_what_to_do() -> None:
    error = error_of(529, {}, error_body("overloaded_error", "Overloaded."))
    assert str(error) == (
        "Anthropic answered 529 (overloaded_error): Overloaded. "
        "Ask again later, or another provider."
    )
    assert json.dumps(dict(error.context))


def test_one_text_to_stop_at_is_one() -> None:
    assert body_of(asked(stop="END"), OLD)["stop_sequences"] == ["END"]


def test_counts_that_are_none_count_nothing() -> None:
    message = said(text("x"))
    message["usage"] = {"input_tokens": "7", "output_tokens": None}
    assert completion_of(message).usage == Usage()
