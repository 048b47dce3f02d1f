"""The blobs of a container of Azure Blob Storage."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ..azure.config import AzureBlobConfig
from ..azure.faults import Kind, ServiceError, fault_of
from ..azure.listing import listed_by_name
from ..registry.daemon import in_daemon_thread
from ..registry.extras import import_extra
from ..registry.provider import Call, operation
from ..registry.redaction import remember
from .azure_reading import opened
from .base import (
    PREVIEW_ROWS,
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
    ItemNotFoundError,
    UnsupportedFormatError,
)
from .formats import format_of, metadata_of, preview_of
from .workspace import Draft, Workspace

if TYPE_CHECKING:
    from types import ModuleType

    from obstore import GetResult, ObjectMeta
    from obstore.store import AzureStore

__all__ = ["AzureBlobConfig", "AzureBlobSource"]

ResultT = TypeVar("ResultT")

CHUNK_SIZE = 1024 * 1024
_ERRORS: dict[Kind, type[DataSourceError]] = {
    "no-blob": ItemNotFoundError,
    "invalid-name": InvalidItemError,
    "refused": DataSourcePermissionError,
    "timeout": DataSourceTimeoutError,
    "unreachable": DataSourceConnectionError,
}

log = logging.getLogger(__name__)


class _ReplacedError(Exception):
    """The blob is another one than when its fetch began."""


class _OddNameError(Exception):
    """What was listed may not be the name of a blob."""


class AzureBlobSource(DataSource[AzureBlobConfig]):
    """
    The blobs of a container, or of a folder of one, as files.

    A blob whose name has an empty part, ``.`` or ``..`` (``a//b``, ``a/``) is not an item: it is
    left out of listings and refused by name.

    A fetch is of one version of the blob. What breaks is gone on with where it broke; a blob that
    is replaced meanwhile is begun anew, once.
    """

    _obstore: ModuleType
    _store: AzureStore

    async def _connect(self) -> None:
        remember(self.config.account)  # a connection string's key counts by itself too
        self._obstore = import_extra("obstore", extra="azure")
        store_class = import_extra("obstore.store", extra="azure").AzureStore
        self._store = store_class(**self.config.store_arguments())

    async def _close(self) -> None:
        self.__dict__.pop("_store", None)  # the connections go with it

    async def check_health(self) -> None:
        """List a folder that is always empty: one request with an answer of constant size."""
        await self._obstore.list(self._store, ".purveyor-health").collect_async()

    # -- listing -------------------------------------------------------------------------

    @operation
    async def list_items(self, prefix: str = "") -> AsyncIterator[ItemInfo]:
        if not _is_text(prefix):
            return
        last = ""
        try:
            async for item in self._listed_by_folder(prefix):
                yield item
                last = item.name
            return
        except (_OddNameError, self._obstore.exceptions.InvalidPathError):
            pass  # what follows has to be asked for by name
        async for item in self._listed_by_name(prefix):
            # By its place, for not every service orders by bytes.
            if not last:
                yield item
            elif item.name == last:
                last = ""
        if last:
            raise DataSourceError(
                f"The blob {last!r} vanished while container {self.config.container!r} was "
                "listed. List it again."
            )

    async def _listed_by_folder(self, prefix: str) -> AsyncIterator[ItemInfo]:
        """Iterate fast over all that is below a folder, if ``prefix`` is one."""
        if prefix and not (prefix.endswith("/") and _is_name(prefix[:-1])):
            raise _OddNameError
        pages = self._obstore.list(self._store, prefix[:-1] or None, chunk_size=1000)
        async for page in pages:
            names = [meta["path"] for meta in page]
            if names != sorted(names):
                raise _OddNameError  # "/b" may be told as "b", but it stands where "/b" does
            for meta in page:
                name, size = meta["path"], meta["size"]
                kind = format_of(name)
                if not size and kind is None:
                    raise _OddNameError  # it may be the mark of a folder: "a/", told as "a"
                yield ItemInfo(name, "blob", size, meta["last_modified"], kind)

    async def _listed_by_name(self, prefix: str) -> AsyncIterator[ItemInfo]:
        left_out = 0
        async for blob in listed_by_name(self.config, prefix):
            if _is_name(blob.name):
                yield ItemInfo(blob.name, "blob", blob.size, blob.modified, format_of(blob.name))
            else:
                left_out += 1
        if left_out:
            log.debug(
                "%d blobs of container %r are no items: a part of their name is empty, '.' or '..'",
                left_out,
                self.config.container,
            )

    # -- looking -------------------------------------------------------------------------

    @operation
    async def preview(self, item: str, *, rows: int = PREVIEW_ROWS) -> Table:
        kind = format_of(_checked(item))
        head = await self._head(item)
        return await self._read(head.meta, lambda file: preview_of(file, kind, rows, item=item))

    @operation
    async def get_metadata(self, item: str) -> ItemMetadata:
        head = await self._head(_checked(item))
        meta = head.meta
        info = ItemInfo(item, "blob", meta["size"], meta["last_modified"], format_of(item))
        found = await self._read(meta, lambda file: metadata_of(file, info))
        # A blob's own metadata keeps its names, which may be anything; what is Azure's comes last.
        details = {str(name): value for name, value in head.attributes.items()}
        if meta["e_tag"] is not None:
            details["ETag"] = meta["e_tag"]
        return replace(found, details=MappingProxyType({**details, **found.details}))

    async def _head(self, item: str) -> GetResult:
        exceptions = self._obstore.exceptions
        try:
            return await self._obstore.get_async(self._store, item, options={"head": True})
        except (FileNotFoundError, exceptions.PermissionDeniedError):
            # The answer to a HEAD has no body that says why; a GET's tells a missing container
            # from a missing blob, and a wrong key from a missing right.
            return await self._obstore.get_async(self._store, item)

    async def _read(self, meta: ObjectMeta, read: Callable[[BinaryIO], ResultT]) -> ResultT:
        def reading() -> ResultT:
            with opened(self._obstore, self._store, meta) as file:
                return read(file)

        return await in_daemon_thread(reading)

    # -- fetching ------------------------------------------------------------------------

    @operation
    async def fetch(
        self, item: str, target: Target, *, format: TableFormat | None = None
    ) -> FetchedItem:
        kind = format_of(_checked(item))
        if format not in (None, kind):
            raise UnsupportedFormatError(
                f"A blob is fetched as it is: {item!r} is {kind or 'no table'}, not {format}. "
                "Leave format out.",
                context={"item": item},
            )
        workspace = Workspace.of(target)
        for _ in range(2):
            began = await self._obstore.get_async(self._store, item)
            with suppress(_ReplacedError):
                async with workspace.create(item) as draft:
                    await self._copy(began, draft)
                return FetchedItem(item, draft.path, draft.size, draft.sha256, datetime.now(UTC))
        raise DataSourceError(
            f"The blob {item!r} was replaced while it was fetched, twice; nothing of it was kept. "
            "Fetch it when it is left alone.",
            context={"item": item},
        )

    async def _copy(self, began: GetResult, draft: Draft) -> None:
        """Copy one version; obstore goes on by itself where a connection broke, a few times."""
        meta, exceptions = began.meta, self._obstore.exceptions
        try:
            await _pour(began, draft)
        except (exceptions.BaseError, FileNotFoundError):
            options: dict[str, Any] = {"range": {"offset": draft.size}, "if_match": meta["e_tag"]}
            try:  # to go on once more: the answer also tells why it broke
                rest = await self._obstore.get_async(self._store, meta["path"], options=options)
                await _pour(rest, draft)
            except (exceptions.PreconditionError, FileNotFoundError):
                raise _ReplacedError from None  # or gone, which the next try will say
        if draft.size != meta["size"]:
            raise DataSourceError(
                f"The blob {meta['path']!r} has {meta['size']} bytes, and {draft.size} came; "
                "nothing of it was kept. Fetch it again."
            )

    # -- errors --------------------------------------------------------------------------

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        """Map obstore's errors; those of the local files stay as they are."""
        if isinstance(error, OSError) and error.errno is not None:
            return None
        obstore: Any = self.__dict__.get("_obstore")
        ours = (obstore.exceptions.BaseError, FileNotFoundError) if obstore else ()
        if not isinstance(error, (ServiceError, *ours)):
            return super()._translate(error, call)
        fault = fault_of(error, self.config)
        name, item = call.provider_name, call.argument(0, "item")
        if fault.kind == "no-blob" and call.operation in ("preview", "get_metadata", "fetch"):
            return ItemNotFoundError(
                f"There is no blob {item!r} in data source {name!r}. `list_items()` has the names "
                "there are.",
                name,
                {**fault.context, "item": item},
            )
        what = f"{call.operation} on data source {name!r} failed: {fault.why}. {fault.remedy}"
        return _ERRORS.get(fault.kind, DataSourceError)(what.rstrip(), name, fault.context)


async def _pour(source: GetResult, draft: Draft) -> None:
    async for chunk in source.stream(min_chunk_size=CHUNK_SIZE):
        await draft.write(chunk)


def _checked(item: str) -> str:
    check_item(item)
    if not _is_text(item):
        raise InvalidItemError(f"Invalid item {item[:100]!r}: names of blobs are UTF-8.")
    return item


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _is_name(name: str) -> bool:
    try:
        _checked(name)
    except InvalidItemError:
        return False
    return True
