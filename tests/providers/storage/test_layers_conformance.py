"""Storage types keep the rules of the conformance kit with layers on, as without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from purveyor.providers.storage.filesystem import FilesystemStorage
from purveyor.providers.storage.layers.keys import new_identity
from purveyor.providers.storage.layers.storage import layered
from purveyor.providers.storage.sqlite import SQLiteStorage
from purveyor.providers.storage.types import STORAGE_TYPES
from purveyor.testing.conformance import StorageConformance

CAPABILITIES = {row.name: row.capabilities for row in STORAGE_TYPES}
COMPRESSION: dict[str, Any] = {"compression": "zstd"}
ENCRYPTION: dict[str, Any] = {"encryption": "age", "encryption_identities": (new_identity(),)}


class TestCompressedFilesystem(StorageConformance):
    provider_class = layered(FilesystemStorage)
    capabilities = CAPABILITIES["filesystem"] | {"compression"}

    @pytest.fixture
    def storage_config(self, tmp_path: Path) -> BaseModel:
        return self.provider_class.config_class.model_validate(
            {"root": tmp_path / "root", **COMPRESSION}
        )


class TestCompressedAndEncryptedFilesystem(StorageConformance):
    provider_class = layered(FilesystemStorage)
    capabilities = CAPABILITIES["filesystem"] | {"compression", "encryption"}

    @pytest.fixture
    def storage_config(self, tmp_path: Path) -> BaseModel:
        return self.provider_class.config_class.model_validate(
            {"root": tmp_path / "root", **COMPRESSION, **ENCRYPTION}
        )


class TestEncryptedSQLite(StorageConformance):
    provider_class = layered(SQLiteStorage)
    capabilities = CAPABILITIES["sqlite"] | {"encryption"}

    @pytest.fixture
    def storage_config(self, tmp_path: Path) -> BaseModel:
        return self.provider_class.config_class.model_validate(
            {"path": tmp_path / "objects.sqlite3", **ENCRYPTION}
        )
