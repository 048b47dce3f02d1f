"""The storage types that come with Purveyor keep the rules of the conformance kit."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from purveyor.providers.storage import STORAGE_TYPES
from purveyor.providers.storage.azure_blob import AzureBlobStorage, AzureBlobStorageConfig
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from purveyor.providers.storage.s3 import S3Config, S3Storage
from purveyor.providers.storage.sftp import SFTPConfig, SFTPStorage
from purveyor.providers.storage.smb import SMBConfig, SMBStorage
from purveyor.providers.storage.sqlite import SQLiteConfig, SQLiteStorage
from purveyor.testing.conformance import StorageConformance
from purveyor.testing.servers import SeaweedFS

MIB = 1024 * 1024


@pytest.mark.requirement("S0.42")
class TestFilesystemStorage(StorageConformance):
    provider_class = FilesystemStorage

    @pytest.fixture
    def storage_config(self, tmp_path: Path) -> FilesystemConfig:
        return FilesystemConfig(root=tmp_path / "root")


@pytest.mark.requirement("S0.42")
class TestSQLiteStorage(StorageConformance):
    provider_class = SQLiteStorage

    @pytest.fixture
    def storage_config(self, tmp_path: Path) -> SQLiteConfig:
        return SQLiteConfig(path=tmp_path / "objects.sqlite3")


@pytest.mark.requirement("S0.42")
@pytest.mark.server("seaweedfs")
class TestS3Storage(StorageConformance):
    provider_class = S3Storage
    # SeaweedFS, not our code, makes a slash of a backslash.
    odd_keys = tuple(key for key in StorageConformance.odd_keys if "\\" not in key)
    # Its lock lets who must wait try again in steps of a second.
    racers = 5

    @pytest.fixture(scope="class")
    @classmethod
    def bucket(cls, seaweedfs: SeaweedFS) -> str:
        """A bucket for all: this server is slow to make room in a new one."""
        return seaweedfs.create_bucket()

    @pytest.fixture
    def storage_config(
        self, seaweedfs: SeaweedFS, bucket: str, request: pytest.FixtureRequest
    ) -> S3Config:
        place = {"bucket": bucket, "prefix": secrets.token_hex(8)}
        if "odd_keys" in request.node.name:  # with a prefix the longest is too long
            place = {"bucket": seaweedfs.create_bucket()}
        # A large put holds so many parts in memory.
        limits = {"part_size": 5 * MIB, "max_concurrency": 2}
        return S3Config.model_validate({**place, **limits, **seaweedfs.login})


@pytest.mark.requirement("S0.42")
@pytest.mark.server("azurite")
class TestAzureBlobStorage(StorageConformance):
    provider_class = AzureBlobStorage
    # Azure drops a dot at the end of a part and makes a slash of a backslash: both are refused.
    odd_keys = tuple(
        key for key in StorageConformance.odd_keys if not key.endswith(".") and "\\" not in key
    )

    @pytest.fixture
    def storage_config(self, azure_config: AzureBlobStorageConfig) -> AzureBlobStorageConfig:
        return azure_config.model_copy(update={"part_size": 2 * MIB, "max_concurrency": 2})


@pytest.mark.requirement("S0.42")
@pytest.mark.server("openssh")
class TestSFTPStorage(StorageConformance):
    provider_class = SFTPStorage

    @pytest.fixture
    def storage_config(self, sftp_config: SFTPConfig) -> SFTPConfig:
        return sftp_config


@pytest.mark.requirement("S0.42")
@pytest.mark.server("samba")
class TestSMBStorage(StorageConformance):
    provider_class = SMBStorage
    case_sensitive = False
    odd_keys = tuple(
        key
        for key in StorageConformance.odd_keys
        # A server holds no such names, or shows them under another (check_path has the rules) ...
        if not set(key) & set('\\:*?"<>|')
        and not key.endswith((".", " "))
        and key not in ("CON", "nul.txt")
        # ... and takes those that differ only in case for one: the others are refused.
        and key not in ("case", "CASE")
    )

    @pytest.fixture
    def storage_config(self, smb_config: SMBConfig) -> SMBConfig:
        return smb_config


@pytest.mark.requirement("S0.42")
def test_no_built_in_type_is_left_out() -> None:
    tested = {case.provider_class for case in StorageConformance.__subclasses__()}
    missing = [row.name for row in STORAGE_TYPES if row.loaded_class not in tested]
    assert missing == []
