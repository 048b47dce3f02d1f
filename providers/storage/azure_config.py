"""The settings of Azure Blob storage: those of the account and the container, and of uploads."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from ..azure.config import AzureBlobConfig
from .keys import check_key
from .metadata import UNTYPED

__all__ = ["AzureBlobStorageConfig"]

MIB = 1024 * 1024


class AzureBlobStorageConfig(AzureBlobConfig):
    """
    Which container, where, and who asks: as for the data source of the same name.

    A storage needs the rights to read, list, create, write and delete (``sp=rcwdl``).
    """

    part_size: int = Field(default=8 * MIB, ge=MIB, le=4000 * MIB)
    """Bytes of one block of a large upload. Azure allows 50,000: 390 GiB with the default."""
    max_concurrency: int = Field(default=4, ge=1, le=64)
    """Blocks on their way at once; a large put holds that many in memory."""

    @field_validator("prefix")
    @classmethod
    def _check_prefix_as_key(cls, prefix: str) -> str:
        return check_key(prefix) if prefix else prefix

    def store_arguments(self) -> dict[str, Any]:
        """Return the arguments of obstore's ``AzureStore``; the secrets are in clear."""
        arguments = super().store_arguments()
        arguments["client_options"]["default_content_type"] = UNTYPED
        return arguments
