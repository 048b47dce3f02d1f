"""What one says to a model and what it answers: the same for every service."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypedDict

from pydantic import BaseModel

__all__ = [
    "Chunk",
    "Completion",
    "FinishReason",
    "Image",
    "Message",
    "ModelInfo",
    "Part",
    "Prompt",
    "RequestOptions",
    "Schema",
    "Text",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Usage",
]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """
    A picture for the model to look at: its bytes, or an address the service fetches it from.

    Args:
        data: The file's bytes; empty if ``url`` is given.
        media_type: ``image/png``, ``image/jpeg``, ``image/webp`` or ``image/gif``.
        url: Where it is.
    """

    data: bytes = field(default=b"", repr=False)
    media_type: str = "image/png"
    url: str | None = None

    def __post_init__(self) -> None:
        if bool(self.data) == bool(self.url):
            raise ValueError("An image is either data or a url: give one of them.")

    @property
    def base64(self) -> str:
        """The bytes in base64."""
        return base64.b64encode(self.data).decode()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool: which, with which arguments; ``id`` is for the answer."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered; ``failed``: that it could not."""

    call_id: str
    content: str
    failed: bool = False


Part: TypeAlias = Text | Image | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """
    One turn of a conversation.

    Tool calls stand in a message of the assistant, tool results in one of the user.
    """

    role: Literal["system", "user", "assistant"]
    content: str | Sequence[Part]

    @property
    def parts(self) -> Sequence[Part]:
        """The content, in parts."""
        return (Text(self.content),) if isinstance(self.content, str) else self.content


Prompt: TypeAlias = str | Sequence[Message]
"""What the model is asked: a text, or a conversation whose last turn it answers."""

Schema: TypeAlias = Mapping[str, Any] | type[BaseModel]
"""What an answer must look like: a JSON schema of an object, or a pydantic model."""


@dataclass(frozen=True, slots=True)
class Tool:
    """
    A function the model may ask for.

    Args:
        name: Its name.
        description: What it is for.
        parameters: The JSON schema of its arguments.
        strict: Whether the service is to keep the arguments to that schema, which it then takes
            in its own strict form only: closed objects, all of whose properties are required.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({"type": "object", "properties": {}})
    )
    strict: bool = False


class RequestOptions(TypedDict, total=False):
    """
    What a request may say beside the prompt. What is not given is not sent.

    - ``model``: its name at the service; the provider's own when not given.
    - ``system``: instructions that stand above the conversation.
    - ``max_tokens``: tokens of the answer at most; the provider's own when not given.
    - ``temperature``: how freely it chooses, where the service has that.
    - ``stop``: texts at which the answer ends.
    - ``tools``: functions it may ask for; capability ``tools``.
    - ``tool_choice``: ``auto``, ``none``, ``required``, or the name of the one to use.
    - ``schema``: what the answer must look like; capability ``json-schema``.
    - ``extra``: fields of the service's own, sent as they are.
    """

    model: str
    system: str
    max_tokens: int
    temperature: float
    stop: Sequence[str]
    tools: Sequence[Tool]
    tool_choice: str
    schema: Schema
    extra: Mapping[str, Any]


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    REFUSED = "refused"
    PAUSED = "paused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What a call used.

    ``input_tokens`` are all that were read, ``cached_tokens`` those of them the service had kept.
    ``cost`` is known where the provider's ``prices`` name the model, in their currency.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """
    A model's whole answer.

    Args:
        text: What it says, without the tool calls.
        model: The model that answered, as the service names it.
        finish_reason: Why it ended.
        usage: What it used.
        tool_calls: The tools it asks for.
        data: With a ``schema``: the answer read, an instance of the pydantic model if that was
            the schema.
        id: The service's own mark of the answer.
    """

    text: str
    model: str
    finish_reason: FinishReason
    usage: Usage = Usage()
    tool_calls: Sequence[ToolCall] = ()
    data: Any = None
    id: str = ""

    @property
    def message(self) -> Message:
        """The answer as a turn, for the conversation to go on with."""
        said = (Text(self.text),) if self.text else ()
        return Message("assistant", (*said, *self.tool_calls))


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    A piece of a streamed answer.

    The last one has no text, and ``completion``: the whole answer, as ``complete`` returns it.
    """

    text: str = ""
    completion: Completion | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model the service has: its name there, its name for people, since when (UTC), and more."""

    id: str
    name: str = ""
    created: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
