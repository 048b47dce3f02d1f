"""OpenAI's chat completions: what is sent, and what is made of what comes back."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel, Field

from purveyor.providers.ai import (
    FinishReason,
    Image,
    Message,
    Prompt,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from purveyor.providers.ai.base import AIConfig, Request
from purveyor.providers.ai.errors import (
    BadResponseError,
    InvalidOutputError,
    InvalidRequestError,
    OverloadedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
    StreamInterruptedError,
)
from purveyor.providers.ai.openai_chat import ChatReducer, body_of, completion_of, models_of
from purveyor.providers.ai.openai_schema import is_strict, strict
from purveyor.providers.ai.wire import DONE, WireEvent, chunks_of
from purveyor.testing.doubles import Called, OpenAIDouble, Reply
from tests.providers.ai.conftest import Judge

CONFIG = AIConfig(base_url="http://127.0.0.1:1", model="model-a")
WEATHER = Tool("get_weather", "The weather of a place.", {"type": "object", "properties": {}})
CALL = ToolCall("call_1", "get_weather", {"place": "Zürich"})


class Street(BaseModel):
    name: str
    number: int = 1


class Person(BaseModel):
    """Somebody."""

    name: str = Field(description="As it is written.")
    home: Street | None = None
    streets: list[Street] = []


def request(prompt: Prompt = "Hello", **options: Any) -> Request:
    return Request.of(prompt, options, CONFIG)  # type: ignore[arg-type]


# -- what is sent ------------------------------------------------------------------------


def test_only_what_is_said_is_sent():
    assert body_of(request()) == {
        "model": "model-a",
        "messages": [{"role": "user", "content": "Hello"}],
    }


def test_instructions_come_first():
    prompt = [Message("user", "Hello"), Message("system", "In verse.")]
    assert body_of(request(prompt, system="Be brief."))["messages"] == [
        {"role": "system", "content": "Be brief.\n\nIn verse."},
        {"role": "user", "content": "Hello"},
    ]


def test_options_have_the_names_of_the_service():
    options: Any = {"max_tokens": 5, "temperature": 0.5, "stop": ["END"], "extra": {"seed": 7}}
    assert body_of(request(**options)) == {
        **body_of(request()),
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "stop": ["END"],
        "seed": 7,
    }
    older = body_of(request(**options), max_tokens_field="max_tokens")
    assert older["max_tokens"] == 5
    assert "max_completion_tokens" not in older


def test_a_stream_is_asked_for_its_usage_unless_told_otherwise():
    body = body_of(request(), stream=True)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert "stream_options" not in body_of(request(), stream=True, stream_usage=False)


def test_options_of_the_stream_may_be_more():
    body = body_of(request(extra={"stream_options": {"include_obfuscation": False}}), stream=True)
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}


@pytest.mark.parametrize("name", ["model", "messages", "stream"])
def test_nothing_is_said_twice(name: str):
    with pytest.raises(InvalidRequestError, match=f"extra has {name}, which the call itself says"):
        body_of(request(extra={name: True}))


def test_images_are_data_or_addresses():
    prompt = [Message("user", [Text("This?"), Image(b"\x89PNG"), Image(url="https://x.test/a")])]
    assert body_of(request(prompt))["messages"][0]["content"] == [
        {"type": "text", "text": "This?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "image_url", "image_url": {"url": "https://x.test/a"}},
    ]


def test_results_of_tools_stand_before_what_the_user_says():
    prompt = [
        Message("user", "Weather?"),
        Message("assistant", [CALL]),
        Message(
            "user",
            [Text("So?"), ToolResult("call_1", "sunny"), ToolResult("c2", "no", failed=True)],
        ),
    ]
    called = {"name": "get_weather", "arguments": '{"place": "Zürich"}'}
    assert body_of(request(prompt, tools=[WEATHER]))["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: no"},
        {"role": "user", "content": "So?"},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        ("get_weather", {"type": "function", "function": {"name": "get_weather"}}),
    ],
)
def test_a_tool_is_chosen_by_its_name(choice: str, sent: Any):
    assert body_of(request(tools=[WEATHER], tool_choice=choice))["tool_choice"] == sent


def test_a_model_becomes_a_strict_schema():
    sent = body_of(request(schema=Person))["response_format"]["json_schema"]
    assert (sent["name"], sent["strict"]) == ("Person", True)
    schema = sent["schema"]
    assert schema["required"] == ["name", "home", "streets"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Street"]["required"] == ["name", "number"]
    assert "default" not in json.dumps(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"a": {}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"oneOf": [{"type": "null"}]}}},
        {"type": "array", "items": {"type": "object"}},
    ],
)
def test_a_schema_that_is_free_by_intent_stays_so(schema: dict[str, Any]):
    made = strict(schema)
    assert not is_strict(made)
    assert body_of(request(schema=schema))["response_format"]["json_schema"]["strict"] is False


def test_properties_may_have_the_names_of_keywords():
    schema = {
        "type": "object",
        "properties": {"default": {"type": "string"}, "$ref": {"type": "null"}},
    }
    assert strict(schema)["required"] == ["default", "$ref"]


PROMPTS: list[Prompt] = [
    "Hello",
    [Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b")],
    [Message("user", [Text("a"), Image(b"\x89PNG"), Image(url="https://x.test/a")])],
    [
        Message("user", "a"),
        Message("assistant", [Text("b"), CALL]),
        Message("user", [ToolResult("call_1", "c"), Text("d")]),
    ],
]
OPTIONS: list[Mapping[str, Any]] = [
    {},
    {"max_tokens": 5, "temperature": 0, "stop": ["END"]},
    {"tools": [WEATHER, Tool("bare")], "tool_choice": "get_weather"},
    {"tools": [WEATHER], "tool_choice": "none", "system": "Be brief."},
    {"schema": Person},
    {"schema": {"type": "object"}, "extra": {"seed": 1, "user": "u"}},
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_bodies_are_valid_by_the_published_schema(published: Judge, stream: bool):
    for prompt, options in itertools.product(PROMPTS, OPTIONS):
        body = json.loads(json.dumps(body_of(request(prompt, **options), stream=stream)))
        assert published("CreateChatCompletionRequest", body) == []


def test_the_published_schema_judges(published: Judge):
    body = body_of(request())
    assert published("CreateChatCompletionRequest", {**body, "messages": []})
    assert published("CreateChatCompletionRequest", {**body, "temperature": 3})


# -- what comes back ---------------------------------------------------------------------


def answer(message: Mapping[str, Any], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


def calling(arguments: str, finish: str = "tool_calls") -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": arguments}
    call = {"id": "call_1", "type": "function", "function": function}
    return answer({"content": None, "tool_calls": [call]}, finish)


def test_what_a_compatible_server_leaves_out_is_empty():
    got = completion_of(answer({"content": "Hi"}))
    assert (got.text, got.model, got.id, got.usage) == ("Hi", "", "", Usage())


def test_a_usage_may_be_half_a_one():
    usage = {"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": None}
    assert completion_of(answer({"content": "Hi"}, usage=usage)).usage == Usage(3)


def test_a_demanded_call_ends_with_the_call_though_it_says_stop():
    assert completion_of(calling("{}", "stop")).finish_reason is FinishReason.TOOL_CALLS


def test_no_arguments_are_none():
    assert completion_of(calling("")).tool_calls == (ToolCall("call_1", "get_weather", {}),)


@pytest.mark.parametrize("arguments", ['{"place": "Ber', "[1]", "null", "Bern", "{'a': 1}"])
def test_arguments_that_are_no_object_are_told(arguments: str):
    with pytest.raises(
        InvalidOutputError, match="'get_weather' with arguments that are no JSON"
    ) as e:
        completion_of(calling(arguments))
    assert e.value.context["output"] == arguments
    assert e.value.context["tool"] == "get_weather"


@pytest.mark.parametrize("arguments", ["", '{"place": "Ber'])
def test_a_call_that_was_cut_off_says_so(arguments: str):
    with pytest.raises(InvalidOutputError, match="cut off by max_tokens; allow more") as caught:
        completion_of(calling(arguments, "length"))
    assert caught.value.context["finish_reason"] == "length"


def test_a_refusal_is_the_answer():
    got = completion_of(answer({"content": None, "refusal": "I cannot."}))
    assert (got.text, got.finish_reason) == ("I cannot.", FinishReason.REFUSED)


def test_an_unknown_reason_is_unknown():
    assert completion_of(answer({"content": ""}, "eos")).finish_reason is FinishReason.UNKNOWN


def test_an_error_with_a_good_status_is_that_error():
    with pytest.raises(OverloadedError, match="upstream is gone"):
        completion_of({"error": {"message": "upstream is gone", "code": 502}})


@pytest.mark.parametrize(
    "nonsense",
    [{}, {"choices": []}, {"choices": [{}]}, {"choices": "x"}, {"choices": [{"message": "x"}]}],
)
def test_what_is_no_answer_is_told(nonsense: dict[str, Any]):
    with pytest.raises(BadResponseError, match="no answer of OpenAI's protocol"):
        completion_of(nonsense)


def test_models_may_be_none_and_may_say_little():
    assert models_of({"object": "list", "data": None}) == []
    [model] = models_of({"data": [{"id": "llama", "owned_by": "me"}]})
    assert (model.id, model.created, model.details) == ("llama", None, {"owned_by": "me"})
    with pytest.raises(BadResponseError, match="no list of models"):
        models_of({"models": []})


# -- streams -----------------------------------------------------------------------------


def fed(*events: Mapping[str, Any] | str) -> ChatReducer:
    reducer = ChatReducer()
    for event in events:
        data = {} if isinstance(event, str) else event
        reducer.take(WireEvent(DONE if event == DONE else "message", data))
    return reducer


def delta(finish: str | None = None, **content: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": content, "finish_reason": finish}]}


def piece(index: int | None, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    numbered = {} if index is None else {"index": index}
    return {**numbered, **more, "function": function}


def test_calls_are_put_together_by_their_index():
    got = fed(
        delta(tool_calls=[piece(1, "", id="b", name="second"), piece(0, "", id="a", name="first")]),
        delta(tool_calls=[piece(0, '{"x":')]),
        delta(tool_calls=[piece(1, "{}")]),
        delta(tool_calls=[piece(0, " 1}")]),
        delta("tool_calls"),
    ).completion()
    assert got.tool_calls == (ToolCall("a", "first", {"x": 1}), ToolCall("b", "second", {}))


def test_calls_without_an_index_stand_where_they_are():
    pieces = [piece(None, "{}", id="a", name="first"), piece(None, "{}", id="b", name="second")]
    got = fed(delta("stop", tool_calls=pieces)).completion()
    assert [call.name for call in got.tool_calls] == ["first", "second"]


@pytest.mark.parametrize("end", [delta("stop"), DONE], ids=["a reason", "the mark"])
def test_one_sign_of_the_end_is_enough(end: Any):
    assert fed(delta(content="Hi"), end).completion().text == "Hi"


def test_without_any_sign_of_the_end_it_was_cut_off():
    with pytest.raises(StreamInterruptedError, match="ended before the answer did") as caught:
        fed(delta(content="Hi"), delta(content=" th")).completion()
    assert caught.value.partial == "Hi th"


def test_events_without_choices_and_other_choices_add_nothing():
    filtered = {"choices": [], "prompt_filter_results": [{}]}
    other = {"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": None}]}
    got = fed(filtered, other, delta(content="Hi"), delta("stop"), {"choices": None}).completion()
    assert got.text == "Hi"


@pytest.mark.parametrize("event", [{"choices": [1]}, {"choices": [{"delta": "x"}]}, {"choices": 1}])
def test_an_event_that_is_none_is_told(event: dict[str, Any]):
    with pytest.raises(BadResponseError, match="no event of OpenAI's protocol"):
        fed(event)


def test_a_refusal_is_streamed_as_it_is_written():
    reducer = ChatReducer()
    event = WireEvent("message", delta(refusal="I can"))
    assert reducer.take(event) == "I can"
    reducer.take(WireEvent("message", delta("stop", refusal="not.")))
    assert reducer.completion().text == "I cannot."
    assert reducer.completion().finish_reason is FinishReason.REFUSED


# -- the double --------------------------------------------------------------------------


def test_the_double_answers_as_published(openai: OpenAIDouble, published: Judge):
    def ask(path: str, body: Any = None) -> bytes:
        headers = {"Authorization": f"Bearer {openai.key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{openai.base_url}{path}", data, headers)
        with urllib.request.urlopen(asked) as response:
            return response.read()

    replies = [Reply("Hi"), Reply(calls=[Called("get_weather")]), Reply("No.", finish="refused")]
    openai.reply(*replies, *replies)
    body = body_of(request(tools=[WEATHER]))
    for _ in replies:
        assert (
            published("CreateChatCompletionResponse", json.loads(ask("/chat/completions", body)))
            == []
        )
    for _ in replies:
        stream = ask("/chat/completions", body_of(request(tools=[WEATHER]), stream=True))
        *events, last, nothing = stream.decode().split("\n\n")
        assert (last, nothing) == ("data: [DONE]", "")
        for event in events:
            data = json.loads(event.removeprefix("data: "))
            assert data.pop("usage", None) is None or not data["choices"]
            for choice in data["choices"]:
                if (
                    choice["finish_reason"] is None
                ):  # the schema calls it a text, the service sends null
                    choice["finish_reason"] = "stop"
                assert choice.pop("logprobs") is None
            assert published("CreateChatCompletionStreamResponse", data) == []
    assert published("ListModelsResponse", json.loads(ask("/models"))) == []


@pytest.mark.parametrize(
    "usage",
    [{"prompt_tokens": "7"}, {"prompt_tokens_details": [1]}, {"completion_tokens": None}],
    ids=str,
)
def test_counts_that_are_none_count_nothing(usage: dict[str, Any]):
    choice = {"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}
    assert completion_of({"choices": [choice], "usage": usage}).usage == Usage()


def test_content_that_is_no_text_is_no_answer():
    choice = {"index": 0, "message": {"content": ["x"]}, "finish_reason": "stop"}
    with pytest.raises(BadResponseError, match="no answer of OpenAI"):
        completion_of({"choices": [choice]})


@pytest.mark.parametrize("error", [ServiceTimeoutError("late"), ServiceConnectionError("lost")])
async def test_what_is_whole_is_an_answer_however_its_connection_ends(error: ServiceError):
    async def events() -> AsyncGenerator[WireEvent, None]:
        choice = {"index": 0, "delta": {"content": "all"}, "finish_reason": "stop"}
        yield WireEvent("message", {"choices": [choice]})
        yield WireEvent(DONE, {})
        raise error

    *_, last = [chunk async for chunk in chunks_of(events(), ChatReducer())]
    assert last.completion is not None
    assert last.completion.text == "all"
