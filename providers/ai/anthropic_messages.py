"""
The Messages interface of Anthropic: what is sent, and what an answer or a stream of events says.

Pure functions; the contract is https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from .anthropic_errors import error_of
from .anthropic_schema import strict
from .base import Request
from .errors import (
    BadResponseError,
    InvalidOutputError,
    InvalidRequestError,
    StreamInterruptedError,
)
from .model import (
    Completion,
    FinishReason,
    Image,
    Message,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from .wire import WireEvent

__all__ = ["DEFAULT_MAX_TOKENS", "MessageReducer", "body_of", "completion_of", "countable"]

DEFAULT_MAX_TOKENS = 4096
WITHOUT_SAMPLING = "2026-10-21"
SAMPLING = ("temperature", "top_p", "top_k")
# What a request says of the answer only, which the counting of tokens does not take.
OF_THE_ANSWER = frozenset(
    ("max_tokens", "stop_sequences", "metadata", "service_tier", "container", *SAMPLING)
)
FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSED,
    "refusal": FinishReason.REFUSED,
}
CHOICES = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}


# -- the request -------------------------------------------------------------------------


def body_of(request: Request, version: str) -> dict[str, Any]:
    """
    Return the body that asks for an answer.

    Args:
        request: What is asked.
        version: Of the interface; since 2026-10-21 it has no sampling parameters.

    Raises:
        InvalidRequestError: The version does not have what is asked for, or ``extra`` says again
            what the request says already.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": [_message(message) for message in request.messages],
    }
    if request.system:
        body["system"] = request.system
    if request.stop:
        stop = request.stop
        body["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        named = {"type": "tool", "name": request.tool_choice}
        body["tool_choice"] = CHOICES.get(request.tool_choice, named)
    extra = dict(request.extra)
    if request.schema is not None:
        form = {"format": {"type": "json_schema", "schema": strict(request.schema)}}
        body["output_config"] = {**extra.pop("output_config", {}), **form}
    if twice := sorted(extra.keys() & {*body, "stream"}):
        raise InvalidRequestError(
            f"extra has {', '.join(twice)}, which the call itself says: leave it out of extra, and "
            "use the option of that name."
        )
    body.update(extra)
    if version >= WITHOUT_SAMPLING and (gone := [name for name in SAMPLING if name in body]):
        raise InvalidRequestError(
            f"Version {version} of Anthropic's interface does not take {', '.join(gone)}, at any "
            "value: leave it out, or set the provider's `version` to 2023-06-01, which does for "
            "models that have it."
        )
    return body


def countable(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a body the counting of tokens takes."""
    return {name: value for name, value in body.items() if name not in OF_THE_ANSWER}


def _message(message: Message) -> dict[str, Any]:
    if isinstance(message.content, str):
        return {"role": message.role, "content": message.content}
    # Results of tools must come first in their turn.
    parts = sorted(message.content, key=lambda part: not isinstance(part, ToolResult))
    return {"role": message.role, "content": [_block(part) for part in parts]}


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(url=str(url)):
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Image():
            source = {"type": "base64", "media_type": part.media_type, "data": part.base64}
            return {"type": "image", "source": source}
        case ToolCall():
            arguments = dict(part.arguments)
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
        case ToolResult():
            block = {"type": "tool_result", "tool_use_id": part.call_id, "content": part.content}
            return {**block, "is_error": True} if part.failed else block


def _tool(tool: Tool) -> dict[str, Any]:
    told: dict[str, Any] = {"description": tool.description} if tool.description else {}
    if tool.strict:
        told["strict"] = True
    return {"name": tool.name, **told, "input_schema": dict(tool.parameters)}


# -- the answer --------------------------------------------------------------------------


def completion_of(answer: Mapping[str, Any]) -> Completion:
    """
    Return what an answer says.

    Raises:
        BadResponseError: It is no message.
        InvalidOutputError: It ends within a tool call.
    """
    try:
        blocks = cast("Sequence[Mapping[str, Any]]", answer["content"])
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        calls = [
            (block["id"], block["name"], block["input"])
            for block in blocks
            if block["type"] == "tool_use"
        ]
        inside_call = bool(blocks) and blocks[-1]["type"] == "tool_use"
        return _completion(answer, answer.get("stop_reason"), text, calls, inside_call)
    except (KeyError, TypeError, AttributeError):
        raise _no_message(answer) from None


class MessageReducer:
    """Makes an answer of the events of its stream; unknown events and blocks are skipped."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self._pieces: list[str] = []
        self._calls: dict[int, _CallSoFar] = {}
        self._last_block = -1
        self.ended = False
        self._takers: dict[str, Callable[[Mapping[str, Any]], str]] = {
            "content_block_delta": self._take_delta,
            "content_block_start": self._take_block,
            "message_start": self._take_start,
            "message_delta": self._take_end_of_message,
            "message_stop": self._take_stop,
            "error": self._take_error,
        }

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def take(self, event: WireEvent) -> str:
        """
        Take an event and return the text it adds.

        Raises:
            ServiceError: The event is an error, or nonsense.
        """
        data = event.data
        taker = self._takers.get(data.get("type", event.name))
        if taker is None:
            return ""
        try:
            return taker(data)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise _no_message(data) from None

    def completion(self) -> Completion:
        """
        Return the whole answer.

        Raises:
            StreamInterruptedError: The stream ended before the message did.
            InvalidOutputError: A tool call has arguments that are no JSON object.
        """
        if not self.ended:
            raise StreamInterruptedError(
                "The stream ended before the answer did (no message_stop): what had come is in "
                "`partial`. Ask again.",
                partial=self.text,
            )
        calls = [(call.id, call.name, call.arguments) for call in self._calls.values()]
        inside_call = self._last_block in self._calls
        try:
            return _completion(self._message, self._stop_reason, self.text, calls, inside_call)
        except (KeyError, TypeError, AttributeError):
            raise _no_message(self._message) from None

    def _take_delta(self, data: Mapping[str, Any]) -> str:
        delta = data["delta"]
        kind = delta["type"]
        if kind == "text_delta":
            text: str = delta["text"]
            self._pieces.append(text)
            return text
        if kind == "input_json_delta" and (call := self._calls.get(data["index"])):
            call.pieces.append(delta["partial_json"])
        return ""

    def _take_block(self, data: Mapping[str, Any]) -> str:
        block = data["content_block"]
        self._last_block = data["index"]
        if block["type"] == "tool_use":
            self._calls[self._last_block] = _CallSoFar(block["id"], block["name"], block["input"])
        text: str = block["text"] if block["type"] == "text" else ""
        if text:
            self._pieces.append(text)
        return text

    def _take_start(self, data: Mapping[str, Any]) -> str:
        self._message = dict(data["message"])
        return ""

    def _take_end_of_message(self, data: Mapping[str, Any]) -> str:
        self._stop_reason = data["delta"].get("stop_reason") or self._stop_reason
        # The counts are those of the whole message so far, not additions.
        counts = {name: count for name, count in data.get("usage", {}).items() if count is not None}
        self._message["usage"] = {**self._message.get("usage", {}), **counts}
        return ""

    def _take_stop(self, data: Mapping[str, Any]) -> str:
        self.ended = True
        return ""

    def _take_error(self, data: Mapping[str, Any]) -> str:
        raise error_of(200, {}, data)


class _CallSoFar:
    def __init__(self, id: str, name: str, given: Mapping[str, Any]) -> None:
        self.id = id
        self.name = name
        self.pieces: list[str] = []
        self._given = given

    @property
    def arguments(self) -> object:
        """What it is given: an object, or the text that came if that is no JSON."""
        text = "".join(self.pieces)
        try:
            return json.loads(text) if text else self._given
        except ValueError:
            return text


def _completion(
    message: Mapping[str, Any],
    stop_reason: str | None,
    text: str,
    calls: Sequence[tuple[str, str, object]],
    inside_call: bool,
) -> Completion:
    reason = FINISH_REASONS.get(stop_reason or "", FinishReason.UNKNOWN)
    cut_off = inside_call and reason is FinishReason.LENGTH
    return Completion(
        text=text,
        model=message["model"],
        finish_reason=reason,
        usage=_usage(message.get("usage") or {}),
        tool_calls=tuple(
            _call(*call, reason, cut_off=cut_off and number == len(calls))
            for number, call in enumerate(calls, 1)
        ),
        id=message.get("id") or "",
    )


def _call(
    id: str, name: str, arguments: object, reason: FinishReason, *, cut_off: bool
) -> ToolCall:
    if isinstance(arguments, Mapping) and not cut_off:
        return ToolCall(id, name, cast("Mapping[str, Any]", arguments))
    fault = (
        "was cut off by max_tokens: allow more of them"
        if cut_off
        else "has arguments that are no JSON object: ask again"
    )
    output = arguments if isinstance(arguments, str) else json.dumps(arguments)
    raise InvalidOutputError(
        f"The model's call of the tool {name!r} {fault}.",
        context={"tool": name, "output": output, "finish_reason": reason.value},
    )


def _usage(counts: Mapping[str, Any]) -> Usage:
    def count(name: str) -> int:
        found = counts.get(name)
        return found if isinstance(found, int) else 0

    # What was read fresh, from the cache, and to be kept there are counted apart.
    cached = count("cache_read_input_tokens")
    read = count("input_tokens") + cached + count("cache_creation_input_tokens")
    return Usage(read, count("output_tokens"), cached)


def _no_message(found: Mapping[str, Any]) -> BadResponseError:
    return BadResponseError(
        f"The service answered with JSON that is not what the protocol says "
        f"({', '.join(map(str, list(found)[:8])) or 'an empty object'}). Check base_url, and "
        "whether a proxy answers in its place."
    )
