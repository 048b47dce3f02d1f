"""The tree: its defaults, what a provider's settings are made of, and what is never shown."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from purveyor.settings import (
    AISettings,
    BreakerSettings,
    FamilySettings,
    ProviderSettings,
    Settings,
    load_settings,
)

from .conftest import faults, options

FAMILIES = ("storage", "data_sources", "ai", "images", "audio", "flashcards")


def provider(**values: Any) -> ProviderSettings:
    return Settings(storage={"providers": {"b": values}}).storage.providers["b"]


def test_nothing_needs_to_be_set() -> None:
    settings = Settings()
    for family in FAMILIES:
        kind = AISettings if family == "ai" else FamilySettings
        assert getattr(settings, family) == kind(default=None, providers={})
    assert settings.home == Path(".purveyor")
    assert settings.registry.health.check_interval == 30.0
    assert settings.registry.health.timeout == 10.0
    breaker = settings.registry.circuit_breaker
    assert (breaker.failure_threshold, breaker.monitoring_period) == (5, 60.0)
    assert (breaker.recovery_timeout, breaker.half_open_max_calls) == (300.0, 1)
    assert settings.registry.lifecycle.graceful_shutdown_timeout == 30.0
    assert settings.registry.discovery.enable_environment_discovery is False
    assert settings.credentials.keys == ()


def test_a_provider_has_an_envelope_with_defaults() -> None:
    one = provider()
    assert one.type is None
    assert (one.enabled, one.priority, one.required) == (True, 50, False)
    assert (one.depends_on, one.pipelines) == ((), ("*",))
    assert one.timeout is one.circuit_breaker is one.health is None
    assert one.metadata == {}
    assert one.options.get_secret_value() == {}


@pytest.mark.parametrize(
    "values",
    [
        {"type": "s3", "bucket": "x", "region": "y"},
        {"type": "s3", "options": {"bucket": "x", "region": "y"}},
        {"type": "s3", "bucket": "x", "options": {"region": "y"}},
        {"type": "s3", "bucket": "x", "options": {"bucket": "x", "region": "y"}},
    ],
)
def test_what_is_the_types_own_ends_in_options(values: dict[str, Any]) -> None:
    for one in (provider(**values), ProviderSettings.model_validate(values)):
        assert one.type == "s3"
        assert one.options.get_secret_value() == {"bucket": "x", "region": "y"}


def test_a_type_may_have_a_key_of_the_envelopes_name() -> None:
    one = provider(timeout=5, options={"timeout": 7})
    assert one.timeout == 5.0
    assert one.options.get_secret_value() == {"timeout": 7}


def test_flat_and_under_options_must_not_differ() -> None:
    entry = {"type": "s3", "bucket": "x", "priority": 900, "options": {"bucket": "hunter2"}}
    told = faults(storage={"providers": {"b": entry}})
    assert told == {
        "argument storage.providers.b.bucket": (
            "is set under options too, to something else; keep one of the two"
        ),
        "argument storage.providers.b.priority": "must be at most 100",
    }
    with pytest.raises(ValidationError, match="bucket") as caught:
        ProviderSettings.model_validate(entry)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["a,b", " a , b ,", '["a", "b"]'])
def test_names_are_a_list_or_a_text(text: str) -> None:
    assert provider(depends_on=text).depends_on == ("a", "b")
    assert provider(pipelines=text).pipelines == ("a", "b")
    assert provider(pipelines=["a", "b"]).pipelines == ("a", "b")


def test_keys_are_a_list_or_a_text() -> None:
    expected = (SecretStr("one"), SecretStr("two"))
    for given in ("one,two", '["one", "two"]', ["one", "two"]):
        assert Settings(credentials={"keys": given}).credentials.keys == expected


def test_overrides_of_a_provider_are_partial() -> None:
    one = provider(circuit_breaker={"failure_threshold": 2}, health={"timeout": 3})
    common = BreakerSettings(failure_threshold=7, recovery_timeout=9)
    assert one.circuit_breaker is not None
    merged = common.with_overrides(one.circuit_breaker)
    assert (merged.failure_threshold, merged.recovery_timeout) == (2, 9.0)
    assert common.with_overrides(None) is common


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.home = Path("elsewhere")
    with pytest.raises(ValidationError):
        settings.registry.health.timeout = 1.0


def test_models_can_be_given_as_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__DEFAULT", "backups")
    given = ProviderSettings.model_validate({"type": "s3", "bucket": "x"})
    settings = Settings(storage=FamilySettings(providers={"backups": given}))
    assert settings.storage.providers["backups"] == given
    assert settings.storage.default == "backups"
    assert settings.origin(("storage", "providers", "backups", "bucket")) == (
        "argument storage.providers.backups.bucket"
    )


def test_options_and_keys_are_masked_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    settings = Settings(
        credentials={"keys": "hunter2"},
        storage={"providers": {"backups": {"secret_key": "hunter2", "options": {"a": "hunter2"}}}},
    )
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    for text in [*shown, caplog.text]:
        assert "hunter2" not in text
    assert options(settings) == {"secret_key": "hunter2", "a": "hunter2"}


def test_the_debug_log_of_pydantic_settings_tells_no_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    caplog.set_level("DEBUG")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__B__SECRET_KEY", "hunter2")
    Settings(credentials={"keys": "hunter2"})
    assert "hunter2" not in caplog.text


def test_where_it_came_from_is_no_part_of_equality(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(home="x")
    monkeypatch.setenv("PURVEYOR_HOME", "x")
    read = Settings()
    assert given == read
    assert given.origin(("home",)) != read.origin(("home",))
    assert "PURVEYOR" not in repr(read)
    assert set(Settings.model_fields) == {
        *FAMILIES, "registry", "credentials", "catalogue", "http", "chat", "telemetry", "home",
        "config_file", "secrets_dir",
    }  # fmt: skip


def test_settings_can_be_copied_and_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_HOME", "x")
    settings = load_settings()
    assert copy.deepcopy(settings).origin(("home",)) == "PURVEYOR_HOME"
    assert settings.model_copy().origin(("home",)) == "PURVEYOR_HOME"
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_every_setting_says_what_it_means() -> None:
    models = [Settings, ProviderSettings, FamilySettings, AISettings, BreakerSettings]
    models += [type(one) for _, one in Settings().registry]
    for model in models:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            is_factor = any(getattr(mark, "le", None) == 1000 for mark in field.metadata)
            if field.annotation in (float, float | None) and not is_factor:
                assert field.description.startswith("Seconds "), f"{model.__name__}.{name}"


@pytest.mark.parametrize(
    ("given", "taken"),
    [("", ""), ("/", ""), ("/purveyor", "/purveyor"), ("/tools/pur-veyor/", "/tools/pur-veyor")],
)
def test_the_path_that_a_proxy_shows_has_no_slash_at_its_end(given: str, taken: str) -> None:
    assert Settings.model_validate({"http": {"root_path": given}}).http.root_path == taken
