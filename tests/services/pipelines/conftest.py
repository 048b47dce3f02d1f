from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.settings import load_settings
from tests.services.pipelines import samples
from tests.services.pipelines.samples import World, sample_types

Open = Callable[..., Any]


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """What the services are asked in this test, and what goes wrong with them."""
    made = World()
    monkeypatch.setattr(samples, "WORLD", made)
    return made


@pytest.fixture
async def open_container(tmp_path: Path) -> AsyncIterator[Open]:
    """Make containers of settings, which are closed in the end."""
    async with AsyncExitStack() as stack:

        async def made(**values: Any) -> ApplicationContainer:
            settings = load_settings(home=tmp_path / "home", **values)
            container = ApplicationContainer(settings=settings, types=sample_types())
            await stack.enter_async_context(container.lifespan())
            return container

        yield made


@pytest.fixture
async def container(open_container: Open) -> ApplicationContainer:
    """An image service, an audio service and a box of cards, under the names of real ones."""
    return await open_container(
        images={"providers": {"openai": {"api_key": "k"}}},
        audio={"providers": {"forvo": {"api_key": "k"}}},
        flashcards={"providers": {"anki": {"deck": "Spanish", "note_type": "Vocabulary"}}},
    )
