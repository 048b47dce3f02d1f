"""The rows of the AI types: older names, and the variables that make providers."""

from __future__ import annotations

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry.types import default_types
from purveyor.testing.doubles import AIDouble, AnthropicDouble, OpenAIDouble


@pytest.mark.parametrize(
    ("older", "name"),
    [("anthropic-claude", "anthropic"), ("openai-gpt", "openai"), ("local-llm", "local")],
)
def test_older_names_lead_to_the_types(older: str, name: str) -> None:
    assert default_types.get("ai", older).name == name


@pytest.mark.requirement("S4.24")
@pytest.mark.parametrize(
    ("name", "double"), [("anthropic", AnthropicDouble()), ("openai", OpenAIDouble())]
)
async def test_a_key_in_the_environment_makes_a_provider(
    name: str, double: AIDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__DISCOVERY__ENABLE_ENVIRONMENT_DISCOVERY", "true")
    with double:
        base_url = f"{double.url}/v1" if name == "openai" else double.url
        monkeypatch.setenv(f"{name.upper()}_API_KEY", double.key)
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", base_url)
        container = ApplicationContainer()
        async with container.lifespan():
            assert container.registries()["ai"].info(name).source == "environment"
            answer = await container.ai(name).complete("Hi", model="model-a")
            assert answer.text == "You said: Hi"
