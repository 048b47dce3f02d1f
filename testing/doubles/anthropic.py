"""A double of Anthropic's service: its Messages interface, its refusals and its streams."""

from __future__ import annotations

import itertools
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web

from .anthropic_rules import VERSIONS, Refusal, check_counting, check_message
from .base import Double, Fault

__all__ = ["AnthropicDouble", "AnthropicReply"]

MAX_BODY = 32 * 1024 * 1024
PIECES = re.compile(r"\s*\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class AnthropicReply:
    """
    What the model answers.

    Args:
        content: Text, or blocks as the service has them. The ``input`` of a ``tool_use`` may be a
            text, which a stream sends as it is.
        stop_reason: Why it ended; that of the content when not given.
        usage: Counts beside the usual ones.
        broken_by: In a stream: the type of the error that comes in place of its end.
        events: In a stream: these bytes, in place of its events.
        pace: Seconds between two events.
        headers: More of them.
    """

    content: str | Sequence[Mapping[str, Any]] = ""
    stop_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    broken_by: str | None = None
    events: Sequence[bytes] | None = None
    pace: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def blocks(self) -> Sequence[Mapping[str, Any]]:
        """The content, in blocks."""
        if isinstance(self.content, str):
            return [{"type": "text", "text": self.content}] if self.content else []
        return self.content

    @property
    def ended_by(self) -> str:
        """The stop reason."""
        called = any(block["type"] == "tool_use" for block in self.blocks)
        return self.stop_reason or ("tool_use" if called else "end_turn")


class AnthropicDouble(Double):
    """
    Anthropic on loopback: ``POST /v1/messages``, its ``count_tokens``, ``GET /v1/models``.

    It refuses what the service refuses: a key that is not :attr:`key`, a version it does not
    know, parameters a version does not have, models that are not among :attr:`models`, unknown
    fields, turns out of order, schemas it does not take, prompts over :attr:`context_window`.
    It answers what :meth:`reply` said; else a call where one is forced, the least instance of a
    schema, or what it was told last.
    """

    key = "sk-ant-api03-double"
    """The key it takes."""
    context_window = 200_000
    """Tokens that a prompt may have."""

    def __init__(self, models: Iterable[str] = ("claude-double", "claude-double-mini")) -> None:
        super().__init__()
        self.models = list(models)
        """The models it has, the newest first."""
        self._replies: deque[AnthropicReply] = deque()
        self._numbers = itertools.count(1)

    def reply(self, *replies: AnthropicReply | str) -> None:
        """Answer the next requests so, each with one of the replies, in order."""
        self._replies.extend(
            AnthropicReply(reply) if isinstance(reply, str) else reply for reply in replies
        )

    @staticmethod
    def error(
        status: int,
        kind: str,
        message: str = "Something is wrong.",
        headers: Mapping[str, str] | None = None,
        **details: str,
    ) -> Fault:
        """Return the fault of being answered with an error in the service's form."""
        return Fault(status, headers or {}, _error_body(kind, message, "req_fault", **details))

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Return the routes of the service."""
        return [
            web.post("/v1/messages", self._refusing(self._messages)),
            web.post("/v1/messages/count_tokens", self._refusing(self._count_tokens)),
            web.get("/v1/models", self._refusing(self._models)),
        ]

    # -- what it answers -----------------------------------------------------------------

    async def _messages(self, request: web.Request, version: str) -> web.StreamResponse:
        body = await self._body_of(request)
        check_message(body, version)
        tokens = self._tokens(body)
        if tokens > self.context_window:
            raise Refusal(f"prompt is too long: {tokens} tokens > {self.context_window} maximum")
        reply = self._replies.popleft() if self._replies else _answer_to(body)
        message = {
            "id": f"msg_{next(self._numbers):024}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": list(reply.blocks),
            "stop_reason": reply.ended_by,
            "stop_sequence": None,
            "usage": {
                "input_tokens": tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": max(1, len(json.dumps(list(reply.blocks))) // 4),
                **reply.usage,
            },
        }
        if body.get("stream"):
            pieces = reply.events if reply.events is not None else list(_events(message, reply))
            return await self.send_pieces(request, pieces, pace=reply.pace)
        return web.json_response(message, headers={"request-id": "req_double", **reply.headers})

    async def _count_tokens(self, request: web.Request, version: str) -> web.StreamResponse:
        body = await self._body_of(request)
        check_counting(body)
        return web.json_response({"input_tokens": self._tokens(body)})

    async def _models(self, request: web.Request, version: str) -> web.StreamResponse:
        asked = request.query
        limit = asked.get("limit", "20")
        if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
            raise Refusal("limit: Input should be between 1 and 1000")
        after = asked.get("after_id")
        if after is not None and after not in self.models:
            raise Refusal(f"after_id: {after} is no model")
        first = 0 if after is None else self.models.index(after) + 1
        page = self.models[first : first + int(limit)]
        rows = [
            {
                "type": "model",
                "id": name,
                "display_name": name.replace("-", " ").title(),
                "created_at": "2026-10-01T00:00:00Z",
                "lifecycle": "active",
                "max_input_tokens": self.context_window,
            }
            for name in page
        ]
        return web.json_response(
            {
                "data": rows,
                "has_more": first + len(page) < len(self.models),
                "first_id": page[0] if page else None,
                "last_id": page[-1] if page else None,
            }
        )

    # -- what it refuses -----------------------------------------------------------------

    def _refusing(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request, self._admitted(request))
            except Refusal as refusal:
                body = _error_body(refusal.kind, refusal.message, "req_double")
                headers = {"request-id": "req_double"}
                return web.json_response(body, status=refusal.status, headers=headers)

        return answer

    def _admitted(self, request: web.Request) -> str:
        version = request.headers.get("anthropic-version")
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        given = request.headers.get("x-api-key") or bearer
        if given != self.key:
            said = "invalid x-api-key" if given else "x-api-key header is required"
            raise Refusal(said, 401, "authentication_error")
        if version is None:
            raise Refusal("anthropic-version: header is required")
        if version not in VERSIONS:
            raise Refusal(f'anthropic-version: "{version}" is not a valid version')
        return version

    async def _body_of(self, request: web.Request) -> Mapping[str, Any]:
        data = await request.read()
        if len(data) > MAX_BODY:
            raise Refusal("Request exceeds the maximum size", 413, "request_too_large")
        if request.content_type != "application/json":
            raise Refusal("content-type: must be application/json")
        try:
            body: Any = json.loads(data)
        except ValueError:
            raise Refusal("The request body is not valid JSON") from None
        if not isinstance(body, dict):
            raise Refusal("Input should be an object")
        asked = cast("dict[str, Any]", body)
        if asked.get("model", self.models[0]) not in self.models:
            raise Refusal(f"model: {asked['model']}", 404, "not_found_error")
        return asked

    def _tokens(self, body: Mapping[str, Any]) -> int:
        told = [body["messages"], body.get("system", ""), body.get("tools", [])]
        return max(1, len(json.dumps(told)) // 4)


def _error_body(kind: str, message: str, request_id: str, **details: str) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message}
    if details:
        error["details"] = details
    return {"type": "error", "error": error, "request_id": request_id}


def _answer_to(body: Mapping[str, Any]) -> AnthropicReply:
    choice = body.get("tool_choice", {"type": "auto"})
    tools = {tool["name"]: tool for tool in body.get("tools", ())}
    if choice["type"] in ("any", "tool"):
        tool = tools[choice.get("name") or next(iter(tools))]
        given = _least(tool["input_schema"], tool["input_schema"])
        return AnthropicReply(
            [{"type": "tool_use", "id": "toolu_1", "name": tool["name"], "input": given}]
        )
    if form := body.get("output_config", {}).get("format"):
        return AnthropicReply(json.dumps(_least(form["schema"], form["schema"])))
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return AnthropicReply(content)
    said = [block.get("text") or str(block.get("content", "")) for block in content]
    return AnthropicReply(" ".join(filter(None, said)) or "I see.")


def _least(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Return the least instance of a schema."""
    if "$ref" in schema:
        return _least(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if branches := schema.get("anyOf") or schema.get("allOf"):
        return _least(branches[0], root)
    properties = schema.get("properties", {})
    made: Mapping[str, Any] = {
        "object": {
            name: _least(properties[name], root)
            for name in schema.get("required", ())
            if name in properties
        },
        "array": [],
        "string": "text",
        "integer": 1,
        "number": 1.5,
        "boolean": True,
    }
    return made.get(str(schema.get("type")))


# -- a stream ----------------------------------------------------------------------------


def _events(message: Mapping[str, Any], reply: AnthropicReply) -> Iterator[bytes]:
    usage = message["usage"]
    unsaid: dict[str, Any] = {
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": 1},
    }
    yield _event("message_start", message={**message, **unsaid})
    yield _event("ping")
    for index, block in enumerate(reply.blocks):
        yield from _block_events(index, block)
        yield _event("of_a_later_version", index=index)
    if reply.broken_by:
        yield _event("error", error={"type": reply.broken_by, "message": "No more."})
        return
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage={"output_tokens": usage["output_tokens"]})
    yield _event("message_stop")


def _block_events(index: int, block: Mapping[str, Any]) -> Iterator[bytes]:
    empty, deltas = _deltas(block)
    yield _event("content_block_start", index=index, content_block={**block, **empty})
    for delta in deltas:
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _deltas(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return what a block starts with, and what comes after."""
    if block["type"] == "text":
        pieces = PIECES.findall(block["text"])
        return {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
    if block["type"] == "tool_use":
        given = block["input"]
        text = given if isinstance(given, str) else json.dumps(given)
        pieces = ["", *(text[at : at + 7] for at in range(0, len(text), 7))]
        return {"input": {}}, [
            {"type": "input_json_delta", "partial_json": piece} for piece in pieces
        ]
    return {}, [{"type": f"{block['type']}_delta", block["type"]: "..."}]


def _event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()
