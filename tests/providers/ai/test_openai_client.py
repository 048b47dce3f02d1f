"""The seam: the type openai through a client of the ``openai`` library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from purveyor.providers.ai import Image, Message, Text, Tool, ToolCall, ToolResult, Usage
from purveyor.providers.ai.errors import (
    AccessDeniedError,
    AuthenticationError,
    BadResponseError,
    ContextTooLongError,
    InvalidOutputError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
    StreamInterruptedError,
)
from purveyor.providers.ai.openai import OpenAIConfig, OpenAIProvider
from purveyor.providers.registry import guarded
from purveyor.testing.conformance.ai_case import drained, until
from purveyor.testing.doubles import Called, Fault, OpenAIDouble, Reply

LOOK_UP = Tool("look_up", "Looks up.", {"type": "object", "properties": {}})


class Person(BaseModel):
    name: str


@pytest.fixture
async def client(openai: OpenAIDouble) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=openai.key, base_url=openai.base_url, timeout=20) as client:
        yield client


@pytest.fixture
async def model(
    client: AsyncOpenAI, request: pytest.FixtureRequest
) -> AsyncIterator[OpenAIProvider]:
    fault = getattr(request.node, "callspec", None) and request.node.callspec.params.get("fault")
    if fault and (fault.delay or fault.stall_after):
        client = client.with_options(timeout=0.5)
    provider = OpenAIProvider.from_client(client, OpenAIConfig(model="model-a"))
    async with guarded(provider, name="chat") as model:
        yield model


async def both_ways(
    openai: OpenAIDouble, model: OpenAIProvider, prompt: Any, **options: Any
) -> Any:
    """Ask through the client and through our own transport; return the bodies and the answers."""
    settings = OpenAIConfig.model_validate(
        {"base_url": openai.base_url, "api_key": openai.key, "model": "model-a"}
    )
    answers: list[Any] = []
    bodies: list[Any] = []
    async with OpenAIProvider(settings) as own:
        for asked in (model, own):
            answers += [await asked.complete(prompt, **options)]
            bodies += [openai.last.json]
            answers += [await drained(asked.stream(prompt, **options))]
            bodies += [openai.last.json]
    return bodies, answers


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ("Hello", {"max_tokens": 9, "stop": ["END"], "temperature": 0.5, "system": "Be brief."}),
        ([Message("user", [Text("This?"), Image(b"\x89PNG")])], {"extra": {"verbosity": "low"}}),
        (
            [
                Message("user", "a"),
                Message("assistant", [ToolCall("c", "look_up", {})]),
                Message("user", [ToolResult("c", "found")]),
            ],
            {"tools": [LOOK_UP], "tool_choice": "auto"},
        ),
    ],
    ids=["options", "an image", "tools"],
)
async def test_both_ways_say_and_hear_the_same(
    openai: OpenAIDouble, model: OpenAIProvider, prompt: Any, options: Any
):
    bodies, answers = await both_ways(openai, model, prompt, **options)
    assert bodies[:2] == bodies[2:]
    assert answers[:2] == answers[2:]


async def test_calls_schemas_and_usage_come_through(openai: OpenAIDouble, model: OpenAIProvider):
    openai.reply(*[Reply(calls=[Called("look_up", '{"a": 1}')], cached_tokens=4)] * 2)
    answer = await model.complete("Hello", tools=[LOOK_UP])
    assert answer.tool_calls == (ToolCall("call_1", "look_up", {"a": 1}),)
    assert answer.usage == Usage(11, 7, 4)
    _, streamed = await drained(model.stream("Hello", tools=[LOOK_UP]))
    assert (streamed.tool_calls, streamed.usage) == (answer.tool_calls, answer.usage)
    openai.reply(Reply('{"name": "Ada"}'))
    assert (await model.complete("Who?", schema=Person)).data == Person(name="Ada")


async def test_models_and_health(openai: OpenAIDouble, model: OpenAIProvider):
    assert [info.id for info in await model.models()] == ["model-a", "model-b"]
    openai.fail(openai.fault("permission"))
    await model.check_health()
    openai.fail(openai.fault("overloaded"))
    with pytest.raises(OverloadedError):
        await model.check_health()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("authentication", AuthenticationError),
        ("permission", AccessDeniedError),
        ("model_not_found", ModelNotFoundError),
        ("too_long", ContextTooLongError),
        ("rate_limit", RateLimitedError),
        ("quota", QuotaExhaustedError),
        ("server", OverloadedError),
        ("overloaded", OverloadedError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_errors_are_the_same_and_nothing_is_sent_again(
    openai: OpenAIDouble,
    model: OpenAIProvider,
    kind: Any,
    expected: type[ServiceError],
    stream: bool,
):
    openai.fail(openai.fault(kind, headers={"Retry-After": "3", "x-request-id": "req_1"}))
    with pytest.raises(expected) as caught:
        await (drained(model.stream("Hello")) if stream else model.complete("Hello"))
    assert caught.value.context["request_id"] == "req_1"
    if isinstance(caught.value, RateLimitedError):
        assert caught.value.retry_after == 3.0
    assert len(openai.requests) == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(hang_up=True), ServiceConnectionError),
        (Fault(delay=3), ServiceTimeoutError),
        (Fault(cut_after=5), ServiceConnectionError),
        (Fault(200, {}, b'{"id": '), BadResponseError),
        (Fault(200, {"Content-Type": "text/html"}, b"<html>"), BadResponseError),
        (Fault(200, {}, {}), BadResponseError),
        (Fault(502, {"Content-Type": "text/html"}, b"<html>"), OverloadedError),
    ],
    ids=["no answer", "late", "half", "no JSON", "HTML", "empty", "a page of a proxy"],
)
async def test_what_goes_wrong_on_the_way_is_named(
    openai: OpenAIDouble, model: OpenAIProvider, fault: Fault, expected: type[ServiceError]
):
    openai.fail(fault)
    with pytest.raises(expected) as caught:
        await model.complete("Hello")
    assert caught.value.provider_name == "chat"


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (Reply("x" * 50, pieces=50), Fault(cut_after=20)),
        (Reply("x" * 50, pieces=50), Fault(stall_after=20)),
        (Reply("x" * 50, pieces=50, ends_after=20), Fault()),
    ],
    ids=["broken", "silent", "truncated"],
)
async def test_a_stream_that_breaks_is_no_answer(
    openai: OpenAIDouble, model: OpenAIProvider, reply: Reply, fault: Fault
):
    openai.reply(reply)
    openai.fail(fault)
    with pytest.raises(StreamInterruptedError) as caught:
        await drained(model.stream("Hello"))
    assert 10 < len(caught.value.partial) <= 20


async def test_an_error_in_mid_stream_is_that_error(openai: OpenAIDouble, model: OpenAIProvider):
    openai.reply(Reply("abcdef", pieces=3, fails_after=2, fails_with="rate_limit"))
    with pytest.raises(RateLimitedError) as caught:
        await drained(model.stream("Hello"))
    assert caught.value.context["partial"] == "abcd"


async def test_a_broken_call_is_told(openai: OpenAIDouble, model: OpenAIProvider):
    openai.reply(Reply(calls=[Called("look_up", '{"a')]))
    with pytest.raises(InvalidOutputError, match="'look_up'"):
        await drained(model.stream("Hello", tools=[LOOK_UP]))


async def test_cancelling_closes_the_connection(openai: OpenAIDouble, model: OpenAIProvider):
    openai.reply(Reply("x" * 50, pieces=50, pace=0.1))
    task = asyncio.create_task(drained(model.stream("Hello")))
    await until(lambda: openai.open_streams == 1, "the stream is open")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: openai.broken_streams == 1, "the connection is closed")


async def test_the_client_is_whose_it_was(openai: OpenAIDouble, client: AsyncOpenAI):
    async with OpenAIProvider.from_client(client, OpenAIConfig(model="model-a")) as model:
        await model.complete("Hello")
    assert not client.is_closed()
    assert client.max_retries == 2
    assert [found.id async for found in client.models.list()] == ["model-a", "model-b"]


async def test_the_key_of_the_client_is_not_repeated(openai: OpenAIDouble):
    async with AsyncOpenAI(api_key="sk-canary", base_url=openai.base_url) as client:
        model = OpenAIProvider.from_client(client, OpenAIConfig(model="model-a"))
        async with guarded(model, name="chat") as guarded_model:
            with pytest.raises(AuthenticationError) as caught:
                await guarded_model.complete("Hello")
    error = caught.value
    assert "sk-canary" not in f"{error}{error!r}{error.to_dict()}"
