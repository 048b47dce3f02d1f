"""
OpenAI's chat completions: what is sent and what comes back, as JSON; nothing is sent from here.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from ..web.openai import explain
from ..web.transport import Answer
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
    ModelInfo,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from .openai_schema import is_strict, strict
from .wire import DONE, WireEvent

__all__ = ["ChatReducer", "body_of", "completion_of", "models_of"]

_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.REFUSED,
}
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


# -- what is sent ------------------------------------------------------------------------


def body_of(
    request: Request,
    *,
    stream: bool = False,
    max_tokens_field: str = "max_completion_tokens",
    stream_usage: bool = True,
) -> dict[str, Any]:
    """
    Return the body of ``POST /chat/completions``; what the request does not say is left out.

    Args:
        request: What is asked.
        stream: Whether the answer is to come as a stream.
        max_tokens_field: The name of the limit; older servers know ``max_tokens`` only.
        stream_usage: Whether to ask for the usage at the end of a stream.

    Raises:
        InvalidRequestError: ``extra`` says again what the request says already.
    """
    body: dict[str, Any] = {"model": request.model, "messages": list(_messages(request))}
    if request.max_tokens is not None:
        body[max_tokens_field] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.stop:
        body["stop"] = [request.stop] if isinstance(request.stop, str) else list(request.stop)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        named = request.tool_choice not in ("auto", "none", "required")
        function = {"type": "function", "function": {"name": request.tool_choice}}
        body["tool_choice"] = function if named else request.tool_choice
    if request.schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": _format(request)}
    extra = dict(request.extra)
    if stream and stream_usage:
        body["stream_options"] = {"include_usage": True, **extra.pop("stream_options", {})}
    if twice := sorted(extra.keys() & {*body, "stream"}):
        raise InvalidRequestError(
            f"extra has {', '.join(twice)}, which the call itself says: leave it out of extra, and "
            "use the option of that name."
        )
    return {**body, **({"stream": True} if stream else {}), **extra}


def _messages(request: Request) -> Iterator[dict[str, Any]]:
    if request.system:
        yield {"role": "system", "content": request.system}
    for message in request.messages:
        if message.role == "assistant":
            yield _said(message)
            continue
        # Results come first: they must follow the calls they answer.
        others: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolResult):
                failed = "Error: " if part.failed else ""
                content = f"{failed}{part.content}"
                yield {"role": "tool", "tool_call_id": part.call_id, "content": content}
            else:
                others.append(part)
        if others:
            yield {"role": "user", "content": _content(others)}


def _said(message: Message) -> dict[str, Any]:
    text = "".join(part.text for part in message.parts if isinstance(part, Text))
    calls = [
        {
            "id": part.id,
            "type": "function",
            "function": {
                "name": part.name,
                "arguments": json.dumps(dict(part.arguments), ensure_ascii=False),
            },
        }
        for part in message.parts
        if isinstance(part, ToolCall)
    ]
    said: dict[str, Any] = {"role": "assistant", "content": text or None}
    return {**said, "tool_calls": calls} if calls else said


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Text):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            url = part.url or f"data:{part.media_type};base64,{part.base64}"
            content.append({"type": "image_url", "image_url": {"url": url}})
    return content


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": dict(tool.parameters)}
    if tool.description:
        function["description"] = tool.description
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _format(request: Request) -> dict[str, Any]:
    asked = cast("Mapping[str, Any]", request.schema)
    schema = strict(asked)
    name = _NOT_IN_A_NAME.sub("_", str(asked.get("title") or "answer"))[:64]
    return {"name": name, "schema": schema, "strict": is_strict(schema)}


# -- what comes back ---------------------------------------------------------------------


def completion_of(answer: Mapping[str, Any]) -> Completion:
    """
    Return the answer of ``POST /chat/completions`` as a completion.

    Raises:
        InvalidOutputError: A tool call's arguments are no JSON object.
        ServiceError: It is an error, with a good status all the same.
        BadResponseError: It is no answer at all.
    """
    if answer.get("error") and not answer.get("choices"):
        raise _error_in(answer)
    whole = ChatReducer()
    try:
        choice = answer["choices"][0]
        whole.add(choice["message"], choice.get("finish_reason"))
        whole.note(answer)
        whole.ended = True
        return whole.completion()
    except (AttributeError, IndexError, KeyError, TypeError):
        raise _nonsense("answer") from None


class ChatReducer:
    """Makes a completion of the events of a stream, or of a message that came whole."""

    def __init__(self) -> None:
        self.ended = False
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._reason: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._model = self._id = ""

    @property
    def text(self) -> str:
        """The text so far; a refusal's where there is no other."""
        return "".join(self._text or self._refusal)

    def take(self, event: WireEvent) -> str:
        """Take an event and return the text it adds; fields that are not known are passed by."""
        if event.name == DONE:
            self.ended = True
            return ""
        data = event.data
        if data.get("error"):
            raise _error_in(data)
        try:
            added = ""
            for choice in data.get("choices") or ():
                if not choice.get("index"):
                    added += self.add(choice.get("delta") or {}, choice.get("finish_reason"))
            self.note(data)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _nonsense("event") from None
        return added

    def add(self, delta: Mapping[str, Any], reason: str | None) -> str:
        """Add a piece of the message, and why it ends if it does; return its text."""
        added = delta.get("content") or ""
        if added:
            self._text.append(added)
        if refusal := delta.get("refusal"):
            self._refusal.append(refusal)
            added += refusal if not self._text else ""
        for position, piece in enumerate(delta.get("tool_calls") or ()):
            self._add_call(piece, position)
        self._reason = reason or self._reason
        return added

    def _add_call(self, piece: Mapping[str, Any], position: int) -> None:
        index = piece.get("index")
        call = self._calls.setdefault(
            position if index is None else index, {"id": "", "name": "", "arguments": ""}
        )
        function: Mapping[str, Any] = piece.get("function") or {}
        call["id"] = piece.get("id") or call["id"]
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def note(self, answer: Mapping[str, Any]) -> None:
        """Note what an answer says of itself."""
        self._model = answer.get("model") or self._model
        self._id = answer.get("id") or self._id
        self._usage = answer.get("usage") or self._usage

    def completion(self) -> Completion:
        """
        Return the whole answer.

        Raises:
            StreamInterruptedError: Neither a reason to finish nor the mark of the end has come.
            InvalidOutputError: A tool call's arguments are no JSON object.
        """
        if self._reason is None and not self.ended:
            raise StreamInterruptedError(
                "The stream ended before the answer did: the service, or something on the way, "
                "cut it off. Try again.",
                partial=self.text,
            )
        finish = _REASONS.get(self._reason or "", FinishReason.UNKNOWN)
        calls = tuple(self._call(call, finish) for _, call in sorted(self._calls.items()))
        if calls and finish is FinishReason.STOP:  # so it ends where the one tool was demanded
            finish = FinishReason.TOOL_CALLS
        if self._refusal:
            finish = FinishReason.REFUSED
        return Completion(
            text=self.text,
            model=self._model,
            finish_reason=finish,
            usage=_usage(self._usage or {}),
            tool_calls=calls,
            id=self._id,
        )

    def _call(self, call: Mapping[str, str], finish: FinishReason) -> ToolCall:
        given, name = call["arguments"], call["name"]
        cut_off = finish is FinishReason.LENGTH
        try:
            arguments: Any = json.loads(given) if given.strip() or cut_off else {}
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            why = "it was cut off by max_tokens; allow more" if cut_off else "try again"
            raise InvalidOutputError(
                f"The model calls the tool {name!r} with arguments that are no JSON object: {why}.",
                context={
                    "tool": name,
                    "output": given,
                    "finish_reason": finish.value,
                    "partial": self.text,
                },
            )
        return ToolCall(call["id"], name, cast("dict[str, Any]", arguments))


def models_of(answer: Mapping[str, Any]) -> list[ModelInfo]:
    """
    Return the models that ``GET /models`` answers with.

    Raises:
        BadResponseError: It is no such answer.
    """
    models: list[ModelInfo] = []
    try:
        for row in answer["data"] or ():
            created = row.get("created")
            models.append(
                ModelInfo(
                    id=row["id"],
                    created=datetime.fromtimestamp(created, UTC) if created else None,
                    details={
                        key: value
                        for key, value in row.items()
                        if key not in ("id", "created", "object")
                    },
                )
            )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise _nonsense("list of models") from None
    return models


def _usage(given: Mapping[str, Any]) -> Usage:
    def count(of: Any, name: str) -> int:
        found: Any = cast("dict[str, Any]", of).get(name) if isinstance(of, dict) else None
        return found if isinstance(found, int) else 0

    return Usage(
        input_tokens=count(given, "prompt_tokens"),
        output_tokens=count(given, "completion_tokens"),
        cached_tokens=count(given.get("prompt_tokens_details"), "cached_tokens"),
    )


def _error_in(answer: Mapping[str, Any]) -> Exception:
    return explain(Answer(200, {}, json.dumps(answer, default=str).encode()))


def _nonsense(what: str) -> BadResponseError:
    return BadResponseError(
        f"The service sent JSON that is no {what} of OpenAI's protocol. Check base_url."
    )
