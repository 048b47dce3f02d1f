"""The storage types that come with Purveyor: rows of data, which import nothing."""

from __future__ import annotations

from ..azure import AZURE_VARIABLES
from ..registry.types import ProviderType, default_types

__all__ = ["STORAGE_TYPES"]

STORAGE_TYPES = (
    ProviderType(
        family="storage",
        name="filesystem",
        path="purveyor.providers.storage.filesystem:FilesystemStorage",
        description="Files below a folder of this machine",
        capabilities=frozenset({"streaming", "local-storage", "modified-times"}),
        embedded=True,
        display_name="File system",
    ),
    ProviderType(
        family="storage",
        name="sqlite",
        path="purveyor.providers.storage.sqlite:SQLiteStorage",
        description="One SQLite database file",
        capabilities=frozenset(
            {
                "streaming",
                "local-storage",
                "metadata",
                "modified-times",
                "flat-keys",
                "search",
                "transactions",
            }
        ),
        embedded=True,
        display_name="SQLite",
    ),
    ProviderType(
        family="storage",
        name="s3",
        path="purveyor.providers.storage.s3:S3Storage",
        description="Amazon S3 and every service that speaks its protocol",
        capabilities=frozenset(
            {"streaming", "remote-storage", "metadata", "flat-keys", "server-copy"}
        ),
        extra="s3",
        display_name="Amazon S3",
    ),
    ProviderType(
        family="storage",
        name="azure_blob",
        path="purveyor.providers.storage.azure_blob:AzureBlobStorage",
        description="Block blobs in a container of Azure Blob Storage",
        capabilities=frozenset(
            {"streaming", "remote-storage", "metadata", "flat-keys", "server-copy"}
        ),
        extra="azure",
        display_name="Azure Blob Storage",
        well_known=AZURE_VARIABLES,
    ),
    ProviderType(
        family="storage",
        name="sftp",
        path="purveyor.providers.storage.sftp:SFTPStorage",
        description="A folder on any SSH server",
        capabilities=frozenset({"streaming", "remote-storage", "modified-times"}),
        extra="sftp",
        display_name="SFTP",
    ),
    ProviderType(
        family="storage",
        name="smb",
        path="purveyor.providers.storage.smb:SMBStorage",
        description="A share of a Windows or Samba server",
        capabilities=frozenset({"streaming", "remote-storage", "modified-times", "server-copy"}),
        extra="smb",
        display_name="SMB share",
    ),
)

for _row in STORAGE_TYPES:
    default_types.add(_row)
