"""``purveyor sync``."""

from __future__ import annotations

import filecmp
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.entrypoints.conftest import Run


def same(one: Path, other: Path) -> bool:
    """Compare two folders byte for byte."""
    compared = filecmp.dircmp(one, other)
    _, mismatch, errors = filecmp.cmpfiles(one, other, compared.common_files, shallow=False)
    if compared.left_only or compared.right_only or mismatch or errors:
        return False
    return all(same(one / name, other / name) for name in compared.common_dirs)


def test_a_folder_is_copied_byte_for_byte_and_a_second_run_copies_nothing(
    process: Run, docs: Path, folder: Path
) -> None:
    first = process("sync", "docs", ":docs")
    second = process("sync", "docs", ":docs", "--json")

    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("docs -> :docs: 2 copied (9.8 KiB), 0 up to date in ")
    assert same(docs, folder / ".purveyor/storage/filesystem/docs")
    data = json.loads(second.stdout)
    assert (data["success"], data["files"], data["skipped"]) == (True, 0, 2)


def test_a_dry_run_prints_every_action_and_writes_nothing(
    cli: Run, docs: Path, folder: Path
) -> None:
    result = cli("sync", "docs", "new", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout == "copy\ta.txt\ta.txt\t1\ncopy\tdeep/größe.bin\tdeep/größe.bin\t10000\n"
    assert "2 would be copied" in result.stderr
    assert not (folder / "new").exists()

    data = json.loads(cli("sync", "docs", ":docs", "--dry-run", "--json").stdout)
    assert data["actions"][0] == {
        "action": "copy",
        "key": "a.txt",
        "target": "docs/a.txt",
        "size": 1,
    }
    assert cli("storage", "ls").stdout == ""


def test_a_failed_object_is_named_and_the_rest_arrives(cli: Run, docs: Path) -> None:
    (docs / "new\nline").write_bytes(b"x")
    (docs / "link").symlink_to("a.txt")

    result = cli("sync", "docs", ":docs")

    assert result.exit_code == 1
    assert "2 copied" in result.stdout
    assert "1 failed" in result.stdout
    assert "1 left out" in result.stdout
    assert "control character" in result.stderr
    assert "left out: link: a symbolic link" in result.stderr


def test_what_cannot_begin_is_one_message(cli: Run, docs: Path, folder: Path) -> None:
    for arguments, code in [
        (["missing", ":"], 1),
        ([":missing", "out"], 1),
        ([".", ":"], 1),
        (["docs", "filesytem:"], 2),
    ]:
        result = cli("sync", *arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
    assert not (folder / "out").exists()


def test_a_disabled_target_is_said_and_no_failure(
    cli: Run, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__OFF__TYPE", "sqlite")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__OFF__ENABLED", "false")
    result = cli("sync", "docs", "off:")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "is disabled" in result.stderr


@pytest.mark.requirement("S4.49")
@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [
        (signal.SIGINT, 130, b"error: interrupted: "),
        (signal.SIGTERM, 143, b"error: terminated: "),
        (signal.SIGKILL, -signal.SIGKILL, b""),
    ],
)
def test_a_signal_ends_it_with_its_code_and_leaves_nothing_half_written(
    cli: Run, folder: Path, sent: signal.Signals, code: int, word: bytes
) -> None:
    source = folder / "many"
    source.mkdir()
    for number in range(2000):
        (source / f"{number}").write_bytes(os.urandom(2000))
    with (source / "large").open("wb") as file:
        for _ in range(32):
            file.write(os.urandom(1024 * 1024))
    target = folder / "target"
    with subprocess.Popen(
        [sys.executable, "-m", "purveyor", "sync", "many", "target"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        while len([*target.glob("[0-9]*")]) < 10:
            assert running.poll() is None
            time.sleep(0.002)  # it needs the processor more
        running.send_signal(sent)
        stdout, stderr = running.communicate(timeout=30)

    assert running.returncode == code
    assert stdout == b""
    assert stderr.startswith(word)
    copied = [path.name for path in target.glob("[a-z0-9]*")]
    assert 10 <= len(copied) < 2001
    assert all((target / name).read_bytes() == (source / name).read_bytes() for name in copied)
    assert cli("sync", "many", "target").exit_code == 0
    for draft in target.glob(".purveyor-*.part"):  # what was being written when it was killed
        draft.unlink()
    assert same(source, target)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--checksum", "--size-only"], "exclude each other"),
        (["--watch", "--dry-run"], "exclude each other"),
        (["--watch", "--engine", "dask"], "exclude each other"),
        (["--scheduler", "tcp://127.0.0.1:1"], "--engine dask"),
        (["--engine", "dask", "--checksum"], "cannot compare by checksum"),
        (["--filter", "*.tmp"], "Invalid filter '*.tmp'"),
        (["--bwlimit", "fast"], "no number of bytes"),
        (["--bwlimit", "0"], "no number of bytes"),
        (["--max-delete", "-1"], "--max-delete"),
    ],
)
def test_wrong_options_are_told(cli: Run, docs: Path, arguments: list[str], told: str) -> None:
    result = cli("sync", "docs", ":docs", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_options_reach_the_sync(cli: Run, docs: Path, folder: Path) -> None:
    (docs / "x.tmp").write_bytes(b"x")
    arguments = ["--exclude", "*.tmp", "--bwlimit", "1G", "--tps-limit", "1000", "--checksum"]
    result = cli("sync", "docs", "out", *arguments, "--report", "report.json")
    assert result.exit_code == 0
    assert json.loads((folder / "report.json").read_text())["files"] == 2
    assert not (folder / "out" / "x.tmp").exists()

    (docs / "a.txt").unlink()
    would = cli("sync", "docs", "out", "--delete", "--dry-run", "--filter", "- *.tmp")
    assert would.stdout == "delete\ta.txt\ta.txt\t0\n"
    refused = cli("sync", "docs", "out", "--delete", "--max-delete", "0")
    assert (refused.exit_code, (folder / "out" / "a.txt").exists()) == (1, True)
    assert "more than the 0" in refused.stderr
    done = cli("sync", "docs", "out", "--delete", "--force", "--size-only")
    assert "1 deleted" in done.stdout
    assert same(docs, folder / "out")


def test_a_cluster_copies_as_one_process_does(process: Run, docs: Path, folder: Path) -> None:
    result = process("sync", "docs", "out", "--engine", "dask", "--workers", "1", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["files"] == 2
    assert same(docs, folder / "out")


def test_a_report_that_cannot_be_written_is_told(cli: Run, docs: Path) -> None:
    result = cli("sync", "docs", "out", "--report", "missing/report.json")
    assert result.exit_code == 0
    assert "The report 'missing/report.json' cannot be written" in result.stderr


def test_a_watched_folder_is_followed_until_a_signal(docs: Path, folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "purveyor", "sync", "docs", "out", "--watch", "--interval", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert b"2 copied" in running.stdout.readline()
        (docs / "new.txt").write_bytes(b"new")
        assert b"1 copied" in running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        _, stderr = running.communicate(timeout=30)
    assert running.returncode == 143
    assert stderr == b"terminated: no longer watched; nothing is half-written\n"
    assert same(docs, folder / "out")


def test_two_places_are_verified(cli: Run, docs: Path, folder: Path) -> None:
    cli("sync", "docs", ":docs")
    well = cli("storage", "verify", "docs", ":docs")
    assert (well.exit_code, well.stdout) == (0, "")
    assert "docs and :docs: 2 the same (9.8 KiB), 0 not" in well.stderr

    (docs / "a.txt").write_bytes(b"z")
    bad = cli("storage", "verify", "docs", ":docs", "--full")
    assert bad.exit_code == 1
    assert bad.stdout == "content\ta.txt\tsame size, other content\n"
    data = json.loads(cli("storage", "verify", "docs", ":docs", "--json").stdout)
    assert (data["success"], data["same"]) == (False, 1)
    assert cli("storage", "verify", "docs", "nobody:").exit_code == 2
    assert cli("storage", "verify", "missing", ":docs").exit_code == 1


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    program = """
import asyncio, sys
from purveyor.entrypoints.cli.session import cancel_on_signals

async def work():
    cancel_on_signals()
    print("ready", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("deaf", flush=True)

asyncio.run(work())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.readline() == b"deaf\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == -signal.SIGTERM


def drawn_on(master: int) -> bytes:
    """Return all that was written to a terminal until the last writer closed it."""
    drawn = b""
    try:
        while part := os.read(master, 65536):
            drawn += part
    except OSError:  # Linux ends a terminal so
        pass
    os.close(master)
    return drawn


def test_on_a_terminal_progress_is_drawn_on_stderr_only(docs: Path) -> None:
    (docs / "large").write_bytes(os.urandom(30_000_000))
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "purveyor", "sync", "docs", ":docs", "--json"],
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "40"},
    ) as running:
        os.close(slave)
        drawn = drawn_on(master)
        assert running.stdout is not None
        data = json.loads(running.stdout.read())
    assert running.returncode == 0
    assert data["files"] == 3
    assert b"objects" in drawn
    assert not re.search(rb"\x1b\[3\d", drawn)  # no colours


def test_on_a_narrow_terminal_tables_are_folded_not_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__" + "N" * 60 + "__TYPE", "sqlite")
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "purveyor", "providers", "list"],
        stdout=slave,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "60"},
    ) as running:
        os.close(slave)
        drawn = drawn_on(master).decode()
        assert running.stderr is not None
        assert running.stderr.read() == b""
    assert running.returncode == 0
    assert drawn.count("n" * 3) >= 1
    assert "…" not in drawn
    assert not re.search(r"\x1b\[3\d", drawn)
    plain = re.sub(r"\x1b\[[\d;]*m", "", drawn)  # bold is no colour
    assert all(len(line) <= 60 for line in plain.splitlines())
