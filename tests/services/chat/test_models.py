"""The names by which models can be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import Status
from purveyor.services.chat import ModelList
from purveyor.settings import Settings
from purveyor.testing.doubles import AnthropicDouble, Fault, OpenAIDouble

Start = Callable[..., ApplicationContainer]


@pytest.fixture
def openai() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as double:
        yield double


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Make a container with AI providers and some settings of ``chat``."""
    made: list[ApplicationContainer] = []

    def container(providers: dict[str, Any], **chat: Any) -> ApplicationContainer:
        settings = Settings(home=tmp_path, ai={"providers": providers}, chat=chat)
        made.append(ApplicationContainer(settings=settings, monitoring=False))
        return made[-1]

    yield container
    for one in made:
        await one.ai.registry.graceful_shutdown()


def at(double: OpenAIDouble | AnthropicDouble, **more: Any) -> dict[str, Any]:
    """Return the settings of a provider whose service is a double."""
    if isinstance(double, OpenAIDouble):
        return {"type": "openai", "base_url": double.base_url, "api_key": double.key, **more}
    return {"type": "anthropic", "base_url": double.url, "api_key": double.key, **more}


async def ids(models: ModelList) -> list[str]:
    return [one.id for one in await models.all()]


async def test_providers_and_the_models_of_their_services_are_listed(
    start: Start, openai: OpenAIDouble
) -> None:
    with AnthropicDouble(models=["c-1"]) as anthropic:
        container = start({"chat": at(openai), "wise": at(anthropic)})
        models = ModelList(container)
        assert await ids(models) == ["chat", "chat:model-a", "chat:model-b", "wise", "wise:c-1"]
        by_id = {one.id: one for one in await models.all()}
        assert by_id["chat:model-a"].provider == "chat"
        created = by_id["chat:model-a"].created
        assert created is not None
        assert created.year == 2026


async def test_aliases_and_groups_are_listed_once(start: Start, openai: OpenAIDouble) -> None:
    container = start(
        {
            "chat": at(openai),
            "quick": {"type": "alias", "provider": "chat", "model": "model-b"},
            "safe": {"type": "failover", "members": ["chat", "quick"]},
        }
    )
    listed = await ids(ModelList(container))
    assert listed == ["chat", "chat:model-a", "chat:model-b", "quick", "safe"]
    assert len(openai.requests) == 1


@pytest.mark.parametrize(
    "fault", [Fault(500), Fault(401), Fault(hang_up=True), Fault(delay=30)], ids=repr
)
async def test_a_service_that_does_not_tell_is_left_out_and_fails_no_other(
    start: Start, openai: OpenAIDouble, fault: Fault
) -> None:
    with OpenAIDouble() as ill:
        ill.fail(*[fault] * 5)
        container = start({"chat": at(openai), "ill": at(ill)}, models_timeout=0.3)
        listed = await ids(ModelList(container))
    assert listed == ["chat", "chat:model-a", "chat:model-b", "ill"]


async def test_a_service_is_asked_again_after_a_while_only(
    start: Start, openai: OpenAIDouble
) -> None:
    container = start({"chat": at(openai)}, models_age=3600)
    models = ModelList(container)
    assert await ids(models) == await ids(models)
    assert await models.get("chat:model-a") is not None
    assert len(openai.requests) == 1
    impatient = ModelList(start({"chat": at(openai)}, models_age=1e-9))
    await impatient.all()
    await impatient.all()
    assert len(openai.requests) == 3


async def test_a_program_is_not_started_to_list_its_models(start: Start) -> None:
    local = {"type": "local", "command": "a-model-server --port {port}", "model": "x"}
    container = start({"local": local})
    assert await ids(ModelList(container)) == ["local"]
    assert container.ai.registry.info("local").status is Status.REGISTERED


async def test_one_name_is_looked_up_at_its_own_service(start: Start, openai: OpenAIDouble) -> None:
    with OpenAIDouble(models=["org/model:1b"]) as other:
        models = ModelList(start({"chat": at(openai), "other": at(other)}))
        found = await models.get("other:org/model:1b")
        assert found is not None
        assert found.provider == "other"
        assert await models.get("other") is not None
        assert openai.requests == []
        assert await models.get("other:no-such") is None
        assert await models.get("nobody:x") is None
