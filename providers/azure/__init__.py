"""
Azure Blob Storage, whoever uses it: the settings of an account and its container, what an
answer means, and the requests and listings that obstore has no call for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["AZURE_VARIABLES"]

AZURE_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "container": "AZURE_STORAGE_CONTAINER",
        "connection_string": "AZURE_STORAGE_CONNECTION_STRING",
    }
)
"""Settings and the well-known variables they are taken from where that is asked for. Without a
container there is nothing to read or write, so it comes first."""
