"""The rules of capabilities: what is declared is there, and what is not is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from ...providers.ai import FinishReason, Image, Message, Text, Tool, ToolCall, ToolResult
from ...providers.ai.errors import InvalidOutputError
from ...providers.registry import UnsupportedCapabilityError
from ..doubles import AIDouble, Called, Reply
from .ai_case import AICase, AIModel, ai_test, both, drained, refusal

__all__ = ["CapabilityRules"]

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fccf"
    "c0f01f000501017f5c9b1f6e0000000049454e44ae426082"
)
WEATHER = Tool(
    "get_weather",
    "Tells the weather of a place.",
    {
        "type": "object",
        "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["place"],
    },
)
CLOCK = Tool("get-time")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "born": {"type": "integer"}},
    "required": ["name", "born"],
    "additionalProperties": False,
}
ADA = {"name": "Ada Löwe", "born": 1815}
PICTURE = Message("user", [Text("What is this?"), Image(PNG)])


class Person(BaseModel):
    """An answer."""

    name: str
    born: int
    field: Literal["mathematics", "music"] = "mathematics"


class CapabilityRules(AICase):
    """What a caller may rely on in tools, schemas, pictures, models and counting."""

    def test_capabilities_are_declared(self) -> None:
        """Capabilities are lower-case names; every type streams."""
        assert all(name == name.lower() and name for name in self.capabilities)
        assert "streaming" in self.capabilities

    # -- tools ---------------------------------------------------------------------------

    @ai_test
    async def test_tools_are_called(self, model: AIModel, service: AIDouble) -> None:
        """With `tools`: the calls come with their arguments read, whole and streamed alike."""
        self.needs("tools")
        reply = Reply(
            "Let me see.",
            calls=[
                Called("get_weather", '{"place": "Zürich", "days": 2}', "call_a"),
                Called("get-time", "{}", "call_b"),
            ],
        )
        service.reply(reply, reply)
        whole = await model.complete("Weather?", tools=[WEATHER, CLOCK])
        assert whole.finish_reason is FinishReason.TOOL_CALLS
        assert whole.text == "Let me see."
        assert whole.tool_calls == (
            ToolCall("call_a", "get_weather", {"place": "Zürich", "days": 2}),
            ToolCall("call_b", "get-time", {}),
        )
        text, streamed = await drained(model.stream("Weather?", tools=[WEATHER, CLOCK]))
        assert text == "Let me see."
        assert replace(streamed, id="") == replace(whole, id="")
        for heard in service.heard:
            assert heard.tools.keys() == {"get_weather", "get-time"}
            assert heard.tools["get_weather"] == WEATHER.parameters

    @ai_test
    async def test_results_of_tools_arrive(self, model: AIModel, service: AIDouble) -> None:
        """With `tools`: the calls go back with the answer, the results each to its call."""
        self.needs("tools")
        calls = [
            Called("get_weather", '{"place": "Bern"}', "call_a"),
            Called("get-time", "{}", "b"),
        ]
        service.reply(Reply("", calls=calls))
        asked = Message("user", "Weather?")
        answer = await model.complete([asked], tools=[WEATHER, CLOCK])
        results = Message(
            "user",
            [ToolResult("call_a", "sunny"), ToolResult("b", "no clock", failed=True), Text("So?")],
        )
        final = await model.complete([asked, answer.message, results], tools=[WEATHER, CLOCK])
        heard = service.heard[-1]
        assert final.text == "You said: So?"
        assert heard.calls == [
            ("call_a", "get_weather", {"place": "Bern"}),
            ("b", "get-time", {}),
        ]
        assert [(call, failed) for call, _, failed in heard.results] == [
            ("call_a", False),
            ("b", True),
        ]
        assert [content for _, content, _ in heard.results] == ["sunny", "no clock"]

    @pytest.mark.parametrize("choice", ["auto", "none", "required", "get_weather"])
    @ai_test
    async def test_the_choice_of_tools_arrives(
        self, model: AIModel, service: AIDouble, choice: str
    ) -> None:
        """With `tools`: whether one is to be used, or which."""
        self.needs("tools")
        await model.complete("Weather?", tools=[WEATHER, CLOCK], tool_choice=choice)
        assert service.heard[-1].tool_choice == choice

    @pytest.mark.parametrize("finish", ["tool_calls", "length"])
    @ai_test
    async def test_a_broken_call_is_told(
        self, model: AIModel, service: AIDouble, finish: Any
    ) -> None:
        """With `tools`: arguments that are no JSON are an InvalidOutputError that has them."""
        self.needs("tools")
        broken = '{"place": "Ber'
        service.reply(Reply("Hm", calls=[Called("get_weather", broken)], finish=finish))
        error = await refusal(
            InvalidOutputError, "stream", drained(model.stream("Weather?", tools=[WEATHER]))
        )
        assert "get_weather" in str(error)
        assert error.context["output"] == broken
        assert error.context["finish_reason"] == finish
        assert not error.is_backend_failure
        json.dumps(error.to_dict())

    @ai_test
    async def test_undeclared_tools_are_refused(self, model: AIModel, service: AIDouble) -> None:
        """Without `tools`: UnsupportedCapabilityError that names it; the service is not asked."""
        self.refuses("tools")
        await self._refused(model, service, "tools", "Weather?", tools=[WEATHER])

    # -- schemas -------------------------------------------------------------------------

    @ai_test
    async def test_answers_keep_to_a_schema(self, model: AIModel, service: AIDouble) -> None:
        """With `json-schema`: the schema arrives, and `data` has the answer, read."""
        self.needs("json-schema")
        service.reply(*[Reply(json.dumps(ADA, ensure_ascii=False))] * 2)
        answer = await model.complete("Who?", schema=SCHEMA)
        assert answer.data == ADA
        _, streamed = await drained(model.stream("Who?", schema=SCHEMA))
        assert streamed.data == ADA
        for heard in service.heard:
            assert heard.schema is not None
            assert heard.schema["properties"].keys() == {"name", "born"}

    @ai_test
    async def test_answers_become_models(self, model: AIModel, service: AIDouble) -> None:
        """With `json-schema`: a pydantic model is a schema, and `data` an instance of it."""
        self.needs("json-schema")
        service.reply(*[Reply(json.dumps({**ADA, "field": "music"}))] * 2)
        expected = Person(name="Ada Löwe", born=1815, field="music")
        assert (await model.complete("Who?", schema=Person)).data == expected
        _, streamed = await drained(model.stream("Who?", schema=Person))
        assert streamed.data == expected

    @pytest.mark.parametrize("text", ["Ada, 1815", '{"name": "Ada"', '{"name": "Ada"}'])
    @ai_test
    async def test_an_answer_against_the_schema_is_told(
        self, model: AIModel, service: AIDouble, text: str
    ) -> None:
        """With `json-schema`: an answer that is not what was asked for: InvalidOutputError."""
        self.needs("json-schema")
        service.reply(Reply(text), Reply(text))
        for name, call in both(model, "Who?", schema=Person):
            error = await refusal(InvalidOutputError, name, call)
            assert error.context["output"] == text
            assert not error.is_backend_failure

    @ai_test
    async def test_undeclared_schemas_are_refused(self, model: AIModel, service: AIDouble) -> None:
        """Without `json-schema`: UnsupportedCapabilityError; the service is not asked."""
        self.refuses("json-schema")
        await self._refused(model, service, "json-schema", "Who?", schema=SCHEMA)

    # -- pictures ------------------------------------------------------------------------

    @ai_test
    async def test_pictures_arrive(self, model: AIModel, service: AIDouble) -> None:
        """With `vision`: bytes as they are, addresses as they are, texts beside them."""
        self.needs("vision")
        url = "https://example.org/a.png"
        await model.complete([Message("user", [Text("This?"), Image(PNG), Image(url=url)])])
        heard = service.heard[-1]
        assert heard.images == [PNG, url]
        assert heard.said == [("user", "This?")]

    @ai_test
    async def test_undeclared_pictures_are_refused(self, model: AIModel, service: AIDouble) -> None:
        """Without `vision`: UnsupportedCapabilityError that names it; the service is not asked."""
        self.refuses("vision")
        await self._refused(model, service, "vision", [PICTURE])

    # -- models, counting, health --------------------------------------------------------

    @ai_test
    async def test_models_are_listed(self, model: AIModel, service: AIDouble) -> None:
        """All models of the service, by the name a call gives; times are in UTC."""
        found = await model.models()
        assert sorted(info.id for info in found) == sorted(service.models)
        for info in found:
            assert info.created is None or info.created.utcoffset() == timedelta(0)

    @ai_test
    async def test_tokens_are_counted(self, model: AIModel, service: AIDouble) -> None:
        """With `token-counting`: as the service counts, without an answer being asked for."""
        self.needs("token-counting")
        assert await model.count_tokens("Hello") > 0
        assert await model.count_tokens("Hello " * 500) > await model.count_tokens("Hello")
        assert service.heard == []

    @ai_test
    async def test_undeclared_counting_is_refused(self, model: AIModel, service: AIDouble) -> None:
        """Without `token-counting`: UnsupportedCapabilityError; the service is not asked."""
        self.refuses("token-counting")
        error = await refusal(
            UnsupportedCapabilityError, "count_tokens", model.count_tokens("Hello")
        )
        assert "token-counting" in str(error)
        assert service.requests == []

    @ai_test
    async def test_health_costs_nothing(self, model: AIModel, service: AIDouble) -> None:
        """A health check asks for no answer."""
        await model.check_health()
        assert service.requests, "the service was not asked"
        assert service.heard == []

    async def _refused(
        self, model: AIModel, service: AIDouble, capability: str, prompt: Any, **options: Any
    ) -> None:
        for name, call in both(model, prompt, **options):
            error = await refusal(UnsupportedCapabilityError, name, call)
            assert capability in str(error)
        assert service.requests == []
