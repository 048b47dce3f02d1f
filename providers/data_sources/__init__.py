"""
The data source family: tables and files by name, to look at and to fetch.

Importing this package makes the built-in types known; it imports none of their libraries.
"""

from __future__ import annotations

from ..registry.credentials import CredentialManager
from .base import (
    Column,
    DataSource,
    FetchedItem,
    ItemInfo,
    ItemMetadata,
    Table,
    TableFormat,
    Target,
    check_item,
)
from .errors import (
    DataSourceConnectionError,
    DataSourceError,
    DataSourcePermissionError,
    DataSourceTimeoutError,
    InvalidItemError,
    InvalidQueryError,
    ItemNotFoundError,
    MalformedDataError,
    ResultTooLargeError,
    UnsupportedFormatError,
    WorkspaceError,
)
from .registry import Connector, DataSourceConfig, DataSourceRegistry, DataSourceType
from .types import DATA_SOURCE_TYPES
from .workspace import Draft, Workspace

__all__ = [
    "DATA_SOURCE_TYPES",
    "Column",
    "Connector",
    "CredentialManager",
    "DataSource",
    "DataSourceConfig",
    "DataSourceConnectionError",
    "DataSourceError",
    "DataSourcePermissionError",
    "DataSourceRegistry",
    "DataSourceTimeoutError",
    "DataSourceType",
    "Draft",
    "FetchedItem",
    "InvalidItemError",
    "InvalidQueryError",
    "ItemInfo",
    "ItemMetadata",
    "ItemNotFoundError",
    "MalformedDataError",
    "ResultTooLargeError",
    "Table",
    "TableFormat",
    "Target",
    "UnsupportedFormatError",
    "Workspace",
    "WorkspaceError",
    "check_item",
]
