"""Configuration files of media applications, providers grouped in sections, load as they are."""

from __future__ import annotations

import pytest

from purveyor.settings import Settings

from .conftest import Write, faults

FILE = """
providers:
  audio:
    forvo: {type: audio, api_key: "${FORVO:k}", pipelines: [vocabulary]}
  image:
    openai: {type: image, api_key: a, model: m, pipelines: ["*"]}
    runware: {type: image, api_key: b}
  sync:
    anki: {type: sync, deck: d}
  data:
    words: {type: local_file, root: w}
"""


def names(settings: Settings) -> dict[str, list[str]]:
    return {
        family: list(getattr(settings, family).providers)
        for family in ("audio", "images", "flashcards", "data_sources")
    }


@pytest.mark.requirement("S2.21")
def test_sections_are_families(configure: Write) -> None:
    configure(FILE, "config.yaml")
    settings = Settings()
    assert names(settings) == {
        "audio": ["forvo"],
        "images": ["openai", "runware"],
        "flashcards": ["anki"],
        "data_sources": ["words"],
    }


@pytest.mark.requirement("S2.22", "S2.30")
def test_type_and_pipelines_are_the_envelope_and_the_rest_goes_to_the_provider(
    configure: Write,
) -> None:
    configure(FILE, "config.yaml")
    settings = Settings()
    forvo = settings.audio.providers["forvo"]
    assert (forvo.type, forvo.pipelines) == ("audio", ("vocabulary",))
    assert forvo.options.get_secret_value() == {"api_key": "k"}
    openai = settings.images.providers["openai"]
    assert (openai.type, openai.pipelines) == ("image", ("*",))
    assert openai.options.get_secret_value() == {"api_key": "a", "model": "m"}


@pytest.mark.requirement("S2.21", "S2.23", "S2.30")
@pytest.mark.parametrize(
    "text", ["", "providers:", "providers: {}", "providers: {audio: , image: {}}"]
)
def test_missing_sections_are_empty(text: str, configure: Write) -> None:
    configure(text, "config.yaml")
    assert not any(names(Settings()).values())


@pytest.mark.requirement("S2.23", "S2.30")
def test_malformed_entries_are_skipped_with_a_warning(
    configure: Write, caplog: pytest.LogCaptureFixture
) -> None:
    configure(
        "providers: {audio: {forvo: hunter2, other: {}}, image: [hunter2], sync: hunter2}",
        "config.yaml",
    )
    assert names(Settings())["audio"] == ["other"]
    assert [record.getMessage() for record in caplog.records] == [
        "Skipped config.yaml: providers.audio.forvo: it is no table of settings",
        "Skipped config.yaml: providers.image: it is no table of settings",
        "Skipped config.yaml: providers.sync: it is no table of settings",
    ]


def test_faults_and_origins_are_told_as_the_file_has_them(configure: Write) -> None:
    configure(FILE, "config.yaml")
    origin = Settings().origin
    assert origin(("images", "providers", "openai")) == "config.yaml: providers.image.openai"
    for key in ("api_key", "missing"):
        assert origin(("images", "providers", "openai", key)) == (
            f"config.yaml: providers.image.openai.{key}"
        )
    configure("providers: {image: {openai: {priority: x, key: '${NO_SUCH}'}}}", "config.yaml")
    assert faults().keys() == {
        "config.yaml: providers.image.openai.priority",
        "config.yaml: providers.image.openai.key",
    }


def test_an_unknown_section_is_told(configure: Write) -> None:
    configure("providers: {audoi: {}, x: {}}", "config.yaml")
    assert faults() == {
        "config.yaml: providers.audoi": "unknown setting; did you mean 'audio'?",
        "config.yaml: providers.x": "unknown setting; there are: audio, image, sync, data",
    }


def test_sections_and_families_may_stand_together(configure: Write) -> None:
    configure(f"{FILE}\naudio: {{default: mine, providers: {{mine: {{}}}}}}", "config.yaml")
    audio = Settings().audio
    assert audio.default == "mine"
    assert audio.providers.keys() == {"forvo", "mine"}


def test_a_provider_must_not_stand_in_both(configure: Write) -> None:
    configure(f"{FILE}\naudio: {{providers: {{forvo: {{}}}}}}", "config.yaml")
    assert faults() == {
        "config.yaml: providers.audio.forvo": (
            "is set at audio.providers.forvo too; keep one of the two"
        )
    }


@pytest.mark.parametrize("text", ["providers: hunter2", "providers: {audio: {a: {}}}\naudio: 3"])
def test_other_shapes_are_faults(text: str, configure: Write) -> None:
    configure(text, "config.yaml")
    assert len(faults()) == 1
