"""A blob as a file that can be read from any place, for what reads files."""

from __future__ import annotations

import io
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from ..azure.faults import ServiceError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore
    from typing_extensions import Buffer

__all__ = ["opened"]

BUFFER_SIZE = 128 * 1024


def opened(obstore: ModuleType, store: AzureStore, meta: ObjectMeta) -> BinaryIO:
    """
    Return one version of a blob as a file, which asks for what is read, and little more.

    Reading blocks, and raises obstore's errors: ``PreconditionError`` if the blob was replaced.
    """
    return io.BufferedReader(_Ranges(obstore, store, meta), BUFFER_SIZE)


class _Ranges(io.RawIOBase):
    def __init__(self, obstore: ModuleType, store: AzureStore, meta: ObjectMeta) -> None:
        self._obstore = obstore
        self._store = store
        self._meta = meta
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = (0, self._place, self._meta["size"])[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._place + len(view), self._meta["size"])
        if end <= self._place:
            return 0
        options = {"range": (self._place, end), "if_match": self._meta["e_tag"]}
        try:
            data = self._obstore.get(self._store, self._meta["path"], options=options).bytes()
        except FileNotFoundError:  # an OSError, which readers take for a fault of the file
            raise ServiceError(404, "BlobNotFound") from None
        view[: len(data)] = memoryview(data)
        self._place += len(data)
        return len(data)
