"""What goes wrong in a data source, the same for every backend."""

from __future__ import annotations

from ..registry.errors import (
    ConnectionFailedError,
    OperationTimeoutError,
    PermissionDeniedError,
    ProviderError,
)

__all__ = [
    "DataSourceConnectionError",
    "DataSourceError",
    "DataSourcePermissionError",
    "DataSourceTimeoutError",
    "InvalidItemError",
    "InvalidQueryError",
    "ItemNotFoundError",
    "MalformedDataError",
    "ResultTooLargeError",
    "UnsupportedFormatError",
    "WorkspaceError",
]


class DataSourceError(ProviderError):
    """Base of what a data source raises; raised itself where nothing narrower fits."""

    default_code = "DATA_SOURCE_FAILED"


class ItemNotFoundError(DataSourceError, LookupError):
    """The source has no item of that name, or has it no longer."""

    default_code = "ITEM_NOT_FOUND"
    is_backend_failure = False


class InvalidItemError(DataSourceError, ValueError):
    """The name of an item that no item of the source can have."""

    default_code = "INVALID_ITEM"
    is_backend_failure = False


class InvalidQueryError(DataSourceError, ValueError):
    """The source refuses the query: it is not well-formed, or would change something."""

    default_code = "INVALID_QUERY"
    is_backend_failure = False


class ResultTooLargeError(DataSourceError, ValueError):
    """A query's answer has more rows than may be held in memory."""

    default_code = "RESULT_TOO_LARGE"
    is_backend_failure = False


class UnsupportedFormatError(DataSourceError, ValueError):
    """The item, or the file asked for, has a format that cannot be read or written here."""

    default_code = "UNSUPPORTED_FORMAT"
    is_backend_failure = False


class MalformedDataError(DataSourceError, ValueError):
    """The item is not what its format says it is."""

    default_code = "MALFORMED_DATA"
    is_backend_failure = False


class WorkspaceError(DataSourceError, OSError):
    """The local folder that data is fetched into cannot take it: full, or not writable."""

    default_code = "WORKSPACE_FAILED"
    is_backend_failure = False


class DataSourceConnectionError(DataSourceError, ConnectionFailedError):
    """The source cannot be reached, or the connection to it was lost."""

    default_code = "CONNECTION_FAILED"


class DataSourceTimeoutError(DataSourceError, OperationTimeoutError):
    """The source did not answer in time."""

    default_code = "TIMEOUT"


class DataSourcePermissionError(DataSourceError, PermissionDeniedError):
    """The source refuses access, or refuses the credentials."""

    default_code = "PERMISSION_DENIED"
    is_backend_failure = False
