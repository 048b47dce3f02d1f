"""The storage interface without ``await``, as ``container.blocking.storage(...)`` gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from .base import Delete, ObjectInfo, ObjectSource, Put, StorageStats

__all__ = ["BlockingStorage"]


class BlockingStorage(Protocol):
    """Each call is that of :class:`~purveyor.providers.storage.base.StorageProvider`."""

    def put(
        self,
        key: str,
        data: ObjectSource,
        *,
        overwrite: bool = True,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        modified: datetime | None = None,
    ) -> ObjectInfo: ...

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes: ...

    def get_with_info(self, key: str, *, end: int | None = None) -> tuple[ObjectInfo, bytes]: ...

    def stream(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]: ...

    def stat(self, key: str) -> ObjectInfo: ...

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None: ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]: ...

    def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo: ...

    def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo: ...

    def stats(self) -> StorageStats: ...

    def search(self, query: str, *, limit: int = 100) -> Sequence[ObjectInfo]: ...

    def apply(self, changes: Sequence[Put | Delete]) -> None: ...

    def initialize(self) -> None: ...

    def check_health(self) -> None: ...
