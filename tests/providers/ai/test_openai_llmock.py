"""The type openai against an independent server of its protocol, ``llmock``, with its faults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock

from purveyor.providers.ai import FinishReason, Message, Tool, ToolResult
from purveyor.providers.ai.errors import (
    AccessDeniedError,
    AuthenticationError,
    BadResponseError,
    ContextTooLongError,
    InvalidOutputError,
    InvalidRequestError,
    OverloadedError,
    RateLimitedError,
    ServiceError,
    StreamInterruptedError,
)
from purveyor.providers.ai.openai import OpenAIConfig, OpenAIProvider
from purveyor.providers.registry import guarded
from purveyor.testing.conformance.ai_case import drained

MODEL = "gpt-5"
WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


@pytest.fixture
async def model(llmock: LLMock, request: pytest.FixtureRequest) -> AsyncIterator[OpenAIProvider]:
    patience = 0.5 if "stall" in request.node.name else 20.0
    settings = OpenAIConfig.model_validate(
        {
            "base_url": llmock.base_url(),
            "api_key": "k",
            "model": MODEL,
            "first_byte_timeout": patience,
        }
    )
    async with guarded(OpenAIProvider(settings), name="chat") as model:
        yield model


async def test_an_answer_comes_whole(llmock: LLMock, model: OpenAIProvider):
    llmock.reply("Hello, 世界!")
    answer = await model.complete("Hello", system="Be brief.", max_tokens=50)
    assert (answer.text, answer.finish_reason) == ("Hello, 世界!", FinishReason.STOP)
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0
    llmock.assert_resilient(strict=True)


async def test_an_answer_comes_as_a_stream(llmock: LLMock, model: OpenAIProvider):
    said = "one two three four five six seven"
    llmock.reply(said)
    text, answer = await drained(model.stream("Count"))
    assert (text, answer.text, answer.finish_reason) == (said, said, FinishReason.STOP)
    assert answer.usage.output_tokens > 0
    llmock.assert_resilient(strict=True)


async def test_models_are_listed_and_health_is_asked(llmock: LLMock, model: OpenAIProvider):
    assert all(info.id for info in await model.models())
    await model.check_health()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_tool_is_called_and_told_of(llmock: LLMock, model: OpenAIProvider, stream: bool):
    async def ask(prompt: Any) -> Any:
        if stream:
            return (await drained(model.stream(prompt, tools=[WEATHER])))[1]
        return await model.complete(prompt, tools=[WEATHER])

    llmock.call_tool("get_weather", {"city": "Zürich"})
    asked = Message("user", "What is the weather in Zürich?")
    answer = await ask([asked])
    [call] = answer.tool_calls
    assert (call.name, call.arguments) == ("get_weather", {"city": "Zürich"})
    assert answer.finish_reason is FinishReason.TOOL_CALLS
    llmock.reply("Sunny.")
    result = Message("user", [ToolResult(call.id, "sunny")])
    assert (await ask([asked, answer.message, result])).text == "Sunny."


async def test_a_broken_call_of_a_tool_is_told(llmock: LLMock, model: OpenAIProvider):
    llmock.call_tool("get_weather", {"city": "Bern"}).break_tool_call("malformed_arguments")
    with pytest.raises(InvalidOutputError, match="get_weather"):
        await model.complete("Weather?", tools=[WEATHER])


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (403, AccessDeniedError),
        (404, InvalidRequestError),
        (422, InvalidRequestError),
        (500, OverloadedError),
        (502, OverloadedError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_errors_have_their_class_and_are_asked_once(
    llmock: LLMock, model: OpenAIProvider, status: int, expected: type[ServiceError], stream: bool
):
    llmock.fail(status, times=None)
    with pytest.raises(expected) as caught:
        await (drained(model.stream("Hello")) if stream else model.complete("Hello"))
    assert caught.value.context["status"] == status
    assert len(llmock.requests) == 1


async def test_a_prompt_over_the_context_is_told(llmock: LLMock, model: OpenAIProvider):
    llmock.context_overflow()
    with pytest.raises(ContextTooLongError):
        await model.complete("Hello")
    llmock.limits(context_window=50)
    with pytest.raises(ContextTooLongError):
        await model.complete("word " * 500)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_limits_and_outages_are_waited_for(
    llmock: LLMock, model: OpenAIProvider, stream: bool
):
    llmock.rate_limit(retry_after=0.1).fail(503, retry_after=0.1).reply("At last")
    if stream:
        assert (await drained(model.stream("Hello")))[0] == "At last"
    else:
        assert (await model.complete("Hello")).text == "At last"
    assert len(llmock.requests) == 3
    llmock.assert_resilient()


async def test_a_long_limit_is_told_with_its_seconds(llmock: LLMock, model: OpenAIProvider):
    llmock.rate_limit(retry_after=120)
    with pytest.raises(RateLimitedError) as caught:
        await model.complete("Hello")
    assert caught.value.retry_after == 120.0
    assert len(llmock.requests) == 1


@pytest.mark.parametrize("fault", ["disconnect", "truncate", "stall"])
async def test_a_stream_that_breaks_is_no_answer(llmock: LLMock, model: OpenAIProvider, fault: str):
    llmock.reply("one two three four five six")
    getattr(llmock, fault)(after_chunks=3)
    told: list[str] = []
    with pytest.raises(StreamInterruptedError) as caught:
        async for chunk in model.stream("Count"):
            told.append(chunk.text)  # noqa: PERF401 - what came before the error is wanted too
    assert caught.value.partial == "".join(told)
    assert "one two three four five six".startswith(caught.value.partial)


async def test_a_corrupt_event_is_told(llmock: LLMock, model: OpenAIProvider):
    llmock.reply("one two three four five six").corrupt(after_chunks=3)
    with pytest.raises(BadResponseError, match="an event that is no JSON") as caught:
        await drained(model.stream("Count"))
    assert "partial" in caught.value.context
