"""Every source by itself, and which one wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from purveyor.settings import Settings

from .conftest import Write, faults, options

BUCKET = "PURVEYOR_STORAGE__PROVIDERS__BACKUPS__BUCKET"


class TestEnvironment:
    def test_double_underscores_nest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__CHECK_INTERVAL", "12.5")
        monkeypatch.setenv("PURVEYOR_REGISTRY__CIRCUIT_BREAKER__ENABLED", "false")
        monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__BACKUPS__METADATA__TEAM", "ops")
        settings = Settings()
        assert settings.registry.health.check_interval == 12.5
        assert settings.registry.circuit_breaker.enabled is False
        assert settings.storage.providers["backups"].metadata == {"team": "ops"}

    def test_values_of_a_types_own_settings_stay_texts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = {"path_style": "true", "account": '{"type": "service"}', "password": "[a"}
        for key, value in given.items():
            monkeypatch.setenv(f"PURVEYOR_STORAGE__PROVIDERS__BACKUPS__{key.upper()}", value)
        assert options(Settings()) == given

    def test_case_does_not_count_and_names_come_out_lower(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("purveyor_Storage__providers__BackUps__Type", "s3")
        monkeypatch.setenv(BUCKET, "x")
        settings = Settings()
        assert settings.storage.providers.keys() == {"backups"}
        assert settings.storage.providers["backups"].type == "s3"
        assert options(settings) == {"bucket": "x"}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PURVEYOR_STORAGE", '{"providers": {"backups": {"bucket": "x"}}}'),
            ("PURVEYOR_STORAGE__PROVIDERS", '{"backups": {"bucket": "x"}}'),
            ("PURVEYOR_STORAGE__PROVIDERS__BACKUPS", ' {"bucket": "x"}'),
            ("PURVEYOR_STORAGE__PROVIDERS__BACKUPS__OPTIONS", '{"bucket": "x"}'),
            ("PURVEYOR_STORAGE__PROVIDERS__BACKUPS__OPTIONS__BUCKET", "x"),
        ],
    )
    def test_a_branch_can_be_json(
        self, name: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, value)
        monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__BACKUPS__REGION", "y")
        assert options(Settings()) == {"bucket": "x", "region": "y"}

    def test_other_programs_variables_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PURVEYORS", "x")
        monkeypatch.setenv("STORAGE__DEFAULT", "x")
        assert Settings() == Settings.model_construct()

    def test_the_names_other_parts_use_are_settings(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        (folder / "secrets").mkdir()
        monkeypatch.setenv("PURVEYOR_HOME", "elsewhere")
        monkeypatch.setenv("PURVEYOR_SECRETS_DIR", "secrets")
        monkeypatch.setenv("PURVEYOR_CONFIG_FILE", "")
        settings = Settings()
        assert settings.home == Path("elsewhere")
        assert settings.secrets_dir == Path("secrets")
        assert settings.config_file is None


class TestDotenv:
    def test_is_read_in_the_current_folder(self, folder: Path) -> None:
        (folder / ".env").write_text(f"# a comment\nexport {BUCKET}='x y'\nOTHER=1\n")
        assert options(Settings()) == {"bucket": "x y"}

    def test_may_name_the_configuration_file_and_the_secrets(self, folder: Path) -> None:
        (folder / ".env").write_text("PURVEYOR_CONFIG_FILE=c.json\nPURVEYOR_SECRETS_DIR=s\n")
        (folder / "c.json").write_text('{"home": "x"}')
        (folder / "s").mkdir()
        (folder / "s" / "storage__default").write_text("y")
        settings = Settings()
        assert settings.home == Path("x")
        assert settings.storage.default == "y"

    def test_malformed_lines_are_told(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folder / ".env").write_text("PURVEYOR_HOME=x\nPURVEYOR_STORAGE__DEFAULT='hunter2\n")
        assert faults() == {".env": "line 2 is not of the form NAME=value"}
        assert "hunter2" not in caplog.text

    def test_must_be_utf_8(self, folder: Path) -> None:
        (folder / ".env").write_bytes(b"PURVEYOR_HOME=\xff")
        assert faults() == {".env": "is not UTF-8"}

    def test_may_be_a_virtual_environment_and_is_none_of_ours(self, folder: Path) -> None:
        (folder / ".env").mkdir()
        assert Settings() == Settings.model_construct()

    def test_may_begin_with_a_byte_order_mark(self, folder: Path) -> None:
        (folder / ".env").write_text("\ufeffPURVEYOR_HOME=x")
        assert Settings().home == Path("x")


class TestSecretsDirectory:
    @pytest.mark.parametrize(
        "name",
        [
            "storage__providers__backups__secret_key",
            "STORAGE__PROVIDERS__BACKUPS__SECRET_KEY",
            "storage/providers/backups/secret_key",
            "storage/providers__backups/secret_key",
        ],
    )
    def test_has_a_file_a_value(self, name: str, secret: Write) -> None:
        secret(name, " hunter2 \n")
        assert options(Settings()) == {"secret_key": " hunter2 "}

    def test_is_read_as_kubernetes_mounts_it(self, secret: Write, folder: Path) -> None:
        secret("..2026_11/storage__default", "x")
        (folder / "secrets" / "..data").symlink_to("..2026_11")
        (folder / "secrets" / "storage__default").symlink_to("..data/storage__default")
        assert Settings().storage.default == "x"

    def test_must_exist(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        monkeypatch.setenv("PURVEYOR_SECRETS_DIR", "s")
        assert faults() == {"s": "the secrets directory does not exist"}
        (folder / "s").write_text("")
        assert faults() == {"s": "the secrets directory is no directory"}

    def test_cannot_name_the_sources_themselves(self, secret: Write) -> None:
        secret("config_file", "hunter2")
        secret("secrets_dir", "hunter2")
        assert faults() == {
            "secrets/config_file": "cannot be set here; set PURVEYOR_CONFIG_FILE",
            "secrets/secrets_dir": "cannot be set here; set PURVEYOR_SECRETS_DIR",
        }

    def test_a_link_to_nowhere_is_told(self, secret: Write, folder: Path) -> None:
        secret("home", "x")
        (folder / "secrets" / "storage__default").symlink_to("nowhere")
        reason = "cannot be read: No such file or directory"
        assert faults() == {"secrets/storage__default": reason}

    def test_pipes_are_not_waited_for(self, secret: Write, folder: Path) -> None:
        secret("storage__default", "x")
        os.mkfifo(folder / "secrets" / "home")
        assert Settings().home == Path(".purveyor")

    def test_a_value_and_a_folder_of_the_same_name_exclude_each_other(self, secret: Write) -> None:
        secret("registry/health/timeout", "3")
        secret("registry__health", "hunter2")
        assert faults() == {
            "secrets/registry__health": "settings below it are set too; keep one of the two"
        }

    def test_each_faulty_file_is_named(self, secret: Write) -> None:
        secret("registry__health__timeout", "hunter2")
        secret("storage__default", b"\xff")
        secret("storge__default", "hunter2")
        secret("home", "x" * (1024 * 1024 + 1))
        secret("credentials__keys", '["hunter2"')
        assert faults() == {
            "secrets/registry__health__timeout": "must be a number",
            "secrets/storage__default": "is not UTF-8",
            "secrets/storge__default": "unknown setting; did you mean 'storage__default'?",
            "secrets/home": "is larger than 1 MiB",
            "secrets/credentials__keys": (
                "must be a list: JSON, or texts separated by commas; it begins like JSON and is "
                "not well-formed"
            ),
        }


class TestPrecedence:
    def test_is_arguments_environment_dotenv_file_secrets_defaults(
        self, folder: Path, configure: Write, secret: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = ("registry", "health", "timeout")
        name = "PURVEYOR_REGISTRY__HEALTH__TIMEOUT"

        def found() -> tuple[float, str]:
            settings = Settings()
            return settings.registry.health.timeout, settings.origin(path)

        secret("home", "x")
        assert found() == (10.0, "default")
        secret("registry__health__timeout", "1")
        assert found() == (1.0, "secrets/registry__health__timeout")
        configure("registry.health.timeout = 2")
        assert found() == (2.0, "purveyor.toml: registry.health.timeout")
        (folder / ".env").write_text(f"{name}=3")
        assert found() == (3.0, f".env: {name}")
        monkeypatch.setenv(name, "4")
        assert found() == (4.0, name)
        settings = Settings(registry={"health": {"timeout": 5}})
        assert settings.registry.health.timeout == 5.0
        assert settings.origin(path) == "argument registry.health.timeout"

    def test_one_provider_may_come_from_all_of_them(
        self, folder: Path, configure: Write, secret: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head = "PURVEYOR_STORAGE__PROVIDERS__BACKUPS__"
        monkeypatch.setenv(f"{head}A", "environment")
        (folder / ".env").write_text(f"{head}A=dotenv\n{head}B=dotenv")
        configure("[storage.providers.backups]\na='file'\nb='file'\nc='file'\ntype='s3'")
        secret("storage__providers__backups__d", "secrets")
        settings = Settings(storage={"providers": {"backups": {"e": "argument"}}})
        assert settings.storage.providers["backups"].type == "s3"
        assert options(settings) == {
            "a": "environment", "b": "dotenv", "c": "file", "d": "secrets", "e": "argument",
        }  # fmt: skip

    def test_flat_in_one_and_under_options_in_another_is_the_same_setting(
        self, configure: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure("[storage.providers.backups.options]\nbucket='file'")
        monkeypatch.setenv(BUCKET, "environment")
        settings = Settings()
        assert options(settings) == {"bucket": "environment"}
        assert settings.origin(("storage", "providers", "backups", "bucket")) == BUCKET

    def test_a_value_that_is_overridden_does_not_count(
        self, configure: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure("registry.health.timeout = -1")
        monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__TIMEOUT", "4")
        assert Settings().registry.health.timeout == 4.0

    def test_an_empty_variable_turns_the_file_off(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / ".env").write_text("PURVEYOR_CONFIG_FILE=missing.toml")
        monkeypatch.setenv("PURVEYOR_CONFIG_FILE", "")
        assert Settings().config_file is None

    def test_an_argument_may_name_the_file(self, configure: Write) -> None:
        path = configure("home = 'x'", "other.toml")
        assert Settings(config_file=path).home == Path("x")

    def test_the_file_may_name_the_secrets_directory(self, configure: Write, folder: Path) -> None:
        configure("secrets_dir = 's'")
        (folder / "s").mkdir()
        (folder / "s" / "storage__default").write_text("x")
        assert Settings().storage.default == "x"


class TestOrigin:
    def test_of_a_provider_is_where_it_is_first_set(
        self, configure: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = ("storage", "providers", "backups")
        configure("storage.providers.backups.type = 's3'")
        assert Settings().origin(path) == "purveyor.toml: storage.providers.backups"
        monkeypatch.setenv(BUCKET, "x")
        assert Settings().origin(path) == "PURVEYOR_STORAGE__PROVIDERS__BACKUPS"

    def test_of_a_missing_setting_is_beside_those_that_are_set(
        self, configure: Write, folder: Path, secret: Write
    ) -> None:
        configure("[storage.providers.a]\ntype='s3'\n[storage.providers.b.options]\nx=1")
        (folder / ".env").write_text("PURVEYOR_STORAGE__PROVIDERS__C__TYPE=s3")
        secret("storage/providers/d/secret_key", "x")
        settings = Settings(storage={"providers": {"e": {}}})
        told = {
            name: settings.origin(("storage", "providers", name, "bucket")) for name in "abcdef"
        }
        assert told == {
            "a": "purveyor.toml: storage.providers.a.bucket",
            "b": "purveyor.toml: storage.providers.b.bucket",
            "c": ".env: PURVEYOR_STORAGE__PROVIDERS__C__BUCKET",
            "d": "secrets/storage__providers__d__bucket",
            "e": "argument storage.providers.e.bucket",
            "f": "argument storage.providers.f.bucket",
        }

    def test_of_a_missing_setting_without_any_beside_it_is_its_variable(self) -> None:
        assert Settings().origin(("storage", "providers", "backups", "bucket")) == BUCKET

    def test_of_a_default_is_default(self, configure: Write) -> None:
        configure("registry.health.timeout = 2\nstorage.providers.b.bucket = 'x'")
        settings = Settings()
        assert settings.origin(("registry", "health", "retries")) == "default"
        assert settings.origin(("storage", "providers", "b", "priority")) == "default"
        assert settings.origin(("home",)) == "default"

    def test_knows_under_options_from_beside_it(self, configure: Write) -> None:
        configure("[storage.providers.b]\nbucket='x'\n[storage.providers.b.options]\ntimeout=1")
        settings = Settings()
        head = "purveyor.toml: storage.providers.b"
        path = ("storage", "providers", "b")
        assert settings.origin((*path, "bucket")) == f"{head}.bucket"
        assert settings.origin((*path, "options", "bucket")) == f"{head}.bucket"
        assert settings.origin((*path, "timeout")) == f"{head}.options.timeout"

    def test_of_a_value_in_json_is_its_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PURVEYOR_STORAGE", '{"providers": {"backups": {"bucket": "x"}}}')
        settings = Settings()
        assert settings.origin(("storage", "providers", "backups")) == (
            "PURVEYOR_STORAGE at providers.backups"
        )
        assert settings.origin(("storage", "providers", "backups", "region")) == (
            "PURVEYOR_STORAGE__PROVIDERS__BACKUPS__REGION"
        )

    def test_of_a_secret_is_its_file(self, secret: Write) -> None:
        secret("storage/providers/b/secret_key", "x")
        settings = Settings()
        assert settings.origin(("storage", "providers", "b", "secret_key")) == (
            "secrets/storage/providers/b/secret_key"
        )

    def test_settings_made_without_sources_have_variables(self) -> None:
        assert Settings.model_construct().origin(("storage", "providers", "b", "x")) == (
            "PURVEYOR_STORAGE__PROVIDERS__B__X"
        )


def test_a_variable_of_its_own_counts_before_an_object_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE", '{"default": "a", "providers": {"a": {}}}')
    monkeypatch.setenv("PURVEYOR_STORAGE__DEFAULT", "b")
    settings = Settings()
    assert settings.storage.default == "b"
    assert list(settings.storage.providers) == ["a"]
