"""What is special to the type openai; the behaviour all types share is the conformance kit's."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.containers import ApplicationContainer
from purveyor.providers.ai import Completion
from purveyor.providers.ai.errors import (
    AccessDeniedError,
    AuthenticationError,
    ContextTooLongError,
    InvalidOutputError,
    InvalidRequestError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceConnectionError,
    StreamInterruptedError,
)
from purveyor.providers.ai.openai import OpenAIConfig, OpenAIProvider
from purveyor.providers.registry import InvalidStateError, guarded
from purveyor.testing.conformance.ai_case import drained, until
from purveyor.testing.doubles import Called, Fault, OpenAIDouble, Reply


def config(double: OpenAIDouble, **changes: Any) -> OpenAIConfig:
    given = {"base_url": double.base_url, "api_key": double.key, "model": "model-a", "retries": 0}
    return OpenAIConfig.model_validate({**given, **changes})


@pytest.fixture
async def model(openai: OpenAIDouble) -> AsyncIterator[OpenAIProvider]:
    async with guarded(OpenAIProvider(config(openai)), name="chat") as model:
        yield model


# -- settings ----------------------------------------------------------------------------


def test_the_key_is_all_that_must_be_set():
    settings = OpenAIConfig.model_validate({"api_key": "sk-1"})
    assert settings.base_url == "https://api.openai.com/v1"
    assert settings.model == ""


@pytest.mark.parametrize(
    "url", ["api.openai.com", "https://u:p@x.test/v1", "https://x.test/v1?k=1"]
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ValidationError, match="must be an address such as"):
        OpenAIConfig.model_validate({"base_url": url})


@pytest.mark.parametrize("name", ["complete", "check_health"])
async def test_no_key_for_openai_itself_names_the_setting(name: str):
    model = guarded(OpenAIProvider(OpenAIConfig(model="m")), name="chat")
    calls: dict[str, Any] = {"complete": lambda: model.complete("Hello")}
    with pytest.raises(AuthenticationError, match=r"set api_key, or the variable OPENAI_API_KEY"):
        await calls.get(name, model.check_health)()
    await model.dispose()


async def test_a_compatible_service_may_need_no_key(openai: OpenAIDouble):
    async with OpenAIProvider(config(openai, api_key=None)) as model:
        with pytest.raises(AuthenticationError, match=r"does not accept the key\. Check api_key"):
            await model.complete("Hello")
    assert "Authorization" not in openai.last.headers


async def test_who_pays_is_told(openai: OpenAIDouble):
    payers = {"organization": "org-1", "project": "proj-1"}
    async with OpenAIProvider(config(openai, **payers)) as model:
        await model.complete("Hello")
    headers = openai.last.headers
    assert headers["Authorization"] == f"Bearer {openai.key}"
    assert (headers["OpenAI-Organization"], headers["OpenAI-Project"]) == ("org-1", "proj-1")


async def test_older_services_have_an_older_name_for_the_limit():
    with OpenAIDouble(max_tokens_field="max_tokens") as older:
        async with OpenAIProvider(config(older, max_tokens=9)) as model:
            with pytest.raises(InvalidRequestError, match="max_completion_tokens"):
                await model.complete("Hello")
        settings = config(older, max_tokens=9, max_tokens_field="max_tokens", stream_usage=False)
        async with OpenAIProvider(settings) as model:
            await drained(model.stream("Hello"))
        assert older.heard[-1].max_tokens == 9
        assert "stream_options" not in older.last.json


async def test_fields_of_the_services_own_are_sent(openai: OpenAIDouble, model: OpenAIProvider):
    await model.complete("Hello", temperature=0.0, extra={"reasoning_effort": "low"})
    assert openai.last.json["reasoning_effort"] == "low"
    assert openai.heard[-1].temperature == 0.0
    with pytest.raises(InvalidRequestError, match="Unrecognized request argument supplied: top_q"):
        await model.complete("Hello", extra={"top_q": 1})


async def test_without_a_connection_it_says_how_to_get_one(openai: OpenAIDouble):
    with pytest.raises(InvalidStateError, match="is not connected: use it with `async with`"):
        await OpenAIProvider(config(openai)).complete("Hello")


@pytest.mark.requirement("S4.24")
async def test_it_is_chosen_by_name_and_found_in_the_environment(
    openai: OpenAIDouble, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PURVEYOR_REGISTRY__DISCOVERY__ENABLE_ENVIRONMENT_DISCOVERY", "true")
    monkeypatch.setenv("OPENAI_API_KEY", openai.key)
    monkeypatch.setenv("OPENAI_BASE_URL", openai.base_url)
    monkeypatch.setenv("PURVEYOR_AI__PROVIDERS__MINE__TYPE", "openai")
    monkeypatch.setenv("PURVEYOR_AI__PROVIDERS__MINE__API_KEY", openai.key)
    monkeypatch.setenv("PURVEYOR_AI__PROVIDERS__MINE__BASE_URL", openai.base_url)
    monkeypatch.setenv("PURVEYOR_AI__PROVIDERS__MINE__MODEL", "model-b")
    container = ApplicationContainer()
    async with container.lifespan():
        answer: Completion = await container.ai("mine").complete("Hello")
        assert (answer.text, answer.model) == ("You said: Hello", "model-b")
        found: Completion = await container.ai("openai").complete("Hello", model="model-a")
        assert found.model == "model-a"


# -- faults ------------------------------------------------------------------------------


async def test_a_key_that_may_not_list_models_is_no_illness(
    openai: OpenAIDouble, model: OpenAIProvider
):
    openai.fail(openai.fault("permission"))
    assert await model.check_health() is None
    openai.fail(openai.fault("permission"))
    with pytest.raises(AccessDeniedError):
        await model.models()


@pytest.mark.parametrize("finish", ["tool_calls", "length"])
async def test_a_broken_call_is_told_in_a_whole_answer_too(
    openai: OpenAIDouble, model: OpenAIProvider, finish: Any
):
    openai.reply(Reply(calls=[Called("look_up", '{"a')], finish=finish))
    with pytest.raises(InvalidOutputError, match="'look_up'") as caught:
        await model.complete("Hello")
    assert caught.value.context["output"] == '{"a'


async def test_a_limit_that_lasts_is_the_callers(openai: OpenAIDouble):
    headers = {"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}
    openai.fail(openai.fault("rate_limit", headers=headers))
    async with OpenAIProvider(config(openai, retries=5)) as model:
        with pytest.raises(RateLimitedError) as caught:
            await model.complete("Hello")
    assert caught.value.retry_after == 360.0
    assert len(openai.requests) == 1


async def test_a_spent_quota_is_told_at_once_though_it_says_when(openai: OpenAIDouble):
    openai.fail(openai.fault("quota", headers={"Retry-After": "0"}))
    async with OpenAIProvider(config(openai, retries=5)) as model:
        with pytest.raises(QuotaExhaustedError):
            await model.complete("Hello")
    assert len(openai.requests) == 1


async def test_a_refused_stream_is_its_error_and_no_interruption(
    openai: OpenAIDouble, model: OpenAIProvider
):
    openai.context = 10
    with pytest.raises(ContextTooLongError):
        await drained(model.stream("word " * 10))


async def test_a_connection_lost_before_the_first_event_is_that(
    openai: OpenAIDouble, model: OpenAIProvider
):
    openai.fail(Fault(cut_after=0))
    with pytest.raises(ServiceConnectionError):
        await drained(model.stream("Hello"))


async def test_an_interrupted_call_of_a_tool_has_the_text_before_it(
    openai: OpenAIDouble, model: OpenAIProvider
):
    openai.reply(Reply("Let me see", pieces=1, calls=[Called("look_up", '{"a": "b"}')]))
    openai.fail(Fault(cut_after=4))
    with pytest.raises(StreamInterruptedError) as caught:
        await drained(model.stream("Hello"))
    assert caught.value.partial == "Let me see"
    assert caught.value.provider_name == "chat"


# -- many streams ------------------------------------------------------------------------

STREAMS, PIECES, SIZE = 200, 20, 10_000


async def test_200_streams_at_once(openai: OpenAIDouble):
    """None is lost, none mixed up; one that is cancelled leaves the others alone."""
    settings = config(openai, max_connections=STREAMS)
    openai.reply(*[Reply(pieces=PIECES)] * STREAMS)
    openai.fail(*[Fault(hold_after=PIECES // 2)] * STREAMS)
    prompts = [f"{number:04}" * (SIZE // 4) for number in range(STREAMS)]

    async def listen(model: OpenAIProvider, prompt: str) -> None:
        position = 0
        said = f"You said: {prompt}"
        async for chunk in model.stream(prompt):
            assert said.startswith(chunk.text, position)
            position += len(chunk.text)
        assert position == len(said)

    async with guarded(OpenAIProvider(settings), name="chat") as model:
        tracemalloc.start()
        tasks = [asyncio.create_task(listen(model, prompt)) for prompt in prompts]
        await until(lambda: openai.open_streams == STREAMS, f"{STREAMS} streams are open")
        tasks[100].cancel()
        await until(lambda: openai.broken_streams == 1, "the connection is closed")
        openai.release()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        gc.collect()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert isinstance(results.pop(100), asyncio.CancelledError)
    assert results == [None] * (STREAMS - 1)
    assert openai.broken_streams == 1
    assert len(openai.heard) == STREAMS
    assert peak < STREAMS * 20 * SIZE  # the double's share included


async def test_what_has_no_usage_has_no_cost(openai: OpenAIDouble):
    prices = {"model-a": {"input": 1, "output": 1}}
    openai.reply(Reply("x", input_tokens=0, output_tokens=0))
    async with OpenAIProvider(config(openai, prices=prices)) as model:
        assert (await model.complete("Hi")).usage.cost is None


async def test_a_setting_with_a_lines_end_is_told(openai: OpenAIDouble):
    async with OpenAIProvider(config(openai, organization="org\r")) as model:
        with pytest.raises(InvalidRequestError, match="has a line's end or a control character"):
            await model.complete("Hi")
