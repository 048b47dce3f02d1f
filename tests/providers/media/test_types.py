"""The media types are rows of data: each names a class that is there, none imports anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.media import MEDIA_TYPES
from purveyor.providers.media.audio.forvo import Forvo
from purveyor.providers.media.flashcards.anki import Anki
from purveyor.providers.media.images.openai import OpenAIImages
from purveyor.providers.media.images.runware import RunwareImages
from purveyor.providers.registry import NotFoundError
from purveyor.providers.registry.types import default_types
from purveyor.settings import Settings

CLASSES = {
    ("audio", "forvo"): Forvo,
    ("images", "openai"): OpenAIImages,
    ("images", "runware"): RunwareImages,
    ("flashcards", "anki"): Anki,
}


@pytest.mark.requirement("S2.8", "S2.28")
def test_each_type_names_its_class() -> None:
    rows = {(row.family, row.name): row for row in MEDIA_TYPES}
    assert {key: row.loaded_class for key, row in rows.items()} == CLASSES
    for row in MEDIA_TYPES:
        module, _, name = row.path.partition(":")
        assert (row.loaded_class.__module__, row.loaded_class.__qualname__) == (module, name)
        assert row.config_class is row.loaded_class.config_class
        assert row.extra == "media"
        assert row.secret_fields == {"api_key"}
    assert "sync" in default_types.family("flashcards").aliases


@pytest.mark.requirement("S2.28")
def test_a_type_that_is_not_there_is_told_with_those_that_are() -> None:
    for family, known in (("audio", "forvo"), ("flashcards", "anki"), ("images", "runware")):
        with pytest.raises(NotFoundError, match=known) as caught:
            default_types.get(family, "elevenlabs")
        assert isinstance(caught.value, ValueError)


def test_neither_the_rows_nor_the_classes_import_the_library() -> None:
    code = (
        "import sys; from purveyor.providers.media import MEDIA_TYPES\n"
        "assert not [name for name in sys.modules if 'media.audio' in name]\n"
        "[row.loaded_class for row in MEDIA_TYPES]\n"
        "assert not {'aiohttp', 'aiolimiter', 'yarl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_the_key_of_forvo_is_found_under_its_usual_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORVO_API_KEY", "canary-of-forvo")
    discovery = {"enable_environment_discovery": True}
    settings = Settings.model_validate({"registry": {"discovery": discovery}})
    container = ApplicationContainer(settings=settings)
    forvo = container.audio("forvo")
    assert forvo.config.api_key.get_secret_value() == "canary-of-forvo"
    assert "canary" not in repr(forvo.config)
