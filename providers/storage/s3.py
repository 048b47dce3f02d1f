"""S3 storage: Amazon S3 and every service that speaks its protocol."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..registry.extras import import_extra
from ..registry.provider import Call, operation
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
from .keys import RESERVED_PREFIX, check_key, check_prefix
from .metadata import STANDARD_HEADERS
from .s3_config import UNTYPED, S3Config
from .s3_errors import explain, http_status, s3_code
from .s3_listing import by_bytes, is_reserved, part_of
from .s3_upload import UploadSource, decoded, headers_of

if TYPE_CHECKING:
    from types import ModuleType

    from obstore import Attributes, GetResult, ObjectMeta
    from obstore.store import S3Store

__all__ = ["S3Config", "S3Storage"]

ABORT_TIMEOUT = 5.0
"""Seconds a cancelled upload may take to be aborted on the server."""


class S3Storage(StorageProvider[S3Config]):
    """
    Objects in an S3 bucket.

    What is larger than ``part_size`` is uploaded in parts, aborted on the server when the put
    fails or is cancelled. (A process that dies leaves the parts it sent: give the bucket a
    lifecycle rule that removes incomplete uploads.)

    ``overwrite=False`` is decided by the server: ``If-None-Match: *`` on the PUT, or, for a
    copy and for what needs parts, on the server-side copy from a reserved temporary key to
    the target. A service that ignores that header on copies (Amazon S3 and SeaweedFS honour
    it) refuses what is there already, but two copies at the same moment may both succeed.

    Server-side copies, and with them ``move`` and large puts with ``overwrite=False``, are
    limited by the service: Amazon's refuses more than 5 GiB, with a :class:`StorageError`.

    Names of metadata are lower-case, for they travel as HTTP headers. The ``modified`` time
    that a put returns is the local clock's, since S3 tells its own only when asked: ``stat``
    does.
    """

    _obstore: ModuleType
    _store: S3Store

    async def _connect(self) -> None:
        self._obstore = import_extra("obstore", extra="s3")
        store_class = import_extra("obstore.store", extra="s3").S3Store
        self._store = store_class(**self.config.store_arguments())

    async def _close(self) -> None:
        self.__dict__.pop("_store", None)  # the connections go with it

    async def check_health(self) -> None:
        """List a folder that is always empty: one request with an answer of constant size."""
        await self._obstore.list(self._store, f"{RESERVED_PREFIX}health").collect_async()

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
        check_key(key)
        if modified is not None:
            raise self._unsupported("modified-times", "S3 sets the time itself")
        attributes: Attributes = headers_of(metadata) if metadata else {}
        if content_type is not None:
            attributes["Content-Type"] = content_type
        if self.config.storage_class:
            attributes["Storage-Class"] = self.config.storage_class
        if isinstance(data, bytes) and len(data) <= self.config.part_size:
            etag, size = await self._put_whole(key, data, attributes, overwrite), len(data)
        else:
            etag, size = await self._put_source(key, data, attributes, overwrite)
        return ObjectInfo(
            key,
            size,
            datetime.now(UTC).replace(microsecond=0),  # S3 keeps whole seconds
            etag,
            content_type,
            MappingProxyType(dict(metadata or {})),
        )

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
            whole = await source.read_ahead(self.config.part_size)
            if whole is not None:
                etag = await self._put_whole(key, whole, attributes, overwrite)
            elif overwrite:
                etag = await self._upload(key, source, attributes)
            else:
                etag = await self._create_from_parts(key, source, attributes)
            return etag, source.size

    async def _create_from_parts(
        self, key: str, source: UploadSource, attributes: Attributes
    ) -> str | None:
        # Uploads in parts know no condition that every server keeps; copies do.
        await self._refuse_taken(key)
        temporary = f"{RESERVED_PREFIX}{uuid.uuid4().hex}"
        try:
            await self._upload(temporary, source, attributes)
            await self._copy(temporary, key, overwrite=False)
        finally:
            # What cannot be removed is never listed; the put's own outcome matters more.
            with suppress(self._obstore.exceptions.BaseError, FileNotFoundError):
                await self._delete(temporary)
        return (await self._head(key)).meta["e_tag"]

    async def _upload(self, key: str, source: UploadSource, attributes: Attributes) -> str | None:
        upload = asyncio.ensure_future(
            self._obstore.put_async(
                self._store,
                key,
                source,
                attributes=attributes,
                use_multipart=True,
                chunk_size=self.config.part_size,
                max_concurrency=self.config.max_concurrency,
            )
        )
        try:
            return (await asyncio.shield(upload))["e_tag"]
        except asyncio.CancelledError:
            # obstore aborts an upload whose source fails, but not one that is cancelled.
            source.stop()
            await asyncio.wait([upload], timeout=ABORT_TIMEOUT)
            upload.cancel()
            raise

    @operation
    async def delete(self, key: str) -> None:
        await self._delete(check_key(key))

    async def _delete(self, key: str) -> None:
        # A list, and so S3's bulk call, for which a missing key is no error anywhere.
        await self._obstore.delete_async(self._store, [key])

    @operation
    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        await self._copy(check_key(source), check_key(target), overwrite=overwrite)
        return await self.stat(target)

    async def _copy(self, source: str, target: str, *, overwrite: bool) -> None:
        if not overwrite:
            await self._refuse_taken(target)
        if source == target:
            return  # which S3 refuses
        await self._obstore.copy_async(self._store, source, target, overwrite=overwrite)

    @operation
    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        if check_key(source) == target:
            return await self.stat(source)
        info = await self.copy(source, target, overwrite=overwrite)
        await self._delete(source)
        return info

    async def _refuse_taken(self, key: str) -> None:
        if await self.exists(key):
            raise ObjectExistsError(
                f"There is already an object {key!r}; it is untouched.", context={"key": key}
            )

    # -- reading -------------------------------------------------------------------------

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        result = await self._open(key, start, end)
        return b"" if result is None else (await result.bytes_async()).to_bytes()

    @operation
    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        result = await self._open(key, start, end)
        if result is not None:
            async for chunk in result.stream(min_chunk_size=CHUNK_SIZE):
                yield bytes(chunk)

    async def _open(self, key: str, start: int, end: int | None) -> GetResult | None:
        """Begin to read; None where the range is right but empty, which S3 has no answer for."""
        check_key(key)
        check_range(start, end)
        if start == 0 and end is None:
            return await self._obstore.get_async(self._store, key)
        if start != end:
            bounds = {"offset": start} if end is None else (start, end)
            try:
                return await self._obstore.get_async(self._store, key, options={"range": bounds})
            except self._obstore.exceptions.GenericError as error:
                if http_status(error) != 416:
                    raise
        check_range(start, end, (await self._head(key)).meta["size"])
        return None

    async def _head(self, key: str) -> GetResult:
        exceptions = self._obstore.exceptions
        try:
            return await self._obstore.get_async(self._store, key, options={"head": True})
        except (FileNotFoundError, exceptions.PermissionDeniedError):
            # The answer to a HEAD has no body that says why; a GET's tells a missing bucket
            # from a missing object, and a wrong key from a missing right.
            return await self._obstore.get_async(self._store, key)

    @operation
    async def stat(self, key: str) -> ObjectInfo:
        result = await self._head(check_key(key))
        meta, attributes = result.meta, result.attributes
        content_type = attributes.get("Content-Type", UNTYPED)
        return ObjectInfo(
            key,
            meta["size"],
            meta["last_modified"],
            meta["e_tag"],
            None if content_type == UNTYPED else content_type,
            MappingProxyType(
                {
                    name: decoded(value)
                    for name, value in attributes.items()
                    if name.lower() not in STANDARD_HEADERS
                }
            ),
        )

    @operation
    async def exists(self, key: str) -> bool:
        try:
            await self._head(check_key(key))
        except FileNotFoundError as error:
            if s3_code(error) == "NoSuchBucket":
                raise
            return False
        return True

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        folder, _, rest = prefix.rpartition("/")
        base = len(prefix) - len(rest)
        found = self._found(folder, base, prefix, rest)
        # Amazon's order is that of the keys' bytes; others' may be that of their parts.
        async for meta in found if self.config.endpoint is None else by_bytes(found, base):
            yield ObjectInfo(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])

    async def _found(
        self, folder: str, base: int, prefix: str, rest: str
    ) -> AsyncIterator[ObjectMeta]:
        """Iterate over what is below ``folder`` and begins with ``prefix``, as the server lists."""
        # obstore lists folders. Keys that begin with the prefix come after it less its last
        # character, so the server can skip what is before. (obstore takes no "." for a path.)
        offset = prefix[:-1] if len(rest) > 1 and rest[:-1] not in (".", "..") else None
        pages = self._obstore.list(self._store, folder or None, offset=offset, chunk_size=1000)
        async for page in pages:
            for meta in page:
                path: str = meta["path"]
                if not path.startswith(prefix):
                    if part_of(path, base) > rest:
                        return
                elif not is_reserved(path):
                    yield meta

    @operation
    async def stats(self) -> StorageStats:
        count = total = 0
        async for meta in self._found("", 0, "", ""):
            count += 1
            total += meta["size"]
        return StorageStats(count, total)

    # -- errors --------------------------------------------------------------------------

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        """Map obstore's errors; those of the caller's own source file stay as they are."""
        if isinstance(error, OSError) and error.errno is not None:
            return None
        obstore: Any = self.__dict__.get("_obstore")
        ours = (obstore.exceptions.BaseError, FileNotFoundError) if obstore else ()
        if not isinstance(error, ours):
            return super()._translate(error, call)
        place = self.config.endpoint or "Amazon S3"
        return explain(error, call, bucket=self.config.bucket, place=place)
