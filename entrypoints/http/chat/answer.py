"""What is answered, in OpenAI's shape: whole, or as the chunks of a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from ....providers.ai import Chunk, Completion, FinishReason, ToolCall, Usage
from ....services.chat import Briefing

__all__ = ["Answering", "ChatChunk", "ChatCompletion"]

FinishWord = Literal["stop", "length", "tool_calls", "content_filter"]

_FINISH: dict[FinishReason, FinishWord] = {
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.REFUSED: "content_filter",
}


class FunctionCalled(TypedDict):
    """A function the model asks for, its arguments as JSON."""

    name: str
    arguments: str


class ToolCalled(TypedDict):
    """A tool the model asks for."""

    index: NotRequired[int]
    id: str
    type: Literal["function"]
    function: FunctionCalled


class Said(TypedDict):
    """The model's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: NotRequired[list[ToolCalled]]


class Choice(TypedDict):
    """The one answer."""

    index: int
    message: Said
    logprobs: None
    finish_reason: FinishWord


class CachedTokens(TypedDict):
    """Of the tokens that were read, those the service had kept."""

    cached_tokens: int


class TokensUsed(TypedDict):
    """What the answer used."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Besides(TypedDict):
    """What OpenAI's shape has no place for: who answered, what it cost, what was fetched."""

    provider: str
    model: NotRequired[str]
    cost: NotRequired[str | None]
    data_sources: list[dict[str, Any]]


class ChatCompletion(TypedDict):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: TokensUsed
    purveyor: Besides


class Delta(TypedDict):
    """What a chunk adds to the message."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    refusal: NotRequired[None]
    tool_calls: NotRequired[list[ToolCalled]]


class ChoiceDelta(TypedDict):
    """What a chunk adds to the one answer."""

    index: int
    delta: Delta
    finish_reason: FinishWord | None


class ChatChunk(TypedDict):
    """A piece of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChoiceDelta]
    usage: NotRequired[TokensUsed | None]
    purveyor: NotRequired[Besides]


class Answering:
    """
    Puts one answer into OpenAI's shape.

    Args:
        model: What was asked for, as it can be asked for again.
        briefing: What was fetched for it.
    """

    def __init__(self, model: str, briefing: Briefing) -> None:
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model
        self._besides: Besides = {
            "provider": model.partition(":")[0],
            "data_sources": [one.to_dict() for one in briefing.items],
        }

    def whole(self, answer: Completion) -> ChatCompletion:
        """Return a whole answer."""
        refused = answer.finish_reason is FinishReason.REFUSED
        message: Said = {
            "role": "assistant",
            "content": None if refused else answer.text or None,
            "refusal": answer.text if refused else None,
        }
        if answer.tool_calls:
            message["tool_calls"] = [_call(call) for call in answer.tool_calls]
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": None,
                    "finish_reason": _FINISH.get(answer.finish_reason, "stop"),
                }
            ],
            "usage": _usage(answer.usage),
            "purveyor": self._about(answer),
        }

    async def chunks(
        self, answer: AsyncIterator[Chunk], *, usage: bool
    ) -> AsyncIterator[ChatChunk]:
        """
        Yield the chunks of a stream; the first one when there is something to tell.

        Args:
            answer: The stream.
            usage: Whether it is to end with what it used.
        """
        begun = False
        async for one in answer:
            if not begun:
                begun = True
                first = self._chunk({"role": "assistant", "content": "", "refusal": None})
                first["purveyor"] = self._besides
                yield self._with(first, usage=usage)
            if one.text:
                yield self._with(self._chunk({"content": one.text}), usage=usage)
            if one.completion is not None:
                for last in self._end(one.completion, usage=usage):
                    yield last

    def _end(self, answer: Completion, *, usage: bool) -> Iterator[ChatChunk]:
        for index, call in enumerate(answer.tool_calls):
            called: Delta = {"tool_calls": [{"index": index, **_call(call)}]}
            yield self._with(self._chunk(called), usage=usage)
        end = self._chunk({}, _FINISH.get(answer.finish_reason, "stop"))
        end["purveyor"] = self._about(answer)
        yield self._with(end, usage=usage)
        if usage:
            yield {**self._chunk({}), "choices": [], "usage": _usage(answer.usage)}

    def _chunk(self, delta: Delta, finish: FinishWord | None = None) -> ChatChunk:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }

    @staticmethod
    def _with(chunk: ChatChunk, *, usage: bool) -> ChatChunk:
        return {**chunk, "usage": None} if usage else chunk

    def _about(self, answer: Completion) -> Besides:
        cost = answer.usage.cost
        return {
            **self._besides,
            "model": answer.model,
            "cost": None if cost is None else str(cost),
        }


def _call(call: ToolCall) -> ToolCalled:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _usage(usage: Usage) -> TokensUsed:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
