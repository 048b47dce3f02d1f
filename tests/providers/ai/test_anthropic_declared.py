"""Every body is one that the types of Anthropic's SDK declare, made of the published interface."""

from __future__ import annotations

from typing import Any, cast

import jsonschema_rs
import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from pydantic import BaseModel, Field, TypeAdapter

from purveyor.providers.ai import Image, Message, Text, Tool, ToolCall, ToolResult
from purveyor.providers.ai.anthropic_messages import body_of, countable
from purveyor.providers.ai.base import Request


def judge_of(declared: Any) -> jsonschema_rs.Validator:
    """Return what tells the faults of a body, unknown fields among them."""
    schema = TypeAdapter(declared).json_schema()
    _close(schema)
    return jsonschema_rs.validator_for(schema)


def _close(found: Any) -> None:
    if isinstance(found, dict):
        schema = cast("dict[str, Any]", found)
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for inner in schema.values():
            _close(inner)
    elif isinstance(found, list):
        for inner in cast("list[Any]", found):
            _close(inner)


@pytest.fixture(scope="module")
def whole() -> jsonschema_rs.Validator:
    return judge_of(MessageCreateParamsNonStreaming)


@pytest.fixture(scope="module")
def streamed() -> jsonschema_rs.Validator:
    return judge_of(MessageCreateParamsStreaming)


@pytest.fixture(scope="module")
def counted() -> jsonschema_rs.Validator:
    return judge_of(MessageCountTokensParams)


class Answer(BaseModel):
    size: int = Field(ge=0)
    words: list[str] = Field(max_length=5)


TOOLS = [Tool("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})]
CONVERSATION = [
    Message("user", [Text("What is it?"), Image(b"\x89PNG"), Image(url="https://x/y.png")]),
    Message("assistant", [Text("Well"), ToolCall("t1", "look", {"at": "it"})]),
    Message("user", [ToolResult("t1", "A cat."), ToolResult("t2", "None.", failed=True)]),
]
REQUESTS = {
    "the least": Request("m", [Message("user", "Hi")]),
    "a conversation": Request("m", CONVERSATION, system="Be brief.", tools=TOOLS),
    "limits": Request("m", [Message("user", "Hi")], max_tokens=5, stop=["END"]),
    "a tool": Request("m", CONVERSATION, tools=[*TOOLS, Tool("wait")], tool_choice="look"),
    "any tool": Request("m", CONVERSATION, tools=TOOLS, tool_choice="required"),
    "no tool": Request("m", CONVERSATION, tools=TOOLS, tool_choice="none"),
    "a schema": Request("m", [Message("user", "Hi")], schema=Answer.model_json_schema()),
    "thinking": Request("m", CONVERSATION, extra={"thinking": {"type": "adaptive"}}),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_every_body_is_as_declared(
    request_: Request,
    whole: jsonschema_rs.Validator,
    streamed: jsonschema_rs.Validator,
    counted: jsonschema_rs.Validator,
) -> None:
    body = body_of(request_, "2026-10-21")
    assert [str(fault.message) for fault in whole.iter_errors(body)] == []
    assert [str(fault.message) for fault in streamed.iter_errors({**body, "stream": True})] == []
    assert [str(fault.message) for fault in counted.iter_errors(countable(body))] == []


@pytest.mark.parametrize(
    "fault", [{"temperature": 1.0}, {"max_completion_tokens": 5}, {"max_tokens": "5"}]
)
def test_the_judge_refuses_what_is_not_declared(
    fault: dict[str, Any], whole: jsonschema_rs.Validator
) -> None:
    assert not whole.is_valid({**body_of(REQUESTS["the least"], "2026-10-21"), **fault})
