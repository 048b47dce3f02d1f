"""What holds for all commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from purveyor import __version__
from tests.entrypoints.conftest import Run


def test_version(cli: Run) -> None:
    assert cli("--version").stdout == f"purveyor {__version__}\n"


def test_without_arguments_the_help_is_shown(cli: Run) -> None:
    result = cli()
    assert "check" in result.output
    assert "sync" in result.output


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["sync"],
        *(["providers", name] for name in ("list", "show", "types", "test", "find")),
        *(["storage", name] for name in ("put", "get", "ls", "stat", "rm")),
    ],
)
def test_every_command_says_what_it_does_with_an_example(cli: Run, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: purveyor {' '.join(command)}" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["storage", "stat"],
        ["sync", "docs", ":docs", "--jobs", "0"],
        ["sync", "docs", ":docs", "--verify", "maybe"],
        ["storage", "ls", "docs"],
        ["storage", "stat", ":../x"],
        ["storage", "ls", "nope:"],
        ["providers", "list", "--family", "nope"],
        ["sync", "", ":"],
    ],
)
def test_wrong_usage_ends_with_2_and_one_message(cli: Run, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "rror: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.requirement("S0.21")
def test_an_unknown_provider_is_told_with_the_nearest_names_first(process: Run) -> None:
    result = process("storage", "ls", "sqlit:")
    assert result.returncode == 2
    assert result.stderr.startswith("error: Provider not found: sqlit.")
    assert "sqlite, filesystem" in result.stderr


def test_faulty_settings_are_told_all_at_once_with_their_variables(
    process: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__TIMEOUT", "-1")
    monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__RETRIES", "many")
    result = process("storage", "ls")
    assert result.returncode == 2
    assert "PURVEYOR_REGISTRY__HEALTH__TIMEOUT" in result.stderr
    assert "PURVEYOR_REGISTRY__HEALTH__RETRIES" in result.stderr
    assert "Traceback" not in result.stderr


def test_config_names_the_settings_file(cli: Run, folder: Path) -> None:
    (folder / "my.toml").write_text('[storage.providers.notes]\ntype = "sqlite"\n')
    names = [
        one["name"]
        for one in json.loads(cli("--config", "my.toml", "providers", "list", "--json").stdout)
    ]
    assert names == ["filesystem", "notes", "sqlite", "local_file"]

    missing = cli("--config", "missing.toml", "providers", "list")
    assert missing.exit_code == 2
    assert "missing.toml" in missing.stderr


@pytest.mark.parametrize(
    ("library", "command", "extra"),
    [
        ("typer", "check", "cli"),
        ("fastapi", "serve --port 0", "http"),
        ("uvicorn", "serve --port 0", "http"),
        ("jinja2", "serve --port 0", "http"),
        ("sqlalchemy", "serve --port 0", "http"),
        ("sqlalchemy", "tokens create ci --role reader", "catalogue"),
        ("sqlalchemy", "audit", "catalogue"),
    ],
)
def test_without_an_extra_one_line_says_how_to_install_it(
    folder: Path, library: str, command: str, extra: str
) -> None:
    hidden = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {library!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
sys.argv = ["purveyor", *{command.split()}]
from purveyor.__main__ import main
main()
"""
    result = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert f"pip install 'purveyor[{extra}]'" in result.stderr


def test_importing_the_command_line_imports_neither_typer_nor_rich(process: Run) -> None:
    code = "import sys, purveyor.entrypoints.cli; print({'typer', 'rich'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == "set()\n"


def test_a_defect_shows_its_traceback(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("purveyor.entrypoints.cli.session.load_settings", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        cli("storage", "ls")


def test_verbose_logs_to_stderr_and_nothing_else_changes(process: Run) -> None:
    quiet, loud = process("providers", "list"), process("--verbose", "providers", "list")
    assert quiet.stderr == ""
    assert "Registered storage provider: filesystem" in loud.stderr
    assert loud.stdout == quiet.stdout


def test_a_reader_that_goes_away_is_no_traceback(process: Run, docs: Path) -> None:
    for number in range(3000):
        (docs / f"{number:0200}").write_bytes(b"")
    assert process("sync", "docs", ":").returncode == 0
    shell = f"{sys.executable} -m purveyor storage ls | head -n 1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, timeout=60, env={**os.environ}
    )
    assert result.stdout.splitlines()[1] == "141"
    assert result.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_at_its_output_is_no_traceback(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "purveyor", "check"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    message = "error: the output cannot be written: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, message)


def test_a_failing_provider_is_told_with_where_it_was_configured(
    process: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = "PURVEYOR_AI__PROVIDERS__CHAT"
    for name, value in (("TYPE", "local"), ("BASE_URL", "http://127.0.0.1:9"), ("MODEL", "m")):
        monkeypatch.setenv(f"{prefix}__{name}", value)
    result = process("check", "--connect")
    assert result.returncode == 1
    assert f"error: {prefix}: Nothing listens at http://127.0.0.1:9" in result.stderr


def test_output_for_pipes_has_no_colours_and_whole_names(
    process: Run, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "n" * 100
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv(f"PURVEYOR_STORAGE__PROVIDERS__{name.upper()}__TYPE", "sqlite")
    for run, *command in (
        (process, "providers", "list"),
        (cli, "check"),
        (cli, "providers", "test"),
    ):
        result = run(*command)
        assert name in result.stdout
        assert "\x1b" not in result.stdout
        assert all("\t" in line for line in result.stdout.splitlines())
