from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from purveyor.settings import Settings, SettingsError

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of the test's own, so that no ``.env`` of a developer is read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def configure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a configuration file and name it in the environment."""

    def write(text: str | bytes, name: str = "purveyor.toml") -> Path:
        path = folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        monkeypatch.setenv("PURVEYOR_CONFIG_FILE", name)
        return path

    return write


@pytest.fixture
def secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file of the secrets directory, and name the directory in the environment."""
    monkeypatch.setenv("PURVEYOR_SECRETS_DIR", "secrets")

    def write(name: str, text: str | bytes) -> Path:
        path = folder / "secrets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def faults(**values: object) -> dict[str, str]:
    """Return what is wrong with the settings: the reason by the place."""
    with pytest.raises(SettingsError) as caught:
        Settings(**values)
    problems = caught.value.problems
    assert len({problem.location for problem in problems}) == len(problems)
    for problem in problems:
        assert f"\n  {problem.location}: {problem.reason}" in str(caught.value)
    return {problem.location: problem.reason for problem in problems}


def options(settings: Settings, name: str = "backups") -> dict[str, object]:
    """Return what the type of a storage is set to."""
    return settings.storage.providers[name].options.get_secret_value()
