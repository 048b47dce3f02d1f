from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.families import FAMILIES
from purveyor.providers.registry import ProviderConfig, ProviderTypes, operation, register_provider
from purveyor.providers.storage import STORAGE_TYPES, ObjectInfo, StorageProvider
from purveyor.settings import Settings


class MemoryConfig(ProviderConfig):
    label: str = ""


class MemoryStorage(StorageProvider[MemoryConfig]):
    """Enough of a storage to see who answers, and what became of it."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__(config)
        self.connected = 0
        self.closed = 0
        self.objects: dict[str, bytes] = {}

    async def _connect(self) -> None:
        self.connected += 1

    async def _close(self) -> None:
        self.closed += 1

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        return self.config.label.encode() or self.objects[key]

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        raise ConnectionResetError("gone")
        yield


@pytest.fixture
def types() -> ProviderTypes:
    """A catalogue of this test's own, with the built-in types and ``memory``."""
    catalogue = ProviderTypes(scan_entry_points=False)
    for family in FAMILIES:
        catalogue.add_family(family)
    for row in STORAGE_TYPES:
        catalogue.add(row)
    register_provider("memory", types=catalogue, capabilities={"search"})(MemoryStorage)
    return catalogue


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path,
        storage={
            "default": "first",
            "providers": {
                "first": {"type": "memory", "label": "one"},
                "second": {"type": "memory", "label": "two"},
                "faulty": {"type": "memory", "lable": "three"},
                "off": {"type": "memory", "enabled": False},
            },
        },
    )


@pytest.fixture
def container(settings: Settings, types: ProviderTypes) -> Any:
    return ApplicationContainer(settings=settings, types=types)
