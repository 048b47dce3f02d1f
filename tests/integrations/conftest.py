"""A home of its own for each test, and the process's container shut down after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from purveyor.containers import process


@pytest.fixture(autouse=True)
def _fresh_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PURVEYOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(process, "_started", None)
    yield
    if process._started is not None:
        process._started.result().blocking.close()
