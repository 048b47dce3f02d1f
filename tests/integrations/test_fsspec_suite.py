"""fsspec's own suite of tests for file systems, on ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from purveyor.containers import ApplicationContainer
from purveyor.integrations.fsspec import PurveyorFileSystem


class Ours(AbstractFixtures):
    """A file system of one storage without folders of its own."""

    @pytest.fixture(autouse=True)
    def container(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[ApplicationContainer]:
        monkeypatch.setenv("PURVEYOR_HOME", str(tmp_path))
        container = ApplicationContainer()
        yield container
        container.blocking.close()

    @pytest.fixture
    def fs(self, container: ApplicationContainer) -> PurveyorFileSystem:
        return PurveyorFileSystem(container=container)

    @pytest.fixture
    def fs_path(self) -> str:
        return "sqlite/tests"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(Ours, AbstractCopyTests):
    pass


class TestGet(Ours, AbstractGetTests):
    pass


class TestPut(Ours, AbstractPutTests):
    pass


class TestOpen(Ours, AbstractOpenTests):
    pass


class TestPipe(Ours, AbstractPipeTests):
    pass
