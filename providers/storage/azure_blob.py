"""Azure Blob storage: objects in a container of Azure Blob Storage."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from ..azure.faults import Kind, ServiceError, fault_of
from ..azure.listing import ListedBlob, listed_by_name
from ..azure.requests import Request, ask, blob_url, commit, signing_order
from ..registry.provider import Call, operation
from ..registry.redaction import remember
from .azure_config import AzureBlobStorageConfig
from .azure_upload import put_blocks
from .base import ObjectInfo, not_found
from .errors import (
    InvalidKeyError,
    InvalidRangeError,
    ObjectChangedError,
    ObjectExistsError,
    StorageConnectionError,
    StorageError,
    StoragePermissionError,
    StorageRootNotFoundError,
    StorageTimeoutError,
)
from .keys import check_key, check_prefix, is_reserved
from .metadata import UNTYPED
from .object_store import ObjectStore

if TYPE_CHECKING:
    from types import ModuleType

    from obstore import Attributes
    from obstore.store import AzureStore

    from .object_upload import UploadSource

__all__ = ["AzureBlobStorage", "AzureBlobStorageConfig"]

COPY_POLL = 0.5
"""Seconds between two looks at a copy that Azure did not make at once."""
MAX_NAME = 1024
MAX_PARTS = 254
"""Letters and parts of a blob's name, with the prefix (learn.microsoft.com/rest/api/
storageservices/naming-and-referencing-containers--blobs--and-metadata)."""

_ERRORS: dict[Kind, type[StorageError]] = {
    "no-container": StorageRootNotFoundError,
    "invalid-name": InvalidKeyError,
    "past-end": InvalidRangeError,
    "changed": ObjectChangedError,
    "refused": StoragePermissionError,
    "timeout": StorageTimeoutError,
    "unreachable": StorageConnectionError,
}

log = logging.getLogger(__name__)


class AzureBlobStorage(ObjectStore[AzureBlobStorageConfig]):
    """
    Objects as block blobs in a container.

    What is larger than ``part_size`` goes up in blocks, which become a blob all at once; of two
    that put one key at the same moment in blocks, the later may fail with an
    :class:`ObjectChangedError`: nothing of it was kept. ``overwrite=False`` is decided by the
    service, whatever the size.

    Azure drops a dot at the end of a part of a name and makes a slash of a backslash, so such keys
    are refused. Names of metadata are identifiers of C# on Azure: what is none goes as ``_xHHHH_``,
    letter by letter in hexadecimal. The ``modified`` time that a put returns is the local clock's;
    ``stat`` has the service's.
    """

    extra = "azure"

    async def _connect(self) -> None:
        remember(self.config.account)  # a connection string's key counts by itself too
        await super()._connect()

    def _make_store(self, classes: ModuleType) -> AzureStore:
        return classes.AzureStore(**self.config.store_arguments())

    @property
    def _part_size(self) -> int:
        return self.config.part_size

    def _checked(self, key: str) -> str:
        fault = _fault(f"{self.config.prefix}/{check_key(key)}".lstrip("/"))
        if fault is None:
            return key
        raise InvalidKeyError(f"Invalid key {key[:80]!r}: {fault}.", context={"reason": fault})

    # -- writing -------------------------------------------------------------------------

    def _sent(self, metadata: Mapping[str, str]) -> Attributes:
        return {_identifier(name): value for name, value in super()._sent(metadata).items()}

    def _told(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {_name(name): value for name, value in super()._told(headers).items()}

    async def _put_whole(
        self, key: str, body: bytes, attributes: Attributes, overwrite: bool
    ) -> str | None:
        if self.config.account.key is None or sorted(attributes) == sorted(
            attributes, key=signing_order
        ):
            return await super()._put_whole(key, body, attributes, overwrite)
        headers = {"x-ms-blob-type": "BlockBlob", **_headers(attributes, overwrite)}
        answer = await commit(self.config, Request("PUT", {}, key, headers, body))
        return answer.headers.get("ETag")

    async def _upload(
        self, key: str, source: UploadSource, attributes: Attributes, *, overwrite: bool
    ) -> str | None:
        if not overwrite:
            await self._refuse_taken(key)
        answer = await put_blocks(self.config, key, source, _headers(attributes, overwrite))
        return answer.headers.get("ETag")

    async def _delete(self, key: str) -> None:
        try:
            await self._obstore.delete_async(self._store, [key])
        except FileNotFoundError:
            await self._exists(key)  # raises where it is the container that is missing

    async def _copy(self, source: str, target: str, *, overwrite: bool) -> None:
        # Not by obstore, which does not tell a copy that was made from one that is to be.
        sas = self.config.account.sas
        signature = f"?{sas.get_secret_value()}" if sas else ""
        headers = {"x-ms-copy-source": blob_url(self.config, source) + signature}
        if not overwrite:
            headers["If-None-Match"] = "*"
        answer = await commit(self.config, Request("PUT", blob=target, headers=headers))
        while (status := answer.headers.get("x-ms-copy-status", "success")) == "pending":
            await asyncio.sleep(COPY_POLL)
            answer = await ask(self.config, Request("HEAD", blob=target))
        if status != "success":
            # Azure leaves an empty blob. If it cannot be removed, why it is there matters more.
            with suppress(self._obstore.exceptions.BaseError, FileNotFoundError):
                await self._delete(target)
            raise StorageError(f"The copy of {source!r} to {target!r} ended as {status!r}.")

    # -- listing -------------------------------------------------------------------------

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        left_out = 0
        async for blob in _by_bytes(listed_by_name(self.config, prefix)):
            if is_reserved(blob.name):
                continue
            try:
                self._checked(blob.name)
            except InvalidKeyError:
                left_out += 1
            else:
                yield ObjectInfo(blob.name, blob.size, blob.modified, blob.etag)
        if left_out:
            log.debug(
                "%d blobs of container %r are no objects: their names are no keys",
                left_out,
                self.config.container,
            )

    # -- errors --------------------------------------------------------------------------

    def _is_missing_object(self, error: FileNotFoundError) -> bool:
        return "<Code>BlobNotFound</Code>" in str(error)

    def _is_past_end(self, error: Exception) -> bool:
        # The second is obstore's own, where a service answers with nothing.
        return re.search(r"status code: 416|Wanted range starting at", str(error)) is not None

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        if isinstance(error, ServiceError):
            return self._explain(error, call)
        return super()._translate(error, call)

    def _explain(self, error: Exception, call: Call) -> StorageError:
        fault, name = fault_of(error, self.config), call.provider_name
        if fault.kind == "no-blob":
            missing = not_found(call.argument(0, "key") or call.argument(0, "source"), name)
            missing.context.update(fault.context)
            return missing
        creates = call.operation in ("put", "copy", "move") and not call.kwargs.get(
            "overwrite", True
        )
        if fault.kind == "exists" or (fault.kind == "changed" and creates):
            key = call.argument(1, "target") if call.operation in ("copy", "move") else None
            key = key or call.argument(0, "key")
            return ObjectExistsError(
                f"There is already an object {key!r} in storage {name!r}; it is untouched.",
                name,
                fault.context,
            )
        what = f"{call.operation} on storage {name!r} failed: {fault.why}. {fault.remedy}"
        return _ERRORS.get(fault.kind, StorageError)(what.rstrip(), name, fault.context)


def _fault(name: str) -> str | None:
    """Tell what Azure would make of a name that it does not keep as it is."""
    if "\\" in name:
        return "it holds a backslash, of which Azure makes a slash"
    if name.endswith(".") or "./" in name:
        return "a part ends with '.', which Azure drops"
    if len(name) > MAX_NAME:
        return f"with the prefix it has {len(name)} letters, at most {MAX_NAME} are allowed"
    if name.count("/") >= MAX_PARTS:
        return f"with the prefix it has more than {MAX_PARTS} parts"
    return None


def _headers(attributes: Attributes, overwrite: bool) -> dict[str, str]:
    """Return attributes as headers of a request that is not obstore's, and its condition."""
    headers = {f"x-ms-meta-{name}": value for name, value in attributes.items()}
    content_type = headers.pop("x-ms-meta-Content-Type", UNTYPED)
    condition = {} if overwrite else {"If-None-Match": "*"}
    return {**headers, "x-ms-blob-content-type": content_type, **condition}


def _identifier(name: str) -> str:
    """Return a metadata name as Azure takes it: an identifier of C#."""
    return re.sub(r"^[0-9]|[^a-z0-9_]|_(?=x)", lambda one: f"_x{ord(one[0]):04x}_", name)


def _name(identifier: str) -> str:
    """Return a metadata name as it was before :func:`_identifier`."""
    return re.sub(r"_x([0-9a-f]{4})_", lambda one: chr(int(one[1], 16)), identifier)


async def _by_bytes(found: AsyncIterator[ListedBlob]) -> AsyncIterator[ListedBlob]:
    """
    Put a listing that may be ordered by UTF-16 into the order of UTF-8, which keys have.

    The two differ only after a letter beyond U+FFFF, which UTF-16 puts before U+E000 to U+FFFF.
    So from such a name on, those that begin as it does up to that letter are held and sorted.
    """
    held: list[ListedBlob] = []
    common = ""
    async for blob in found:
        if held and not blob.name.startswith(common):
            for one in sorted(held, key=_name_of):
                yield one
            held.clear()
        if not held:
            if blob.name.isascii() or not (astral := re.search(r"[^\0-\uffff]", blob.name)):
                yield blob
                continue
            common = blob.name[: astral.start()]
        held.append(blob)
    for one in sorted(held, key=_name_of):
        yield one


def _name_of(blob: ListedBlob) -> str:
    return blob.name
