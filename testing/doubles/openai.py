"""OpenAI's chat completions on loopback, as strict as the service."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from aiohttp import web

from .ai import AIDouble, ErrorKind, Heard, Reply, cut
from .base import Fault

__all__ = ["OpenAIDouble"]

CREATED = 1_790_000_000
FIELDS = frozenset(
    (
        *("audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens"),
        *("messages", "metadata", "modalities", "model", "n", "parallel_tool_calls", "prediction"),
        *("presence_penalty", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort"),
        *("response_format", "safety_identifier", "seed", "service_tier", "stop", "store"),
        *("stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs"),
        *("top_p", "user", "verbosity", "web_search_options"),
    )
)
"""What a body may have (https://platform.openai.com/docs/api-reference/chat/create)."""

ERRORS: Mapping[ErrorKind, tuple[int, str, str | None, str]] = {
    "authentication": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key."),
    "permission": (403, "invalid_request_error", "permission_denied", "Not for this project."),
    "model_not_found": (404, "invalid_request_error", "model_not_found", "No such model."),
    "invalid": (400, "invalid_request_error", "invalid_value", "Invalid value."),
    "too_long": (400, "invalid_request_error", "context_length_exceeded", "Too many tokens."),
    "refused": (400, "invalid_request_error", "content_policy_violation", "Not that."),
    "rate_limit": (429, "requests", "rate_limit_exceeded", "Rate limit reached."),
    "quota": (429, "insufficient_quota", "credit_balance_exhausted", "No credit is left."),
    "server": (500, "server_error", None, "The server had an error."),
    "overloaded": (503, "server_error", None, "The engine is overloaded."),
}
FINISH = {"refused": "content_filter"}


class _RefusedError(Exception):
    """The service does not take a request."""

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = _error(message, "invalid_request_error", code, param)


class OpenAIDouble(AIDouble):
    """
    OpenAI's chat completions and list of models, below :attr:`base_url`.

    It refuses what the service refuses: a wrong key, an unknown model, fields it does not know,
    turns and schemas that are not in order. The rest of the arguments are those of
    :class:`AIDouble`.

    Args:
        max_tokens_field: What it calls the limit of an answer; older servers: ``max_tokens``.
    """

    def __init__(self, *, max_tokens_field: str = "max_completion_tokens", **more: Any) -> None:
        super().__init__(**more)
        self._fields = FIELDS - {"max_completion_tokens"} | {max_tokens_field}
        self._limit = max_tokens_field

    @property
    def base_url(self) -> str:
        """What a client is given."""
        return f"{self.url}/v1"

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Return the routes of the service."""
        return [
            web.post("/v1/chat/completions", self._chat),
            web.get("/v1/models", self._list),
        ]

    def fault(self, kind: ErrorKind, *, headers: Mapping[str, str] | None = None) -> Fault:
        """Return the fault with which this service says that something is wrong."""
        status, *_ = ERRORS[kind]
        return Fault(status, headers or {}, _error_of(kind))

    # -- what it answers -----------------------------------------------------------------

    async def _list(self, request: web.Request) -> web.StreamResponse:
        try:
            self._check_key(request)
        except _RefusedError as error:
            return web.json_response(error.body, status=error.status)
        rows = [
            {"id": name, "object": "model", "created": CREATED, "owned_by": "loopback"}
            for name in self.models
        ]
        return web.json_response({"object": "list", "data": rows})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            self._check_key(request)
            body = await self._body(request)
            heard = self._heard(body)
        except _RefusedError as error:
            return web.json_response(error.body, status=error.status)
        reply, text = self.next_reply(heard)
        if not heard.stream:
            return web.json_response(_answer(heard, reply, text))
        options: Mapping[str, Any] = body.get("stream_options") or {}
        usage = bool(options.get("include_usage"))
        events = [_line(event) for event in _events(heard, reply, text, usage=usage)]
        return await self.send_pieces(request, events, pace=reply.pace)

    # -- what it refuses -----------------------------------------------------------------

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if not given:
            raise _RefusedError("You didn't provide an API key.", status=401)
        if given != f"Bearer {self.key}":
            raise _RefusedError(
                f"Incorrect API key provided: {given.removeprefix('Bearer ')}.",
                status=401,
                code="invalid_api_key",
            )

    async def _body(self, request: web.Request) -> dict[str, Any]:
        if request.content_type != "application/json":
            raise _RefusedError("The body must be application/json.")
        try:
            body = json.loads(await request.read())
        except ValueError:
            raise _RefusedError("We could not parse the JSON body of your request.") from None
        if not isinstance(body, dict):
            raise _RefusedError("The body must be an object.")
        given = cast("dict[str, Any]", body)
        for name in ("model", "messages"):
            if name not in given:
                raise _RefusedError(f"Missing required parameter: '{name}'.", param=name)
        for name in given.keys() - self._fields:
            raise _RefusedError(
                f"Unrecognized request argument supplied: {name}",
                code="unsupported_parameter" if "max" in name else "unknown_parameter",
                param=name,
            )
        if given["model"] not in self.models:
            raise _RefusedError(
                f"The model '{given['model']}' does not exist or you do not have access to it.",
                status=404,
                code="model_not_found",
            )
        return given

    def _heard(self, body: Mapping[str, Any]) -> Heard:
        messages: Sequence[Mapping[str, Any]] = body["messages"]
        _need(messages, "messages must not be empty", "messages")
        turns = _Turns()
        for message in messages:
            turns.take(message)
        _need(not turns.open_calls, "Tool calls must be followed by tool messages.", "messages")
        if sum(len(text) for _, text in turns.said) > self.context:
            raise _RefusedError(
                "This model's maximum context length was exceeded.",
                code="context_length_exceeded",
                param="messages",
            )
        tools = {tool["function"]["name"]: _tool(tool) for tool in body.get("tools") or ()}
        limit, stop = body.get(self._limit), body.get("stop") or ()
        _need(limit is None or (isinstance(limit, int) and limit > 0), "Too low.", self._limit)
        _need(len(stop) <= 4 or isinstance(stop, str), "At most 4 texts to stop at.", "stop")
        stream = body.get("stream", False)
        _need(stream or "stream_options" not in body, "Only with stream.", "stream_options")
        return Heard(
            model=body["model"],
            system=turns.system,
            said=turns.said,
            images=turns.images,
            calls=turns.calls,
            results=turns.results,
            tools=tools,
            tool_choice=_choice(body, tools),
            schema=_schema(body.get("response_format")),
            max_tokens=limit,
            temperature=body.get("temperature"),
            stop=[stop] if isinstance(stop, str) else stop,
            stream=stream,
        )


class _Turns:
    """The messages of a request, read one by one."""

    def __init__(self) -> None:
        self.system = ""
        self.said: list[tuple[str, str]] = []
        self.images: list[bytes | str] = []
        self.calls: list[tuple[str, str, Mapping[str, Any]]] = []
        self.results: list[tuple[str, str, bool]] = []
        self.open_calls: set[str] = set()

    def take(self, message: Mapping[str, Any]) -> None:
        role, content = message.get("role"), message.get("content")
        if role == "tool":
            call = message.get("tool_call_id", "")
            _need(call in self.open_calls, "A tool message must follow its call.", "messages")
            self.open_calls.discard(call)
            failed = str(content).startswith("Error: ")
            self.results.append((call, str(content).removeprefix("Error: "), failed))
            return
        _need(not self.open_calls, "Tool calls must be followed by tool messages.", "messages")
        _need(role in ("system", "developer", "user", "assistant"), "No such role.", "messages")
        if role == "assistant":
            self._assistant(message)
        elif role == "user":
            self._user(content)
        else:
            _need(isinstance(content, str), "Instructions are a text.", "messages")
            self.system += str(content)

    def _assistant(self, message: Mapping[str, Any]) -> None:
        calls: Sequence[Mapping[str, Any]] = message.get("tool_calls") or ()
        _need(message.get("content") or calls, "It says nothing.", "messages")
        if message.get("content"):
            self.said.append(("assistant", message["content"]))
        for call in calls:
            _need(call["type"] == "function", "Calls are of functions.", "messages")
            function = call["function"]
            self.calls.append((call["id"], function["name"], json.loads(function["arguments"])))
            self.open_calls.add(call["id"])

    def _user(self, content: Any) -> None:
        _need(content, "It says nothing.", "messages")
        if isinstance(content, str):
            self.said.append(("user", content))
            return
        for part in content:
            if part["type"] == "text":
                self.said.append(("user", part["text"]))
                continue
            _need(part["type"] == "image_url", f"No such part: {part['type']}.", "messages")
            self.images.append(_image(part["image_url"]["url"]))


def _need(condition: object, message: str, param: str) -> None:
    if not condition:
        raise _RefusedError(message, param=param, code="invalid_value")


def _image(url: str) -> bytes | str:
    if url.startswith("data:image/"):
        return base64.b64decode(url.partition(";base64,")[2], validate=True)
    _need(url.startswith(("http://", "https://")), "No such image.", "messages")
    return url


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    _need(set(tool) == {"type", "function"}, "A tool has a type and a function.", "tools")
    function = tool["function"]
    known = {"name", "description", "parameters", "strict"}
    _need(set(function) <= known, "Unknown field of a function.", "tools")
    return function.get("parameters") or {}


def _choice(body: Mapping[str, Any], tools: Mapping[str, Any]) -> str | None:
    choice = body.get("tool_choice")
    if choice is None:
        return None
    _need(tools, "tool_choice is only allowed when tools are specified.", "tool_choice")
    if isinstance(choice, str):
        _need(choice in ("auto", "none", "required"), "No such choice.", "tool_choice")
        return choice
    name = choice["function"]["name"]
    _need(name in tools, f"Tool choice {name!r} not found in tools.", "tool_choice")
    return name


def _schema(wanted: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if wanted is None or wanted["type"] == "text":
        return None
    _need(wanted["type"] == "json_schema", "No such format.", "response_format")
    given = wanted["json_schema"]
    _need(given.get("name"), "Missing required parameter: name.", "response_format")
    if given.get("strict"):
        _check_strict(given["schema"])
    return given["schema"]


def _check_strict(schema: Any) -> None:
    """Refuse objects that are open, or have properties that may be left out."""
    if isinstance(schema, list):
        for one in cast("list[Any]", schema):
            _check_strict(one)
    elif isinstance(schema, dict):
        given = cast("dict[str, Any]", schema)
        if given.get("type") == "object":
            closed = given.get("additionalProperties") is False
            _need(closed, "'additionalProperties' must be false.", "response_format")
            whole = set(given.get("required", ())) == set(given.get("properties", {}))
            _need(whole, "'required' must have every property.", "response_format")
        for one in given.values():
            _check_strict(one)


# -- the shapes --------------------------------------------------------------------------


def _error(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _error_of(kind: ErrorKind) -> dict[str, Any]:
    _, type_, code, message = ERRORS[kind]
    return _error(message, type_, code)


def _line(event: Mapping[str, Any] | None) -> bytes:
    data = "[DONE]" if event is None else json.dumps(event, ensure_ascii=False)
    return f"data: {data}\n\n".encode()


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in reply.calls
    ]


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


def _answer(heard: Heard, reply: Reply, text: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
    if reply.finish == "refused":
        message |= {"content": None, "refusal": text}
    if reply.calls:
        message["tool_calls"] = _calls(reply)
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": FINISH.get(reply.reason, reply.reason),
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": heard.model,
        "choices": [choice],
        "usage": _usage(reply),
    } | ({"a_field_nobody_knows": {"x": 1}} if reply.noise else {})


def _events(
    heard: Heard, reply: Reply, text: str, *, usage: bool
) -> Iterator[Mapping[str, Any] | None]:
    def event(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**top, "choices": [choice], **({"usage": None} if usage else {})}

    top: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": heard.model,
    }
    yield event({"role": "assistant", "content": "", "refusal": None})
    field = "refusal" if reply.finish == "refused" else "content"
    for number, piece in enumerate(cut(text, reply.pieces)):
        if number == reply.ends_after:
            return
        if number == reply.fails_after:
            yield _error_of(reply.fails_with)
            return
        if reply.noise:
            yield {"type": "of.tomorrow", "object": "chat.completion.rumour", "x": {"y": [1]}}
        yield event({field: piece})
    for index, call in enumerate(_calls(reply)):
        function: dict[str, str] = call["function"]
        begun = {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
        yield event({"tool_calls": [begun]})
        for piece in cut(function["arguments"], 3):
            yield event({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield event({}, FINISH.get(reply.reason, reply.reason))
    if usage:
        yield {**top, "choices": [], "usage": _usage(reply)}
    yield None
