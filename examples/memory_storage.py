"""Objects in the memory of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from pydantic import Field

from purveyor.providers.registry import ProviderConfig, operation, register_provider
from purveyor.providers.storage import (
    ObjectExistsError,
    ObjectInfo,
    ObjectSource,
    StorageFullError,
    StorageProvider,
    StorageStats,
    check_key,
    check_prefix,
    check_range,
    chunks_of,
    not_found,
)


class MemoryConfig(ProviderConfig):
    """How much it may hold."""

    max_objects: int = Field(default=10_000, ge=1)


@register_provider(
    "memory",
    description="Objects in the memory of this process",
    capabilities={"local-storage", "flat-keys"},
)
class MemoryStorage(StorageProvider[MemoryConfig]):
    """Objects that are gone with the process."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__(config)
        self._objects: dict[str, tuple[bytes, datetime]] = {}

    # Nothing to open, close or ask: _connect, _close and check_health of the base do. A type
    # with a backend overrides them, and _translate for the errors of its library.

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
        """Keep an object."""
        check_key(key)
        if content_type or metadata:
            raise self._unsupported("metadata")
        if modified:
            raise self._unsupported("modified-times")
        content = b"".join([chunk async for chunk in chunks_of(data)])
        # Nothing is awaited from here on: for everybody else the object appears at once.
        return self._place(key, content, overwrite)

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """Return an object's content."""
        content, _ = self._find(key)
        check_range(start, end, len(content))
        return content[start:end]

    @operation
    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Iterate over an object's content."""
        content, _ = self._find(key)
        check_range(start, end, len(content))
        async for chunk in chunks_of(memoryview(content)[start:end]):
            yield chunk

    @operation
    async def stat(self, key: str) -> ObjectInfo:
        """Return what is known of an object."""
        self._find(key)
        return self._info(key)

    @operation
    async def exists(self, key: str) -> bool:
        """Tell whether there is an object of that key."""
        return check_key(key) in self._objects

    @operation
    async def delete(self, key: str) -> None:
        """Remove an object."""
        self._objects.pop(check_key(key), None)

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Iterate over the objects in order of their keys' bytes."""
        check_prefix(prefix)
        for key in sorted(self._objects, key=str.encode):
            if key.startswith(prefix) and key in self._objects:
                yield self._info(key)

    @operation
    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """Copy an object to another key."""
        check_key(target)
        content, _ = self._find(source)
        return self._place(target, content, overwrite)

    @operation
    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """Give an object another key."""
        check_key(target)
        content, _ = self._find(source)
        if source == target:
            return self._info(source)
        info = self._place(target, content, overwrite)
        del self._objects[source]
        return info

    @operation
    async def stats(self) -> StorageStats:
        """Count objects and bytes."""
        sizes = [len(content) for content, _ in self._objects.values()]
        return StorageStats(len(sizes), sum(sizes))

    def _find(self, key: str) -> tuple[bytes, datetime]:
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise not_found(key) from None

    def _place(self, key: str, content: bytes, overwrite: bool) -> ObjectInfo:
        if key in self._objects:
            if not overwrite:
                raise ObjectExistsError(f"There is an object {key!r} already.")
        elif len(self._objects) >= self.config.max_objects:
            raise StorageFullError(
                f"There is no room for {key!r} beside {len(self._objects)} objects. "
                "Delete some, or raise max_objects."
            )
        self._objects[key] = content, datetime.now(UTC)
        return self._info(key)

    def _info(self, key: str) -> ObjectInfo:
        content, modified = self._objects[key]
        return ObjectInfo(key, len(content), modified)
