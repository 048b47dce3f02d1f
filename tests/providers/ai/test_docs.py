"""What docs/ai.md shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.ai.openai import OpenAIConfig, OpenAIProvider
from purveyor.testing.doubles import Called, OpenAIDouble, Reply

PAGE = Path(__file__).parents[3] / "docs" / "ai.md"


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """Return what the page defines."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    return names


async def test_the_examples_work(openai: OpenAIDouble, shown: dict[str, Any]):
    settings = OpenAIConfig.model_validate(
        {"base_url": openai.base_url, "api_key": openai.key, "model": "model-a"}
    )
    async with OpenAIProvider(settings) as ai:
        assert await shown["look"](ai, b"\xff\xd8") == "You said: In one word?"
        assert openai.heard[-1].images == [b"\xff\xd8"]
        openai.reply(Reply(calls=[Called("get_weather", '{"city": "Bern"}')]), Reply("Sunny."))
        assert await shown["ask"](ai, "Weather?") == "Sunny."
        assert [content for _, content, _ in openai.heard[-1].results] == ["sunny in Bern"]
        openai.reply(Reply('{"name": "Ada Lovelace", "born": 1815}'))
        assert (await shown["who"](ai)).born == 1815


def test_every_setting_of_the_type_is_on_the_page():
    page = PAGE.read_text()
    assert [name for name in OpenAIConfig.model_fields if f"`{name}`" not in page] == []
