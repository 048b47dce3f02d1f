"""
What the Messages interface of Anthropic refuses, and with which words.

https://platform.claude.com/docs/en/api/messages, .../api/errors and .../api/versioning.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["VERSIONS", "Refusal", "check_counting", "check_message"]

VERSIONS = ("2023-06-01", "2026-10-21")
SAMPLING = frozenset(("temperature", "top_p", "top_k"))
COUNTED = frozenset(
    [
        "cache_control",
        "messages",
        "model",
        "output_config",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        "user_profile_id",
    ]
)
FIELDS = COUNTED | frozenset(
    [
        "container",
        "diagnostics",
        "inference_geo",
        "max_tokens",
        "metadata",
        "service_tier",
        "stop_sequences",
        "stream",
    ]
)
NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
SERVER_TOOL = re.compile(r"[a-z_]+_\d{8}")
MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
MAX_OUTPUT = 128_000
BOUNDS = frozenset(
    [
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
    ]
)


class Refusal(Exception):  # noqa: N818 - it is no fault of the double
    """The request is refused: status, type of the error, and the message."""

    def __init__(self, message: str, status: int = 400, kind: str = "invalid_request_error"):
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


def check_message(body: Mapping[str, Any], version: str) -> None:
    """Refuse a body of ``POST /v1/messages`` that the service refuses."""
    fields = FIELDS if version == VERSIONS[-1] else FIELDS | SAMPLING
    _check_fields(body, fields, ("model", "max_tokens", "messages"))
    _check_whole(body["max_tokens"], "max_tokens", 1)
    if body["max_tokens"] > MAX_OUTPUT:
        raise Refusal(
            f"max_tokens: {body['max_tokens']} > {MAX_OUTPUT}, which is the maximum allowed number "
            f"of output tokens for {body['model']}"
        )
    if not isinstance(body.get("stream", False), bool):
        raise Refusal("stream: Input should be a valid boolean")
    for number, text in enumerate(body.get("stop_sequences", ())):
        if not isinstance(text, str) or not text.strip():
            raise Refusal(
                f"stop_sequences.{number}: each stop sequence must contain non-whitespace"
            )
    temperature = body.get("temperature", 1)
    if not isinstance(temperature, (int, float)) or not 0 <= temperature <= 1:
        raise Refusal("temperature: range: 0..1")
    _check_content(body)


def check_counting(body: Mapping[str, Any]) -> None:
    """Refuse a body of ``POST /v1/messages/count_tokens`` that the service refuses."""
    _check_fields(body, COUNTED, ("model", "messages"))
    _check_content(body)


def _check_fields(body: Mapping[str, Any], known: Iterable[str], needed: Sequence[str]) -> None:
    for name in body:
        if name not in known:
            raise Refusal(f"{name}: Extra inputs are not permitted")
    for name in needed:
        if name not in body:
            raise Refusal(f"{name}: Field required")


def _check_content(body: Mapping[str, Any]) -> None:
    system = body.get("system", "")
    if not isinstance(system, str):
        for number, block in enumerate(system):
            _check_text(block, f"system.{number}")
    _check_tools(body.get("tools", []), body.get("tool_choice"))
    form = body.get("output_config", {}).get("format")
    if form is not None:
        if form.get("type") != "json_schema":
            raise Refusal("output_config.format.type: Input should be 'json_schema'")
        _check_schema(form.get("schema"))
    _check_turns(body["messages"])


def _is_object(found: Any) -> bool:
    return isinstance(found, Mapping)


def _is_list(found: Any) -> bool:
    return isinstance(found, list)


def _check_whole(value: object, name: str, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refusal(f"{name}: Input should be a valid integer")
    if value < least:
        raise Refusal(f"{name}: Input should be greater than or equal to {least}")


def _check_tools(tools: Sequence[Mapping[str, Any]], choice: Mapping[str, Any] | None) -> None:
    for number, tool in enumerate(tools):
        place = f"tools.{number}"
        kind = str(tool.get("type", "custom"))
        if SERVER_TOOL.fullmatch(kind):
            continue
        if kind != "custom":
            raise Refusal(f"{place}: Input tag '{kind}' found using 'type' is of no known tool")
        for name in tool:
            if name not in ("type", "name", "description", "input_schema", "strict"):
                raise Refusal(f"{place}.custom.{name}: Extra inputs are not permitted")
        if not NAME.fullmatch(str(tool.get("name", ""))):
            raise Refusal(f"{place}.custom.name: String should match pattern '^{NAME.pattern}$'")
        if "input_schema" not in tool:
            raise Refusal(f"{place}.custom.input_schema: Field required")
        if tool["input_schema"].get("type") != "object":
            raise Refusal(f"{place}.custom.input_schema.type: Input should be 'object'")
    names = [tool["name"] for tool in tools]
    if len(set(names)) < len(names):
        raise Refusal("tools: Tool names must be unique.")
    if choice is None:
        return
    if choice.get("type") not in ("auto", "any", "none", "tool"):
        raise Refusal("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    if not tools:
        raise Refusal("tool_choice: tool_choice may only be specified while providing tools.")
    if choice["type"] == "tool" and choice.get("name") not in names:
        raise Refusal(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")


def _check_schema(
    schema: dict[str, Any] | None, place: str = "output_config.format.schema"
) -> None:
    if schema is None:
        raise Refusal(f"{place}: Input should be an object")
    for name, value in schema.items():
        if name in BOUNDS or (name == "minItems" and not 0 <= value <= 1):
            kind = schema.get("type", "object")
            raise Refusal(f"{place}: For '{kind}' type, property '{name}' is not supported")
        if name in ("properties", "$defs", "definitions"):
            for key, inner in value.items():
                _check_schema(inner, f"{place}.{name}.{key}")
        elif name in ("anyOf", "allOf"):
            for number, inner in enumerate(value):
                _check_schema(inner, f"{place}.{name}.{number}")
        elif name == "items":
            _check_schema(value, f"{place}.items")
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise Refusal(
            f"{place}: For 'object' type, 'additionalProperties' must be explicitly set to false"
        )


# -- the conversation --------------------------------------------------------------------


def _check_turns(messages: Any) -> None:
    if not _is_list(messages) or not messages:
        raise Refusal("messages: at least one message is required")
    turns = [_checked_turn(message, number) for number, message in enumerate(messages)]
    if turns[0][0] != "user":
        raise Refusal('messages: first message must use the "user" role')
    called: list[str] = []
    # Turns of the same role that follow each other are taken as one.
    for number, (_, blocks) in enumerate(_joined(turns)):
        place = f"messages.{number}"
        results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
        if missing := [call for call in called if call not in results]:
            raise Refusal(
                f"{place}: `tool_use` ids were found without `tool_result` blocks immediately "
                f"after: {', '.join(missing)}. Each `tool_use` block must have a corresponding "
                "`tool_result` block in the next message."
            )
        if unknown := [call for call in results if call not in called]:
            raise Refusal(
                f"{place}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{', '.join(unknown)}. Each `tool_result` block must have a corresponding "
                "`tool_use` block in the previous message."
            )
        if any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            raise Refusal(f"{place}: `tool_result` blocks must come first in their message")
        called = [block["id"] for block in blocks if block["type"] == "tool_use"]
    if called:
        raise Refusal(
            f"messages: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(called)}."
        )
    role, blocks = turns[-1]
    if role == "assistant" and blocks[-1].get("text", "").endswith((" ", "\n")):
        raise Refusal("messages: final assistant content cannot end with trailing whitespace")


def _joined(
    turns: Iterable[tuple[str, list[Mapping[str, Any]]]],
) -> list[tuple[str, list[Mapping[str, Any]]]]:
    joined: list[tuple[str, list[Mapping[str, Any]]]] = []
    for role, blocks in turns:
        if joined and joined[-1][0] == role:
            joined[-1][1].extend(blocks)
        else:
            joined.append((role, list(blocks)))
    return joined


def _checked_turn(message: Any, number: int) -> tuple[str, list[Mapping[str, Any]]]:
    place = f"messages.{number}"
    if not _is_object(message):
        raise Refusal(f"{place}: Input should be an object")
    for name in message:
        if name not in ("role", "content"):
            raise Refusal(f"{place}.{name}: Extra inputs are not permitted")
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant"):
        raise Refusal(f"{place}.role: Input should be 'user' or 'assistant'")
    if not content:
        raise Refusal(f"{place}: all messages must have non-empty content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for index, block in enumerate(blocks):
        _check_block(block, str(role), f"{place}.content.{index}")
    return str(role), list(blocks)


def _check_block(block: Mapping[str, Any], role: str, place: str) -> None:
    allowed = {
        "user": ("text", "image", "document", "tool_result"),
        "assistant": ("text", "thinking", "tool_use"),
    }[role]
    kind = block.get("type")
    if kind not in allowed:
        raise Refusal(
            f"{place}: Input tag '{kind}' found using 'type' does not match any of the "
            f"expected tags: {', '.join(map(repr, allowed))}"
        )
    if kind == "text":
        _check_text(block, place)
    elif kind == "image":
        _check_source(block.get("source", {}), f"{place}.image.source")
    elif kind == "tool_use":
        if not NAME.fullmatch(str(block.get("id", ""))):
            raise Refusal(f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not isinstance(block.get("input"), Mapping):
            raise Refusal(f"{place}.tool_use.input: Input should be an object")
    elif kind == "tool_result" and "tool_use_id" not in block:
        raise Refusal(f"{place}.tool_result.tool_use_id: Field required")


def _check_text(block: Mapping[str, Any], place: str) -> None:
    if not isinstance(block.get("text"), str):
        raise Refusal(f"{place}.text.text: Field required")
    if not block["text"].strip():
        raise Refusal("messages: text content blocks must contain non-whitespace text")


def _check_source(source: Mapping[str, Any], place: str) -> None:
    if source.get("type") == "url":
        if not str(source.get("url", "")).startswith("https://"):
            raise Refusal(f"{place}.url: Only HTTPS URLs are supported.")
        return
    if source.get("type") != "base64":
        raise Refusal(f"{place}: Input tag '{source.get('type')}' is none of 'base64', 'url'")
    if source.get("media_type") not in MEDIA_TYPES:
        raise Refusal(f"{place}.base64.media_type: Input should be {', '.join(MEDIA_TYPES)}")
    try:
        base64.b64decode(str(source.get("data", "")), validate=True)
    except binascii.Error:
        raise Refusal(f"{place}.base64.data: invalid base64 data") from None
