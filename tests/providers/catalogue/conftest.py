"""Catalogues in a file and on a server, and applications that use them."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import CredentialManager
from purveyor.testing.servers import PostgreSQL

Running = Callable[..., AbstractAsyncContextManager[ApplicationContainer]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, and the home of its key file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "keys"))
    return tmp_path


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """A key that is in force."""
    key = CredentialManager.generate_key()
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", key)
    return key


@pytest.fixture
def server_url(
    postgresql: PostgreSQL, folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A catalogue on PostgreSQL, which is in force."""
    url = postgresql.dsn(postgresql.create_database())
    monkeypatch.setenv("PURVEYOR_CATALOGUE__URL", url)
    return url


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server("postgresql"))]
)
def url(
    request: pytest.FixtureRequest, folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A catalogue of each kind, which is in force."""
    if request.param == "postgresql":
        return request.getfixturevalue("server_url")
    url = f"sqlite:///{folder / 'shared.db'}"
    monkeypatch.setenv("PURVEYOR_CATALOGUE__URL", url)
    return url


@pytest.fixture
def running(folder: Path) -> Running:
    """Give applications, which are ended with the block."""

    @asynccontextmanager
    async def run(**settings: object) -> AsyncGenerator[ApplicationContainer]:
        container = ApplicationContainer(**settings)
        async with container.lifespan():
            yield container

    return run


@pytest.fixture
async def app(url: str, running: Running) -> AsyncGenerator[ApplicationContainer]:
    """An application that uses the catalogue, of each kind."""
    async with running() as container:
        yield container


WORKER = [sys.executable, str(Path(__file__).with_name("worker.py"))]
