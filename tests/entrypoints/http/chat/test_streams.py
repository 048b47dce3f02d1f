"""Answers as they come, from a real server: whole, broken off, left alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from openai import APIError, AsyncOpenAI, AsyncStream, InternalServerError

from purveyor.containers import ApplicationContainer
from purveyor.providers.ai import AIConfig, AIProvider, Chunk, Completion, FinishReason
from purveyor.providers.ai.base import Request
from purveyor.providers.registry import guarded
from purveyor.testing.conformance.ai_case import until
from purveyor.testing.doubles import Called, Fault, OpenAIDouble, Reply

from ..conftest import Served
from .conftest import Judge

HELLO: Any = [{"role": "user", "content": "Hello"}]


async def lines(served: Served, token: str, **asked: Any) -> list[str]:
    """Return what a stream says, event by event."""
    async with httpx2.AsyncClient(base_url=served.base_url) as client:
        answer = await client.post(
            "/v1/chat/completions",
            headers={"Authorization": f"Bearer {token}"},
            json={"messages": HELLO, "stream": True, **asked},
        )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    *events, rest = answer.text.split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") for event in events)
    return [event.removeprefix("data: ") for event in events]


def faults(judge: Judge, chunk: dict[str, Any]) -> list[str]:
    """Return the faults of a chunk; the published schema has no null where the service sends it."""
    choices = [{**one, "finish_reason": one["finish_reason"] or "stop"} for one in chunk["choices"]]
    known = {key: value for key, value in chunk.items() if value is not None}
    return judge("CreateChatCompletionStreamResponse", {**known, "choices": choices})


class TestAStream:
    async def test_has_the_role_first_then_the_text_the_end_and_its_mark(
        self, served: Served, token: str, openai: OpenAIDouble
    ) -> None:
        openai.reply(Reply("grün und blau", pieces=3))
        *events, mark = await lines(served, token)
        chunks = [json.loads(event) for event in events]
        assert mark == "[DONE]"
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
        assert "".join(delta["content"] for delta in deltas[1:-1]) == "grün und blau"
        assert len(deltas) == 5
        assert deltas[-1] == {}
        ends = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert ends == [None] * 4 + ["stop"]
        assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
        assert all("usage" not in chunk for chunk in chunks)

    @pytest.mark.parametrize("model", ["chat", "wise"])
    async def test_is_of_the_published_shape(
        self, served: Served, token: str, openai: OpenAIDouble, published: Judge, model: str
    ) -> None:
        openai.reply(Reply("Wait.", calls=[Called("f", '{"n": 1}')]))
        tool = {"type": "function", "function": {"name": "f"}}
        usage = {"include_usage": True}
        *events, _ = await lines(served, token, model=model, tools=[tool], stream_options=usage)
        chunks = [json.loads(event) for event in events]
        assert [fault for chunk in chunks for fault in faults(published, chunk)] == []

    async def test_ends_with_what_it_used_if_that_is_wanted(
        self, served: Served, token: str
    ) -> None:
        *events, _ = await lines(served, token, stream_options={"include_usage": True})
        *others, last = [json.loads(event) for event in events]
        assert all(chunk["usage"] is None for chunk in others)
        assert (last["choices"], last["usage"]["total_tokens"]) == ([], 18)

    async def test_says_what_was_fetched_before_the_first_word(
        self, served: Served, token: str, openai: OpenAIDouble
    ) -> None:
        *events, _ = await lines(served, token, data_sources=["files:may.csv"])
        first, *_, last = [json.loads(event)["purveyor"] for event in (events[0], events[-1])]
        assert first["provider"] == "chat"
        assert [one["item"] for one in first["data_sources"]] == ["may.csv"]
        assert (last["model"], last["data_sources"]) == ("model-a", first["data_sources"])
        assert "1,3" in openai.heard[-1].said[0][1]

    async def test_comes_as_it_is_said(self, live: AsyncOpenAI, openai: OpenAIDouble) -> None:
        openai.reply(Reply("one two", pieces=7))
        openai.fail(Fault(hold_after=3))
        stream: Any = await live.chat.completions.create(model="chat", messages=HELLO, stream=True)
        chunks = aiter(stream)
        assert (await anext(chunks)).choices[0].delta.role == "assistant"
        assert (await anext(chunks)).choices[0].delta.content == "o"  # the rest is held
        openai.release()
        rest = [chunk.choices[0].delta.content or "" async for chunk in chunks]
        assert "".join(rest) == "ne two"

    @pytest.mark.parametrize("model", ["chat", "wise"])
    async def test_asks_for_tools(
        self, live: AsyncOpenAI, openai: OpenAIDouble, anthropic: Any, model: str
    ) -> None:
        calls = [Called("f", '{"n": 1}', "call_1"), Called("f", '{"n": 2}', "call_2")]
        (openai if model == "chat" else anthropic).reply(Reply("Wait.", calls=calls))
        tool: Any = {"type": "function", "function": {"name": "f"}}
        async with live.chat.completions.stream(
            model=model, messages=HELLO, tools=[tool]
        ) as stream:
            answer = await stream.get_final_completion()
        (choice,) = answer.choices
        assert (choice.message.content, choice.finish_reason) == ("Wait.", "tool_calls")
        assert choice.message.tool_calls is not None
        asked = [(one.id, one.function.arguments) for one in choice.message.tool_calls]
        assert asked == [("call_1", '{"n": 1}'), ("call_2", '{"n": 2}')]

    async def test_may_have_characters_that_are_cut_in_two(
        self, live: AsyncOpenAI, container: ApplicationContainer
    ) -> None:
        class Halves(AIProvider[AIConfig]):
            async def _stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
                for half in ("\ud83e", "\udd8a"):
                    yield Chunk(half)
                yield Chunk(completion=Completion("", "x", FinishReason.STOP))

        provider = guarded(Halves(AIConfig(base_url="http://127.0.0.1:1", model="x")), name="cut")
        with container.ai.override_provider("cut", provider):
            stream: Any = await live.chat.completions.create(
                model="cut", messages=HELLO, stream=True
            )
            said = [chunk.choices[0].delta.content or "" async for chunk in stream]
        await provider.dispose()
        assert "".join(said).encode("utf-16", "surrogatepass").decode("utf-16") == "🦊"

    async def test_of_another_service_has_the_same_shape(self, served: Served, token: str) -> None:
        *events, mark = await lines(served, token, model="wise")
        chunks = [json.loads(event) for event in events]
        said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert (said, mark) == ("You said: Hello", "[DONE]")


class TestAStreamThatFails:
    async def test_in_its_midst_ends_with_the_error_and_without_the_mark(
        self, served: Served, token: str, openai: OpenAIDouble
    ) -> None:
        openai.reply(Reply("one two three", pieces=5, fails_after=2))
        *_, last = await lines(served, token)
        error = json.loads(last)
        assert (error["error"]["type"], error["error"]["code"]) == ("server_error", "overloaded")

    async def test_is_an_error_of_the_client(self, live: AsyncOpenAI, openai: OpenAIDouble) -> None:
        openai.fail(Fault(cut_after=3))
        stream: Any = await live.chat.completions.create(model="chat", messages=HELLO, stream=True)
        with pytest.raises(APIError, match="broke off") as caught:
            _ = [chunk async for chunk in stream]
        assert caught.value.code == "stream_interrupted"

    async def test_before_it_begins_has_a_status(
        self, live: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        openai.fail(Fault(hang_up=True))
        with pytest.raises(InternalServerError) as caught:
            await live.chat.completions.create(model="chat", messages=HELLO, stream=True)
        assert caught.value.status_code == 502


class TestACallerWhoLeaves:
    async def test_ends_the_stream_of_the_service(
        self, live: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        openai.fail(Fault(stall_after=3))
        stream: AsyncStream[Any] = await live.chat.completions.create(
            model="chat", messages=HELLO, stream=True
        )
        await anext(aiter(stream))
        assert openai.open_streams == 1
        await stream.close()
        await until(lambda: openai.broken_streams == 1, "the stream is left")
        assert openai.open_streams == 0

    async def test_ends_it_before_its_first_word_too(
        self, live: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        openai.fail(Fault(stall_after=0))
        asking = asyncio.create_task(
            live.chat.completions.create(model="chat", messages=HELLO, stream=True)
        )
        await until(lambda: openai.open_streams == 1, "the stream begins")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: openai.broken_streams == 1, "the stream is left")

    async def test_ends_the_work_on_a_whole_answer(
        self, live: AsyncOpenAI, container: ApplicationContainer
    ) -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        class Slow(AIProvider[AIConfig]):
            async def _complete(self, request: Request) -> Completion:
                began.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()
                raise AssertionError

        provider = guarded(Slow(AIConfig(base_url="http://127.0.0.1:1", model="x")), name="slow")
        with container.ai.override_provider("slow", provider):
            asking = asyncio.create_task(live.chat.completions.create(model="slow", messages=HELLO))
            await began.wait()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            async with asyncio.timeout(5):
                await ended.wait()
        await provider.dispose()

    async def test_leaves_nothing_behind_of_a_stream_he_reads_too_slowly(
        self, served: Served, token: str, container: ApplicationContainer
    ) -> None:
        closed = asyncio.Event()

        class Endless(AIProvider[AIConfig]):
            async def _stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
                try:
                    while True:
                        yield Chunk("x" * 10_000)
                finally:
                    closed.set()

        provider = guarded(
            Endless(AIConfig(base_url="http://127.0.0.1:1", model="x")), name="endless"
        )
        with container.ai.override_provider("endless", provider):
            host, port = served.base_url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            body = json.dumps({"model": "endless", "messages": HELLO, "stream": True})
            writer.write(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}"
                f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                .encode()
            )  # fmt: skip
            assert b"200" in await reader.readline()
            writer.transport.abort()  # what he never read is in all buffers by now
            async with asyncio.timeout(5):
                await closed.wait()
        await provider.dispose()


class TestTheEndOfTheService:
    async def test_is_told_in_the_midst_of_a_stream(
        self, live: AsyncOpenAI, app: FastAPI, openai: OpenAIDouble
    ) -> None:
        openai.fail(Fault(stall_after=3))
        stream: Any = await live.chat.completions.create(model="chat", messages=HELLO, stream=True)
        await anext(aiter(stream))
        app.state.stopping.set()
        with pytest.raises(APIError, match="service ends") as caught:
            _ = [chunk async for chunk in stream]
        assert (caught.value.code, caught.value.type) == ("shutting_down", "server_error")
        await until(lambda: openai.broken_streams == 1, "the stream is left")

    async def test_refuses_new_streams(
        self, live: AsyncOpenAI, app: FastAPI, openai: OpenAIDouble
    ) -> None:
        app.state.stopping.set()
        with pytest.raises(InternalServerError) as caught:
            await live.chat.completions.create(model="chat", messages=HELLO, stream=True)
        assert (caught.value.status_code, caught.value.code) == (503, "shutting_down")
