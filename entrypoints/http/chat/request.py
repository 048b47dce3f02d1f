"""What is asked, in OpenAI's shape, and what that is in ours."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

from ....providers.ai import Image, Message, RequestOptions, Text, Tool, ToolCall, ToolResult
from ....providers.ai.model import Part
from ....services.fetch import FetchError, Query, Wanted, parse_wanted
from ..problem import Problem

__all__ = ["ChatRequest"]

_DATA_URL = re.compile(r"data:(image/[a-z.+-]+);base64,(.*)", re.DOTALL)
_CANNOT = {
    "audio": "answers are texts",
    "function_call": "it is out of date: use tool_choice",
    "functions": "they are out of date: use tools",
    "logprobs": "no answer has them",
    "modalities": "answers are texts",
    "moderation": "no answer is judged",
    "n": "there is one answer",
    "top_logprobs": "no answer has them",
    "web_search_options": "no source of an answer is told",
}
"""What cannot be honoured, whatever the service, and why."""
_LABELS = frozenset(
    ("metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user")
)
"""What says nothing of the answer, and so may be left unsaid."""
_NEUTRAL: dict[str, Any] = {
    "frequency_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "modalities": ["text"],
    "n": 1,
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "service_tier": "auto",
    "store": False,
    "top_logprobs": 0,
    "top_p": 1,
}
"""What says no more than saying nothing."""


_MOST_PIECES = 10_000
"""Messages and parts of messages of one question."""


class _Asked(BaseModel):
    # Lists are refused at their first fault: a body has room for more than there is time to tell.
    model_config = ConfigDict(strict=True)  # a number is no text, as in the published schema


class ImageUrl(_Asked):
    """Where a picture is: an ``https://`` address, or the picture itself in a ``data:`` URL."""

    url: str
    detail: str | None = None


class ContentPart(_Asked):
    """A piece of a message: a text, a picture (of the user), or a refusal (of the assistant)."""

    type: Literal["text", "image_url", "refusal"]
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None

    @model_validator(mode="after")
    def _has_its_own(self) -> ContentPart:
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of the type {self.type} needs {self.type}")
        return self


class CalledFunction(_Asked):
    """A function the model asked for, its arguments as JSON."""

    name: str
    arguments: str


class CalledTool(_Asked):
    """A tool the model asked for."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


def _as_parts(content: Any) -> Any:
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


Content = Annotated[
    list[ContentPart],
    FailFast(),
    BeforeValidator(_as_parts, json_schema_input_type=str | list[ContentPart] | None),
]


class ChatMessage(_Asked):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = []
    tool_calls: Annotated[list[CalledTool] | None, FailFast()] = Field(
        default=None, description="Of the assistant."
    )
    tool_call_id: str | None = Field(default=None, description="Of a tool: what it answers.")

    @model_validator(mode="after")
    def _is_in_order(self) -> ChatMessage:
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a message of a tool needs tool_call_id")
        if self.role != "user" and any(part.image_url for part in self.content):
            raise ValueError("only the user shows pictures")
        return self


class Function(_Asked):
    """A function the model may ask for."""

    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = Field(default=None, description="A JSON schema.")
    strict: bool | None = None


class OfferedTool(_Asked):
    """A tool the model may ask for."""

    type: Literal["function"]
    function: Function


class NamedFunction(_Asked):
    """The name of a function."""

    name: str


class NamedTool(_Asked):
    """The one tool the model is to ask for."""

    type: Literal["function"]
    function: NamedFunction


class AnswerSchema(_Asked):
    """What the answer is to look like."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema", description="A JSON schema of an object.")
    strict: bool | None = None


class ResponseFormat(_Asked):
    """Whether the answer is text, any JSON, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: AnswerSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("the type json_schema needs json_schema")
        return self


class StreamOptions(_Asked):
    """What a stream has beside the answer."""

    include_usage: bool | None = None


class DataItem(_Asked):
    """Items of a data source: a name, or a pattern such as ``2026/*.csv``."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = Field(default=None, description="The default one when not given.")
    item: str = Field(min_length=1)


class DataQuery(_Asked):
    """A question to a data source, in its own language."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = Field(default=None, description="The default one when not given.")
    query: str = Field(min_length=1)
    parameters: Annotated[list[str | int | float | bool | None], FailFast()] = []
    name: str = Field(
        default="query", min_length=1, description="What the model knows the answer as."
    )


class ChatRequest(_Asked):
    """
    A conversation whose next message is asked for.

    What is not named here is passed on to a service that speaks OpenAI's protocol, and refused
    for any other one.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "model": "chat",
                    "messages": [{"role": "user", "content": "Which month was the best?"}],
                    "data_sources": ["sales:2026/*.csv"],
                }
            ]
        },
    )

    model: str = Field(
        default="default",
        description="`PROVIDER`, `PROVIDER:MODEL`, `:MODEL` of the default provider, or `default`.",
    )
    messages: Annotated[list[ChatMessage], FailFast()] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1, description="The older name.")
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    stop: str | list[str] | None = None
    tools: Annotated[list[OfferedTool] | None, FailFast()] = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    data_sources: Annotated[list[str | DataItem | DataQuery], FailFast()] = Field(
        default=[],
        description="What is fetched before the model is asked, and told to it: `NAME:item` with "
        "patterns, or an object.",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_bounded(cls, data: Any) -> Any:
        """Refuse what would take long to look through, before it is looked through."""
        given = cast("dict[str, Any]", data)
        messages = given.get("messages") if isinstance(data, dict) else None
        if isinstance(messages, list):
            pieces = 0
            for one in cast("list[Any]", messages):
                content = cast("dict[str, Any]", one).get("content") if isinstance(one, dict) else 0
                pieces += len(cast("list[Any]", content)) if isinstance(content, list) else 1
            if pieces > _MOST_PIECES:
                raise ValueError(
                    f"messages and their parts are {pieces}, and {_MOST_PIECES} at most may be sent"
                )
        return given

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with what it used."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def wanted(self) -> Sequence[Wanted | Query]:
        """
        Return what is to be fetched.

        Raises:
            Problem: One is not of the form ``NAME:item``.
        """
        return [_wanted(one, f"data_sources.{n}") for n, one in enumerate(self.data_sources)]

    def prompt(self) -> list[Message]:
        """
        Return the conversation.

        Raises:
            Problem: A picture or the arguments of a tool call cannot be read.
        """
        turns: list[Message] = []
        for number, message in enumerate(self.messages):
            parts = list(_parts(message, f"messages.{number}"))
            if message.role == "tool" and number and self.messages[number - 1].role == "tool":
                # Answers to one message of the assistant stand together.
                turns[-1] = Message("user", [*turns[-1].parts, *parts])
                continue
            role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
            turns.append(Message(role, parts))  # pyright: ignore[reportArgumentType]
        return turns

    def options(self, *, speaks_openai: bool) -> RequestOptions:
        """
        Return what is said beside the conversation, without the model.

        Args:
            speaks_openai: Whether the service takes what OpenAI's own does.

        Raises:
            Problem: Something can not be honoured.
        """
        options = RequestOptions()
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise _refusal(
                "INVALID_REQUEST",
                "max_tokens",
                "is the older name of max_completion_tokens, which says something else: leave it "
                "out",
            )
        for limit in limits:
            options["max_tokens"] = limit or 0
        if self.temperature is not None:
            options["temperature"] = self.temperature
        if self.stop:
            options["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        if self.tools:
            options["tools"] = [_tool(one.function) for one in self.tools]
        if self.tool_choice is not None:
            choice = self.tool_choice
            options["tool_choice"] = choice if isinstance(choice, str) else choice.function.name
        extra = self._extra(speaks_openai=speaks_openai)
        form = self.response_format
        if form is not None and form.type != "text":
            if speaks_openai:
                extra["response_format"] = form.model_dump(exclude_unset=True)
            elif form.json_schema is None:
                raise _unsupported(
                    "response_format", "the service of this provider has JSON by a schema only"
                )
            else:
                schema = form.json_schema
                options["schema"] = {"title": schema.name, **schema.schema_}
        if extra:
            options["extra"] = extra
        return options

    def _extra(self, *, speaks_openai: bool) -> dict[str, Any]:
        """Return what the service is told as it was given."""
        extra: dict[str, Any] = {}
        for name, value in (self.model_extra or {}).items():
            neutral = value is None or (name in _NEUTRAL and value == _NEUTRAL[name])
            if name in _CANNOT:
                if not neutral:
                    raise _unsupported(name, _CANNOT[name])
            elif speaks_openai:
                if value is not None:
                    extra[name] = value
            elif not neutral and name not in _LABELS:
                raise _unsupported(
                    name, "the service of this provider does not speak OpenAI's protocol"
                )
        return extra


def _wanted(given: str | DataItem | DataQuery, param: str) -> Wanted | Query:
    try:
        if isinstance(given, str):
            return parse_wanted(given)
    except FetchError as error:
        raise Problem(400, error.code, error.message, param=param) from None
    if isinstance(given, DataItem):
        return Wanted(given.source, given.item)
    return Query(given.source, given.query, given.name, given.parameters)


def _parts(message: ChatMessage, param: str) -> Sequence[Part]:
    parts: list[Part] = []
    for number, part in enumerate(message.content):
        if part.image_url is not None and part.type == "image_url":
            parts.append(_image(part.image_url, f"{param}.content.{number}.image_url"))
        elif text := part.text if part.type == "text" else part.refusal:
            parts.append(Text(text))
    if message.role == "tool":
        told = "".join(part.text for part in parts if isinstance(part, Text))
        return [ToolResult(message.tool_call_id or "", told)]
    if message.role == "assistant":
        for number, call in enumerate(message.tool_calls or ()):
            parts.append(_call(call, f"{param}.tool_calls.{number}.function.arguments"))
    return parts


def _image(given: ImageUrl, param: str) -> Image:
    if given.detail not in (None, "auto"):
        raise _unsupported(f"{param}.detail", "services look at pictures as they do")
    if given.url.startswith("https://"):
        return Image(url=given.url)
    found = _DATA_URL.fullmatch(given.url)
    try:
        if found and found[2]:
            return Image(base64.b64decode(found[2], validate=True), found[1])
    except binascii.Error:
        pass
    raise _refusal(
        "INVALID_REQUEST",
        f"{param}.url",
        "must be an https:// address, or data:image/...;base64, and a picture",
    )


def _call(call: CalledTool, param: str) -> ToolCall:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise _refusal("INVALID_REQUEST", param, "is no JSON object")
    return ToolCall(call.id, call.function.name, arguments)  # pyright: ignore[reportUnknownArgumentType]


def _tool(given: Function) -> Tool:
    more: dict[str, Any] = {} if given.parameters is None else {"parameters": given.parameters}
    return Tool(given.name, given.description or "", strict=bool(given.strict), **more)


def _unsupported(name: str, why: str) -> Problem:
    return _refusal("UNSUPPORTED_PARAMETER", name, f"is not supported: {why}")


def _refusal(code: str, param: str, fault: str) -> Problem:
    return Problem(400, code, f"{param} {fault}.", param=param)
