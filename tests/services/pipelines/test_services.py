"""
From the configuration file of an older media application to its pipelines and their providers.

The providers are the real ones; the services behind them are doubles on loopback.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.media.types import MEDIA_TYPES
from purveyor.providers.registry import PermissionDeniedError, default_types
from purveyor.services.pipelines import (
    CardOptions,
    ImageJob,
    Pipeline,
    PronunciationJob,
    RowOutcome,
    push_cards,
)
from purveyor.settings import load_settings
from purveyor.testing.doubles import (
    AnkiDouble,
    Fault,
    ForvoDouble,
    OpenAIImagesDouble,
    RunwareDouble,
    Spoken,
)

FILE = """
providers:
  data:
    words: {{type: local_file, root: .}}
  audio:
    forvo:
      type: audio
      api_key: forvo-key
      base_url: "{forvo}"
      pipelines: ["vocabulary"]
  image:
    openai:
      type: image
      api_key: sk-double
      base_url: "{openai}/v1"
      model: gpt-image-1-mini
      prices: {{gpt-image-1-mini: 0.011}}
      pipelines: ["vocabulary"]
    runware:
      type: image
      api_key: runware-double-key
      base_url: "{runware}/v1"
      model: runware:101@1
      size: 512x512
      pipelines: ["covers"]
  sync:
    anki:
      type: sync
      url: "{anki}"
      deck: "Languages::Spanish"
      note_type: Sentence
      pipelines: ["*"]
"""
WORDS = """Text,Meaning,image_prompt,word,language,tags
el gato,the cat,a cat,gato,es,animal
el perro,the dog,a dog,perro,es,animal
"""


class Services:
    """The services of the file, and the file."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        spoken = [Spoken(1, "gato", "es"), Spoken(2, "perro", "es")]
        self.forvo = stack.enter_context(ForvoDouble("forvo-key", spoken))
        self.openai = stack.enter_context(OpenAIImagesDouble())
        self.runware = stack.enter_context(RunwareDouble())
        self.anki = stack.enter_context(AnkiDouble())
        self.file = folder / "config.yaml"
        urls = {name: getattr(self, name).url for name in ("forvo", "openai", "runware", "anki")}
        self.file.write_text(FILE.format(**urls))


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(stack, tmp_path)


@pytest.fixture
async def container(services: Services, tmp_path: Path) -> AsyncIterator[ApplicationContainer]:
    settings = load_settings(config_file=services.file, home=tmp_path / "home")
    made = ApplicationContainer(settings=settings)
    async with made.lifespan():
        yield made


@pytest.mark.requirement("S2.8", "S2.9", "S2.28")
def test_the_media_types_are_a_mapping_of_names_to_classes() -> None:
    paths = {(row.family, row.name): row.path for row in MEDIA_TYPES}
    media = "purveyor.providers.media"
    for key, path in {
        ("audio", "forvo"): f"{media}.audio.forvo:Forvo",
        ("images", "openai"): f"{media}.images.openai:OpenAIImages",
        ("images", "runware"): f"{media}.images.runware:RunwareImages",
        ("flashcards", "anki"): f"{media}.flashcards.anki:Anki",
    }.items():
        assert paths[key] == path
    for row in MEDIA_TYPES:
        assert row.loaded_class.__name__ == row.path.rpartition(":")[2]
        assert row.loaded_class.family == row.family
    with pytest.raises(ValueError, match="Unknown provider type: video"):
        default_types.family("video")
    with pytest.raises(ValueError, match="Unknown image provider: elevenlabs"):
        default_types.get("image", "elevenlabs")


@pytest.mark.requirement("S2.3", "S2.27", "S2.32", "S2.33", "S2.36", "S2.43")
async def test_every_section_is_loaded_and_its_providers_answer(
    services: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(config_file=services.file, home=tmp_path / "home")
    container = ApplicationContainer(settings=settings)
    with caplog.at_level(logging.INFO, "purveyor"):
        async with container.lifespan():
            for family, name in (
                ("audio", "forvo"),
                ("images", "openai"),
                ("images", "runware"),
                ("flashcards", "anki"),
                ("data_sources", "words"),
            ):
                registry = container.registries()[family]
                provider: Any = getattr(container, family)(name)
                assert provider is registry.require(name)
                result = await registry.get_provider_health(name)
                assert (name, result.message) == (name, "")
    told = [record.getMessage() for record in caplog.records]
    assert "Registered audio provider: forvo (type forvo)" in told
    assert "Registered images provider: runware (type runware)" in told


@pytest.mark.requirement("S2.34")
async def test_pipelines_are_assigned_as_the_file_says(container: ApplicationContainer) -> None:
    vocabulary, covers = Pipeline("vocabulary", container), Pipeline("covers", container)
    assert {family: vocabulary.names(family) for family in ("audio", "image", "sync")} == {
        "audio": ["forvo"],
        "image": ["openai"],
        "sync": ["anki"],
    }
    assert (covers.names("image"), covers.names("audio")) == (["runware"], [])
    with pytest.raises(PermissionDeniedError, match=r"'covers'.*'openai'"):
        await covers.run([ImageJob("1", "a cat", provider="openai")])


@pytest.mark.requirement("S2.32")
async def test_pictures_and_recordings_come_from_the_services(
    container: ApplicationContainer, services: Services
) -> None:
    cat = ImageJob("cat", "a cat")
    jobs = [cat, PronunciationJob("gato", "gato", "es")]
    vocabulary = Pipeline("vocabulary", container)
    made = await vocabulary.run(jobs)
    covers = await Pipeline("covers", container).run([cat])
    again = await vocabulary.run(jobs)

    assert [item.outcome for item in made.items] == ["made", "made"]
    assert made.items[0].product is not None
    assert made.items[0].product.data.startswith(b"\x89PNG")
    assert made.items[0].cost == Decimal("0.011")
    assert covers.items[0].cost == Decimal("0.0013")  # told by the service
    assert [item.outcome for item in again.items] == ["kept", "made"]  # Forvo forbids keeping
    assert len(services.openai.requests) == 1


async def test_flashcards_are_pushed_with_their_media_and_only_once(
    container: ApplicationContainer, services: Services, tmp_path: Path
) -> None:
    table = tmp_path / "words.csv"
    table.write_text(WORDS)
    pipeline = Pipeline("vocabulary", container, concurrency=1)
    first = await push_cards(table, pipeline)
    asked = len(services.openai.requests), len(services.forvo.requests)
    again = await push_cards(table, pipeline)

    assert [row.outcome for row in first.rows] == [RowOutcome.ADDED] * 2, first.to_dict()
    assert [row.outcome for row in again.rows] == [RowOutcome.SKIPPED] * 2
    assert (len(services.openai.requests), len(services.forvo.requests)) == asked
    cat = services.anki.notes[first.rows[0].id or 0]
    assert (cat.deck, cat.tags) == ("Languages::Spanish", ["animal"])
    assert cat.fields["Text"] == "el gato"
    picture, sound = cat.fields["Picture"], cat.fields["Sound"]
    names = sorted(services.anki.media)
    assert sum(name in picture for name in names) == 1
    assert sum(name in sound for name in names) == 1
    assert {name[-4:] for name in names} == {".png", ".mp3"}


async def test_a_quota_that_is_used_up_ends_the_sounds_and_the_next_push_goes_on(
    container: ApplicationContainer, services: Services, tmp_path: Path
) -> None:
    table = tmp_path / "words.csv"
    table.write_text(WORDS)
    services.forvo.quota = 2  # the list and the link of the first word
    first = await push_cards(table, Pipeline("vocabulary", container, concurrency=1))
    services.forvo.quota = None
    await container.audio.registry.reload("forvo")  # whose circuit breaker waits for the next day
    again = await push_cards(table, Pipeline("vocabulary", container))

    assert [row.outcome for row in first.rows] == ["added", "failed"]
    assert [row.outcome for row in again.rows] == ["skipped", "added"]
    assert len(services.openai.requests) == 2  # the dog of the first push was kept


async def test_an_anki_that_does_not_run_is_told_before_anything_is_paid(
    container: ApplicationContainer, services: Services, tmp_path: Path
) -> None:
    table = tmp_path / "words.csv"
    table.write_text(WORDS)
    services.anki.fail(*[Fault(hang_up=True)] * 3)
    with pytest.raises(ConnectionError):
        await push_cards(table, Pipeline("vocabulary", container), options=CardOptions())
    assert services.openai.requests == []
