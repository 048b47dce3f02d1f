"""A client of the service's own SDK in place of the transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anthropic
import pytest
from anthropic.lib.bedrock import AsyncAnthropicBedrock
from pydantic import BaseModel

from purveyor.providers.ai import Chunk, Tool, ToolCall
from purveyor.providers.ai.anthropic import AnthropicConfig, AnthropicProvider
from purveyor.providers.ai.errors import (
    AuthenticationError,
    BadResponseError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    StreamInterruptedError,
)
from purveyor.providers.registry import UnsupportedCapabilityError
from purveyor.testing.doubles import AnthropicDouble, AnthropicReply, Called, Fault, Reply


@pytest.fixture
def double() -> Iterator[AnthropicDouble]:
    with AnthropicDouble() as double:
        yield double


@pytest.fixture
async def client(double: AnthropicDouble) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key=double.key, base_url=double.url, timeout=5.0
    ) as client:
        yield client


@pytest.fixture
async def provider(client: anthropic.AsyncAnthropic) -> AsyncIterator[AnthropicProvider]:
    config = AnthropicConfig(model="model-a")
    async with AnthropicProvider.from_client(client, config) as provider:
        yield provider
    assert not client.is_closed()


@pytest.fixture
async def direct(double: AnthropicDouble) -> AsyncIterator[AnthropicProvider]:
    config = AnthropicConfig.model_validate(
        {"base_url": double.url, "api_key": double.key, "model": "model-a"}
    )
    async with AnthropicProvider(config) as provider:
        yield provider


async def read(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


class City(BaseModel):
    name: str


TOOL = Tool("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})


async def test_bodies_and_answers_are_those_of_the_transport(
    provider: AnthropicProvider, direct: AnthropicProvider, double: AnthropicDouble
) -> None:
    for one in (provider, direct):
        double.reply(
            Reply("So.", calls=[Called("look", '{"at": "it"}')]), Reply('{"name": "Bonn"}')
        )
        answer = await one.complete("Hi", system="s", stop=["x"], tools=[TOOL])
        assert answer.text == "So."
        assert answer.tool_calls == (ToolCall("call_1", "look", {"at": "it"}),)
        assert (await one.complete("Where?", schema=City)).data == City(name="Bonn")
        assert [model.id for model in await one.models()] == ["model-a", "model-b"]
        assert await one.count_tokens("Hi") > 0
        await one.check_health()
    half = len(double.requests) // 2
    by_client, by_us = double.requests[:half], double.requests[half:]
    for theirs, ours in zip(by_client, by_us, strict=True):
        assert theirs.path == ours.path
        assert theirs.headers["anthropic-version"] == ours.headers["anthropic-version"]
        assert (theirs.json if theirs.body else None) == (ours.json if ours.body else None)


async def test_chunks_are_those_of_the_transport(
    provider: AnthropicProvider, direct: AnthropicProvider, double: AnthropicDouble
) -> None:
    reply = Reply("one two", calls=[Called("look", '{"at": 1}')], noise=True, cached_tokens=3)
    double.reply(reply, reply)
    *by_client, theirs = await read(provider.stream("Hi", tools=[TOOL]))
    *by_us, ours = await read(direct.stream("Hi", tools=[TOOL]))
    assert by_client == by_us
    assert theirs.completion is not None
    assert ours.completion is not None
    assert theirs.completion.usage == ours.completion.usage
    assert theirs.completion.tool_calls == ours.completion.tool_calls


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (AnthropicDouble.error(401, "authentication_error", "invalid"), AuthenticationError),
        (AnthropicDouble.error(404, "not_found_error", "model: x"), ModelNotFoundError),
        (AnthropicDouble.error(529, "overloaded_error", "No."), OverloadedError),
        (Fault(502, body=b"<html>"), OverloadedError),
        (Fault(hang_up=True), ServiceConnectionError),
        (Fault(200, {"Content-Type": "text/html"}, b"<title>Log in</title>"), BadResponseError),
    ],
)
async def test_errors_of_the_client_are_ours_and_nothing_is_sent_again(
    provider: AnthropicProvider,
    double: AnthropicDouble,
    fault: Fault,
    expected: type[ServiceError],
) -> None:
    double.fail(fault)
    with pytest.raises(expected):
        await provider.complete("Hi")
    assert len(double.requests) == 1


async def test_the_wait_a_client_was_told_is_kept(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.fail(double.fault("rate_limit", headers={"retry-after": "7"}))
    with pytest.raises(RateLimitedError) as caught:
        await provider.complete("Hi")
    assert caught.value.retry_after == 7
    assert caught.value.context["request_id"]


async def test_a_clients_stream_that_breaks_has_what_had_come(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.reply(
        Reply("one two", pieces=2),
        Reply("one two", pieces=2, ends_after=1),
        Reply("one two", pieces=2, fails_after=1),
    )
    double.fail(Fault(cut_after=4), Fault(), Fault())
    for expected in (StreamInterruptedError, StreamInterruptedError, OverloadedError):
        with pytest.raises(expected) as caught:
            await read(provider.stream("Hi"))
        assert caught.value.context["partial"] == "one "


async def test_an_event_of_a_clients_stream_that_is_no_json(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.reply(AnthropicReply(events=[b"event: message_start\ndata: {\n\n"]))
    with pytest.raises(BadResponseError):
        await read(provider.stream("Hi"))


async def test_a_client_that_lists_no_models_is_asked_none(double: AnthropicDouble) -> None:
    client = AsyncAnthropicBedrock(
        aws_region="eu-west-1", aws_access_key="k", aws_secret_key="s", base_url=double.url
    )
    config = AnthropicConfig(model="model-a")
    async with client, AnthropicProvider.from_client(client, config) as provider:
        await provider.check_health()
        with pytest.raises(UnsupportedCapabilityError, match="no list of models"):
            await provider.models()
        with pytest.raises(InvalidRequestError, match="not supported in Bedrock"):
            await provider.count_tokens("Hi")
    assert double.requests == []
