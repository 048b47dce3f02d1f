"""``purveyor storage``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from purveyor.providers.storage.layers.keys import new_identity
from tests.entrypoints.conftest import Run


@pytest.mark.parametrize("name", ["", "sqlite"])
def test_a_file_is_put_looked_at_fetched_and_removed(cli: Run, folder: Path, name: str) -> None:
    content = os.urandom(3_000_000)
    (folder / "a.bin").write_bytes(content)

    assert cli("storage", "put", "a.bin", f"{name}:x/").exit_code == 0
    assert cli("storage", "put", "a.bin", f"{name}:x/b").exit_code == 0
    assert cli("storage", "ls", f"{name}:x/").stdout == "x/a.bin\nx/b\n"
    assert cli("storage", "get", f"{name}:x/b").stdout_bytes == content
    assert cli("storage", "get", f"{name}:x/b", "new/c.bin").exit_code == 0
    assert cli("storage", "get", f"{name}:x/a.bin", "new").exit_code == 0
    assert (folder / "new" / "c.bin").read_bytes() == content
    assert (folder / "new" / "a.bin").read_bytes() == content
    assert cli("storage", "rm", f"{name}:x/b", f"{name}:x/a.bin").exit_code == 0
    assert cli("storage", "ls", f"{name}:").stdout == ""


def test_stdin_is_put_and_needs_a_name(cli: Run, process: Run) -> None:
    assert cli("storage", "put", "-", ":from/pipe", stdin=b"\x00\xff").exit_code == 0
    assert cli("storage", "get", ":from/pipe").stdout_bytes == b"\x00\xff"
    assert cli("storage", "put", "-", ":from/").exit_code == 2

    content = "ö" * 3_000_000
    assert process("storage", "put", "-", ":large", input=content).returncode == 0
    assert process("storage", "get", ":large").stdout == content


def test_put_keeps_metadata_and_stat_shows_it(cli: Run, folder: Path) -> None:
    (folder / "a.csv").write_bytes(b"1,2")
    options = ["--content-type", "text/csv", "--metadata", "owner=me", "--metadata", "a=b=c"]

    stored = cli("storage", "put", "a.csv", "sqlite:", *options, "--json")
    shown = cli("storage", "stat", "sqlite:a.csv", "--json")

    assert json.loads(stored.stdout)["key"] == "a.csv"
    data = json.loads(shown.stdout)
    assert (data["size"], data["content_type"]) == (3, "text/csv")
    assert data["metadata"] == {"owner": "me", "a": "b=c"}
    assert "metadata.owner  me" in cli("storage", "stat", "sqlite:a.csv").stdout
    assert cli("storage", "put", "a.csv", "sqlite:", "--metadata", "owner").exit_code == 2


def test_put_can_refuse_to_replace(cli: Run, folder: Path) -> None:
    (folder / "a").write_bytes(b"1")
    assert cli("storage", "put", "a", ":a", "--no-overwrite").exit_code == 0
    (folder / "a").write_bytes(b"2")

    refused = cli("storage", "put", "a", ":a", "--no-overwrite")

    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ")
    assert cli("storage", "get", ":a").stdout_bytes == b"1"


def test_put_of_a_file_that_is_not_there_is_one_message(cli: Run) -> None:
    result = cli("storage", "put", "missing", ":")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: Cannot read 'missing': No such file or directory.\n"


def test_what_is_not_there_is_one_message(cli: Run, folder: Path) -> None:
    for command in (["get", ":no"], ["get", ":no", "deep/file"], ["stat", ":no"], ["rm", ":no"]):
        result = cli("storage", *command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: There is no object")
    assert not (folder / "deep").exists()


def test_rm_removes_the_others_all_the_same(cli: Run) -> None:
    for key in ("a", "b"):
        cli("storage", "put", "-", f":{key}", stdin=b"x")
    assert cli("storage", "rm", ":a", ":missing", ":b").exit_code == 1
    assert cli("storage", "ls").stdout == ""


def test_ls_is_long_on_demand_and_json_for_programs(cli: Run) -> None:
    cli("storage", "put", "-", ":größe/a b.txt", stdin=b"x" * 1234)

    long = cli("storage", "ls", "--long").stdout
    data = json.loads(cli("storage", "ls", ":", "--json").stdout)

    assert long.split(maxsplit=1)[0] == "1234"
    assert long.endswith("  größe/a b.txt\n")
    assert [(one["key"], one["size"]) for one in data] == [("größe/a b.txt", 1234)]
    assert json.loads(cli("storage", "ls", ":none", "--json").stdout) == []


def test_a_path_is_told_from_a_place(cli: Run) -> None:
    result = cli("storage", "ls", "docs")
    assert result.exit_code == 2
    assert "try :docs or docs:" in result.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_keys_a_terminal_cannot_show_are_escaped(
    cli: Run, process: Run, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    cli("storage", "put", "-", ":日本", stdin=b"x")
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    result = process("storage", "ls")
    assert result.returncode == 0
    assert result.stdout == ("\\u65e5\\u672c\n" if encoding == "latin-1" else "日本\n")


def test_an_interrupt_while_stdin_is_open_ends_at_once(folder: Path) -> None:
    started = [sys.executable, "-m", "purveyor", "--verbose", "storage", "put", "-", ":x"]
    with subprocess.Popen(
        started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stderr is not None
        assert running.stdin is not None
        while b"Registered storage provider: sqlite" not in running.stderr.readline():
            pass
        running.send_signal(2)
        running.wait(30)
        assert running.returncode == 130
        assert b"error: interrupted" in running.stderr.read()
    assert not (folder / ".purveyor/storage/filesystem/x").exists()


def test_keys_are_changed_and_counted(
    cli: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = new_identity(), new_identity()
    prefix = "PURVEYOR_STORAGE__PROVIDERS__VAULT__"
    monkeypatch.setenv(f"{prefix}TYPE", "filesystem")
    monkeypatch.setenv(f"{prefix}ENCRYPTION", "age")
    monkeypatch.setenv(f"{prefix}ENCRYPTION_IDENTITIES", old)
    (folder / "a").write_bytes(b"content")
    for key in ("x/a", "x/b", "y"):
        assert cli("storage", "put", "a", f"vault:{key}").exit_code == 0

    monkeypatch.setenv(f"{prefix}ENCRYPTION_IDENTITIES", f"{new},{old}")
    tried = cli("storage", "rewrap", "vault:", "--dry-run", "--json")
    assert json.loads(tried.stdout) == {
        "changed": 3,
        "current": 0,
        "replaced": 0,
        "failures": {},
        "dry_run": True,
    }
    assert "changed 2, already current 0" in cli("storage", "rewrap", "vault:x/").stderr
    assert "changed 1, already current 2" in cli("storage", "rewrap", "vault:").stderr

    monkeypatch.setenv(f"{prefix}ENCRYPTION_IDENTITIES", new)
    assert cli("storage", "get", "vault:x/a").stdout_bytes == b"content"
    (folder / ".purveyor" / "storage" / "vault" / "y").write_bytes(b"planted")
    failed = cli("storage", "rewrap", "vault:")
    assert failed.exit_code == 1
    assert "'y'" in failed.stderr
    assert cli("storage", "rewrap", ":").exit_code == 1
