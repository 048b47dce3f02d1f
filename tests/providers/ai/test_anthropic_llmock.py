"""The type ``anthropic`` against an independent server, and its faults."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from llmock.pytest_plugin import LLMock

from purveyor.providers.ai import Chunk, FinishReason, Tool, ToolCall
from purveyor.providers.ai.anthropic import AnthropicConfig, AnthropicProvider
from purveyor.providers.ai.errors import (
    AuthenticationError,
    BadResponseError,
    ContextTooLongError,
    OverloadedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
    StreamInterruptedError,
)

MODEL = "claude-opus-4-6"
TOOL = Tool("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})


@pytest.fixture
async def provider(llmock: LLMock) -> AsyncIterator[AnthropicProvider]:
    config = AnthropicConfig.model_validate(
        {
            "base_url": llmock.base_url("anthropic"),
            "api_key": "any",
            "model": MODEL,
            "first_byte_timeout": 0.5,
        }
    )
    async with AnthropicProvider(config) as provider:
        yield provider


async def read(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


async def test_an_answer(provider: AnthropicProvider, llmock: LLMock) -> None:
    llmock.reply("It rains in Bonn.")
    answer = await provider.complete("Well?", system="Be brief.", max_tokens=100)
    assert (answer.text, answer.finish_reason) == ("It rains in Bonn.", FinishReason.STOP)
    assert answer.model == MODEL
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


async def test_a_stream(provider: AnthropicProvider, llmock: LLMock) -> None:
    llmock.reply("It rains in Bonn.")
    *pieces, last = await read(provider.stream("Well?"))
    assert [piece.text for piece in pieces] == ["It ", "rains ", "in ", "Bonn."]
    assert last.completion is not None
    assert last.completion.text == "It rains in Bonn."
    assert last.completion.usage.output_tokens > 0


async def test_tools(provider: AnthropicProvider, llmock: LLMock) -> None:
    for _ in range(2):
        llmock.call_tool("look", {"at": "the sky, please"})
    whole = await provider.complete("Well?", tools=[TOOL])
    streamed = (await read(provider.stream("Well?", tools=[TOOL])))[-1].completion
    assert streamed is not None
    for answer in (whole, streamed):
        assert answer.finish_reason is FinishReason.TOOL_CALLS
        (call,) = answer.tool_calls
        assert call == ToolCall(call.id, "look", {"at": "the sky, please"})


async def test_models_and_health(provider: AnthropicProvider) -> None:
    await provider.check_health()
    assert MODEL in [model.id for model in await provider.models()]


async def test_a_limit_is_waited_for(provider: AnthropicProvider, llmock: LLMock) -> None:
    llmock.rate_limit(times=2, retry_after=0.1)
    assert (await provider.complete("Well?")).text
    llmock.assert_resilient()
    assert len(llmock.requests) == 3


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AuthenticationError),
        (500, OverloadedError),
    ],
)
async def test_what_would_not_help_is_not_asked_again(
    provider: AnthropicProvider, llmock: LLMock, status: int, expected: type[ServiceError]
) -> None:
    llmock.fail(status)
    with pytest.raises(expected):
        await provider.complete("Well?")
    llmock.assert_resilient()
    assert len(llmock.requests) == 1


async def test_a_longer_wait_is_the_callers(provider: AnthropicProvider, llmock: LLMock) -> None:
    llmock.rate_limit(retry_after=31)
    with pytest.raises(RateLimitedError) as caught:
        await provider.complete("Well?")
    assert caught.value.retry_after == 31
    llmock.assert_resilient()


async def test_a_prompt_that_is_too_long(provider: AnthropicProvider, llmock: LLMock) -> None:
    llmock.limits(context_window=50)
    with pytest.raises(ContextTooLongError):
        await provider.complete("word " * 500)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("disconnect", ServiceConnectionError), ("stall", ServiceTimeoutError), ("truncate", None)],
)
async def test_a_stream_that_ends_early(
    provider: AnthropicProvider, llmock: LLMock, fault: str, cause: type[ServiceError] | None
) -> None:
    llmock.reply("It rains in Bonn.")
    more = {"seconds": 5.0} if fault == "stall" else {}
    getattr(llmock, fault)(after_chunks=5, **more)
    with pytest.raises(StreamInterruptedError) as caught:
        await read(provider.stream("Well?"))
    assert caught.value.partial == "It rains "
    assert isinstance(caught.value.__cause__, cause or type(None))


async def test_a_stream_of_nonsense(provider: AnthropicProvider, llmock: LLMock) -> None:
    llmock.reply("It rains in Bonn.").corrupt(after_chunks=5)
    with pytest.raises(BadResponseError) as caught:
        await read(provider.stream("Well?"))
    assert caught.value.context["partial"] == "It rains "
