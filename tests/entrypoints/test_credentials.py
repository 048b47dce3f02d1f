"""``purveyor credentials``, and adding providers whose secrets no argument shows."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import CredentialManager

Run = Callable[..., Any]
S3 = ("providers", "add", "storage", "docs", "--type", "s3", "bucket=nightly")


@pytest.fixture(autouse=True)
def old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The key in force."""
    key = CredentialManager.generate_key()
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", key)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "keys"))
    return key


def key_id(key: str) -> str:
    return CredentialManager([key]).key_ids[0]


def test_a_generated_key_is_of_use(cli: Run) -> None:
    assert len(key_id(cli("credentials", "generate-key").stdout.strip())) == 8


def test_without_a_catalogue_there_is_nothing_to_tell_and_nothing_is_made(
    cli: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PURVEYOR_CREDENTIALS__KEYS")
    assert json.loads(cli("credentials", "status", "--json").stdout)["values"] == {}
    assert cli("credentials", "rotate").exit_code == 0
    assert list(folder.iterdir()) == []


@pytest.mark.requirement("S3.4")
def test_a_rotation_by_steps(cli: Run, old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-value")
    assert cli(*S3, "--secret-env", "secret_key=CANARY", "access_key=x").exit_code == 2
    secrets = ("--secret-env", "secret_key=CANARY", "--secret-env", "access_key=CANARY")
    assert cli(*S3, *secrets).exit_code == 0
    new = cli("credentials", "generate-key").stdout.strip()
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", f"{new},{old}")
    status = cli("credentials", "status")
    assert status.stdout.splitlines() == [
        "key\tvalues\tuse",
        f"{key_id(new)}\t0\tencrypts",
        f"{key_id(old)}\t2\tdecrypts only",
    ]
    assert "2 values still need the old key" in status.stderr
    assert "2 values would be encrypted" in cli("credentials", "rotate", "--dry-run").stderr
    done = json.loads(cli("credentials", "rotate", "--batch-size", 1, "--json").stdout)
    assert done == {"dry_run": False, "rotated": 2, "unchanged": 0, "failed": 0, "errors": []}
    assert "no value needs an old key any more" in cli("credentials", "status").stderr
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", new)
    assert json.loads(cli("credentials", "status", "--json").stdout) == {
        "keys": [key_id(new)],
        "values": {key_id(new): 2},
        "waiting": 0,
        "missing": [],
        "damaged": 0,
    }


def test_a_rotation_without_the_old_key_fails_and_says_which(
    cli: Run, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "canary-value")
    cli(*S3, "--secret-env", "secret_key=CANARY", "--secret-env", "access_key=CANARY")
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", CredentialManager.generate_key())
    result = cli("credentials", "rotate")
    assert result.exit_code == 1
    assert f"was encrypted with key {key_id(old)}" in result.stderr
    assert "missing: its values cannot be decrypted" in cli("credentials", "status").stdout


@pytest.mark.server("postgresql")
def test_a_server_without_a_key_is_refused(
    cli: Run, postgresql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PURVEYOR_CREDENTIALS__KEYS")
    monkeypatch.setenv("PURVEYOR_CATALOGUE__URL", postgresql.dsn(postgresql.create_database()))
    for command in (("credentials", "status"), ("credentials", "rotate"), ("providers", "list")):
        result = cli(*command)
        assert result.exit_code == 1
        assert "PURVEYOR_CREDENTIALS__KEYS" in result.stderr


# -- adding and removing -----------------------------------------------------------------


def test_a_provider_is_added_listed_and_removed(cli: Run, folder: Path) -> None:
    (folder / "secret").write_text("canary-file\n")
    result = cli(
        *S3, "priority:=70", "--secret-file", "secret_key=secret", "--secret-file", "access_key=-",
        "--json", stdin=b"canary-stdin\n",
    )  # fmt: skip
    assert result.exit_code == 0
    added = json.loads(result.stdout)
    assert (added["name"], added["settings"]["priority"]) == ("docs", 70)
    assert "canary" not in result.stdout
    shown = cli("providers", "show", "docs", "--json").stdout
    assert json.loads(shown)["source"] == "api"
    assert "canary" not in shown
    assert cli("providers", "remove", "storage", "docs").exit_code == 0
    assert cli("providers", "show", "docs").exit_code == 2
    assert cli("providers", "remove", "storage", "docs").exit_code == 2


def test_a_secret_in_an_argument_is_refused(cli: Run, folder: Path) -> None:
    for argument in (
        "secret_key=canary",
        'secret_key:="canary"',
        'options:={"secret_key": "canary"}',
    ):
        result = cli(*S3, argument)
        assert result.exit_code == 2
        assert "secret_key is secret, and every user of this machine can see" in result.stderr
        assert "canary" not in result.stderr
    assert not (folder / ".purveyor").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prefix",), "'prefix' is not of the form KEY=VALUE"),
        (("prefix:={",), "prefix: what follows := is no JSON"),
        (("bucket=other",), "bucket is given twice"),
        (("type=s3",), "type is no setting here: give it as --type TYPE"),
        (("--secret-env", "secret_key=NONE"), "the environment has no variable NONE"),
        (("--secret-file", "secret_key=none"), "none cannot be read: No such file"),
        (("--secret-file", "secret_key=empty"), "secret_key: it is empty"),
        (("--secret-file", "secret_key=binary"), "binary cannot be read as text"),
        (("--secret", "secret_key"), "nobody can be asked here"),
        (("colour=red",), "colour"),
    ],
)
def test_what_is_wrong_is_told(
    cli: Run, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    (folder / "empty").write_text("\n")
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    result = cli(*S3, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_secret_is_asked_for_without_showing_it(cli: Run) -> None:
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "purveyor", *S3, "--secret", "secret_key"]
    process = subprocess.Popen(
        [*command, "--secret", "access_key"], stdin=child, stdout=child, stderr=child,
        start_new_session=True,
    )  # fmt: skip
    os.close(child)
    shown = b""
    try:
        for asked in (b"secret_key: ", b"access_key: "):
            while not shown.endswith(asked):
                shown += os.read(parent, 1024)
            os.write(parent, b"canary-typed\n")
        while process.poll() is None:
            try:
                shown += os.read(parent, 1024)
            except OSError:  # the other end is closed
                break
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(parent)
    assert b"added the storage provider docs" in shown
    assert b"canary" not in shown
    assert json.loads(cli("credentials", "status", "--json").stdout)["values"].popitem()[1] == 2
