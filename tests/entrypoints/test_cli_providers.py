"""``purveyor check`` and ``purveyor providers``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.entrypoints.conftest import Run


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """One good provider, one disabled, and three at fault in different ways."""
    (folder / "file").write_bytes(b"")
    for name, value in {
        "GOOD__TYPE": "sqlite",
        "OFF__TYPE": "sqlite",
        "OFF__ENABLED": "false",
        "ODD__TYPE": "filesystem",
        "ODD__RUTE": "x",
        "WEIRD__TYPE": "ftpp",
        "CLOUD__TYPE": "s3",
        "CLOUD__SECRET_KEY": "very-secret",
    }.items():
        monkeypatch.setenv(f"PURVEYOR_STORAGE__PROVIDERS__{name}", value)


def test_check_without_any_settings_finds_the_embedded_providers(cli: Run) -> None:
    result = cli("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split("\t")[1:3] for line in result.stdout.splitlines()[1:]] == [
        ["filesystem", "ok"],
        ["sqlite", "ok"],
        ["local_file", "ok"],
    ]


@pytest.mark.usefixtures("faulty")
def test_check_tells_all_faults_at_once_and_no_secret(cli: Run) -> None:
    result = cli("check")
    assert result.exit_code == 1
    assert "PURVEYOR_STORAGE__PROVIDERS__ODD__RUTE" in result.stderr
    assert "ftpp" in result.stderr
    assert "PURVEYOR_STORAGE__PROVIDERS__CLOUD__BUCKET" in result.stderr
    assert result.stderr.endswith("4 faults\n") or result.stderr.endswith("3 faults\n")
    assert "very-secret" not in result.output
    states = {line.split("\t")[1]: line.split("\t")[2] for line in result.stdout.splitlines()[1:]}
    assert states == {
        "filesystem": "ok",
        "sqlite": "ok",
        "good": "ok",
        "off": "disabled",
        "odd": "faulty",
        "weird": "faulty",
        "cloud": "faulty",
        "local_file": "ok",
    }


def test_check_tells_faults_of_the_settings_themselves(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__TIMEOUT", "-1")
    monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__RETRIES", "many")
    result = cli("check", "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["ok"] is False
    assert len(data["problems"]) == 2


def test_check_tells_a_default_that_is_not_there(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__DEFAULT", "sqlit")
    result = cli("check")
    assert result.exit_code == 1
    assert "Provider not found: sqlit" in result.stderr
    assert "PURVEYOR_STORAGE__DEFAULT" in result.stderr


def test_check_remarks_that_a_family_has_no_default(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ONE", "TWO"):
        monkeypatch.setenv(f"PURVEYOR_STORAGE__PROVIDERS__{name}__TYPE", "sqlite")
    result = cli("check")
    assert result.exit_code == 0
    assert result.stderr.startswith("note: ")
    assert "the storage family has no default among one, two" in result.stderr
    data = json.loads(cli("check", "--json").stdout)
    assert (data["ok"], data["problems"], len(data["remarks"])) == (True, [], 1)


def test_check_tells_who_is_made_of_one_that_is_not_there(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__MAIN__TYPE", "failover")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__MAIN__MEMBERS", "filesystem,sqlit")
    monkeypatch.setenv("PURVEYOR_AI__ALIASES__FAST", "anthropc:claude-haiku-4-5")
    result = cli("check")
    assert result.exit_code == 1
    storage, ai, last = result.stderr.splitlines()
    assert "PURVEYOR_STORAGE__PROVIDERS__MAIN" in storage
    assert "Provider not found: sqlit. There are these storage providers: sqlite," in storage
    assert "PURVEYOR_AI__ALIASES__FAST: Provider not found: anthropc." in ai
    assert last == "2 faults"


def test_check_connect_tests_each_connection(
    cli: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_bytes(b"")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__NOWHERE__TYPE", "filesystem")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__NOWHERE__ROOT", "file")
    assert cli("check").exit_code == 0

    result = cli("check", "--connect", "--json")

    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert {one["name"]: one["state"] for one in data["providers"]} == {
        "filesystem": "healthy",
        "sqlite": "healthy",
        "nowhere": "unhealthy",
        "local_file": "healthy",
    }
    assert "is not a folder" in data["problems"][0]


def test_types_are_listed_without_a_provider(cli: Run) -> None:
    found = json.loads(cli("providers", "types", "--json").stdout)
    assert {"filesystem", "sqlite", "s3"} <= {one["name"] for one in found}
    assert "Amazon S3" in cli("providers", "types", "--family", "storage").stdout


def test_list_tells_type_default_and_origin(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__NOTES__TYPE", "sqlite")
    found = {one["name"]: one for one in json.loads(cli("providers", "list", "--json").stdout)}
    assert found["notes"]["type"] == "sqlite"
    assert found["notes"]["is_default"] is True
    assert found["notes"]["source"] == "environment"
    assert "default" in cli("providers", "list", "--family", "storage").stdout


def test_show_tells_the_settings_and_masks_secrets(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TYPE": "s3",
        "BUCKET": "nightly",
        "ACCESS_KEY": "the-access-key",
        "SECRET_KEY": "the-secret-key",
    }.items():
        monkeypatch.setenv(f"PURVEYOR_STORAGE__PROVIDERS__CLOUD__{name}", value)
    for arguments in (["providers", "show", "cloud"], ["providers", "show", "cloud", "--json"]):
        result = cli(*arguments)
        assert result.exit_code == 0
        assert "nightly" in result.stdout
        assert "**********" in result.stdout
        assert "the-secret-key" not in result.output
        assert "the-access-key" not in result.output


def test_show_finds_a_name_in_whatever_family_has_it(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(cli("providers", "show", "local_file", "--json").stdout)["family"] == (
        "data_sources"
    )
    monkeypatch.setenv("PURVEYOR_DATA_SOURCES__PROVIDERS__SQLITE__TYPE", "local_file")
    several = cli("providers", "show", "sqlite")
    assert several.exit_code == 1
    assert "several families: storage, data_sources; name one with --family" in several.stderr
    assert cli("providers", "show", "sqlite", "--family", "storage").exit_code == 0


def test_show_of_a_name_that_no_provider_can_have_says_so(cli: Run) -> None:
    result = cli("providers", "show", "sqlite:docs", "--family", "storage")
    assert result.exit_code == 2
    assert "Provider name 'sqlite:docs' is not usable" in result.stderr
    assert "PURVEYOR_" not in result.stderr


def test_show_of_an_unknown_one_is_wrong_usage(cli: Run) -> None:
    result = cli("providers", "show", "filesytem")
    assert result.exit_code == 2
    assert "filesystem, local_file, sqlite" in result.stderr


def test_test_connects_to_the_named_or_to_all(
    cli: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_bytes(b"")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__NOWHERE__TYPE", "filesystem")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__NOWHERE__ROOT", "file")

    good = cli("providers", "test", "sqlite")
    every = cli("providers", "test", "--json")
    unknown = cli("providers", "test", "nope")

    assert (good.exit_code, every.exit_code, unknown.exit_code) == (0, 1, 2)
    assert good.stdout.splitlines()[1].startswith("sqlite\thealthy\t")
    assert {one["name"]: one["status"] for one in json.loads(every.stdout)} == {
        "filesystem": "healthy",
        "sqlite": "healthy",
        "nowhere": "unhealthy",
        "local_file": "healthy",
    }


def test_find_names_those_with_all_capabilities(cli: Run) -> None:
    assert cli("providers", "find", "search", "transactions").stdout == "sqlite\n"
    assert json.loads(cli("providers", "find", "streaming", "--json").stdout) == [
        "filesystem",
        "sqlite",
    ]
    none = cli("providers", "find", "time-travel")
    assert (none.exit_code, none.stdout) == (1, "")
    assert "no storage provider has time-travel" in none.stderr
