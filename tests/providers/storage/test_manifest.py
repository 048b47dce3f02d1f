"""What is known of the objects of a folder is kept beside them, and is none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.storage import InvalidKeyError, StorageProvider
from purveyor.providers.storage.azure_blob import AzureBlobStorage, AzureBlobStorageConfig
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from purveyor.providers.storage.keys import MANIFEST_NAME, check_key
from purveyor.providers.storage.s3 import S3Config, S3Storage
from purveyor.providers.storage.sftp import SFTPConfig, SFTPStorage
from purveyor.providers.storage.smb import SMBStorage
from purveyor.providers.storage.sqlite import SQLiteConfig, SQLiteStorage


@pytest.fixture(
    params=[
        "filesystem",
        "sqlite",
        pytest.param("s3", marks=[pytest.mark.server("seaweedfs")]),
        pytest.param("azure_blob", marks=[pytest.mark.server("azurite")]),
        pytest.param("sftp", marks=[pytest.mark.server("openssh")]),
        pytest.param("smb", marks=[pytest.mark.server("samba")]),
    ]
)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageProvider[Any]:
    match request.param:
        case "filesystem":
            return FilesystemStorage(FilesystemConfig(root=tmp_path))
        case "sqlite":
            return SQLiteStorage(SQLiteConfig(path=tmp_path / "objects.sqlite3"))
        case "azure_blob":
            azure_config: AzureBlobStorageConfig = request.getfixturevalue("azure_config")
            return AzureBlobStorage(azure_config)
        case "sftp":
            remote: SFTPConfig = request.getfixturevalue("sftp_config")
            return SFTPStorage(remote)
        case "smb":
            return SMBStorage(request.getfixturevalue("smb_config"))
        case _:
            config: S3Config = request.getfixturevalue("s3_config")
            return S3Storage(config)


async def test_a_manifest_is_kept_and_never_listed(storage: StorageProvider[Any]) -> None:
    async with storage:
        for key in (MANIFEST_NAME, f"docs/{MANIFEST_NAME}", f"docs/x{MANIFEST_NAME}", "docs/a"):
            await storage.put(key, key.encode())
        assert await storage.get(f"docs/{MANIFEST_NAME}") == f"docs/{MANIFEST_NAME}".encode()
        shown = ["docs/a", f"docs/x{MANIFEST_NAME}"]
        assert [info.key async for info in storage.list()] == shown
        assert [info.key async for info in storage.list("docs/")] == shown
        assert (await storage.stats()).object_count == len(shown)
        await storage.delete(MANIFEST_NAME)
        assert not await storage.exists(MANIFEST_NAME)


async def test_a_manifest_is_not_found_by_search(tmp_path: Path) -> None:
    async with SQLiteStorage(SQLiteConfig(path=tmp_path / "objects.sqlite3")) as storage:
        await storage.put(f"docs/{MANIFEST_NAME}", b"x")
        await storage.put("docs/manifest", b"x")
        assert [info.key for info in await storage.search("manifest")] == ["docs/manifest"]


@pytest.mark.parametrize("key", [f"{MANIFEST_NAME}/a", f"{MANIFEST_NAME}-2", f"a/{MANIFEST_NAME}2"])
def test_no_other_reserved_name_is_a_key(key: str) -> None:
    with pytest.raises(InvalidKeyError, match="reserved"):
        check_key(key)
