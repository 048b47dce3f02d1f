"""``purveyor tokens`` and ``purveyor audit``."""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
ME = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.fixture(autouse=True)
def keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "keys"))


def test_the_token_alone_goes_to_stdout(cli: Run) -> None:
    made = cli("tokens", "create", "ci", "--role", "operator")
    assert made.exit_code == 0
    (text,) = made.stdout.splitlines()
    assert text.startswith("pvy_")
    assert "'ci'" in made.stderr
    assert "shown this once" in made.stderr
    assert text not in made.stderr


def test_as_json(cli: Run) -> None:
    made = json.loads(
        cli("tokens", "create", "ci", "--role", "admin", "--expires", "30d", "--json").stdout
    )
    (listed,) = json.loads(cli("tokens", "list", "--json").stdout)
    assert made.pop("token").startswith(f"pvy_{made['id']}_")
    assert listed == made
    assert listed["expires_at"] > listed["created_at"]


@pytest.mark.requirement("S4.53")
def test_the_life_of_a_token(cli: Run) -> None:
    assert cli("tokens", "create", "ci", "--role", "reader", "--expires", "8w").exit_code == 0
    again = cli("tokens", "create", "ci", "--role", "reader")
    assert again.exit_code == 1
    assert "purveyor tokens revoke ci" in again.stderr
    assert again.stdout == ""
    assert cli("tokens", "revoke", "ci").stdout == ""
    assert cli("tokens", "create", "ci", "--role", "admin").exit_code == 0
    lines = [line.split("\t") for line in cli("tokens", "list").stdout.splitlines()]
    assert lines[0] == ["name", "id", "role", "created", "state"]
    assert [(line[0], line[2], line[4].split()[0]) for line in lines[1:]] == [
        ("ci", "reader", "revoked"),
        ("ci", "admin", "good"),
    ]
    assert cli("tokens", "revoke", lines[2][1]).exit_code == 0


def test_what_cannot_be_revoked(cli: Run, folder: Path) -> None:
    none = cli("tokens", "revoke", "ci")
    assert none.exit_code == 2
    assert "There is none." in none.stderr
    cli("tokens", "create", "backups", "--role", "reader")
    assert "There are these: backups" in cli("tokens", "revoke", "backup").stderr


@pytest.mark.parametrize("expires", ["30", "0d", "-1d", "1y", "d", "1.5d", "99999999d", "٣d", ""])
def test_what_is_no_time(cli: Run, expires: str) -> None:
    result = cli("tokens", "create", "ci", "--role", "reader", f"--expires={expires}")
    assert result.exit_code == 2
    assert "is no time" in result.stderr
    assert json.loads(cli("tokens", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("name", "role"), [("ci", "root"), ("", "reader"), ("anonymous", "reader")]
)
def test_what_is_no_name_or_role(cli: Run, name: str, role: str) -> None:
    assert cli("tokens", "create", name, "--role", role).exit_code == 2


def test_nothing_to_list_and_nothing_made(cli: Run, folder: Path) -> None:
    assert cli("tokens", "list").stdout.splitlines() == ["name\tid\trole\tcreated\tstate"]
    assert json.loads(cli("audit", "--json").stdout) == []
    assert list(folder.iterdir()) == []


def test_the_file_is_for_its_owner_alone(cli: Run, folder: Path) -> None:
    cli("tokens", "create", "ci", "--role", "reader")
    (file,) = (folder / ".purveyor").glob("*.db")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_who_made_and_revoked_tokens_is_recorded(cli: Run) -> None:
    text = cli("tokens", "create", "ci", "--role", "reader").stdout.strip()
    cli("tokens", "create", "ci", "--role", "reader")
    cli("tokens", "revoke", "ci")
    records = json.loads(cli("audit", "--json").stdout)
    assert [(one["caller"], one["action"], one["outcome"]) for one in records] == [
        (ME, "revoke-token", "ok"),
        (ME, "create-token", "ALREADY_EXISTS"),
        (ME, "create-token", "ok"),
    ]
    assert {one["target"] for one in records} == {"tokens/ci"}
    assert text.split("_", 2)[2] not in json.dumps(records)
    (columns, latest) = cli("audit", "--limit", "1").stdout.splitlines()
    assert columns == "time\tcaller\taction\ttarget\toutcome\tdetail"
    assert latest.split("\t")[1:] == [ME, "revoke-token", "tokens/ci", "ok", ""]
