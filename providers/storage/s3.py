"""S3 storage: Amazon S3 and every service that speaks its protocol."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from ..registry.provider import Call, operation
from .base import ObjectInfo
from .keys import RESERVED_PREFIX, check_prefix, is_reserved
from .object_store import ObjectStore
from .s3_config import S3Config
from .s3_errors import explain, http_status, s3_code
from .s3_listing import by_bytes, part_of

if TYPE_CHECKING:
    from types import ModuleType

    from obstore import Attributes, ObjectMeta
    from obstore.store import S3Store

    from .errors import StorageError
    from .object_upload import UploadSource

__all__ = ["S3Config", "S3Storage"]

ABORT_TIMEOUT = 5.0
"""Seconds a cancelled upload may take to be aborted on the server."""


class S3Storage(ObjectStore[S3Config]):
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

    extra = "s3"

    def _make_store(self, classes: ModuleType) -> S3Store:
        return classes.S3Store(**self.config.store_arguments())

    @property
    def _part_size(self) -> int:
        return self.config.part_size

    # -- writing -------------------------------------------------------------------------

    def _attributes(
        self, content_type: str | None, metadata: Mapping[str, str] | None
    ) -> Attributes:
        attributes = super()._attributes(content_type, metadata)
        if self.config.storage_class:
            attributes["Storage-Class"] = self.config.storage_class
        return attributes

    async def _upload(
        self, key: str, source: UploadSource, attributes: Attributes, *, overwrite: bool
    ) -> str | None:
        if overwrite:
            return await self._upload_parts(key, source, attributes)
        # Uploads in parts know no condition that every server keeps; copies do.
        await self._refuse_taken(key)
        temporary = f"{RESERVED_PREFIX}{uuid.uuid4().hex}"
        try:
            await self._upload_parts(temporary, source, attributes)
            await self._copy(temporary, key, overwrite=False)
        finally:
            # What cannot be removed is never listed; the put's own outcome matters more.
            with suppress(self._obstore.exceptions.BaseError, FileNotFoundError):
                await self._delete(temporary)
        return (await self._head(key)).meta["e_tag"]

    async def _upload_parts(
        self, key: str, source: UploadSource, attributes: Attributes
    ) -> str | None:
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

    async def _delete(self, key: str) -> None:
        # A list, and so S3's bulk call, for which a missing key is no error anywhere.
        await self._obstore.delete_async(self._store, [key])

    async def _copy(self, source: str, target: str, *, overwrite: bool) -> None:
        if not overwrite:
            await self._refuse_taken(target)
        if source == target:
            return  # which S3 refuses
        await self._obstore.copy_async(self._store, source, target, overwrite=overwrite)

    # -- listing -------------------------------------------------------------------------

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

    # -- errors --------------------------------------------------------------------------

    def _is_missing_object(self, error: FileNotFoundError) -> bool:
        return s3_code(error) != "NoSuchBucket"

    def _is_past_end(self, error: Exception) -> bool:
        return http_status(error) == 416

    def _explain(self, error: Exception, call: Call) -> StorageError:
        place = self.config.endpoint or "Amazon S3"
        return explain(error, call, bucket=self.config.bucket, place=place)
