"""Bytes that can be read from any place: an object as it is stored, and what layers make of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import aclosing, nullcontext
from typing import Any, cast

from ...registry.provider import Call
from ..base import ObjectInfo, StorageProvider, check_range
from ..errors import InvalidRangeError
from .flow import Chunks, joined

__all__ = ["Content", "Layer", "Stored"]

_SMALL = 64 * 1024
"""Bytes; what has no more is read at once rather than place by place."""


class Content(ABC):
    """Bytes that can be read from any place. What is read is of one version, or an error."""

    @abstractmethod
    def read(self, start: int = 0, end: int | None = None) -> Chunks:
        """
        Iterate over the bytes from ``start`` up to but not including ``end``.

        Raises:
            InvalidRangeError: ``start`` is past the end.
        """

    @abstractmethod
    async def size(self) -> int:
        """Return how many bytes there are."""

    async def get(self, start: int = 0, end: int | None = None) -> bytes:
        """Return bytes; as :meth:`read`."""
        async with aclosing(self.read(start, end)) as chunks:
            return await joined(chunks)


class Stored(Content):
    """
    An object as the backend has it.

    Args:
        storage: Where it is.
        key: Its name.
        info: What is known of it, if that is known.
    """

    def __init__(
        self, storage: StorageProvider[Any], key: str, info: ObjectInfo | None = None
    ) -> None:
        self._storage = storage
        self._key = key
        self._info = info
        self._data: bytes | None = None

    async def read(self, start: int = 0, end: int | None = None) -> Chunks:
        """See :meth:`Content.read`."""
        if self._info is not None and self._info.size <= _SMALL and self._data is None:
            self._data = await self._storage.get(self._key)
        if self._data is not None:
            check_range(start, end, len(self._data))
            yield self._data[start:end]
            return
        chunks = cast(Chunks, self._storage.stream(self._key, start=start, end=end))
        try:
            async with aclosing(chunks) if hasattr(chunks, "aclose") else nullcontext():
                async for chunk in chunks:
                    yield chunk
        except Exception as error:
            told = self._storage._translate(error, Call("stream", (self._key,), {}, ""))
            if isinstance(told, InvalidRangeError):
                raise told from error  # its place is not the one the caller asked for
            raise

    async def size(self) -> int:
        """See :meth:`Content.size`."""
        if self._data is not None:
            return len(self._data)
        if self._info is None:
            self._info = await self._storage.stat(self._key)
        return self._info.size


class Layer(ABC):
    """What is done to every object on its way to the backend, and undone on its way back."""

    @abstractmethod
    def encode(self, chunks: Chunks) -> Chunks:
        """Iterate over what is to be stored in the place of some content."""

    @abstractmethod
    def decode(self, stored: Content) -> Content:
        """Return the content that something stored stands for."""

    @abstractmethod
    def size_of(self, stored_size: int) -> int | None:
        """Return the size of the content, None where it must be read to know."""
