"""Configuration files: three formats, variables in them, and what can be wrong with one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from purveyor.settings import Settings, SettingsError

from .conftest import Write, faults, options

TOML = """
home = "x"
[storage.providers.backups]
type = "s3"
ports = [1, 2]
"""
YAML = """
home: x
storage:
  providers:
    backups: {type: s3, ports: [1, 2]}
"""
JSON = """
{"home": "x", "storage": {"providers": {"backups": {"type": "s3", "ports": [1, 2]}}}}
"""
FORMATS = [("c.toml", TOML), ("c.yaml", YAML), ("c.yml", YAML), ("c.json", JSON)]


@pytest.mark.parametrize(
    ("name", "text"), [*FORMATS, ("C.TOML", TOML), ("c.toml", "\ufeff" + TOML)]
)
def test_toml_yaml_and_json_say_the_same(name: str, text: str, configure: Write) -> None:
    configure(text, name)
    settings = Settings()
    assert settings.home == Path("x")
    assert settings.storage.providers["backups"].type == "s3"
    assert options(settings) == {"ports": [1, 2]}


@pytest.mark.parametrize(("name", "text"), [("c.toml", ""), ("c.yaml", ""), ("c.json", "{}")])
def test_an_empty_file_sets_nothing(name: str, text: str, configure: Write) -> None:
    configure(text, name)
    assert Settings().home == Path(".purveyor")


class TestVariables:
    def test_are_replaced_in_texts(
        self, configure: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOST", "h")
        monkeypatch.setenv("EMPTY", "")
        (folder / ".env").write_text("HOST=other\nTOKEN=t\n")
        configure(
            """
            [storage.providers.backups]
            one = "${HOST}"
            inside = "http://${HOST}:${PORT:9000}/${TOKEN}"
            list = ["${HOST}", 1]
            nested = {key = "${HOST}"}
            empty = "${EMPTY:default}"
            default = "${UNSET:a:b c}"
            nothing = "${UNSET:}"
            literal = "$${HOST} $HOST $"
            """
        )
        assert options(Settings()) == {
            "one": "h",
            "inside": "http://h:9000/t",
            "list": ["h", 1],
            "nested": {"key": "h"},
            "empty": "",
            "default": "a:b c",
            "nothing": "",
            "literal": "${HOST} $HOST $",
        }

    def test_are_not_looked_for_in_what_they_stand_for(
        self, configure: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PASSWORD", "${HOST}")
        configure("storage.providers.backups.password = '${PASSWORD}'")
        assert options(Settings()) == {"password": "${HOST}"}

    def test_become_numbers_where_numbers_are_wanted(self, configure: Write) -> None:
        configure("registry.health.timeout = '${UNSET:4}'")
        assert Settings().registry.health.timeout == 4.0

    def test_must_be_set_or_have_a_default(self, configure: Write) -> None:
        configure(
            "[storage.providers.backups]\na='x${NO_SUCH}'\noptions={b=['${NEITHER}']}\n"
            "[registry.health]\ntimeout='${NO_TIME}'"
        )
        told = faults()
        assert told == {
            f"purveyor.toml: {key}": (
                f"names the environment variable {name}, which is not set. Set it, or give a "
                f"default: ${{{name}:default}}"
            )
            for key, name in (
                ("storage.providers.backups.a", "NO_SUCH"),
                ("storage.providers.backups.options.b", "NEITHER"),
                ("registry.health.timeout", "NO_TIME"),
            )
        }

    @pytest.mark.parametrize("text", ["${", "${}", "${hunter-2}", "a${1X}", "${hunter2"])
    def test_must_be_well_formed(self, text: str, configure: Write) -> None:
        configure(f"home = '{text}'")
        assert faults() == {
            "purveyor.toml: home": (
                "has a ${ that begins no ${VAR} or ${VAR:default}; a literal one is $${"
            )
        }


class TestFaults:
    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            (
                "c.toml",
                "a = 1\nb = = hunter2",
                "is no valid TOML: Invalid value (at line 2, column 5)",
            ),
            (
                "c.toml",
                "a = 1\nb = 'hunter2",
                'is no valid TOML: Expected "\'" (at line 2, column 13)',
            ),
            (
                "c.json",
                '{"a": 1,\n "b": hunter2}',
                "is no valid JSON: Expecting value (at line 2, column 7)",
            ),
            ("c.json", "", "is no valid JSON: Expecting value (at line 1, column 1)"),
            ("c.json", "1" * 5000, "is no valid JSON: it has a number that is too long"),
            (
                "c.yaml",
                "a: 1\nb: [hunter2",
                "is no valid YAML: expected ',' or ']', but got "
                "'<stream end>' (at line 2, column 12)",
            ),
            (
                "c.yaml",
                "a: 1\nb: *hunter2",
                "is no valid YAML: found undefined alias ... (at line 2, column 4)",
            ),
            (
                "c.yaml",
                "a: 1\nb: !hunter2 x",
                "is no valid YAML: could not determine a constructor for the tag "
                "... (at line 2, column 4)",
            ),
            (
                "c.yaml",
                "a: 1\nb: \x07",
                "is no valid YAML: a character is not allowed (at line 2, column 4)",
            ),
            ("c.yaml", "a: 2024-13-45", "is no valid YAML: it has a date or number that is none"),
            ("c.yaml", "a: &a {b: *a}", "is nested too deeply"),
            ("c.json", "[" * 100_000, "is nested too deeply"),
            ("c.yaml", "hunter2", "must hold a table of settings at its top"),
            ("c.json", "[]", "must hold a table of settings at its top"),
            ("c.json", "null", "must hold a table of settings at its top"),
            ("c.ini", "hunter2", "must end in one of .toml, .yaml, .yml, .json"),
            ("c.toml", b"a = '\xff'", "is not UTF-8"),
        ],
    )
    def test_are_told_with_their_place(
        self, name: str, text: str | bytes, reason: str, configure: Write
    ) -> None:
        configure(text, name)
        assert faults() == {name: reason}

    def test_a_file_must_exist(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PURVEYOR_CONFIG_FILE", "c.toml")
        assert faults() == {"c.toml": "cannot be read: No such file or directory"}
        (folder / "c.toml").mkdir()
        assert faults() == {"c.toml": "cannot be read: Is a directory"}

    def test_yaml_needs_its_extra(self, configure: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)
        configure(YAML, "c.yaml")
        reason = "needs PyYAML. Install it with: pip install 'purveyor[yaml]'"
        assert faults() == {"c.yaml": reason}

    def test_a_file_cannot_name_another(self, configure: Write) -> None:
        configure("config_file = 'other.toml'")
        assert faults() == {
            "purveyor.toml: config_file": "cannot be set here; set PURVEYOR_CONFIG_FILE"
        }

    def test_a_home_that_does_not_exist_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reason = "begins with ~, and there is no such home directory"
        monkeypatch.setenv("PURVEYOR_CONFIG_FILE", "~no-such-user/c.toml")
        assert faults() == {"PURVEYOR_CONFIG_FILE": reason}

    def test_a_name_that_is_no_path_is_told(self) -> None:
        assert faults(config_file=3) == {"argument config_file": "must be a path"}
        assert faults(config_file="a\0b.toml").keys() == {"a\0b.toml"}

    @pytest.mark.parametrize(("name", "text"), FORMATS)
    def test_values_are_named_by_file_and_key(self, name: str, text: str, configure: Write) -> None:
        configure(text.replace("home", "hom"), name)
        with pytest.raises(SettingsError) as caught:
            Settings()
        assert [str(problem) for problem in caught.value.problems] == [
            f"{name}: hom: unknown setting; did you mean 'home'?"
        ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"storage": {"providers": {"b": {"type": "s3"}, "b": {"type": "sqlite"}}}}'),
        ("a.yaml", "storage:\n  providers:\n    b: {type: s3}\n    b: {type: sqlite}\n"),
        ("a.toml", '[storage.providers.b]\ntype = "s3"\n[storage.providers.b]\ntype = "sqlite"\n'),
    ],
)
def test_a_provider_that_stands_twice_in_a_file_is_refused(name: str, text: str) -> None:
    Path(name).write_text(text)
    with pytest.raises(SettingsError, match=rf"{name}: .*(twice|Cannot declare)"):
        Settings(config_file=name)


def test_a_yaml_merge_key_is_no_second_name() -> None:
    text = "storage:\n  providers:\n    a: &a {type: sqlite}\n    b: {<<: *a, priority: 1}\n"
    Path("a.yaml").write_text(text)
    assert Settings(config_file="a.yaml").storage.providers["b"].type == "sqlite"


def test_an_unset_variable_is_told_once_for_a_setting() -> None:
    Path("a.toml").write_text('[storage]\ndefault = "${NOPE}/${NOPE}"\n')
    with pytest.raises(SettingsError) as caught:
        Settings(config_file="a.toml")
    assert len(caught.value.problems) == 1
