"""What is wrong is told all at once, where it can be mended, and without the values."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from purveyor.settings import Problem, Settings, SettingsError, load_settings

from .conftest import Write, faults


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("REGISTRY__HEALTH__CHECK_INTERVAL", "hunter2", "must be a number"),
        ("REGISTRY__HEALTH__CHECK_INTERVAL", "", "must be a number"),
        ("REGISTRY__HEALTH__CHECK_INTERVAL", "0", "must be greater than 0"),
        ("REGISTRY__HEALTH__CHECK_INTERVAL", "inf", "must be at most 31536000"),
        ("REGISTRY__HEALTH__TIMEOUT", "1e9", "must be at most 31536000"),
        ("REGISTRY__HEALTH__RETRIES", "1.5", "must be a whole number"),
        ("REGISTRY__HEALTH__RETRIES", "-1", "must be at least 0"),
        ("REGISTRY__HEALTH__RETRIES", "11", "must be at most 10"),
        ("REGISTRY__CIRCUIT_BREAKER__ENABLED", "hunter2", "must be true or false"),
        ("REGISTRY__CIRCUIT_BREAKER__FAILURE_THRESHOLD", "0", "must be at least 1"),
        ("REGISTRY__DISCOVERY__AUTO_REFRESH_INTERVAL", "-1", "must be greater than 0"),
        ("REGISTRY__HEALTH", "hunter2", "must be a table of settings, not a single value"),
        ("STORAGE__PROVIDERS", "hunter2", "must be a table of settings, not a single value"),
        ("STORAGE__PROVIDERS__B", "hunter2", "must be a table of settings, not a single value"),
        ("STORAGE__PROVIDERS__B__METADATA", "x", "must be a table of settings, not a single value"),
        ("STORAGE__PROVIDERS__B__OPTIONS", "x", "must be a table of settings, not a single value"),
        ("STORAGE__PROVIDERS__B__PRIORITY", "101", "must be at most 100"),
        ("STORAGE__PROVIDERS__B__CIRCUIT_BREAKER__SUCCESS_THRESHOLD", "0", "must be at least 1"),
        (
            "HTTP__CORS_ORIGINS",
            "app.example.com",
            "must be origins: each http:// or https:// and a host, without a path or a wildcard",
        ),
        (
            "HTTP__ROOT_PATH",
            "purveyor",
            "must begin with a slash, and have letters, digits, - . _ ~ and slashes",
        ),
        (
            "HTTP__TRUSTED_PROXIES",
            "127.0.0.1,proxy.example.com",
            "must be IP addresses or networks, such as 10.0.0.0/8: names are not looked up",
        ),
        ("HTTP__TLS_KEY", "key.pem", "is of no use alone: set tls_certificate, too"),
        (
            "STORAGE__PROVIDERS__B__HEALTH__RETRY",
            "1",
            "unknown setting; did you mean 'PURVEYOR_STORAGE__PROVIDERS__B__HEALTH__RETRIES'?",
        ),
        (
            "STORGE__DEFAULT",
            "hunter2",
            "unknown setting; did you mean 'PURVEYOR_STORAGE__DEFAULT'?",
        ),
        (
            "STORAGE__DEFALT",
            "hunter2",
            "unknown setting; did you mean 'PURVEYOR_STORAGE__DEFAULT'?",
        ),
        (
            "REGISTRY__HEALTH__INTERVALL",
            "hunter2",
            "unknown setting; did you mean 'PURVEYOR_REGISTRY__HEALTH__CHECK_INTERVAL'?",
        ),
        ("CREDENTIALS__X", "hunter2", "unknown setting; there are: key_file, keys"),
        ("_ENV_FILE", "hunter2", "unknown setting; none begins with _"),
        ("STORAGE__PROVIDERS____TYPE", "hunter2", "has an empty part beside '__'"),
        (
            "CREDENTIALS",
            "{hunter2",
            "is no valid JSON: Expecting property name "
            "enclosed in double quotes (line 1, column 2)",
        ),
        ("HOME", "", "must not be empty"),
        (
            "CREDENTIALS__KEY_FILE",
            "~no-such-user/x",
            "begins with ~, and there is no such home directory",
        ),
    ],
)
def test_a_variable_is_named_in_full(
    key: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    name = f"PURVEYOR_{key}"
    monkeypatch.setenv(name, value)
    assert faults() == {name: reason}
    monkeypatch.delenv(name)
    (folder / ".env").write_text(f"{name}='{value}'")
    assert faults() == {f".env: {name}": reason}


def test_a_number_of_thousands_of_digits_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE", f'{{"default": {"1" * 5000}}}')
    assert faults() == {"PURVEYOR_STORAGE": "is no valid JSON"}


def test_every_variable_below_an_unknown_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"PURVEYOR_STORGE__PROVIDERS__B__{key}" for key in ("TYPE", "BUCKET")]
    for name in names:
        monkeypatch.setenv(name, "hunter2")
    assert faults() == {
        name: f"unknown setting; did you mean {name.replace('STORGE', 'STORAGE')!r}?"
        for name in names
    }


def test_faults_of_items_of_a_list_are_told_where_the_list_stands(
    configure: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", "[1]")
    configure("[storage.providers.b]\ndepends_on = ['a', 3]")
    assert faults(ai={"providers": {"b": {"pipelines": [3]}}}) == {
        "PURVEYOR_CREDENTIALS__KEYS at 0": "must be text",
        "purveyor.toml: storage.providers.b.depends_on.1": "must be text",
        "argument ai.providers.b.pipelines.0": "must be text",
    }


def test_a_value_and_settings_below_it_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH", "hunter2")
    monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__TIMEOUT", "3")
    assert faults()["PURVEYOR_REGISTRY__HEALTH__TIMEOUT"] == (
        "'health' is set as a single value too; keep one of the two"
    )


def test_a_variable_in_two_spellings_is_set_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_HOME", "x")
    monkeypatch.setenv("purveyor_home", "y")
    assert faults() == {"PURVEYOR_HOME": "is set twice"}


@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_no_numbers(value: bool) -> None:
    reason = "must be a number, not true or false"
    assert faults(registry={"health": {"timeout": value}}) == {
        "argument registry.health.timeout": reason
    }
    assert faults(storage={"providers": {"b": {"priority": value}}}) == {
        "argument storage.providers.b.priority": reason
    }


def test_an_unknown_argument_is_told() -> None:
    assert faults(storge={}) == {"argument storge": "unknown setting; did you mean 'storage'?"}
    assert faults(_env_file="x") == {"argument _env_file": "unknown setting; none begins with _"}


def test_faults_of_all_sources_are_told_at_once(
    folder: Path, configure: Write, secret: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__TIMEOUT", "x")
    monkeypatch.setenv("PURVEYOR_STORGE__DEFAULT", "x")
    (folder / ".env").write_text("PURVEYOR_REGISTRY__HEALTH__RETRIES=x")
    configure("home = ")
    secret("credentials__key", "x")
    told = faults(storage={"default": 3})
    assert told.keys() == {
        "argument storage.default",
        "PURVEYOR_REGISTRY__HEALTH__TIMEOUT",
        "PURVEYOR_STORGE__DEFAULT",
        ".env: PURVEYOR_REGISTRY__HEALTH__RETRIES",
        "purveyor.toml",
        "secrets/credentials__key",
    }


def test_all_faults_of_a_file_are_told_at_once(configure: Write) -> None:
    configure(
        """
        homee = "x"
        [registry.health]
        timeout = -1
        [storage.providers.a]
        enabled = "perhaps"
        url = "${NO_SUCH}"
        [storage.providers.b]
        depends_on = 3
        """
    )
    assert faults().keys() == {
        f"purveyor.toml: {key}"
        for key in (
            "homee",
            "registry.health.timeout",
            "storage.providers.a.enabled",
            "storage.providers.a.url",
            "storage.providers.b.depends_on",
        )
    }


@pytest.mark.parametrize("load", [Settings, load_settings])
def test_the_error_is_one_of_values_with_a_code(load: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^Configuration invalid: 1 fault\n  argument home: "
    ) as e:
        load(home=3)
    error = e.value
    assert isinstance(error, SettingsError)
    assert error.code == "INVALID_CONFIG"
    assert error.problems == (Problem("argument home", "must be a path", ("home",)),)
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_a_secret_in_the_wrong_place_is_never_echoed(
    folder: Path,
    configure: Write,
    secret: Write,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    places = (
        "STORAGE__PROVIDERS", "STORAGE__PROVIDRES", "AI__PROVIDERS__A", "REGISTRY__HEALTH__TIMEOUT",
        "REGISTRY__CIRCUIT_BREAKER__ENABLED", "IMAGES__PROVIDERS__I__PRIORITY", "SECRET_KEY",
        "AUDIO__PROVIDERS__F__METADATA", "AUDIO__PROVIDERS__F__OPTIONS", "CREDENTIALS",
    )  # fmt: skip
    for place in places:
        monkeypatch.setenv(f"PURVEYOR_{place}", "hunter2")
    (folder / ".env").write_text("PURVEYOR_REGISTRY__LIFECYCLE=hunter2")
    configure("flashcards = 'hunter2'\n[providers]\naudio = ['hunter2']\nimage = {a = 'hunter2'}")
    secret("registry__discovery__auto_refresh_interval", "hunter2")
    given = {"data_sources": "hunter2", "hunter": "hunter2"}
    with pytest.raises(SettingsError) as caught:
        Settings(**given)
    error = caught.value
    told = [str(error), repr(error), repr(error.problems), caplog.text]
    told += traceback.format_exception(error)
    assert len(error.problems) == len(places) + 5
    for text in told:
        assert "hunter2" not in text
    assert error.__cause__ is None
    assert error.__context__ is None, "pydantic's error holds the values"
