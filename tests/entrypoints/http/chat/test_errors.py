"""What goes wrong, in OpenAI's shape and with its client's own exceptions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import openai as sdk
import pytest
from fastapi import FastAPI
from openai import APIStatusError, AsyncOpenAI

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.providers.ai import AIConfig, AIProvider, Completion
from purveyor.providers.ai.base import Request
from purveyor.providers.registry import Role, guarded
from purveyor.settings import Settings
from purveyor.testing.doubles import Called, Fault, OpenAIDouble, Reply

from .conftest import Judge

CHAT = "http://127.0.0.1/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello"}]
ASKED = {"model": "chat", "messages": HELLO}


@pytest.fixture
async def raw(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client that sends anything, without a token."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport) as client:
        yield client


async def failure(models: AsyncOpenAI, **asked: Any) -> APIStatusError:
    """Return what the client raises for a question."""
    with pytest.raises(APIStatusError) as caught:
        await models.chat.completions.create(**{**ASKED, **asked})
    return caught.value


async def test_more_pieces_than_anybody_says_are_refused_at_once(models: AsyncOpenAI) -> None:
    part = {"type": "text", "text": "a"}
    for messages in (HELLO * 10_001, [{"role": "user", "content": [part] * 10_001}]):
        error = await failure(models, messages=messages)
        assert error.status_code == 400
        assert "10001, and 10000 at most" in error.message


class TestOfTheService:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("kind", "error", "status", "code"),
        [
            ("invalid", sdk.BadRequestError, 400, "invalid_value"),
            ("too_long", sdk.BadRequestError, 400, "context_length_exceeded"),
            ("refused", sdk.BadRequestError, 400, "content_policy_violation"),
            ("model_not_found", sdk.NotFoundError, 404, "model_not_found"),
            ("rate_limit", sdk.RateLimitError, 429, "rate_limit_exceeded"),
            ("quota", sdk.RateLimitError, 429, "insufficient_quota"),
            ("authentication", sdk.InternalServerError, 502, "authentication_failed"),
            ("permission", sdk.InternalServerError, 502, "permission_denied"),
            ("server", sdk.InternalServerError, 503, "overloaded"),
            ("overloaded", sdk.InternalServerError, 503, "overloaded"),
        ],
    )
    async def test_each_failure_has_its_status_and_code(
        self,
        models: AsyncOpenAI,
        openai: OpenAIDouble,
        kind: Any,
        error: type[APIStatusError],
        status: int,
        code: str,
        stream: bool,
    ) -> None:
        openai.fail(openai.fault(kind))
        caught = await failure(models, stream=stream)
        assert isinstance(caught, error)
        assert (caught.status_code, caught.code) == (status, code)
        types = {
            400: "invalid_request_error",
            404: "invalid_request_error",
            429: "rate_limit_error",
        }
        expected = code if kind == "quota" else types.get(status, "server_error")
        assert caught.type == expected

    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            (Fault(hang_up=True), 502, "connection_failed"),
            (Fault(200, {}, b"<html>"), 502, "bad_response"),
            (Fault(delay=5), 504, "timeout"),
        ],
        ids=["hang up", "nonsense", "silence"],
    )
    async def test_a_service_that_is_ill_is_not_the_callers_fault(
        self, models: AsyncOpenAI, openai: OpenAIDouble, fault: Fault, status: int, code: str
    ) -> None:
        openai.fail(fault)
        caught = await failure(models, model="hasty")
        assert (caught.status_code, caught.type, caught.code) == (status, "server_error", code)
        assert str(caught.message).count("hasty") == 1

    async def test_the_service_says_when_to_come_again(
        self, models: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        openai.fail(openai.fault("rate_limit", headers={"retry-after": "70"}))
        assert (await failure(models)).response.headers["retry-after"] == "70"

    @pytest.mark.parametrize(
        ("kind", "again"), [("quota", "false"), ("authentication", "false"), ("server", None)]
    )
    async def test_clients_are_told_what_no_repetition_cures(
        self, models: AsyncOpenAI, openai: OpenAIDouble, kind: Any, again: str | None
    ) -> None:
        openai.fail(openai.fault(kind))
        caught = await failure(models)
        assert caught.response.headers.get("x-should-retry") == again
        openai.fail(openai.fault(kind))
        patient = models.with_options(max_retries=1)
        before = len(openai.requests)
        if again:
            await failure(patient)
            assert len(openai.requests) <= before + 1

    async def test_an_open_circuit_says_for_how_long(
        self, models: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        openai.fail(openai.fault("server"))
        await failure(models, model="frail")
        caught = await failure(models, model="frail")
        assert (caught.status_code, caught.code) == (503, "circuit_open")
        assert 1 <= int(caught.response.headers["retry-after"]) <= 300
        assert len(openai.requests) == 1

    async def test_a_tool_call_that_is_no_json_is_told(
        self, models: AsyncOpenAI, openai: OpenAIDouble
    ) -> None:
        openai.reply(Reply("", calls=[Called("look_up", "{nonsense")]))
        tool: Any = {"type": "function", "function": {"name": "look_up"}}
        caught = await failure(models, tools=[tool])
        assert (caught.status_code, caught.code) == (502, "invalid_output")
        assert "nonsense" not in caught.response.text

    async def test_a_defect_is_told_as_one_and_nothing_of_it(
        self, models: AsyncOpenAI, container: ApplicationContainer
    ) -> None:
        class Broken(AIProvider[AIConfig]):
            async def _complete(self, request: Request) -> Completion:
                raise ZeroDivisionError("private")

        provider = guarded(
            Broken(AIConfig(base_url="http://127.0.0.1:1", model="x")), name="broken"
        )
        with container.ai.override_provider("broken", provider):
            caught = await failure(models, model="broken")
        await provider.dispose()
        assert (caught.status_code, caught.type) == (500, "server_error")
        assert "private" not in caught.response.text


class TestOfTheRequest:
    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"messages": []}, "messages"),
            ({"messages": None}, "messages"),
            ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
            ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
             "messages.0.content.0.type"),
            ({"messages": [{"role": "user", "content": [{"type": "text"}]}]},
             "messages.0.content.0"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0"),
            ({"messages": [{"role": "system", "content": [
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]}, "messages.0"),
            ({"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
             "messages.0.content.0.image_url.url"),
            ({"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}}]}]},
             "messages.0.content.0.image_url.url"),
            ({"messages": [*HELLO, {"role": "assistant", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "[1]"}}]}]},
             "messages.1.tool_calls.0.function.arguments"),
            ({"temperature": 3}, "temperature"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
            ({"response_format": {"type": "json_schema"}}, "response_format"),
            ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
            ({"data_sources": [{"item": "a", "mode": "x"}]}, "data_sources.0"),
        ],
    )  # fmt: skip
    async def test_a_fault_is_refused_and_says_where_it_is(
        self,
        models: AsyncOpenAI,
        openai: OpenAIDouble,
        change: dict[str, Any],
        param: str,
    ) -> None:
        caught = await failure(models, extra_body=change)
        assert isinstance(caught, sdk.BadRequestError)
        assert (caught.type, caught.code) == ("invalid_request_error", "invalid_value")
        assert str(caught.param).startswith(param)
        assert openai.requests == []

    async def test_of_many_faults_the_first_is_told(self, models: AsyncOpenAI) -> None:
        for change in (
            {"messages": [{}] * 10_000},
            {"messages": [{"role": "user", "content": [{}] * 10_000}]},
            {"messages": HELLO, "data_sources": [{}] * 10_000},
            {"messages": HELLO, "tools": [{}] * 10_000},
        ):
            caught = await failure(models, extra_body=change)
            assert len(caught.message) < 1000

    async def test_a_picture_is_looked_at_as_the_service_does(self, models: AsyncOpenAI) -> None:
        url = {"url": "https://example.com/x.png", "detail": "low"}
        parts: Any = [{"type": "image_url", "image_url": url}]
        caught = await failure(models, messages=[{"role": "user", "content": parts}])
        assert (caught.code, caught.param) == (
            "unsupported_parameter", "messages.0.content.0.image_url.detail",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ({"messages": [{"role": "assistant", "content": ""}]}, "is empty"),
            ({"tool_choice": "required"}, "there are no tools"),
            ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "no tools"),
        ],
    )
    async def test_what_contradicts_itself_is_refused(
        self, models: AsyncOpenAI, asked: dict[str, Any], told: str
    ) -> None:
        caught = await failure(models, extra_body=asked)
        assert caught.status_code == 400
        assert told in caught.message

    @pytest.mark.parametrize("model", ["nobody", "nobody:x", "chat:", "model-a", "chat:no-such"])
    async def test_an_unknown_model_is_told_from_those_there_are(
        self, models: AsyncOpenAI, model: str
    ) -> None:
        caught = await failure(models, model=model)
        assert isinstance(caught, sdk.NotFoundError)
        assert (caught.code, caught.param) == ("model_not_found", "model")
        if not model.startswith("chat:"):
            assert "chat" in caught.message
            assert "PROVIDER:MODEL" in caught.message

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
    async def test_what_is_no_request_is_refused(
        self, raw: httpx2.AsyncClient, token: str, body: bytes
    ) -> None:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        answer = await raw.post(CHAT, content=body, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"

    async def test_what_is_no_json_is_told_with_the_place(
        self, raw: httpx2.AsyncClient, token: str
    ) -> None:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        answer = await raw.post(CHAT, content=b'{"model": }', headers=headers)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "invalid_value")
        assert error["message"] == "The body is no JSON: character 10."

    async def test_a_broken_character_is_refused_or_passed_on(
        self, raw: httpx2.AsyncClient, token: str
    ) -> None:
        body = json.dumps({**ASKED, "user": "\ud800"}).encode()
        broken = json.dumps({"messages": [{"role": "user", "content": "\ud800"}]}).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        assert (await raw.post(CHAT, content=body, headers=headers)).status_code < 500
        assert (await raw.post(CHAT, content=broken, headers=headers)).status_code == 400
        unknown = json.dumps({**ASKED, "model": "wise", "\ud800": 1}).encode()
        assert (await raw.post(CHAT, content=unknown, headers=headers)).status_code == 400


class TestOfTheCaller:
    @pytest.mark.parametrize("path", ["chat/completions", "models", "models/chat"])
    @pytest.mark.parametrize("wrong", [None, "Bearer wrong", "Bearer pvy_1_2"])
    async def test_without_a_good_token_is_an_invalid_api_key(
        self, raw: httpx2.AsyncClient, path: str, wrong: str | None
    ) -> None:
        headers = {"Authorization": wrong} if wrong else {}
        method = "POST" if path.startswith("chat") else "GET"
        answer = await raw.request(
            method, f"http://127.0.0.1/v1/{path}", headers=headers, json=ASKED
        )
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["error"]["code"] == "invalid_api_key"

    async def test_a_reader_may_look_and_not_ask(
        self, models: AsyncOpenAI, tokens: dict[Role, str], openai: OpenAIDouble
    ) -> None:
        reader = models.with_options(api_key=tokens[Role.READER])
        assert [one.id async for one in await reader.models.list()]
        before = len(openai.requests)
        caught = await failure(reader)
        assert isinstance(caught, sdk.PermissionDeniedError)
        assert (caught.type, caught.code) == ("invalid_request_error", "permission_denied")
        assert len(openai.requests) == before


class TestTheShape:
    async def test_is_that_of_what_is_refused_before_the_route(self, home: Path) -> None:
        settings = Settings(home=home, http={"max_body": 1024, "rate_limit": 1})
        app = create_app(ApplicationContainer(settings=settings, monitoring=False))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport) as client:
            large = await client.post(CHAT, json={"messages": "x" * 2000})
            again = await client.post(CHAT, json=ASKED)
        assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
        assert (again.status_code, again.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert again.json()["error"]["type"] == "rate_limit_error"
        assert int(again.headers["retry-after"]) >= 1

    async def test_is_the_published_one(
        self, raw: httpx2.AsyncClient, token: str, published: Judge
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        for asked, status in (({}, 400), ({**ASKED, "model": "x"}, 404), (ASKED, 401)):
            given = {} if status == 401 else headers
            answer = await raw.post(CHAT, json=asked, headers=given)
            assert answer.status_code == status
            assert published("ErrorResponse", answer.json()) == []

    async def test_is_that_of_openai_below_v1_and_nowhere_else(
        self, raw: httpx2.AsyncClient
    ) -> None:
        for path in ("/v1", "/v1/no/such"):
            answer = await raw.get(f"http://127.0.0.1{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert (await raw.get(CHAT)).json()["error"]["code"] == "method_not_allowed"
        for path in ("/v1x", "/api/v1/no-such"):
            answer = await raw.get(f"http://127.0.0.1{path}")
            assert answer.json()["status"] == 404

    async def test_is_the_same_where_the_application_is_mounted(
        self, app: FastAPI, token: str
    ) -> None:
        outer = FastAPI()
        outer.mount("/purveyor", app)
        transport = httpx2.ASGITransport(app=outer, raise_app_exceptions=False)
        async with (
            httpx2.AsyncClient(transport=transport) as http,
            AsyncOpenAI(
                base_url="http://127.0.0.1/purveyor/v1",
                api_key=token,
                http_client=http,
                max_retries=0,
            ) as client,
        ):
            answer = await client.chat.completions.create(model="chat", messages=HELLO)
            assert answer.choices[0].message.content == "You said: Hello"
            assert (await failure(client, model="nobody")).code == "model_not_found"
