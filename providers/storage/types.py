"""The storage types that come with Purveyor: rows of data, which import nothing."""

from __future__ import annotations

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
)

for _row in STORAGE_TYPES:
    default_types.add(_row)
