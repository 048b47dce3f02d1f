"""What storage types that work through obstore share: whole objects, ranges, metadata."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ..registry.extras import import_extra
from ..registry.provider import Call, ConfigT, operation
from .base import (
    CHUNK_SIZE,
    ObjectInfo,
    ObjectSource,
    StorageProvider,
    StorageStats,
    check_range,
    chunks_of,
)
from .errors import ObjectExistsError
from .keys import RESERVED_PREFIX, check_key
from .metadata import STANDARD_HEADERS, UNTYPED
from .object_upload import UploadSource, decoded, headers_of

if TYPE_CHECKING:
    from types import ModuleType

    from obstore import Attributes, GetResult
    from obstore.store import ObjectStore as Store

    from .errors import StorageError

__all__ = ["ObjectStore"]


class ObjectStore(StorageProvider[ConfigT]):
    """
    Objects of a service that obstore speaks to.

    A type says how it connects, uploads what is large, copies, deletes, lists, and what the
    service's errors mean.
    """

    extra: ClassVar[str]
    """The extra that installs obstore."""

    _obstore: ModuleType
    _store: Store

    async def _connect(self) -> None:
        self._obstore = import_extra("obstore", extra=self.extra)
        self._store = self._make_store(import_extra("obstore.store", extra=self.extra))

    async def _close(self) -> None:
        self.__dict__.pop("_store", None)  # the connections go with it

    async def check_health(self) -> None:
        """List a folder that is always empty: one request with an answer of constant size."""
        await self._obstore.list(self._store, f"{RESERVED_PREFIX}health").collect_async()

    # -- what a type says ----------------------------------------------------------------

    @abstractmethod
    def _make_store(self, classes: ModuleType) -> Store:
        """Return obstore's client; ``classes`` has them all."""

    @property
    @abstractmethod
    def _part_size(self) -> int:
        """Bytes that go up in one request; what is larger is for :meth:`_upload`."""

    @abstractmethod
    async def _upload(
        self, key: str, source: UploadSource, attributes: Attributes, *, overwrite: bool
    ) -> str | None:
        """Put what is too large for one request, and return its etag."""

    @abstractmethod
    async def _copy(self, source: str, target: str, *, overwrite: bool) -> None:
        """Copy on the server."""

    @abstractmethod
    async def _delete(self, key: str) -> None:
        """Remove an object that may be missing."""

    @abstractmethod
    def _is_missing_object(self, error: FileNotFoundError) -> bool:
        """Tell whether it is an object that is missing, and not the place of all."""

    @abstractmethod
    def _is_past_end(self, error: Exception) -> bool:
        """Tell whether the service found nothing in a range."""

    @abstractmethod
    def _explain(self, error: Exception, call: Call) -> StorageError:
        """Return the family's error for one of obstore's."""

    def _checked(self, key: str) -> str:
        """Return a key that the service can hold."""
        return check_key(key)

    def _sent(self, metadata: Mapping[str, str]) -> Attributes:
        """Return metadata as it is sent."""
        return headers_of(metadata)

    def _told(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return metadata as it was before :meth:`_sent`."""
        return {name: decoded(value) for name, value in headers.items()}

    # -- writing -------------------------------------------------------------------------

    @operation
    async def put(
        self,
        key: str,
        data: ObjectSource,
        *,
        overwrite: bool = True,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        modified: datetime | None = None,
    ) -> ObjectInfo:
        self._checked(key)
        if modified is not None:
            raise self._unsupported("modified-times", "the service sets the time itself")
        attributes = self._attributes(content_type, metadata)
        if isinstance(data, bytes) and len(data) <= self._part_size:
            etag, size = await self._put_whole(key, data, attributes, overwrite), len(data)
        else:
            etag, size = await self._put_source(key, data, attributes, overwrite)
        return ObjectInfo(
            key,
            size,
            datetime.now(UTC).replace(microsecond=0),  # services keep whole seconds
            etag,
            content_type,
            MappingProxyType(dict(metadata or {})),
        )

    def _attributes(
        self, content_type: str | None, metadata: Mapping[str, str] | None
    ) -> Attributes:
        attributes: Attributes = self._sent(metadata) if metadata else {}
        if content_type is not None:
            attributes["Content-Type"] = content_type
        return attributes

    async def _put_whole(
        self, key: str, body: bytes, attributes: Attributes, overwrite: bool
    ) -> str | None:
        mode = "overwrite" if overwrite else "create"
        result = await self._obstore.put_async(
            self._store, key, body, attributes=attributes or None, mode=mode, use_multipart=False
        )
        return result["e_tag"]

    async def _put_source(
        self, key: str, data: ObjectSource, attributes: Attributes, overwrite: bool
    ) -> tuple[str | None, int]:
        async with aclosing(chunks_of(data)) as chunks:
            source = UploadSource(chunks)
            whole = await source.read_ahead(self._part_size)
            if whole is not None:
                etag = await self._put_whole(key, whole, attributes, overwrite)
            else:
                etag = await self._upload(key, source, attributes, overwrite=overwrite)
            return etag, source.size

    async def _refuse_taken(self, key: str) -> None:
        """Spare an upload or a copy that would be refused at its end."""
        if await self._exists(key):
            raise ObjectExistsError(
                f"There is already an object {key!r}; it is untouched.", context={"key": key}
            )

    @operation
    async def delete(self, key: str) -> None:
        await self._delete(self._checked(key))

    @operation
    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        if self._checked(source) != self._checked(target) or not overwrite:
            await self._copy(source, target, overwrite=overwrite)
        return await self.stat(target)

    @operation
    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        if self._checked(source) == target:
            return await self.stat(source)
        info = await self.copy(source, target, overwrite=overwrite)
        await self._delete(source)
        return info

    # -- reading -------------------------------------------------------------------------

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        result = await self._open(key, start, end)
        return b"" if result is None else (await result.bytes_async()).to_bytes()

    @operation
    async def get_with_info(self, key: str, *, end: int | None = None) -> tuple[ObjectInfo, bytes]:
        result = await self._open(key, 0, end)
        if result is None:
            return await self.stat(key), b""
        data = (await result.bytes_async()).to_bytes()
        return self._info(key, result), data

    @operation
    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        result = await self._open(key, start, end)
        if result is not None:
            async for chunk in result.stream(min_chunk_size=CHUNK_SIZE):
                yield bytes(chunk)

    async def _open(self, key: str, start: int, end: int | None) -> GetResult | None:
        """Begin to read; None where the range is right but empty: services have no such answer."""
        self._checked(key)
        check_range(start, end)
        if start == 0 and end is None:
            return await self._obstore.get_async(self._store, key)
        if start != end:
            bounds = {"offset": start} if end is None else (start, end)
            try:
                return await self._obstore.get_async(self._store, key, options={"range": bounds})
            except self._obstore.exceptions.GenericError as error:
                if not self._is_past_end(error):
                    raise
        check_range(start, end, (await self._head(key)).meta["size"])
        return None

    async def _head(self, key: str) -> GetResult:
        exceptions = self._obstore.exceptions
        try:
            return await self._obstore.get_async(self._store, key, options={"head": True})
        except (FileNotFoundError, exceptions.PermissionDeniedError):
            # The answer to a HEAD has no body that says why; a GET's tells a missing bucket or
            # container from a missing object, and a wrong key from a missing right.
            return await self._obstore.get_async(self._store, key)

    @operation
    async def stat(self, key: str) -> ObjectInfo:
        return self._info(key, await self._head(self._checked(key)))

    def _info(self, key: str, result: GetResult) -> ObjectInfo:
        meta, attributes = result.meta, result.attributes
        content_type = attributes.get("Content-Type", UNTYPED)
        own = {n: value for n, value in attributes.items() if n.lower() not in STANDARD_HEADERS}
        return ObjectInfo(
            key,
            meta["size"],
            meta["last_modified"],
            meta["e_tag"],
            None if content_type == UNTYPED else content_type,
            MappingProxyType(self._told(own)),
        )

    @operation
    async def exists(self, key: str) -> bool:
        return await self._exists(self._checked(key))

    async def _exists(self, key: str) -> bool:
        try:
            await self._head(key)
        except FileNotFoundError as error:
            if not self._is_missing_object(error):
                raise
            return False
        return True

    @operation
    async def stats(self) -> StorageStats:
        count = total = 0
        async for info in self.list():
            count += 1
            total += info.size
        return StorageStats(count, total)

    # -- errors --------------------------------------------------------------------------

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        """Map obstore's errors; those of the caller's own source file stay as they are."""
        if isinstance(error, OSError) and error.errno is not None:
            return None
        obstore: Any = self.__dict__.get("_obstore")
        if obstore and isinstance(error, (obstore.exceptions.BaseError, FileNotFoundError)):
            return self._explain(error, call)
        return super()._translate(error, call)
