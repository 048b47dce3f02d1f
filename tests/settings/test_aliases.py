"""Names for AI providers and their models, as settings say them."""

from __future__ import annotations

from pathlib import Path

import pytest

from purveyor.providers.families import AI
from purveyor.providers.registry.candidates import from_settings
from purveyor.settings import Settings, read_providers

from .conftest import Write, faults


def test_an_alias_is_a_provider_of_that_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_AI__ALIASES__FAST", "anthropic:claude-haiku-4-5")
    monkeypatch.setenv("PURVEYOR_AI__ALIASES__LOCAL", "lab : llama3:8b ")
    monkeypatch.setenv("PURVEYOR_AI__ALIASES__BEST", "anthropic")
    found = {one.name: one for one in from_settings(Settings(), AI)}
    made = {
        name: (one.declaration.settings.type, one.declaration.settings.options.get_secret_value())
        for name, one in found.items()
        if one.declaration is not None
    }
    assert made == {
        "fast": ("alias", {"provider": "anthropic", "model": "claude-haiku-4-5"}),
        "local": ("alias", {"provider": "lab", "model": "llama3:8b"}),
        "best": ("alias", {"provider": "anthropic", "model": ""}),
    }
    fast = found["fast"]
    assert (fast.source, fast.origin) == ("environment", "PURVEYOR_AI__ALIASES__FAST")
    assert fast.declaration is not None
    assert fast.declaration.where is not None
    assert fast.declaration.where(("provider",)) == "PURVEYOR_AI__ALIASES__FAST"


def test_the_first_source_that_names_one_wins_whole(
    configure: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure('[ai.aliases]\nfast = "openai:gpt-5-mini"\nbest = "openai:gpt-5"')
    monkeypatch.setenv("PURVEYOR_AI__ALIASES__FAST", "anthropic")
    settings = Settings()
    assert settings.ai.aliases == {"fast": "anthropic", "best": "openai:gpt-5"}
    assert settings.origin(("ai", "aliases", "best")) == "purveyor.toml: ai.aliases.best"


def test_all_of_them_may_be_one_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_AI__ALIASES", '{"fast": "lab:tiny"}')
    assert Settings().ai.aliases == {"fast": "lab:tiny"}


@pytest.mark.parametrize("value", ["", " ", ":model", "provider:", " : "])
def test_one_that_names_nobody_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("PURVEYOR_AI__ALIASES__FAST", value)
    reason = "must be PROVIDER:MODEL, or PROVIDER alone"
    assert faults() == {"PURVEYOR_AI__ALIASES__FAST": reason}


def test_one_that_hides_a_provider_is_told_with_both_places(
    configure: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure('[ai.providers.fast]\ntype = "openai"')
    monkeypatch.setenv("PURVEYOR_AI__ALIASES__FAST", "anthropic:claude-haiku-4-5")
    assert faults() == {
        "PURVEYOR_AI__ALIASES__FAST": (
            "has the name of a provider, set at purveyor.toml: ai.providers.fast; rename one"
        )
    }


def test_only_the_ai_family_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__ALIASES__FAST", "backups")
    assert faults() == {
        "PURVEYOR_STORAGE__ALIASES__FAST": "unknown setting; there are: default, providers"
    }


def test_a_file_of_providers_has_none(folder: Path) -> None:
    path = folder / "providers.toml"
    path.write_text('[ai.aliases]\nfast = "lab:tiny"\n[ai.providers.lab]\ntype = "openai"')
    file = read_providers(path, frozenset({"ai"}))
    assert [str(problem) for problem in file.problems] == [
        f"{path}: ai.aliases: is not taken from a file of providers; set PURVEYOR_AI__ALIASES"
    ]
    assert [one.name for one in file.providers] == ["lab"]
