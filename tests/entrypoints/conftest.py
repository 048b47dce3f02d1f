"""The command line, called in this process and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from purveyor.entrypoints.cli.app import app

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def cli() -> Run:
    """Run ``purveyor`` with arguments; the result has exit_code, stdout and stderr."""

    def run(*arguments: object, stdin: bytes | None = None) -> Any:
        result = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def process() -> Run:
    """Run ``python -m purveyor`` with arguments, in the current folder."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "purveyor", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ}, **options
        )

    return run


@pytest.fixture
def docs(folder: Path) -> Path:
    """A small folder to copy, ``docs``."""
    made = folder / "docs"
    (made / "deep").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"a")
    (made / "deep" / "größe.bin").write_bytes(os.urandom(10_000))
    return made
