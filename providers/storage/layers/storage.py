"""A storage with layers: any type, with something done to every object on its way."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, cast

from pydantic import BaseModel

from ...registry.errors import InvalidStateError, UnsupportedCapabilityError
from ...registry.metadata import HealthStatus
from ...registry.provider import Call, operation
from ...registry.types import default_types
from ..base import (
    Delete,
    ObjectInfo,
    ObjectSource,
    Put,
    StorageProvider,
    StorageStats,
    check_range,
    chunks_of,
)
from ..errors import (
    EncryptionKeyError,
    ForeignObjectError,
    ObjectDamagedError,
    ObjectNotFoundError,
    StorageError,
)
from .age import Age
from .age_header import HEADER_SIZE
from .content import Content, Layer, Stored
from .flow import Chunks, after, in_order, joined
from .keys import parse_identity, parse_recipient, recipient_of
from .settings import LayerSettings, own_settings, with_layers
from .zstd import Zstd

__all__ = ["LayeredStorage", "Rewrapped", "layered"]

_AT_ONCE = 8 * 1024 * 1024
"""Bytes; what has no more is put at once rather than piece by piece."""
_LOOKS = 32
"""Objects of a listing whose sizes are read at once."""
_REMEMBERED = 50_000
_ATTEMPTS = 20


class Rewrapped(StrEnum):
    """What became of an object whose keys were to be changed."""

    CHANGED = "changed"
    """It is encrypted to the present recipients now, and was not before."""
    CURRENT = "current"
    """It was already."""
    REPLACED = "replaced"
    """Somebody put another object in its place meanwhile; that one was left alone."""


class LayeredStorage(StorageProvider[Any]):
    """
    A storage with something done to every object on its way in, and undone on its way out.

    It stands before an instance of a type, which knows nothing of it: keys, times, content types
    and metadata go through as they are, contents and sizes are those the caller knows. Made by
    :func:`layered`, for each type.
    """

    storage_class: ClassVar[type[StorageProvider[Any]]]
    """The type it stands before."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._connected_layers: Sequence[Layer] | None = None
        self._sizes: dict[tuple[object, ...], int] = {}
        self._inner = self.storage_class(own_settings(config))

    @property
    def capabilities(self) -> frozenset[str]:
        """What the type can do, and what the layers add."""
        row = default_types.of_class(self.family, self.storage_class)
        known = row.capabilities if row else frozenset[str]()
        return known | self.capabilities_by(self.config)

    async def _connect(self) -> None:
        self._connected_layers = _layers_of(self.config)
        await self._inner._connect()

    async def _close(self) -> None:
        await self._inner._close()

    async def check_health(self) -> HealthStatus | None:
        """Ask the type's own check."""
        return await self._inner.check_health()

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        return self._inner._translate(error, call)

    def _is_failure(self, error: Exception) -> bool:
        return self._inner._is_failure(error)

    @property
    def _layers(self) -> Sequence[Layer]:
        if self._connected_layers is None:  # and nothing may get past them
            raise InvalidStateError(
                "The storage is not connected: it was never opened. Use it inside 'async with', "
                "or take it from a container."
            )
        return self._connected_layers

    # -- contents ------------------------------------------------------------------------

    def _encoded(self, chunks: Chunks) -> Chunks:
        for layer in self._layers:
            chunks = layer.encode(chunks)
        return chunks

    def _content(self, key: str, info: ObjectInfo | None = None) -> Content:
        content: Content = Stored(self._inner, key, info)
        for layer in reversed(self._layers):
            content = layer.decode(content)
        return content

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
        """See :meth:`StorageProvider.put`."""
        size = 0

        async def counted() -> Chunks:
            nonlocal size
            async with aclosing(chunks_of(data)) as chunks:
                async for chunk in chunks:
                    size += len(chunk)
                    yield chunk

        given = {"content_type": content_type, "metadata": metadata, "modified": modified}
        options: Any = {name: value for name, value in given.items() if value is not None}
        async with aclosing(self._encoded(counted())) as encoded:
            at_once = isinstance(data, bytes | bytearray | memoryview) and len(data) <= _AT_ONCE
            source = await joined(encoded) if at_once else encoded
            info = await self._inner.put(key, source, overwrite=overwrite, **options)
        return self._remember(info, size)

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """See :meth:`StorageProvider.get`."""
        async with aclosing(cast(Chunks, self.stream(key, start=start, end=end))) as chunks:
            return await joined(chunks)

    @operation
    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """See :meth:`StorageProvider.stream`; a range costs a look at header or table first."""
        check_range(start, end)
        seen: tuple[object, ...] | None = None
        for left in reversed(range(_ATTEMPTS)):
            begun = False
            try:
                async with aclosing(self._content(key).read(start, end)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except StorageError as error:
                damaged = isinstance(error, ObjectDamagedError)
                if not damaged or begun or start == 0 or not left:
                    raise _about(key, error) from error
                # A range takes several requests: was the object replaced between them?
                version = _version(await self._inner.stat(key))
                if version == seen:
                    raise _about(key, error) from error
                seen = version

    # -- what is known of objects --------------------------------------------------------

    async def _size(self, key: str, info: ObjectInfo) -> int:
        size = info.size
        for layer in reversed(self._layers):
            computed = layer.size_of(size)
            if computed is None:
                return await self._content(key, info).size()
            size = computed
        return size

    async def _told(self, info: ObjectInfo) -> ObjectInfo:
        """Return what the backend knows of an object, with the size of its content."""
        size = self._sizes.get(_version(info))
        if size is not None:
            return replace(info, size=size)
        return self._remember(info, await self._size(info.key, info))

    def _remember(self, info: ObjectInfo, size: int) -> ObjectInfo:
        if info.etag is not None:  # or another version of the same second would be taken for it
            while len(self._sizes) >= _REMEMBERED:
                del self._sizes[next(iter(self._sizes))]
            self._sizes[_version(info)] = size
        return replace(info, size=size)

    @operation
    async def stat(self, key: str) -> ObjectInfo:
        """See :meth:`StorageProvider.stat`."""
        try:
            return await self._told(await self._inner.stat(key))
        except StorageError as error:
            raise _about(key, error) from error

    @operation
    async def exists(self, key: str) -> bool:
        """See :meth:`StorageProvider.exists`."""
        return await self._inner.exists(key)

    @operation
    async def delete(self, key: str) -> None:
        """See :meth:`StorageProvider.delete`."""
        await self._inner.delete(key)

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """See :meth:`StorageProvider.list`; an object that cannot be read has its stored size."""

        async def look(info: ObjectInfo) -> ObjectInfo | None:
            try:
                return await self._told(info)
            except EncryptionKeyError:
                if not self._can_read:
                    raise
                return info
            except (ObjectDamagedError, ForeignObjectError):
                return info
            except Exception as error:
                told = self._translate(error, Call("stat", (info.key,), {}, ""))
                if isinstance(told or error, ObjectNotFoundError):
                    return None  # removed meanwhile
                raise

        items = cast("AsyncGenerator[ObjectInfo, None]", self._inner.list(prefix))
        async with aclosing(in_order(items, look, _LOOKS)) as found:
            async for info in found:
                if info is not None:
                    yield info

    @operation
    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.copy`; where the backend does it, so it does here."""
        return await self._told(await self._inner.copy(source, target, overwrite=overwrite))

    @operation
    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.move`; where the backend does it, so it does here."""
        return await self._told(await self._inner.move(source, target, overwrite=overwrite))

    @operation
    async def stats(self) -> StorageStats:
        """See :meth:`StorageProvider.stats`; lists everything."""
        stored = await self._inner.stats()
        count = total = 0
        async for info in self.list():
            count += 1
            total += info.size
        return StorageStats(count, total, stored.free_bytes)

    @operation
    async def search(self, query: str, *, limit: int = 100) -> Sequence[ObjectInfo]:
        """See :meth:`StorageProvider.search`: among keys and metadata, which are not encoded."""
        return [await self._told(info) for info in await self._inner.search(query, limit=limit)]

    @operation
    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        """See :meth:`StorageProvider.apply`."""
        await self._inner.apply(
            [
                replace(change, data=await joined(self._encoded(chunks_of(change.data))))
                if isinstance(change, Put)
                else change
                for change in changes
            ]
        )

    # -- another key ---------------------------------------------------------------------

    @property
    def _age(self) -> Age | None:
        return next((layer for layer in self._layers if isinstance(layer, Age)), None)

    @property
    def _can_read(self) -> bool:
        return self._age is None or bool(self._age.identities)

    @operation
    async def rewrap(self, key: str, *, dry_run: bool = False) -> Rewrapped:
        """
        Encrypt the key of an object to the present recipients; its content stays as it is.

        The object is replaced as a whole, by itself with another header. It keeps its content
        type, its metadata and, where the backend can, its time.

        Args:
            key: Its name.
            dry_run: Only tell what would become of it.

        Raises:
            ObjectNotFoundError: There is no such object.
            UnsupportedCapabilityError: The storage is not encrypted.
            EncryptionKeyError: No identity can read it.
            ForeignObjectError: It is not encrypted, or was so by another program.
            ObjectDamagedError: Its header was tampered with.
        """
        age = self._age
        if age is None:
            raise self._unsupported("encryption", "it is not switched on for this provider")
        try:
            if age.rewrapped(await self._inner.get(key, end=HEADER_SIZE)) is None:
                return Rewrapped.CURRENT
        except StorageError as error:
            raise _about(key, error) from error
        if dry_run:
            return Rewrapped.CHANGED
        info = await self._inner.stat(key)
        try:
            await self._put_again(key, age, info)
        except _ReplacedError:
            return Rewrapped.REPLACED
        return Rewrapped.CHANGED

    async def _put_again(self, key: str, age: Age, info: ObjectInfo) -> None:
        given = {
            "content_type": info.content_type,
            "metadata": dict(info.metadata) or None,
            "modified": info.modified if self._keeps_times else None,
        }
        options: Any = {name: value for name, value in given.items() if value is not None}
        try:
            await self._inner.put(key, self._renewed(key, age, info), **options)
        except UnsupportedCapabilityError:
            if not self._keeps_times:
                raise
            self._keeps_times = False
            await self._put_again(key, age, info)

    _keeps_times = True

    async def _renewed(self, key: str, age: Age, info: ObjectInfo) -> Chunks:
        """Yield an object with another header; raises if it is not the same one at the end."""
        stored = Stored(self._inner, key)
        async with aclosing(stored.read()) as chunks:
            head = b""
            async for chunk in chunks:
                head += chunk
                if len(head) >= HEADER_SIZE:
                    break
            header = age.rewrapped(head[:HEADER_SIZE])
            if header is None:
                raise _ReplacedError
            async with aclosing(after(header + head[HEADER_SIZE:], chunks)) as all_of_it:
                async for chunk in all_of_it:
                    yield chunk
        if _version(await self._inner.stat(key)) != _version(info):
            raise _ReplacedError


class _ReplacedError(Exception):
    """Another object stands where the one was that is being put again."""


def _about(key: str, error: StorageError) -> StorageError:
    """Return an error of a layer, with the object it is about."""
    if not isinstance(error, _OF_LAYERS):
        return error
    return type(error)(f"The object {key!r} cannot be read. {error.message}")


_OF_LAYERS = (ObjectDamagedError, EncryptionKeyError, ForeignObjectError)


def _version(info: ObjectInfo) -> tuple[object, ...]:
    return info.key, info.size, info.etag or info.modified


def _layers_of(config: BaseModel) -> Sequence[Layer]:
    """Return the layers that settings switch on, in the order in which objects are put."""
    layers: list[Layer] = []
    if not isinstance(config, LayerSettings):
        return layers
    if config.compression is not None:
        layers.append(Zstd(config.compression_level))
    if config.encryption is not None:
        texts = [identity.get_secret_value() for identity in config.encryption_identities]
        recipients = config.encryption_recipients or (recipient_of(texts[0]),)
        layers.append(
            Age(
                [parse_recipient(text) for text in recipients],
                [parse_identity(text) for text in texts],
                allow_plain=config.encryption_allow_plain,
            )
        )
    return layers


@functools.cache
def layered(cls: type[StorageProvider[Any]]) -> type[LayeredStorage]:
    """
    Return the class that stands before a storage type and adds layers; made once for each.

    Its settings are those of the type and :class:`LayerSettings`. What a type has beyond the
    interface of its family is not there: it would get at contents past the layers.
    """
    namespace = {
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "config_class": with_layers(cls.config_class),
        "storage_class": cls,
    }
    return type(f"Layered{cls.__name__}", (LayeredStorage,), namespace)
