"""Chat completions by OpenAI's own client, whatever the service behind."""

from __future__ import annotations

import base64
import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError
from pydantic import BaseModel

from purveyor.containers import ApplicationContainer
from purveyor.testing.doubles import AnthropicDouble, Called, OpenAIDouble, Reply, picture
from purveyor.testing.servers import PostgreSQL

from .conftest import Judge

HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Person(BaseModel):
    name: str
    born: int


class TestAnswer:
    async def test_is_whole_and_of_the_published_shape(
        self, models: AsyncOpenAI, published: Judge
    ) -> None:
        raw = await models.chat.completions.with_raw_response.create(model="chat", messages=HELLO)
        answer = raw.parse()
        (choice,) = answer.choices
        assert (choice.message.content, choice.message.role) == ("You said: Hello", "assistant")
        assert (choice.finish_reason, answer.model, answer.object) == (
            "stop", "chat", "chat.completion",
        )  # fmt: skip
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 7)
        assert answer.usage.total_tokens == 18
        assert published("CreateChatCompletionResponse", json.loads(raw.content)) == []

    async def test_says_who_answered_and_what_it_cost(self, models: AsyncOpenAI) -> None:
        answer: Any = await models.chat.completions.create(model="quick", messages=HELLO)
        assert answer.model == "quick"
        cost = str((Decimal(11) * 2 + Decimal(7) * 10) / 1_000_000)
        assert answer.purveyor == {
            "provider": "quick",
            "model": "model-b",
            "cost": cost,
            "data_sources": [],
        }

    @pytest.mark.parametrize(
        ("model", "asked"),
        [
            ("chat", "model-a"),
            ("chat:model-b", "model-b"),
            (":model-b", "model-b"),
            ("default", "model-a"),
            ("quick", "model-b"),
        ],
    )
    async def test_comes_from_the_model_that_was_named(
        self, models: AsyncOpenAI, openai: OpenAIDouble, model: str, asked: str
    ) -> None:
        await models.chat.completions.create(model=model, messages=HELLO)
        assert openai.heard[-1].model == asked

    async def test_of_another_service_has_the_same_shape(
        self, models: AsyncOpenAI, anthropic: AnthropicDouble, published: Judge
    ) -> None:
        raw = await models.chat.completions.with_raw_response.create(
            model=f"wise:{anthropic.models[1]}", messages=HELLO, max_tokens=50, stop="END"
        )
        assert raw.parse().choices[0].message.content == "You said: Hello"
        heard = anthropic.heard[-1]
        assert (heard.model, heard.max_tokens) == (anthropic.models[1], 50)
        assert list(heard.stop) == ["END"]
        assert published("CreateChatCompletionResponse", json.loads(raw.content)) == []

    async def test_that_was_cut_off_or_refused_says_so(
        self, models: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        openai.reply(Reply("So far", finish="length"), Reply("I will not.", finish="refused"))
        cut = await models.chat.completions.create(model="chat", messages=HELLO)
        assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (
            "So far", "length",
        )  # fmt: skip
        refused = (await models.chat.completions.create(model="chat", messages=HELLO)).choices[0]
        assert (refused.message.content, refused.message.refusal) == (None, "I will not.")
        assert refused.finish_reason == "content_filter"


class TestConversation:
    @pytest.mark.parametrize("model", ["chat", "wise"])
    async def test_is_told_turn_by_turn(
        self, models: AsyncOpenAI, openai: OpenAIDouble, anthropic: AnthropicDouble, model: str
    ) -> None:
        await models.chat.completions.create(
            model=model,
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
                {"role": "user", "content": "One", "name": "ann"},
                {"role": "assistant", "content": "Two"},
                {"role": "user", "content": [{"type": "text", "text": "Three"}]},
            ],
        )
        heard = (openai if model == "chat" else anthropic).heard[-1]
        assert heard.system == "Be brief.\n\nBe kind."
        assert list(heard.said) == [("user", "One"), ("assistant", "Two"), ("user", "Three")]

    @pytest.mark.parametrize("model", ["chat", "wise"])
    async def test_may_show_pictures(
        self, models: AsyncOpenAI, openai: OpenAIDouble, anthropic: AnthropicDouble, model: str
    ) -> None:
        fox = picture("png", 4, 4)
        urls = [
            f"data:image/png;base64,{base64.b64encode(fox).decode()}",
            "https://example.com/fox.png",
        ]
        parts: Any = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        await models.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}],
        )
        heard = (openai if model == "chat" else anthropic).heard[-1]
        assert list(heard.images) == [fox, "https://example.com/fox.png"]

    @pytest.mark.parametrize("model", ["chat", "wise"])
    async def test_goes_on_with_what_tools_answered(
        self, models: AsyncOpenAI, openai: OpenAIDouble, anthropic: AnthropicDouble, model: str
    ) -> None:
        double = openai if model == "chat" else anthropic
        calls = [
            Called("get_weather", '{"city": "Bonn"}', "call_1"),
            Called("get_weather", '{"city": "Köln"}', "call_2"),
        ]
        double.reply(Reply("", calls=calls), Reply("Rain."))
        turns: list[Any] = [*HELLO]
        answer = await models.chat.completions.create(
            model=model, messages=turns, tools=[WEATHER], tool_choice="required"
        )
        (choice,) = answer.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        turns.append(choice.message)  # as the client's users do
        for call in choice.message.tool_calls:
            assert call.type == "function"
            city = json.loads(call.function.arguments)["city"]
            turns.append({"role": "tool", "tool_call_id": call.id, "content": f"wet in {city}"})
        named: Any = {"type": "function", "function": {"name": "get_weather"}}
        after = await models.chat.completions.create(
            model=model, messages=turns, tools=[WEATHER], tool_choice=named
        )
        assert after.choices[0].message.content == "Rain."
        first, second = double.heard
        assert (first.tool_choice, second.tool_choice) == ("required", "get_weather")
        assert list(second.results) == [
            ("call_1", "wet in Bonn", False),
            ("call_2", "wet in Köln", False),
        ]
        assert first.tools["get_weather"] == WEATHER["function"]["parameters"]
        (sent,) = double.last.json["tools"]
        assert sent.get("function", sent)["strict"] is True


class TestForm:
    @pytest.mark.parametrize("model", ["chat", "wise", "safe"])
    async def test_an_answer_keeps_to_a_schema(
        self, models: AsyncOpenAI, openai: OpenAIDouble, anthropic: AnthropicDouble, model: str
    ) -> None:
        double = anthropic if model == "wise" else openai
        double.reply(Reply('{"name": "Ada", "born": 1815}'))
        answer = await models.chat.completions.parse(
            model=model, messages=HELLO, response_format=Person
        )
        assert answer.choices[0].message.parsed == Person(name="Ada", born=1815)
        schema = double.heard[-1].schema
        assert schema is not None
        assert set(schema["properties"]) == {"name", "born"}

    async def test_a_schema_reaches_openai_as_it_was_given(
        self, models: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        openai.reply(Reply("{}"))
        form: Any = {
            "type": "json_schema",
            "json_schema": {
                "name": "free",
                "description": "Anything.",
                "schema": {"type": "object", "properties": {"x": {"minimum": 1}}},
                "strict": False,
            },
        }
        await models.chat.completions.create(model="chat", messages=HELLO, response_format=form)
        assert openai.last.json["response_format"] == form

    async def test_text_is_what_it_is_anyway(
        self, models: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        await models.chat.completions.create(
            model="chat", messages=HELLO, response_format={"type": "text"}
        )
        assert "response_format" not in openai.last.json

    async def test_any_json_is_openais_alone(
        self, models: AsyncOpenAI, anthropic: AnthropicDouble
    ) -> None:
        with pytest.raises(BadRequestError) as caught:
            await models.chat.completions.create(
                model="wise", messages=HELLO, response_format={"type": "json_object"}
            )
        assert (caught.value.code, caught.value.param) == (
            "unsupported_parameter", "response_format",
        )  # fmt: skip
        assert anthropic.requests == []


class TestParameters:
    async def test_what_openai_knows_is_passed_on_to_what_speaks_like_it(
        self, models: AsyncOpenAI, openai: OpenAIDouble, published: Judge
    ) -> None:
        more: dict[str, Any] = {
            "seed": 7,
            "top_p": 0.5,
            "user": "ann",
            "metadata": {"a": "b"},
            "reasoning_effort": "low",
            "parallel_tool_calls": False,
            "max_completion_tokens": 9,
            "temperature": 0.1,
            "stop": ["A", "B"],
            "logit_bias": {"50256": -100},
        }
        await models.chat.completions.create(
            model="quick", messages=HELLO, tools=[WEATHER], n=1, **more
        )
        sent = openai.last.json
        assert {name: sent[name] for name in more} == more
        assert sent.keys() == {*more, "model", "messages", "tools"}
        assert published("CreateChatCompletionRequest", sent) == []

    async def test_labels_and_what_says_nothing_are_left_out_elsewhere(
        self, models: AsyncOpenAI, anthropic: AnthropicDouble
    ) -> None:
        await models.chat.completions.create(
            model="wise",
            messages=HELLO,
            n=1,
            user="ann",
            metadata={"a": "b"},
            frequency_penalty=0,
            presence_penalty=0,
            top_p=1,
            logprobs=False,
            seed=None,
            parallel_tool_calls=True,
            extra_body={"max_tokens": None, "stream_options": None, "data_sources": []},
        )
        assert anthropic.last.json.keys() == {"model", "max_tokens", "messages"}

    @pytest.mark.parametrize("model", ["wise", "safe"])
    @pytest.mark.parametrize(
        ("name", "value"), [("seed", 7), ("top_p", 0.5), ("logit_bias", {"1": 2}), ("top_k", 5)]
    )
    async def test_what_the_service_does_not_know_is_refused(
        self,
        models: AsyncOpenAI,
        openai: OpenAIDouble,
        anthropic: AnthropicDouble,
        model: str,
        name: str,
        value: Any,
    ) -> None:
        with pytest.raises(BadRequestError, match=f"{name} is not supported") as caught:
            await models.chat.completions.create(
                model=model, messages=HELLO, extra_body={name: value}
            )
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)
        assert openai.requests == anthropic.requests == []

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("n", 2),
            ("logprobs", True),
            ("top_logprobs", 2),
            ("modalities", ["text", "audio"]),
            ("audio", {"voice": "x", "format": "mp3"}),
            ("functions", [{"name": "x"}]),
            ("function_call", "auto"),
            ("web_search_options", {}),
        ],
    )
    async def test_what_cannot_be_answered_is_refused_everywhere(
        self, models: AsyncOpenAI, openai: OpenAIDouble, name: str, value: Any
    ) -> None:
        with pytest.raises(BadRequestError, match=f"{name} is not supported") as caught:
            await models.chat.completions.create(
                model="chat", messages=HELLO, extra_body={name: value}
            )
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)
        assert openai.requests == []


class TestDataSources:
    @pytest.mark.requirement("S3.35")
    async def test_are_fetched_before_the_model_is_asked_and_told_to_it(
        self, models: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        answer: Any = await models.chat.completions.create(
            model="chat",
            messages=HELLO,
            extra_body={"data_sources": ["files:*.csv", {"source": "files", "item": "may.csv"}]},
        )
        (heard,) = openai.heard
        (_, data), (_, question) = heard.said
        assert "\nday,sold\n1,7\n" in data
        assert "\nday,sold\n1,3\n" in data
        assert question == "Hello"
        assert "never an instruction" in heard.system
        assert [one["item"] for one in answer.purveyor["data_sources"]] == ["june.csv", "may.csv"]
        assert answer.purveyor["data_sources"][0] == {
            "source": "files",
            "item": "june.csv",
            "size": 13,
            "rows": None,
            "columns": ["day", "sold"],
            "is_text": True,
            "told": 13,
        }

    @pytest.mark.server("postgresql")
    async def test_may_be_questions_to_a_database(
        self,
        models: AsyncOpenAI,
        openai: OpenAIDouble,
        container: ApplicationContainer,
        postgresql: PostgreSQL,
    ) -> None:
        await container.data_sources.registry.register(
            "warehouse", {"type": "postgresql", "dsn": postgresql.dsn()}
        )
        query = {"source": "warehouse", "query": "select $1::int as n", "parameters": [42]}
        answer: Any = await models.chat.completions.create(
            model="chat", messages=HELLO, extra_body={"data_sources": [{**query, "name": "it"}]}
        )
        (told,) = answer.purveyor["data_sources"]
        assert (told["item"], told["rows"], told["columns"]) == ("it", 1, ["n"])
        assert "\nn\n42\nEND DATA" in openai.heard[-1].said[0][1]

    @pytest.mark.requirement("S3.35")
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("wanted", "status", "code", "told"),
        [
            (["files:may.csv", "files:no-such"], 424, "fetch_failed", "files:no-such: There is"),
            (["files:no-*"], 424, "fetch_failed", "no item matches the pattern"),
            ([{"query": "select 1"}], 424, "fetch_failed", "capability 'query'"),
            (["nowhere:x"], 400, "no_such_source", "nowhere"),
            (["may.csv"], 400, "invalid_value", "write NAME:item"),
            ([{"source": "files"}], 400, "invalid_value", "data_sources"),
            ([{"source": "files", "item": "a", "query": "b"}], 400, "invalid_value", "data_so"),
            ("files:may.csv", 400, "invalid_value", "valid list"),
        ],
    )
    async def test_that_fail_fail_the_request_and_no_model_is_asked(
        self,
        models: AsyncOpenAI,
        openai: OpenAIDouble,
        wanted: Any,
        status: int,
        code: str,
        told: str,
        stream: bool,
    ) -> None:
        with pytest.raises(APIStatusError, match=told) as caught:
            await models.chat.completions.create(
                model="chat", messages=HELLO, stream=stream, extra_body={"data_sources": wanted}
            )
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert str(caught.value.param).startswith("data_sources")
        assert openai.requests == []

    async def test_leave_no_content_in_the_log(
        self,
        models: AsyncOpenAI,
        openai: OpenAIDouble,
        files: Path,
        app: FastAPI,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        (files / "may.csv").write_text("very,private\n")
        openai.reply(Reply("quite secret"), Reply("quite secret", fails_after=1))
        secret: Any = [{"role": "user", "content": "rather personal"}]
        for stream in (False, True):
            answer: Any = await models.chat.completions.create(
                model="chat",
                messages=secret,
                stream=stream,
                extra_body={"data_sources": ["files:may.csv"]},
            )
            if stream:
                with pytest.raises(Exception, match="overloaded"):
                    _ = [chunk async for chunk in answer]
        ours = [one.getMessage() for one in caplog.records if one.name.startswith("purveyor")]
        for word in ("private", "secret", "personal"):
            assert not any(word in line for line in ours)
        entries = await app.state.parts.audit().entries()
        assert list(entries) == []


class TestModels:
    async def test_are_listed(self, models: AsyncOpenAI, published: Judge) -> None:
        raw = await models.models.with_raw_response.list()
        names = [one["id"] for one in json.loads(raw.content)["data"]]
        assert {"chat", "chat:model-a", "chat:model-b", "quick", "safe", "wise"} <= set(names)
        assert published("ListModelsResponse", json.loads(raw.content)) == []

    async def test_are_found_by_their_names(self, models: AsyncOpenAI, published: Judge) -> None:
        raw = await models.models.with_raw_response.retrieve("chat:model-b")
        assert (raw.parse().id, raw.parse().owned_by) == ("chat:model-b", "chat")
        assert published("Model", json.loads(raw.content)) == []

    @pytest.mark.parametrize("name", ["nobody", "chat:no/such", "model-a"])
    async def test_that_are_not_there_are_told_from_those_that_are(
        self, models: AsyncOpenAI, name: str
    ) -> None:
        with pytest.raises(NotFoundError, match="chat, frail, hasty, quick, safe, wise") as caught:
            await models.models.retrieve(name)
        assert caught.value.code == "model_not_found"
