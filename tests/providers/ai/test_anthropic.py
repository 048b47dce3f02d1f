"""The type ``anthropic``, against a double that refuses what the service refuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from purveyor.providers.ai import (
    Chunk,
    FinishReason,
    Image,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from purveyor.providers.ai.anthropic import AnthropicConfig, AnthropicProvider
from purveyor.providers.ai.errors import (
    AuthenticationError,
    BadResponseError,
    InvalidOutputError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
    StreamInterruptedError,
)
from purveyor.testing.doubles import AnthropicDouble, AnthropicReply, Called, Fault, Reply


@pytest.fixture
def double() -> Iterator[AnthropicDouble]:
    with AnthropicDouble() as double:
        yield double


def config_for(double: AnthropicDouble, **more: Any) -> AnthropicConfig:
    given = {"base_url": double.url, "api_key": double.key, "model": "model-a", **more}
    return AnthropicConfig.model_validate(given)


@pytest.fixture
async def provider(double: AnthropicDouble) -> AsyncIterator[AnthropicProvider]:
    async with AnthropicProvider(config_for(double, first_byte_timeout=0.3)) as provider:
        yield provider


async def read(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


async def gather(chunks: AsyncIterator[Chunk], came: list[str]) -> None:
    """Keep what comes, also of a stream that breaks."""
    async for chunk in chunks:
        came += [chunk.text]


# -- what is sent ------------------------------------------------------------------------


async def test_a_request_carries_key_and_version(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    await provider.complete("Hi")
    headers = double.last.headers
    assert headers["x-api-key"] == double.key
    assert headers["anthropic-version"] == "2026-10-21"
    assert "Authorization" not in headers


async def test_an_older_version_takes_a_temperature(double: AnthropicDouble) -> None:
    async with AnthropicProvider(config_for(double, version="2023-06-01")) as older:
        await older.complete("Hi", temperature=0.5)
    assert double.heard[-1].temperature == 0.5
    async with AnthropicProvider(config_for(double)) as newer:
        with pytest.raises(InvalidRequestError, match="does not take temperature"):
            await newer.complete("Hi", temperature=0.5)
    assert len(double.requests) == 1


async def test_a_version_that_is_unknown_is_refused(double: AnthropicDouble) -> None:
    async with AnthropicProvider(config_for(double, version="2030-01-01")) as provider:
        with pytest.raises(InvalidRequestError, match="2030-01-01"):
            await provider.complete("Hi")


async def test_a_whole_conversation_is_understood(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    tool = Tool("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})
    double.reply(Reply("Let me see.", calls=[Called("look", '{"at": "it"}', "toolu_9")]))
    asked = Message("user", [Text("What is it?"), Image(b"\x89PNG")])
    first = await provider.complete([asked], tools=[tool], tool_choice="required", system="Look.")
    told = Message("user", [Text("There."), ToolResult("toolu_9", "A cat.")])
    await provider.complete([asked, first.message, told], tools=[tool])
    heard = double.heard[-1]
    assert heard.images == [b"\x89PNG"]
    assert heard.calls == [("toolu_9", "look", {"at": "it"})]
    assert heard.results == [("toolu_9", "A cat.", False)]
    assert [double.heard[0].tool_choice, heard.tool_choice] == ["required", None]


class Person(BaseModel):
    name: str = Field(min_length=1)
    age: int = Field(ge=0, le=150)


async def test_an_answer_to_a_schema_is_read(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.reply(Reply('{"name": "Ada", "age": 36}'), Reply('{"name": "Ada", "age": -1}'))
    assert (await provider.complete("Who?", schema=Person)).data == Person(name="Ada", age=36)
    with pytest.raises(InvalidOutputError, match="age"):
        await provider.complete("Who?", schema=Person)


# -- what is answered --------------------------------------------------------------------


async def test_usage_has_the_cache_and_what_it_cost(double: AnthropicDouble) -> None:
    prices = {"model-a": {"input": "10", "output": "20", "cached": "1"}}
    double.reply(
        AnthropicReply(
            "Yes.", input_tokens=1000, cached_tokens=400, written_tokens=100, output_tokens=50
        )
    )
    async with AnthropicProvider(config_for(double, prices=prices)) as provider:
        usage = (await provider.complete("Hi")).usage
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (1000, 400, 50)
    assert usage.cost == Decimal("0.0074")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_why_it_ended_is_told(
    provider: AnthropicProvider, double: AnthropicDouble, stream: bool
) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    double.reply(AnthropicReply("So.", stop_reason="pause_turn", blocks=[thought]))
    if stream:
        answer = (await read(provider.stream("Hi")))[-1].completion
        assert answer is not None
    else:
        answer = await provider.complete("Hi")
    assert (answer.text, answer.finish_reason) == ("So.", FinishReason.PAUSED)


async def test_a_good_answer_may_say_when_to_come_again(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.reply(AnthropicReply("Yes.", headers={"retry-after": "60"}))
    assert (await provider.complete("Hi")).text == "Yes."
    assert len(double.requests) == 1


async def test_models_come_from_all_pages(
    double: AnthropicDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purveyor.providers.ai.anthropic.PAGE", 2)
    double.models = ("a", "b", "c", "d", "e")
    async with AnthropicProvider(config_for(double)) as provider:
        found = await provider.models()
    assert [model.id for model in found] == ["a", "b", "c", "d", "e"]
    assert found[0].created is not None
    assert found[0].details["lifecycle"] == "active"
    assert len(double.requests) == 3


async def test_tokens_are_counted_by_the_service(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    few = await provider.count_tokens("Hi", max_tokens=5, stop=["x"])
    many = await provider.count_tokens("Hi " * 100, system="Be brief.")
    assert 0 < few < many
    assert double.last.path == "/v1/messages/count_tokens"


async def test_health_is_a_list_of_one_model(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    await provider.check_health()
    assert (double.last.method, double.last.path) == ("GET", "/v1/models?limit=1")
    double.fail(double.fault("permission"), double.fault("authentication"))
    await provider.check_health()
    with pytest.raises(AuthenticationError):
        await provider.check_health()


# -- what goes wrong ---------------------------------------------------------------------


async def test_no_key_is_told_before_anything_is_asked() -> None:
    with pytest.raises(AuthenticationError, match="ANTHROPIC_API_KEY"):
        await AnthropicProvider(AnthropicConfig(model="claude-x")).initialize()


async def test_a_wrong_key_is_told_and_not_shown(
    double: AnthropicDouble, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "sk-ant-not-the-right-one"
    double.fail(double.error(401, "authentication_error", f"invalid x-api-key: {wrong}"))
    async with AnthropicProvider(config_for(double, api_key=SecretStr(wrong))) as provider:
        for _ in range(2):
            with pytest.raises(AuthenticationError) as caught:
                await provider.complete("Hi")
            assert wrong not in f"{caught.value} {caught.value.context} {provider.config!r}"
    assert wrong not in caplog.text


async def test_a_key_that_is_revoked_in_mid_stream(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.reply(Reply("one two", pieces=2, fails_after=1, fails_with="authentication"))
    came: list[str] = []
    with pytest.raises(AuthenticationError) as caught:
        await gather(provider.stream("Hi"), came)
    assert came == ["one "]
    assert caught.value.context["partial"] == "one "
    with pytest.raises(AuthenticationError):
        double.fail(double.fault("authentication"))
        await provider.complete("Hi")


async def test_a_model_that_is_not_there(provider: AnthropicProvider) -> None:
    with pytest.raises(ModelNotFoundError, match="claude-9"):
        await provider.complete("Hi", model="claude-9")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(200, {"Content-Type": "text/html"}, b"<title>Log in</title>"), "'Log in'"),
        (Fault(200, body=b""), "an empty body"),
        (Fault(200, body=[1]), "no object"),
        (Fault(200, body={"choices": []}), "not what the protocol says"),
    ],
    ids=["html", "empty", "a list", "another protocol"],
)
async def test_an_answer_that_is_none(
    provider: AnthropicProvider, double: AnthropicDouble, fault: Fault, told: str
) -> None:
    double.fail(fault, fault)
    with pytest.raises(BadResponseError, match=told):
        await provider.complete("Hi")
    with pytest.raises(BadResponseError):
        await read(provider.stream("Hi"))


async def test_a_limit_is_waited_for_and_an_overload_too(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.fail(
        double.fault("rate_limit", headers={"retry-after": "0"}),
        double.fault("overloaded", headers={"retry-after": "0"}),
    )
    assert (await provider.complete("Hi")).text == "You said: Hi"
    assert len(double.requests) == 3


@pytest.mark.parametrize(
    ("kind", "headers", "expected"),
    [
        ("rate_limit", {"retry-after": "99"}, RateLimitedError),
        ("server", {}, OverloadedError),
        ("quota", {"retry-after": "0"}, ServiceError),
        ("too_long", {}, InvalidRequestError),
    ],
)
async def test_what_would_not_help_is_not_asked_again(
    provider: AnthropicProvider,
    double: AnthropicDouble,
    kind: Any,
    headers: dict[str, str],
    expected: type[ServiceError],
) -> None:
    double.fail(double.fault(kind, headers=headers))
    with pytest.raises(expected):
        await provider.complete("Hi")
    assert len(double.requests) == 1


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault(cut_after=5), ServiceConnectionError),
        (Fault(stall_after=5), ServiceTimeoutError),
    ],
    ids=["the connection breaks", "nothing more comes"],
)
async def test_a_stream_that_breaks_has_what_had_come(
    provider: AnthropicProvider,
    double: AnthropicDouble,
    fault: Fault,
    cause: type[ServiceError],
) -> None:
    double.reply(Reply("one two three", pieces=3))
    double.fail(fault)
    came: list[str] = []
    with pytest.raises(StreamInterruptedError) as caught:
        await gather(provider.stream("Hi"), came)
    assert "".join(came) == caught.value.partial == "one t" + "wo th"
    assert isinstance(caught.value.__cause__, cause)


async def test_a_stream_that_merely_ends_is_no_answer(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.reply(Reply("one two", pieces=2, ends_after=1))
    with pytest.raises(StreamInterruptedError, match="message_stop") as caught:
        await read(provider.stream("Hi"))
    assert caught.value.partial == "one "


async def test_events_nobody_knows_are_skipped(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.reply(Reply("one two", noise=True, calls=[Called("look", '{"at": 1}')]))
    answer = (await read(provider.stream("Hi")))[-1].completion
    assert answer is not None
    assert answer.text == "one two"
    assert answer.tool_calls == (ToolCall("call_1", "look", {"at": 1}),)


async def test_an_event_that_is_no_json(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.reply(AnthropicReply(events=[b"event: ping\ndata: {\n\n"]))
    with pytest.raises(BadResponseError, match="no JSON"):
        await read(provider.stream("Hi"))


@pytest.mark.parametrize("finish", ["tool_calls", "length"])
async def test_a_call_that_is_broken_is_told(
    provider: AnthropicProvider, double: AnthropicDouble, finish: Any
) -> None:
    double.reply(Reply("", calls=[Called("look", '{"at": ')], finish=finish))
    with pytest.raises(InvalidOutputError, match="'look'") as caught:
        await read(provider.stream("Hi"))
    assert caught.value.context == {
        "tool": "look",
        "output": '{"at": ',
        "finish_reason": finish,
    }
    assert ("max_tokens" in str(caught.value)) == (finish == "length")


async def test_who_turns_away_breaks_the_connection(
    provider: AnthropicProvider, double: AnthropicDouble
) -> None:
    double.reply(Reply("word " * 100, pieces=100, pace=0.02))
    stream = provider.stream("Hi")
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        while not double.broken_streams:  # noqa: ASYNC110 - it is in another thread
            await asyncio.sleep(0.01)
    assert (await provider.complete("Hi")).text == "You said: Hi"
