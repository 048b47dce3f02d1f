"""The data source types that come with Purveyor: rows of data, which import nothing."""

from __future__ import annotations

from ..azure import AZURE_VARIABLES
from ..registry.types import ProviderType, default_types

__all__ = ["DATA_SOURCE_TYPES"]

DATA_SOURCE_TYPES = (
    ProviderType(
        family="data_sources",
        name="local_file",
        path="purveyor.providers.data_sources.local_file:LocalFileSource",
        description="CSV, JSON, Parquet and text files below a folder of this machine",
        capabilities=frozenset({"streaming", "local-storage"}),
        embedded=True,
        display_name="Local files",
    ),
    ProviderType(
        family="data_sources",
        name="postgresql",
        path="purveyor.providers.data_sources.postgresql:PostgreSQLSource",
        description="The tables and views of a PostgreSQL database",
        capabilities=frozenset({"streaming", "query", "remote-storage"}),
        extra="postgresql",
        display_name="PostgreSQL",
    ),
    ProviderType(
        family="data_sources",
        name="azure_blob",
        path="purveyor.providers.data_sources.azure_blob:AzureBlobSource",
        description="The blobs of a container of Azure Blob Storage",
        capabilities=frozenset({"streaming", "remote-storage"}),
        extra="azure",
        display_name="Azure Blob Storage",
        well_known=AZURE_VARIABLES,
    ),
)

for _row in DATA_SOURCE_TYPES:
    default_types.add(_row)
