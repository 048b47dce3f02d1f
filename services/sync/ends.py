"""The two ends of a sync: from what a place names to a storage and the keys below it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ...providers.registry import NotFoundError
from ...providers.storage import ObjectInfo, ObjectNotFoundError, check_key, check_prefix
from ...providers.storage.keys import MANIFEST_NAME
from .errors import SyncError
from .local import local_storage, walk
from .merge import Entry
from .places import LocalPlace, Place, StoragePlace

if TYPE_CHECKING:
    from ...containers import ApplicationContainer
    from ...providers.storage import StorageProvider

__all__ = ["End", "Source", "Target", "disabled_provider", "storage_of"]

LOCAL = frozenset({"local-storage", "modified-times"})
"""What a folder of this machine can do."""


@dataclass(frozen=True, slots=True)
class End:
    """
    One end: a storage, and the prefix of the keys that belong to it.

    ``data`` is where the storage keeps its data, if that is on this machine.
    """

    label: str
    storage: StorageProvider[Any]
    prefix: str
    capabilities: frozenset[str]
    data: Path | None

    @property
    def is_here(self) -> bool:
        """Whether its objects are on this machine, so that reading them costs little."""
        return "local-storage" in self.capabilities

    @property
    def keeps_times(self) -> bool:
        """Whether an object can have the time of its source."""
        return "modified-times" in self.capabilities


@dataclass(frozen=True, slots=True)
class Source:
    """What is copied: all below ``end.prefix``, or the one object that is called ``name``."""

    end: End
    name: str | None
    entries: Callable[[], AsyncGenerator[Entry]]

    @classmethod
    async def open(
        cls, place: Place, container: ApplicationContainer | None, stack: AsyncExitStack
    ) -> Source:
        """
        Connect to a place that is read from.

        Raises:
            SyncError: There is nothing.
            RegistryError: Its provider is not to be had, or not well.
        """
        if isinstance(place, LocalPlace):
            return await cls._of_path(place, stack)
        end = _end(place, storage_of(place, container), container, place.key)
        await end.storage.check_health()
        if place.key and not place.key.endswith("/"):
            try:
                info = await end.storage.stat(check_key(place.key))
            except ObjectNotFoundError:
                end = _end(place, end.storage, container, f"{place.key}/")
            else:
                name = place.key.rpartition("/")[2]
                return cls(end, name, lambda: _one(Entry(name, info)))
        if end.prefix:
            async with aclosing(_listed(end)) as found:
                if await anext(found, None) is None:
                    raise SyncError("SOURCE_NOT_FOUND", f"There is nothing to copy at {place}.")
        return cls(end, None, lambda: _listed(end))

    @classmethod
    async def _of_path(cls, place: LocalPlace, stack: AsyncExitStack) -> Source:
        path = place.path.expanduser()
        if path.is_dir():
            folder, name = path.resolve(), None
        elif path.is_file() and not place.is_folder:  # who names a link means its file
            folder, name = path.resolve().parent, path.name
        else:
            raise SyncError(
                "SOURCE_NOT_FOUND",
                f"There is no folder or file {str(place)!r} to copy from. A place in a provider "
                "is written NAME:key, or :key for the default provider.",
            )
        storage = local_storage(folder)
        stack.push_async_callback(storage.dispose)
        key = "" if name is None else path.resolve().name
        end = End(str(place), storage, key, LOCAL, folder)
        await storage.check_health()
        if name is None:
            return cls(end, None, lambda: walk(folder))
        info = await storage.stat(key)
        return cls(end, name, lambda: _one(Entry(name, info)))


@dataclass(frozen=True, slots=True)
class Target:
    """Where things are copied: below ``end.prefix``; a single object is called ``name`` there."""

    end: End
    name: str | None
    entries: Callable[[], AsyncGenerator[Entry]]

    @classmethod
    async def open(
        cls,
        place: Place,
        source: Source,
        container: ApplicationContainer | None,
        stack: AsyncExitStack,
        *,
        dry_run: bool,
    ) -> Target:
        """
        Connect to a place that is written to.

        Args:
            place: Where.
            source: Where from.
            container: Knows the providers.
            stack: Disposes what is opened here.
            dry_run: Make no folder.

        Raises:
            SyncError: It lies in the source.
            RegistryError: Its provider is not to be had, or not well.
        """
        name, made = source.name, True
        if isinstance(place, LocalPlace):
            folder = place.path.expanduser()
            if name is not None and not (place.is_folder or folder.is_dir()):
                folder, name = folder.parent, folder.name
            storage = local_storage(folder)
            stack.push_async_callback(storage.dispose)
            end = End(str(place), storage, "", LOCAL, folder.resolve())
            made = not dry_run or folder.exists()
        else:
            prefix = place.key
            if name is None:
                prefix = f"{prefix.rstrip('/')}/" if prefix else ""
            elif prefix and not prefix.endswith("/"):
                above, slash, name = prefix.rpartition("/")
                prefix = above + slash
            check_prefix(prefix)
            end = _end(place, storage_of(place, container), container, prefix)
        _check_apart(source, end, name)
        if not made:
            return cls(end, name, _nothing)
        await end.storage.check_health()
        if name is None:
            return cls(end, None, lambda: _listed(end))
        key = name
        return cls(end, name, lambda: _stated(end, key))


def storage_of(place: StoragePlace, container: ApplicationContainer | None) -> StorageProvider[Any]:
    """
    Return the storage a place is in.

    Raises:
        NotFoundError: No such provider.
        SyncError: There is no container to ask for it.
    """
    if container is None:
        raise SyncError("INVALID_PLACE", f"The place {str(place)!r} needs a container to be found.")
    return container.storage(place.provider)


def disabled_provider(place: Place, container: ApplicationContainer | None) -> str | None:
    """Return the name of the provider a place is in if that is configured, but disabled."""
    if isinstance(place, LocalPlace) or container is None:
        return None
    registry = container.storage.registry
    try:
        name = registry.default_name() if place.provider is None else place.provider
    except NotFoundError:
        return None
    if registry.has(name):
        return None
    return name if name in [row.name for row in registry.load().skipped] else None


def _check_apart(source: Source, other: End, name: str | None) -> None:
    """
    Refuse a target that lies in its own source.

    Raises:
        SyncError: What is written would be read again.
    """
    one = source.end
    if source.name is not None:
        key = f"{other.prefix}{name}"
        same = one.storage is other.storage and one.prefix == key
        if one.data is not None and other.data is not None:
            same = same or one.data / one.prefix == other.data / key
        if same:
            raise SyncError("SAME_PLACE", f"{one.label} and {other.label} are the same object.")
        return
    inside = one.storage is other.storage and other.prefix.startswith(one.prefix)
    if one.data is not None and other.data is not None:
        inside = inside or (other.data / other.prefix).is_relative_to(one.data / one.prefix)
    if inside:
        raise SyncError(
            "TARGET_IN_SOURCE",
            f"The target {other.label} lies in the source {one.label}"
            f"{f' ({other.data})' if other.data else ''}: what is copied would be copied again. "
            "Choose a target outside of it.",
        )


def _end(
    place: StoragePlace,
    storage: StorageProvider[Any],
    container: ApplicationContainer | None,
    prefix: str,
) -> End:
    capabilities = _capabilities(place, storage, container)
    return End(str(place), storage, prefix, capabilities, _data(storage))


def _capabilities(
    place: StoragePlace, storage: StorageProvider[Any], container: ApplicationContainer | None
) -> frozenset[str]:
    own = getattr(storage, "capabilities", None)  # of a stand-in that no registry knows
    if own is not None:
        return frozenset(own)
    if container is None:
        return frozenset()
    registry = container.storage.registry
    name = registry.default_name() if place.provider is None else place.provider
    return registry.info(name).capabilities if registry.has(name) else frozenset()


def _data(storage: StorageProvider[Any]) -> Path | None:
    config = getattr(storage, "config", None)
    path = getattr(config, "root", None) or getattr(config, "path", None)
    return path.resolve() if isinstance(path, Path) else None


async def _listed(end: End) -> AsyncGenerator[Entry]:
    start = len(end.prefix)
    listing = cast("AsyncGenerator[ObjectInfo]", end.storage.list(end.prefix))
    async with aclosing(listing):
        async for info in listing:
            if info.key.rpartition("/")[2] != MANIFEST_NAME:  # which not every type hides
                yield Entry(info.key[start:], info)


async def _stated(end: End, name: str) -> AsyncGenerator[Entry]:
    try:
        yield Entry(name, await end.storage.stat(f"{end.prefix}{name}"))
    except ObjectNotFoundError:
        return


async def _one(entry: Entry) -> AsyncGenerator[Entry]:
    yield entry


async def _nothing() -> AsyncGenerator[Entry]:
    return
    yield
