"""Anthropic's Messages interface on loopback, as strict as the service."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from aiohttp import web

from .ai import AIDouble, ErrorKind, Heard, Reply, cut
from .anthropic_rules import VERSIONS, Refusal, check_counting, check_message
from .base import Fault

__all__ = ["AnthropicDouble", "AnthropicReply"]

Handler: TypeAlias = Callable[[web.Request, str], Awaitable[web.StreamResponse]]

MAX_BODY = 32 * 1024 * 1024
REQUEST_ID = "req_011CLoopback"
ERRORS: Mapping[ErrorKind, tuple[int, str, str]] = {
    "authentication": (401, "authentication_error", "invalid x-api-key"),
    "permission": (403, "permission_error", "Your API key does not have permission."),
    "model_not_found": (404, "not_found_error", "model: model-z"),
    "invalid": (400, "invalid_request_error", "messages: Input is not valid"),
    "too_long": (400, "invalid_request_error", "prompt is too long: 3 tokens > 2 maximum"),
    "refused": (400, "invalid_request_error", "Output blocked by content filtering policy"),
    "rate_limit": (429, "rate_limit_error", "This request would exceed your rate limit."),
    "quota": (402, "billing_error", "There is a problem with your payment."),
    "server": (500, "api_error", "Internal server error"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
}
STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "refused": "refusal",
}
CHOICES = {"any": "required"}


@dataclass(frozen=True, slots=True)
class AnthropicReply(Reply):
    """
    What only Anthropic says.

    Args:
        stop_reason: Why it ends, in the service's word.
        blocks: More blocks, before the text.
        written_tokens: Of those read, the ones that the service keeps from now on.
        events: A stream's bytes, in place of those of the reply.
        headers: More of them.
    """

    stop_reason: str | None = None
    blocks: Sequence[Mapping[str, Any]] = ()
    written_tokens: int = 0
    events: Sequence[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class AnthropicDouble(AIDouble):
    """
    Anthropic on loopback: ``POST /v1/messages``, its ``count_tokens``, ``GET /v1/models``.

    It refuses what the service refuses: a wrong key, a version it does not know or that has not
    the parameters that are sent, an unknown model, fields it does not know, turns, tools and
    schemas that are not in order. The arguments are those of :class:`AIDouble`.
    """

    default_key = "sk-ant-loopback-0123456789abcdef"

    def __init__(self, *, key: str = default_key, **more: Any) -> None:
        super().__init__(key=key, **more)
        self._numbers = itertools.count(1)

    @property
    def base_url(self) -> str:
        """What a client is given."""
        return self.url

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Return the routes of the service."""
        return [
            web.post("/v1/messages", self._admitting(self._messages)),
            web.post("/v1/messages/count_tokens", self._admitting(self._count_tokens)),
            web.get("/v1/models", self._admitting(self._list)),
        ]

    def fault(self, kind: ErrorKind, *, headers: Mapping[str, str] | None = None) -> Fault:
        """Return the fault with which this service says that something is wrong."""
        status, type_, message = ERRORS[kind]
        return self.error(status, type_, message, headers)

    @staticmethod
    def error(
        status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
    ) -> Fault:
        """Return the fault of an error in the service's form."""
        return Fault(status, headers or {}, _error(kind, message))

    # -- what it answers -----------------------------------------------------------------

    async def _messages(self, request: web.Request, version: str) -> web.StreamResponse:
        body = await self._body(request)
        check_message(body, version)
        heard = _heard(body)
        size = sum(len(text) for _, text in heard.said)
        if size > self.context:
            raise Refusal(f"prompt is too long: {size} tokens > {self.context} maximum")
        given, text = self.next_reply(heard)
        reply = given if isinstance(given, AnthropicReply) else _more(given)
        message = self._message(heard, reply, text)
        if heard.stream:
            events = reply.events if reply.events is not None else list(_events(message, reply))
            return await self.send_pieces(request, events, pace=reply.pace)
        return web.json_response(message, headers={"request-id": REQUEST_ID, **reply.headers})

    async def _count_tokens(self, request: web.Request, version: str) -> web.StreamResponse:
        body = await self._body(request)
        check_counting(body)
        size = len(json.dumps([body[name] for name in sorted(body)]))
        return web.json_response({"input_tokens": 1 + size // 4})

    async def _list(self, request: web.Request, version: str) -> web.StreamResponse:
        limit, after = request.query.get("limit", "20"), request.query.get("after_id")
        if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
            raise Refusal("limit: Input should be between 1 and 1000")
        if after is not None and after not in self.models:
            raise Refusal(f"after_id: {after} is no model")
        first = 0 if after is None else self.models.index(after) + 1
        page = self.models[first : first + int(limit)]
        rows = [
            {
                "type": "model",
                "id": name,
                "display_name": name.title(),
                "created_at": "2026-10-01T00:00:00Z",
                "lifecycle": "active",
            }
            for name in page
        ]
        more = first + len(page) < len(self.models)
        ends = {"first_id": page[0], "last_id": page[-1]} if page else {}
        return web.json_response({"data": rows, "has_more": more, **ends})

    def _message(self, heard: Heard, reply: AnthropicReply, text: str) -> dict[str, Any]:
        said = [{"type": "text", "text": text}] if text else []
        calls = [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _read(call.arguments)}
            for call in reply.calls
        ]
        kept = reply.cached_tokens + reply.written_tokens
        return {
            "id": f"msg_{next(self._numbers):024}",
            "type": "message",
            "role": "assistant",
            "model": heard.model,
            "content": [*reply.blocks, *said, *calls],
            "stop_reason": reply.stop_reason or STOP_REASONS[reply.reason],
            "stop_sequence": None,
            "usage": {
                "input_tokens": reply.input_tokens - kept,
                "cache_creation_input_tokens": reply.written_tokens,
                "cache_read_input_tokens": reply.cached_tokens,
                "output_tokens": reply.output_tokens,
            },
        } | ({"a_field_nobody_knows": {"x": 1}} if reply.noise else {})

    # -- what it refuses -----------------------------------------------------------------

    def _admitting(self, handler: Handler) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request, self._admitted(request))
            except Refusal as refusal:
                body = _error(refusal.kind, refusal.message)
                headers = {"request-id": REQUEST_ID}
                return web.json_response(body, status=refusal.status, headers=headers)

        return answer

    def _admitted(self, request: web.Request) -> str:
        """Return the version that is spoken."""
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        key = request.headers.get("x-api-key") or bearer
        if key != self.key:
            said = "invalid x-api-key" if key else "x-api-key header is required"
            raise Refusal(said, 401, "authentication_error")
        version = request.headers.get("anthropic-version")
        if version is None:
            raise Refusal("anthropic-version: header is required")
        if version not in VERSIONS:
            raise Refusal(f'anthropic-version: "{version}" is not a valid version')
        return version

    async def _body(self, request: web.Request) -> dict[str, Any]:
        data = await request.read()
        if len(data) > MAX_BODY:
            raise Refusal("Request exceeds the maximum size", 413, "request_too_large")
        if request.content_type != "application/json":
            raise Refusal("content-type: must be application/json")
        try:
            body = json.loads(data)
        except ValueError:
            raise Refusal("The request body is not valid JSON") from None
        if not isinstance(body, dict):
            raise Refusal("Input should be an object")
        given = cast("dict[str, Any]", body)
        if given.get("model", self.models[0]) not in self.models:
            raise Refusal(f"model: {given['model']}", 404, "not_found_error")
        return given


def _more(reply: Reply) -> AnthropicReply:
    return AnthropicReply(**{name: getattr(reply, name) for name in Reply.__dataclass_fields__})


def _read(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _error(kind: str, message: str) -> dict[str, Any]:
    error = {"type": kind, "message": message}
    return {"type": "error", "error": error, "request_id": REQUEST_ID}


# -- what it hears -----------------------------------------------------------------------


def _heard(body: Mapping[str, Any]) -> Heard:
    turns = [(message["role"], _blocks(message["content"])) for message in body["messages"]]
    blocks = [(role, block) for role, blocks in turns for block in blocks]
    choice = body.get("tool_choice")
    return Heard(
        model=body["model"],
        system="".join(block["text"] for block in _blocks(body.get("system", []))),
        said=[(role, block["text"]) for role, block in blocks if block["type"] == "text"],
        images=[_image(block["source"]) for _, block in blocks if block["type"] == "image"],
        calls=[
            (block["id"], block["name"], block["input"])
            for _, block in blocks
            if block["type"] == "tool_use"
        ],
        results=[
            (block["tool_use_id"], block.get("content", ""), block.get("is_error", False))
            for _, block in blocks
            if block["type"] == "tool_result"
        ],
        tools={tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools", ())},
        tool_choice=choice and choice.get("name", CHOICES.get(choice["type"], choice["type"])),
        schema=body.get("output_config", {}).get("format", {}).get("schema"),
        max_tokens=body["max_tokens"],
        temperature=body.get("temperature"),
        stop=body.get("stop_sequences", ()),
        stream=body.get("stream", False),
    )


def _blocks(content: Any) -> Sequence[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _image(source: Mapping[str, Any]) -> bytes | str:
    return source["url"] if source["type"] == "url" else base64.b64decode(source["data"])


# -- a stream ----------------------------------------------------------------------------


def _events(message: Mapping[str, Any], reply: AnthropicReply) -> Iterator[bytes]:
    usage = message["usage"]
    unsaid: dict[str, Any] = {"content": [], "stop_reason": None}
    first = {**message, **unsaid, "usage": {**usage, "output_tokens": 1}}
    yield _event("message_start", message=first)
    yield _event("ping")
    pieces = 0
    for index, block in enumerate(message["content"]):
        empty, deltas = _deltas(block, reply)
        yield _event("content_block_start", index=index, content_block={**block, **empty})
        for delta in deltas:
            if delta["type"] == "text_delta":
                if pieces == reply.ends_after:
                    return
                if pieces == reply.fails_after:
                    _, kind, said = ERRORS[reply.fails_with]
                    yield _event("error", error={"type": kind, "message": said})
                    return
                pieces += 1
            if reply.noise:
                yield _event("content_block_rumour", index=index, delta={"type": "rumour_delta"})
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage={"output_tokens": usage["output_tokens"]})
    yield _event("message_stop")


def _deltas(block: Mapping[str, Any], reply: Reply) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return what a block starts with, and what comes after."""
    if block["type"] == "text":
        pieces = cut(block["text"], reply.pieces)
        return {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
    if block["type"] == "tool_use":
        arguments = next(call.arguments for call in reply.calls if call.id == block["id"])
        return {"input": {}}, [
            {"type": "input_json_delta", "partial_json": piece}
            for piece in ("", *cut(arguments, 3))
        ]
    return {}, [{"type": f"{block['type']}_delta", block["type"]: "..."}]


def _event(kind: str, **data: Any) -> bytes:
    told = json.dumps({"type": kind, **data}, ensure_ascii=False)
    return f"event: {kind}\ndata: {told}\n\n".encode()
