"""The storage interface: objects by key, the same for a folder, a database and a cloud."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self, TypeAlias, cast

from pydantic import BaseModel

from ..registry.errors import RegistryError, UnsupportedCapabilityError
from ..registry.provider import Call, Composite, ConfigT, Provider, operation
from .errors import (
    InvalidMetadataError,
    InvalidRangeError,
    ObjectNotFoundError,
    StorageConnectionError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageTimeoutError,
)
from .keys import check_key

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "CHUNK_SIZE",
    "Delete",
    "ObjectInfo",
    "ObjectSource",
    "Put",
    "StorageProvider",
    "StorageStats",
    "StorageTransaction",
    "check_range",
    "chunks_of",
    "timestamp",
]

CHUNK_SIZE = 1024 * 1024
"""Bytes moved at a time wherever an object is streamed."""

ObjectSource: TypeAlias = (
    bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | AsyncIterable[bytes]
)
"""What can be put: bytes, a path of a local file, an open binary file, or an async iterator."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """
    One object.

    ``size`` is in bytes and ``modified`` in UTC. ``etag`` changes with the content; compare
    it only with one of the same provider. ``content_type`` and ``metadata`` are what ``put``
    was given; ``list`` leaves them out, ``stat`` has them.
    """

    key: str
    size: int
    modified: datetime
    etag: str | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class StorageStats:
    """How much a storage holds; ``free_bytes`` is None where the backend has no such limit."""

    object_count: int
    total_bytes: int
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """One write of a transaction."""

    key: str
    data: bytes
    overwrite: bool = True
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """One removal of a transaction."""

    key: str


class StorageProvider(Provider[ConfigT]):
    """
    Objects by key.

    Every key obeys :func:`~purveyor.providers.storage.keys.check_key`. An object appears
    whole or not at all: no reader, and no crash or cancellation in the middle of a ``put``,
    ever shows half of one, and what was there before stays until the new object is whole.
    Errors are those of :mod:`purveyor.providers.storage.errors`, whatever the backend.
    """

    family: ClassVar[str] = "storage"

    @classmethod
    def settings_beside(cls, own: type[BaseModel]) -> type[BaseModel]:
        """Return the settings of a type with those of layers; a composite's members have theirs."""
        from .layers.settings import with_layers

        return own if issubclass(cls, Composite) else with_layers(own)

    @classmethod
    def class_for(cls, config: BaseModel) -> type[StorageProvider[Any]]:
        """Return the class itself, or, where settings switch layers on, one before it."""
        if not cls.capabilities_by(config):
            return cls
        from .layers.storage import layered

        return layered(cls)

    @classmethod
    def capabilities_by(cls, config: BaseModel) -> frozenset[str]:
        """Return ``compression`` and ``encryption``, where settings switch them on."""
        from .layers.settings import LayerSettings

        return config.layers_on if isinstance(config, LayerSettings) else frozenset()

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
        """
        Store an object and return what is known of it.

        Args:
            key: Its name.
            data: Its content; a source of any size is streamed in bounded memory.
            overwrite: False refuses to replace an object, atomically: of any number of
                writers at once exactly one succeeds.
            content_type: Media type to keep with it (capability ``metadata``).
            metadata: Names and values to keep with it (capability ``metadata``).
            modified: When its content was last changed; without it, that is now (capability
                ``modified-times``). A backend may keep whole seconds only.

        Raises:
            InvalidKeyError: The key breaks a rule.
            InvalidMetadataError: A name or value of ``metadata`` breaks a rule, or ``modified``
                has no time zone.
            FileNotFoundError: ``data`` is the path of a local file that is not there.
            ObjectExistsError: ``overwrite`` is False and the key is taken.
            KeyConflictError: The backend cannot hold the key beside one it holds.
            StorageFullError: No space left.
            UnsupportedCapabilityError: Metadata, or a time, given to a type that keeps none.
        """
        raise NotImplementedError

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """
        Return an object's content, or the bytes from ``start`` up to but not including ``end``.

        An ``end`` past the object's end means its end.

        Raises:
            ObjectNotFoundError: There is no such object.
            InvalidRangeError: ``start`` is negative, past the object's end or after ``end``.
        """
        raise NotImplementedError

    @operation
    async def get_with_info(self, key: str, *, end: int | None = None) -> tuple[ObjectInfo, bytes]:
        """
        Return what is known of an object, and its content, or the bytes before ``end``.

        The info is no older than the content. A type that learns both at once overrides this;
        others ask twice.

        Raises:
            ObjectNotFoundError: There is no such object.
        """
        data = await self.get(key, end=end)
        return await self.stat(key), data

    @operation
    def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """
        Iterate over an object's content in chunks, in bounded memory.

        The chunks are of one version of the object, also when it is replaced meanwhile.
        Arguments and errors are those of :meth:`get`; they are raised by the first step.
        """
        raise NotImplementedError

    @operation
    async def stat(self, key: str) -> ObjectInfo:
        """
        Return what is known of an object, without its content.

        Raises:
            ObjectNotFoundError: There is no such object.
        """
        raise NotImplementedError

    @operation
    async def exists(self, key: str) -> bool:
        """Tell whether there is an object of that key."""
        raise NotImplementedError

    @operation
    async def delete(self, key: str) -> None:
        """Remove an object. Removing one that is not there is no error."""
        raise NotImplementedError

    @operation
    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """
        Iterate over the objects whose key begins with ``prefix``, in order of the key's bytes.

        The prefix is compared as text, not by folders. Objects written or removed meanwhile
        may or may not appear; all others appear exactly once.
        """
        raise NotImplementedError

    @operation
    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """
        Copy an object to another key, with its metadata; return the copy's info.

        Raises:
            ObjectNotFoundError: There is no ``source``.
            ObjectExistsError: ``overwrite`` is False and ``target`` is taken.
        """
        raise NotImplementedError

    @operation
    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """
        Give an object another key; return its info.

        Where the backend cannot rename, this is a copy and a delete: a failure between the
        two leaves both. Moving an object onto itself changes nothing.

        Raises:
            ObjectNotFoundError: There is no ``source``.
            ObjectExistsError: ``overwrite`` is False and ``target`` is taken.
        """
        raise NotImplementedError

    @operation
    async def stats(self) -> StorageStats:
        """Count objects and bytes. May have to list everything."""
        raise NotImplementedError

    @operation
    async def search(self, query: str, *, limit: int = 100) -> Sequence[ObjectInfo]:
        """
        Return the objects whose key or metadata hold every word of ``query``, best match first.

        Words are compared without regard to case and match from their beginning.

        Raises:
            UnsupportedCapabilityError: The type lacks the capability ``search``.
        """
        raise self._unsupported("search")

    @operation
    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        """
        Make all ``changes`` or none of them, in order, visible at one moment.

        Raises:
            UnsupportedCapabilityError: The type lacks the capability ``transactions``.
            ObjectExistsError: A :class:`Put` with ``overwrite=False`` met a taken key.
        """
        raise self._unsupported("transactions")

    def transaction(self) -> StorageTransaction:
        """
        Collect changes, to be applied together when the ``async with`` block ends well.

        A block that raises applies nothing. Capability ``transactions``.
        """
        return StorageTransaction(self)

    def _unsupported(self, capability: str, why: str = "") -> UnsupportedCapabilityError:
        return UnsupportedCapabilityError(
            f"{type(self).__name__} does not have the capability {capability!r}"
            f"{f' ({why})' if why else ''}. "
            f"Choose a provider that has it: purveyor providers find {capability}",
            context={"capability": capability},
        )

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        """Map the errors of the operating system, which most backends raise too."""
        if isinstance(error, RegistryError) or _is_about_source(error, call):
            return None
        name, key = call.provider_name, call.argument(0, "key") or call.argument(0, "source")
        if isinstance(error, FileNotFoundError):
            return not_found(key, name)
        reason = reason_of(error)
        what = f"{call.operation} on storage {name!r} failed: {reason}"
        if isinstance(error, PermissionError):
            return StoragePermissionError(
                f"{what}. Give the account that runs this process access, "
                "or configure other credentials.",
                name,
            )
        if isinstance(error, TimeoutError):
            return StorageTimeoutError(f"{what}.", name)
        if isinstance(error, ConnectionError):
            return StorageConnectionError(
                f"{what}. Check that the server is running and that its address is right.", name
            )
        if isinstance(error, OSError):
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return StorageFullError(
                    f"{what}. Free space or choose another storage; what was stored before is "
                    "untouched.",
                    name,
                )
            return StorageError(f"{what}.", name)
        return None


class StorageTransaction:
    """Changes that become visible together; see :meth:`StorageProvider.transaction`."""

    def __init__(self, storage: StorageProvider[ConfigT]) -> None:
        self._apply = storage.apply
        self._changes: list[Put | Delete] = []

    def put(
        self,
        key: str,
        data: bytes | bytearray | memoryview,
        *,
        overwrite: bool = True,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Add a write; the arguments are those of :meth:`StorageProvider.put`."""
        self._changes.append(
            Put(check_key(key), bytes(data), overwrite, content_type, dict(metadata or {}))
        )

    def delete(self, key: str) -> None:
        """Add a removal."""
        self._changes.append(Delete(check_key(key)))

    async def __aenter__(self) -> Self:
        await self._apply([])  # a type without transactions says so before work is done in vain
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        changes, self._changes = self._changes, []
        if kind is None:
            await self._apply(changes)


def timestamp(modified: datetime) -> float:
    """
    Return a time that was given to ``put`` as seconds since the epoch.

    Raises:
        InvalidMetadataError: It has no time zone, and so could be any.
    """
    if modified.tzinfo is None:
        raise InvalidMetadataError(f"The time {modified} has no time zone; give one, such as UTC.")
    return modified.timestamp()


def not_found(key: str, provider_name: str = "") -> ObjectNotFoundError:
    """Return the error for a key that names no object."""
    where = f" in storage {provider_name!r}" if provider_name else ""
    return ObjectNotFoundError(f"There is no object {key!r}{where}.", provider_name or None)


def reason_of(error: BaseException) -> str:
    """Return why a library's call failed, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _is_about_source(error: Exception, call: Call) -> bool:
    """Tell whether it is the local file to be put that cannot be read: the caller's own affair."""
    data = call.argument(1, "data") if call.operation == "put" else None
    return (
        isinstance(error, OSError)
        and isinstance(data, os.PathLike)
        and error.filename == os.fspath(cast("os.PathLike[str]", data))
    )


def check_range(start: int, end: int | None, size: int | None = None) -> None:
    """
    Refuse a range that is none, or, where ``size`` is known, one that starts past the end.

    Raises:
        InvalidRangeError: The message says what is wrong with it.
    """
    if start < 0 or (end is not None and end < start):
        raise InvalidRangeError(
            f"Invalid range {start}:{'' if end is None else end}: it must be 0 <= start <= end."
        )
    if size is not None and start > size:
        raise InvalidRangeError(
            f"Invalid range: it starts at {start}, the object has {size} bytes."
        )


def _open(path: str, size: int) -> tuple[BinaryIO, bytes]:
    file = open(path, "rb")  # noqa: SIM115, PTH123  (closed by who asked)
    try:
        return file, file.read(size)
    except BaseException:
        file.close()
        raise


async def chunks_of(data: ObjectSource, size: int = CHUNK_SIZE) -> AsyncGenerator[bytes, None]:
    """
    Iterate over a source in chunks of about ``size`` bytes; files are read in a thread.

    Raises:
        TypeError: ``data`` is nothing that can be put.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        view = memoryview(data).cast("B")
        for begin in range(0, len(view), size):
            yield bytes(view[begin : begin + size])
    elif isinstance(data, AsyncIterable):
        async for chunk in data:
            yield bytes(chunk)
    elif isinstance(data, os.PathLike):
        file, chunk = await asyncio.to_thread(_open, os.fspath(data), size)
        try:
            while chunk:
                yield chunk
                # Less than was asked for is the end: what is small costs one trip to a thread.
                chunk = await asyncio.to_thread(file.read, size) if len(chunk) == size else b""
        finally:
            file.close()
    elif hasattr(data, "read"):
        while chunk := await asyncio.to_thread(data.read, size):
            if not isinstance(chunk, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError("The file to put is open in text mode; open it with mode 'rb'.")
            yield chunk
    else:
        raise TypeError(
            f"Cannot put {type(data).__name__!r}: give bytes, a path (os.PathLike), a file open "
            "in binary mode, or an async iterator of bytes."
        )
