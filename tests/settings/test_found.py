"""The file of providers: every entry good or faulty by itself, each fault where it stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from purveyor.settings import FoundProvider, ProvidersFile, read_providers

FAMILIES = frozenset({"storage", "ai", "audio", "images"})
SECRET = "s3cr3t-value"

TOML = """
[storage.providers.backups]
type = "s3"
bucket = "nightly"
priority = 60
[ai.providers.claude]
type = "anthropic"
options = { model = "m" }
"""
YAML = """
storage:
  providers:
    backups: {type: s3, bucket: nightly, priority: 60}
ai:
  providers:
    claude: {type: anthropic, options: {model: m}}
"""
JSON = """
{"storage": {"providers": {"backups": {"type": "s3", "bucket": "nightly", "priority": 60}}},
 "ai": {"providers": {"claude": {"type": "anthropic", "options": {"model": "m"}}}}}
"""


def read(folder: Path, text: str | bytes, name: str = "providers.yaml") -> ProvidersFile:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_providers(Path(name), FAMILIES)


def by_name(file: ProvidersFile) -> dict[str, FoundProvider]:
    return {one.name: one for one in file.providers}


def told(file: ProvidersFile) -> list[str]:
    return [str(problem) for problem in file.problems]


def options(one: FoundProvider) -> dict[str, object]:
    assert one.settings is not None
    assert one.problems == ()
    return one.settings.options.get_secret_value()


@pytest.mark.requirement("S4.22", "S4.57")
@pytest.mark.parametrize(
    ("name", "text"), [("providers.toml", TOML), ("providers.yaml", YAML), ("providers.json", JSON)]
)
def test_toml_yaml_and_json_say_the_same(folder: Path, name: str, text: str) -> None:
    file = read(folder, text, name)
    assert file.problems == ()
    assert [(one.family, one.name) for one in file.providers] == [
        ("storage", "backups"),
        ("ai", "claude"),
    ]
    backups, claude = file.providers
    assert options(backups) == {"bucket": "nightly"}
    assert options(claude) == {"model": "m"}
    assert backups.settings is not None
    assert (backups.settings.type, backups.settings.priority) == ("s3", 60)


def test_an_entry_knows_where_it_and_its_settings_stand(folder: Path) -> None:
    backups, claude = read(folder, YAML).providers
    assert backups.origin == "providers.yaml: storage.providers.backups"
    assert backups.where(("bucket",)) == "providers.yaml: storage.providers.backups.bucket"
    assert backups.where(("region",)) == "providers.yaml: storage.providers.backups.region"
    assert claude.where(("model",)) == "providers.yaml: ai.providers.claude.options.model"


@pytest.mark.parametrize("text", ["", "# nothing yet", "storage: {}", "providers:"])
def test_a_file_without_providers_is_no_fault(folder: Path, text: str) -> None:
    file = read(folder, text)
    assert (file.providers, file.problems) == ((), ())


# -- variables ---------------------------------------------------------------------------


@pytest.mark.requirement("S4.22")
def test_variables_are_replaced_from_the_environment_and_dotenv(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUCKET", "nightly")
    (folder / ".env").write_text("KEY=from-dotenv\nBUCKET=other\n")
    text = "storage: {providers: {b: {type: s3, bucket: '${BUCKET}', k: '${KEY}', r: '${R:eu}'}}}"
    (one,) = read(folder, text).providers
    assert options(one) == {"bucket": "nightly", "k": "from-dotenv", "r": "eu"}


UNSET = "names the environment variable NOWHERE, which is not set. Set it, or give a default: "


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("storage: {providers: {b: {type: s3, key: '${NOWHERE}'}}}", "storage.providers.b.key"),
        ("storage: {providers: {b: {type: '${NOWHERE}'}}}", "storage.providers.b.type"),
        (
            "storage: {providers: {b: {type: s3, options: {key: ['${NOWHERE}']}}}}",
            "storage.providers.b.options.key",
        ),
        ("providers: {audio: {b: {type: audio, key: '${NOWHERE}'}}}", "providers.audio.b.key"),
    ],
)
def test_an_unset_variable_is_the_fault_of_its_entry_alone(
    folder: Path, text: str, place: str
) -> None:
    file = read(folder, text + "\nai: {providers: {good: {}}}")
    faulty = by_name(file)["b"]
    assert faulty.settings is None
    assert [(one.location, one.reason) for one in faulty.problems] == [
        (f"providers.yaml: {place}", UNSET + "${NOWHERE:default}")
    ]
    assert by_name(file)["good"].settings is not None
    assert file.problems == ()


# -- older layouts -----------------------------------------------------------------------


@pytest.mark.requirement("S2.21", "S2.23")
def test_sections_of_media_applications_are_families(folder: Path) -> None:
    text = """
    providers:
      audio:
        forvo: {type: audio, api_key: k, pipelines: [vocabulary]}
        malformed: 3
      image:
        openai: {type: image, options: {model: m}}
    """
    file = read(folder, text)
    assert [(one.family, one.name) for one in file.providers] == [
        ("audio", "forvo"),
        ("images", "openai"),
    ]
    forvo = file.providers[0]
    assert options(forvo) == {"api_key": "k"}
    assert forvo.origin == "providers.yaml: providers.audio.forvo"
    assert forvo.where(("api_key",)) == "providers.yaml: providers.audio.forvo.api_key"
    assert file.problems == ()


def test_an_entry_that_stands_in_both_layouts_is_at_fault(folder: Path) -> None:
    text = """
    audio: {providers: {forvo: {api_key: a}}}
    providers: {audio: {forvo: {api_key: b}, other: {}}}
    """
    file = read(folder, text)
    assert [str(one) for one in by_name(file)["forvo"].problems] == [
        "providers.yaml: providers.audio.forvo: is set at audio.providers.forvo too; "
        "keep one of the two"
    ]
    assert by_name(file)["other"].settings is not None


# -- faults ------------------------------------------------------------------------------


@pytest.mark.requirement("S4.22", "S2.42")
def test_each_entry_is_good_or_faulty_by_itself(folder: Path) -> None:
    text = f"""
    storage:
      providers:
        good: {{type: s3, bucket: b}}
        text: {SECRET}
        nothing:
        number: {{type: 3, priority: {SECRET}}}
        twice: {{type: s3, key: {SECRET}, options: {{key: other}}}}
        switch: {{enabled: {SECRET}}}
        breaker: {{circuit_breaker: {{failure_treshold: 3}}}}
    """
    file = read(folder, text)
    assert options(by_name(file)["good"]) == {"bucket": "b"}
    place = "providers.yaml: storage.providers"
    assert {
        one.name: [str(problem).removeprefix(f"{place}.") for problem in one.problems]
        for one in file.providers
        if one.settings is None
    } == {
        "text": ["text: must be a table of settings, not a single value"],
        "nothing": ["nothing: must be a table of settings, not a single value"],
        "number": ["number.type: must be text", "number.priority: must be a whole number"],
        "twice": ["twice.key: is set under options too, to something else; keep one of the two"],
        "switch": ["switch.enabled: must be true or false"],
        "breaker": [
            "breaker.circuit_breaker.failure_treshold: unknown setting; "
            "did you mean 'failure_threshold'?"
        ],
    }
    assert file.problems == ()


def test_what_is_no_provider_is_a_fault_of_the_file(folder: Path) -> None:
    text = """
    home: /srv
    storge: {providers: {lost: {}}}
    registry: {health: {timeout: 1}}
    ai: {defualt: claude}
    providers: {music: {lost: {}}}
    storage: {providers: {good: {}}}
    """
    file = read(folder, text)
    assert list(by_name(file)) == ["good"]
    unknown = "unknown setting in a file of providers; there are: ai, audio, images, storage"
    assert sorted(told(file)) == [
        "providers.yaml: ai.defualt: unknown setting; did you mean 'default'?",
        f"providers.yaml: home: {unknown}",
        "providers.yaml: providers.music: unknown setting; there are: audio, image, sync, data",
        f"providers.yaml: registry: {unknown}",
        f"providers.yaml: storge: {unknown}",
    ]


def test_the_default_provider_is_named_in_the_settings(folder: Path) -> None:
    file = read(folder, "storage: {default: b, providers: {b: {}}}")
    assert list(by_name(file)) == ["b"]
    assert told(file) == [
        "providers.yaml: storage.default: is not taken from a file of providers; "
        "set PURVEYOR_STORAGE__DEFAULT"
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("storage: 3", "storage"),
        ("storage: [a]", "storage"),
        ("storage: {providers: 3}", "storage.providers"),
        ("storage: {providers: [{name: b}]}", "storage.providers"),
    ],
)
def test_a_branch_that_is_no_table_is_told(folder: Path, text: str, place: str) -> None:
    file = read(folder, text + "\nai: {providers: {good: {}}}")
    assert list(by_name(file)) == ["good"]
    assert told(file) == [
        f"providers.yaml: {place}: must be a table of settings, not a single value"
    ]


@pytest.mark.requirement("S4.57")
@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("p.toml", b"[storage", "is no valid TOML: "),
        ("p.yaml", b"storage: [", "is no valid YAML: "),
        ("p.json", b'{"storage": ', "is no valid JSON: "),
        ("p.json", b'{"storage": {}, "storage": {}}', "has 'storage' twice in one table"),
        ("p.yaml", b"- a", "must hold a table of settings at its top"),
        ("p.toml", b"\xff\xfe", "is not UTF-8"),
        ("p.ini", b"", "must end in one of .toml, .yaml, .yml, .json"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_fault(
    folder: Path, name: str, text: bytes, reason: str
) -> None:
    file = read(folder, text, name)
    assert file.providers == ()
    (problem,) = file.problems
    assert problem.location == name
    assert problem.reason.startswith(reason)


def test_a_missing_file_is_a_fault_and_no_empty_file(folder: Path) -> None:
    file = read_providers(folder / "gone.toml", FAMILIES)
    assert told(file) == [f"{folder / 'gone.toml'}: cannot be read: No such file or directory"]


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / "p.toml").mkdir()
    file = read_providers(Path("p.toml"), FAMILIES)
    assert told(file) == ["p.toml: cannot be read: Is a directory"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_told(folder: Path) -> None:  # pragma: no cover
    (folder / "p.toml").touch(mode=0)
    file = read_providers(Path("p.toml"), FAMILIES)
    assert told(file) == ["p.toml: cannot be read: Permission denied"]


def test_a_malformed_dotenv_is_told_beside_what_is_found(folder: Path) -> None:
    (folder / ".env").write_text("this is no line\n")
    file = read(folder, "storage: {providers: {b: {}}}")
    assert list(by_name(file)) == ["b"]
    assert told(file) == [".env: line 1 is not of the form NAME=value"]


# -- secrets -----------------------------------------------------------------------------


@pytest.mark.requirement("S4.22")
@pytest.mark.parametrize(
    "text",
    [
        f"storage: {{providers: {{b: {{type: s3, secret_key: {SECRET}}}}}}}",
        f"storage: {{providers: {{b: {{type: s3, priority: {SECRET}}}}}}}",
        f"storage: {{providers: {SECRET}}}",
        f"storage: {SECRET}",
        f"storage: {{default: {SECRET}}}",
        f"'{SECRET}'",
        f'storage: {{b: "{SECRET}" "{SECRET}"}}',
        f"providers: {{audio: {{b: {SECRET}}}, image: {SECRET}}}",
    ],
)
def test_no_value_is_ever_told(folder: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    file = read(folder, text)
    assert SECRET not in repr(file)
    assert SECRET not in "".join(str(one) for found in file.providers for one in found.problems)
    assert SECRET not in "".join(told(file))
    assert SECRET not in caplog.text
