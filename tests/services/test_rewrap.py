"""Changing the keys of an encrypted storage."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import UnsupportedCapabilityError, guarded
from purveyor.providers.storage import (
    EncryptionKeyError,
    ForeignObjectError,
    ObjectDamagedError,
    StorageConnectionError,
    StorageProvider,
)
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from purveyor.providers.storage.layers.age_header import HEADER_SIZE
from purveyor.providers.storage.layers.keys import new_identity, recipient_of
from purveyor.providers.storage.layers.storage import LayeredStorage, Rewrapped, layered
from purveyor.providers.storage.sqlite import SQLiteConfig, SQLiteStorage
from purveyor.services.rewrap import rewrap

OLD, NEW, FRIEND = new_identity(), new_identity(), new_identity()
MODIFIED = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
MIB = 1024 * 1024

Open = Callable[..., LayeredStorage]


@pytest.fixture(params=[FilesystemStorage, SQLiteStorage])
def sealed(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return a storage whose objects are encrypted, the first key being the one to write with."""
    of_type: Any = layered(request.param)
    place = {"root": tmp_path / "root", "path": tmp_path / "objects.sqlite3"}

    def make(*identities: str, **settings: Any) -> LayeredStorage:
        fields = of_type.config_class.model_fields
        own = {name: value for name, value in place.items() if name in fields}
        given = {"encryption": "age", "encryption_identities": identities, **settings}
        config = of_type.config_class.model_validate({**own, **given})
        return guarded(of_type(config), name="docs")

    return make


CONTENTS = {"a": b"", "b/c": b"small", "b/d": os.urandom(2 * MIB + 5), "e": os.urandom(70_000)}


async def filled(storage: StorageProvider[Any]) -> None:
    for key, content in CONTENTS.items():
        await storage.put(key, content, modified=MODIFIED)


async def test_after_it_the_new_key_alone_reads_everything(sealed: Open) -> None:
    async with sealed(OLD) as storage:
        await filled(storage)
    async with sealed(NEW, OLD) as storage:
        await storage.put("new", b"already")
        result = await rewrap(storage)
        assert (result.changed, result.current, result.replaced) == (4, 1, 0)
        assert result.ok
    async with sealed(NEW) as storage:
        for key, content in CONTENTS.items():
            assert await storage.get(key) == content
            info = await storage.stat(key)
            assert (info.size, info.modified) == (len(content), MODIFIED)
    async with sealed(OLD) as storage:
        for key in CONTENTS:
            with pytest.raises(EncryptionKeyError):
                await storage.get(key)


async def test_the_content_is_not_encrypted_anew(sealed: Open) -> None:
    async with sealed(OLD) as storage:
        await storage.put("object", CONTENTS["e"])
        before = await storage._inner.get("object")
    async with sealed(NEW, OLD) as storage:
        assert await storage.rewrap("object") is Rewrapped.CHANGED
        after = await storage._inner.get("object")
    assert after[HEADER_SIZE:] == before[HEADER_SIZE:]
    assert after[:HEADER_SIZE] != before[:HEADER_SIZE]


async def test_it_reads_a_header_only_of_what_is_done_already(
    sealed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sealed(OLD) as storage:
        await filled(storage)
    async with sealed(NEW, OLD) as storage:
        await rewrap(storage)
        for cls in (FilesystemStorage, SQLiteStorage):
            monkeypatch.delattr(cls, "stream")
            monkeypatch.delattr(cls, "put")
        result = await rewrap(storage)
    assert (result.changed, result.current) == (0, 4)


async def test_recipients_come_and_go(sealed: Open) -> None:
    async with sealed(OLD) as storage:
        await storage.put("object", b"content")
    for recipients in ((OLD, FRIEND), (FRIEND, OLD), (OLD,)):
        given = tuple(recipient_of(one) for one in recipients)
        async with sealed(OLD, encryption_recipients=given) as storage:
            expected = Rewrapped.CURRENT if recipients == (FRIEND, OLD) else Rewrapped.CHANGED
            assert await storage.rewrap("object") is expected
        async with sealed(FRIEND) as storage:
            if FRIEND in recipients:
                assert await storage.get("object") == b"content"
            else:
                with pytest.raises(EncryptionKeyError):
                    await storage.get("object")


async def test_a_dry_run_changes_nothing(sealed: Open) -> None:
    async with sealed(OLD) as storage:
        await filled(storage)
    async with sealed(NEW, OLD) as storage:
        result = await rewrap(storage, "b/", dry_run=True)
        assert (result.changed, result.current) == (2, 0)
    async with sealed(OLD) as storage:
        assert await storage.get("b/c") == b"small"


async def test_a_prefix_leaves_the_rest_alone(sealed: Open) -> None:
    async with sealed(OLD) as storage:
        await filled(storage)
    async with sealed(NEW, OLD) as storage:
        assert (await rewrap(storage, "b/")).changed == 2
        assert (await rewrap(storage)).current == 2


async def test_what_cannot_be_done_ends_nothing_else(sealed: Open) -> None:
    async with sealed(FRIEND) as storage:
        await storage.put("b/foreign key", b"x")
    async with sealed(OLD) as storage:
        await filled(storage)
        await storage._inner.put("plain", b"planted")
        await storage._inner.put("tampered", bytes(await storage._inner.get("a")))
        header = bytearray(await storage._inner.get("tampered"))
        header[HEADER_SIZE - 300] ^= 1
        await storage._inner.put("tampered", bytes(header))
    async with sealed(NEW, OLD) as storage:
        result = await rewrap(storage)
    assert result.changed == 4
    assert not result.ok
    assert {key: type(error) for key, error in result.failures.items()} == {
        "b/foreign key": EncryptionKeyError,
        "plain": ForeignObjectError,
        "tampered": ObjectDamagedError,
    }
    assert all(repr(key) in error.message for key, error in result.failures.items())


async def test_metadata_stays(tmp_path: Path) -> None:
    of_sqlite = layered(SQLiteStorage)
    for keys in ((OLD,), (NEW, OLD)):
        config = of_sqlite.config_class.model_validate(
            {"path": tmp_path / "x.sqlite3", "encryption": "age", "encryption_identities": keys}
        )
        async with of_sqlite(config) as storage:
            if keys == (OLD,):
                await storage.put("a", b"x", content_type="text/csv", metadata={"by": "ada"})
            else:
                await storage.rewrap("a")
            info = await storage.stat("a")
            assert (info.content_type, dict(info.metadata)) == ("text/csv", {"by": "ada"})


async def test_an_object_put_meanwhile_is_left_alone(
    sealed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sealed(OLD) as storage:
        await storage.put("object", CONTENTS["b/d"])
    async with sealed(NEW, OLD) as storage:
        renewed = LayeredStorage._renewed

        async def slow(self: Any, *args: Any) -> Any:
            first = True
            async for chunk in renewed(self, *args):
                yield chunk
                if first:
                    await self.put("object", b"put meanwhile")
                    first = False

        monkeypatch.setattr(LayeredStorage, "_renewed", slow)
        assert await storage.rewrap("object") is Rewrapped.REPLACED
        assert await storage.get("object") == b"put meanwhile"


async def test_cut_off_it_leaves_every_object_readable(
    sealed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sealed(OLD) as storage:
        await filled(storage)
    async with sealed(NEW, OLD) as storage:
        put = type(storage._inner).put
        calls = 0

        async def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise ConnectionResetError("gone")
            return await put(self, *args, **kwargs)

        monkeypatch.setattr(type(storage._inner), "put", failing)
        result = await rewrap(storage, concurrency=1)
        assert result.changed == 3
        assert [type(error) for error in result.failures.values()] == [StorageConnectionError]
        for key, content in CONTENTS.items():
            assert await storage.get(key) == content
        result = await rewrap(storage)
        assert (result.changed, result.current) == (1, 3)


async def test_cancelled_it_goes_on_where_it_was(sealed: Open) -> None:
    async with sealed(OLD) as storage:
        await filled(storage)
    async with sealed(NEW, OLD) as storage:
        done = asyncio.Event()
        work = asyncio.create_task(
            rewrap(storage, concurrency=1, on_object=lambda key, outcome: done.set())
        )
        await done.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        for key, content in CONTENTS.items():
            assert await storage.get(key) == content
        result = await rewrap(storage)
        assert result.ok
        assert result.current >= 1
    async with sealed(NEW) as storage:
        for key, content in CONTENTS.items():
            assert await storage.get(key) == content


async def test_a_storage_without_keys_is_refused(tmp_path: Path) -> None:
    async with FilesystemStorage(FilesystemConfig(root=tmp_path)) as storage:
        with pytest.raises(UnsupportedCapabilityError, match="not encrypted"):
            await rewrap(storage)
    of_sqlite = layered(SQLiteStorage)
    settings: Any = SQLiteConfig(path=tmp_path / "x.sqlite3").model_dump()
    config = of_sqlite.config_class.model_validate({**settings, "compression": "zstd"})
    async with of_sqlite(config) as compressed:
        await compressed.put("object", b"x")
        with pytest.raises(UnsupportedCapabilityError, match="encryption"):
            await rewrap(compressed)
