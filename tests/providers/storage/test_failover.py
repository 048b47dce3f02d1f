"""Failover storage keeps the rules of every storage, and storages stand in for each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import UnsupportedCapabilityError, guarded
from purveyor.providers.registry.failover import FailoverConfig, answered_by
from purveyor.providers.storage import (
    ObjectNotFoundError,
    StorageError,
    StorageProvider,
    StorageRootNotFoundError,
)
from purveyor.providers.storage.failover import FailoverStorage
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from purveyor.providers.storage.sqlite import SQLiteConfig, SQLiteStorage
from purveyor.settings import Settings
from purveyor.testing.conformance import StorageConformance
from purveyor.testing.conformance.storage_case import Storage


class PairConfig(FailoverConfig):
    root: Path


class Pair(FailoverStorage):
    """A failover storage that owns its two members: a folder, and a database in its place."""

    def __init__(self, config: PairConfig) -> None:
        super().__init__(config)
        # They have the pair's own name: the kit looks for it in what they say.
        self.pair: dict[str, StorageProvider[Any]] = {
            "first": guarded(self.first(config.root), name="conformance"),
            "second": guarded(
                SQLiteStorage(SQLiteConfig(path=config.root / "second.sqlite3")),
                name="conformance",
            ),
        }
        self.bind("conformance", self.pair.__getitem__)

    def first(self, root: Path) -> StorageProvider[Any]:
        return FilesystemStorage(FilesystemConfig(root=root / "first"))

    async def _close(self) -> None:
        for member in self.pair.values():
            await member.dispose()


class HalfPair(Pair):
    """Its first member cannot be connected."""

    def first(self, root: Path) -> StorageProvider[Any]:
        root.mkdir(exist_ok=True)
        (root / "first").write_text("no folder")
        return super().first(root)


class PairConformance(StorageConformance):
    provider_class = Pair
    capabilities = frozenset({"streaming", "local-storage", "modified-times"})

    @pytest.fixture
    def storage_config(self, tmp_path: Path) -> PairConfig:
        return PairConfig(members=("first", "second"), root=tmp_path / "pair")


@pytest.mark.requirement("S0.42")
class TestFailoverStorage(PairConformance):
    provider_class = Pair
    capabilities = PairConformance.capabilities


@pytest.mark.requirement("S0.42")
class TestFailoverStorageWhoseFirstMemberIsAway(PairConformance):
    provider_class = HalfPair
    capabilities = frozenset(
        {
            "streaming",
            "local-storage",
            "metadata",
            "modified-times",
            "flat-keys",
            "search",
            "transactions",
        }
    )


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Any]:
    providers = {
        "primary": {"type": "filesystem", "root": str(tmp_path / "primary")},
        "standby": {"type": "sqlite", "path": str(tmp_path / "standby.sqlite3")},
        "main": {"type": "failover", "members": "primary,standby"},
    }
    settings = Settings(home=tmp_path, storage={"default": "main", "providers": providers})
    made = ApplicationContainer(settings=settings)
    async with made.lifespan():
        yield made


async def test_settings_name_it_like_any_other(container: Any) -> None:
    storage = container.storage()
    assert isinstance(storage, FailoverStorage)
    assert isinstance(storage, StorageProvider)
    info = await storage.put("key", b"content")
    assert answered_by() == "primary"
    assert await container.storage("primary").stat("key") == info


async def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__MAIN__TYPE", "failover")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__MAIN__MEMBERS", "sqlite,filesystem")
    container = ApplicationContainer()
    async with container.lifespan():
        await container.storage("main").put("key", b"content")
        assert answered_by() == "sqlite"
        assert [info.key async for info in container.storage("sqlite").list()] == ["key"]


async def test_the_standby_takes_over_and_gives_back(container: Any) -> None:
    storage = container.storage()
    registry = container.storage.registry

    async def source() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    registry.require("primary")._guard.breaker.force_open()
    await storage.put("key", source())
    assert answered_by() == "standby"
    assert await container.storage("standby").get("key") == b"onetwo"
    assert b"".join([chunk async for chunk in storage.stream("key")]) == b"onetwo"
    registry.require("primary")._guard.breaker.reset()
    with pytest.raises(ObjectNotFoundError):  # nothing was copied
        await storage.get("key")
    assert answered_by() == "primary"


async def test_what_a_member_lacks_is_not_asked_of_the_next_one(container: Any) -> None:
    """It would find nothing there, or keep the object where the first one does not see it."""
    storage = container.storage()
    await storage.put("word", b"x")
    with pytest.raises(UnsupportedCapabilityError, match="search"):
        await storage.search("word")
    with pytest.raises(UnsupportedCapabilityError, match="metadata"):
        await storage.put("key", b"x", metadata={"a": "b"})
    assert [info.key async for info in container.storage("standby").list()] == []


async def test_a_bucket_that_is_gone_is_the_members_affair() -> None:
    class Gone(FilesystemStorage):
        async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
            raise StorageRootNotFoundError("There is no bucket 'b'.")

    gone = guarded(Gone(FilesystemConfig(root=Path("unused"))), name="gone")
    group = FailoverStorage(FailoverConfig(members=("gone", "none")))
    members: dict[str, Storage] = {"gone": gone, "none": gone}
    storage = guarded(group.bind("main", members.__getitem__), name="main")
    try:
        with pytest.raises(StorageError, match="no member could answer"):
            await storage.get("key")
    finally:
        await storage.dispose()
        await gone.dispose()
