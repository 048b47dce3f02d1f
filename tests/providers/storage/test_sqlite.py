"""What is special about the storage type ``sqlite``; the rest is in the conformance suite."""

from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.registry import RegistryError, guarded
from purveyor.providers.registry.errors import InvalidStateError, UnsupportedCapabilityError
from purveyor.providers.storage import sqlite as sqlite_module
from purveyor.providers.storage import sqlite_jobs, sqlite_schema
from purveyor.providers.storage.base import Delete, Put
from purveyor.providers.storage.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageTimeoutError,
)
from purveyor.providers.storage.sqlite import SQLiteConfig, SQLiteStorage

MIB = 1024 * 1024
PATTERN = bytes(range(251)) * (3 * MIB // 251 + 1)
LARGE = PATTERN[: 2 * MIB + 4321]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "objects.sqlite3"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SQLiteStorage]:
    async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
        yield storage


async def on_writer(storage: SQLiteStorage, job: Callable[[sqlite3.Connection], Any]) -> Any:
    """Run a job as the storage does: the only way to set what belongs to its connection."""
    return await storage._writer.run(job)


async def count(storage: SQLiteStorage, table: str) -> int:
    row = await on_writer(storage, lambda c: c.execute(f"SELECT count(*) FROM {table}").fetchone())
    return row[0]


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await holds():  # noqa: ASYNC110 - what is awaited happens in a thread
            await asyncio.sleep(0.005)


async def blocks(number: int, size: int = MIB) -> AsyncIterator[bytes]:
    for index in range(number):
        yield bytes([index % 256]) * size


async def keys(storage: SQLiteStorage, prefix: str = "") -> list[str]:
    return [info.key async for info in storage.list(prefix)]


def rename(old: Path, new: Path) -> None:
    old.rename(new)


def forbid(folder: Path) -> None:
    folder.chmod(0o500)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("purveyor-sqlite")]


class TestSettings:
    def test_path_is_named_after_the_provider_below_home(self) -> None:
        context = {"home": Path("/srv/app"), "name": "archive"}
        config = SQLiteConfig.model_validate({}, context=context)
        assert config.path == Path("/srv/app/storage/archive.sqlite3")

    def test_path_has_a_default_without_context(self) -> None:
        assert SQLiteConfig().path == Path(".purveyor/storage/sqlite.sqlite3").absolute()

    def test_older_name_of_path_works(self) -> None:
        assert SQLiteConfig.model_validate({"database_path": "/x/y.db"}).path == Path("/x/y.db")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"path": ":memory:"},
            {"path": ""},
            {"busy_timeout": 0},
            {"synchronous": "sometimes"},
            {"nonsense": 1},
        ],
    )
    def test_wrong_values_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            SQLiteConfig.model_validate(wrong)

    @pytest.mark.parametrize("level", ["off", "normal", "full", "extra"])
    async def test_every_level_of_synchronous_stores(self, path: Path, level: Any) -> None:
        async with SQLiteStorage(SQLiteConfig(path=path, synchronous=level)) as storage:
            await storage.put("a", b"1")
            assert await storage.get("a") == b"1"
            value = await on_writer(storage, lambda c: c.execute("PRAGMA synchronous").fetchone())
            assert value == (["off", "normal", "full", "extra"].index(level),)


class TestFile:
    async def test_folder_and_file_are_made_for_this_account_only(
        self, storage: SQLiteStorage, path: Path
    ) -> None:
        await storage.put("a", b"1")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    async def test_closing_empties_the_log_and_ends_the_threads(self, path: Path) -> None:
        async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
            await storage.put("a", b"1")
            assert len(threads()) == 2
        assert threads() == []
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    async def test_objects_are_there_after_a_new_start(self, path: Path) -> None:
        async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
            await storage.put("a", LARGE, content_type="x/y", metadata={"a": "ö"})
        async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
            info = await storage.stat("a")
            assert (info.content_type, dict(info.metadata)) == ("x/y", {"a": "ö"})
            assert await storage.get("a") == LARGE

    async def test_the_same_instance_can_be_opened_again(self, path: Path) -> None:
        storage = SQLiteStorage(SQLiteConfig(path=path))
        async with storage:
            await storage.put("a", b"1")
        with pytest.raises(InvalidStateError, match="not connected"):
            await storage.get("a")
        async with storage:
            assert await storage.get("a") == b"1"

    async def test_a_file_that_is_no_database_is_named_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.txt"
        path.write_text("Dear reader, this is not a database. " * 100)
        before = path.read_bytes()
        with pytest.raises(StorageError, match=r"letter\.txt.*another file"):
            async with SQLiteStorage(SQLiteConfig(path=path)):
                pass
        assert path.read_bytes() == before
        assert threads() == []

    async def test_a_foreign_database_is_named_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE objects (id)")
        connection.close()
        before = path.read_bytes()
        with pytest.raises(StorageError, match=r"shop\.db is the database of another application"):
            async with SQLiteStorage(SQLiteConfig(path=path)):
                pass
        assert path.read_bytes() == before

    async def test_a_newer_schema_is_refused(self, path: Path) -> None:
        async with SQLiteStorage(SQLiteConfig(path=path)):
            pass
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(StorageError, match=r"objects\.sqlite3 was written by a newer release"):
            async with SQLiteStorage(SQLiteConfig(path=path)):
                pass

    async def test_a_folder_in_its_place_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="unable to open database file"):
            async with SQLiteStorage(SQLiteConfig(path=tmp_path)):
                pass

    async def test_a_folder_that_cannot_be_made_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        storage = guarded(SQLiteStorage(SQLiteConfig(path=tmp_path / "file" / "x.db")), name="n")
        with pytest.raises(StorageError, match=r"Cannot open the database: .*file"):
            await storage.get("a")
        await storage.dispose()

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
    async def test_a_folder_without_permission_is_told(self, tmp_path: Path) -> None:
        forbid(tmp_path)
        with pytest.raises(StoragePermissionError, match=r"x\.db and its folder"):
            async with SQLiteStorage(SQLiteConfig(path=tmp_path / "x.db")):
                pass

    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (errno.EACCES, StoragePermissionError),
            (errno.ENOSPC, StorageFullError),
            (errno.EROFS, StorageError),
        ],
    )
    def test_errors_of_the_system_name_the_file(self, number: int, kind: type[Exception]) -> None:
        error = OSError(number, os.strerror(number), "/x/y.db")
        told = sqlite_schema.explain(error, Path("/x/y.db"), "Cannot open the database", "n")
        assert type(told) is kind
        assert "/x/y.db" in str(told)

    async def test_damage_is_told_with_the_file(self, path: Path) -> None:
        async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
            for number in range(200):
                await storage.put(f"key-{number:03}", os.urandom(2000))
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(os.urandom(500_000))
        damaged = guarded(SQLiteStorage(SQLiteConfig(path=path)), name="archive")
        with pytest.raises(StorageError, match=r"objects\.sqlite3.*backup"):
            await damaged.get("key-100")
        await damaged.dispose()

    async def test_health_tells_of_a_file_that_was_removed(
        self, storage: SQLiteStorage, path: Path
    ) -> None:
        await storage.check_health()
        away = path.with_suffix(".away")
        rename(path, away)
        with pytest.raises(StorageError, match="removed or replaced"):
            await storage.check_health()
        rename(away, path)
        await storage.check_health()

    async def test_a_storage_dropped_unclosed_leaves_no_thread(self, path: Path) -> None:
        storage = SQLiteStorage(SQLiteConfig(path=path))
        await storage._connect()
        await storage.put("a", b"1")
        workers = [t for t in threading.enumerate() if t.name.startswith("purveyor-sqlite")]
        del storage
        gc.collect()
        for thread in workers:
            await asyncio.to_thread(thread.join, 10)
        assert threads() == []


class TestGroupCommit:
    async def test_one_failing_job_fails_alone(self, storage: SQLiteStorage) -> None:
        await storage.put("5", b"old")
        puts = [storage.put(str(n), b"new", overwrite=False) for n in range(10)]
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert [n for n, r in enumerate(results) if isinstance(r, ObjectExistsError)] == [5]
        assert await keys(storage) == [str(n) for n in range(10)]
        assert await storage.get("5") == b"old"

    async def test_what_a_failing_job_wrote_is_undone(self, storage: SQLiteStorage) -> None:
        changes = [Put("a", b"1"), Put("taken", b"2", overwrite=False)]
        await storage.put("taken", b"0")
        results = await asyncio.gather(
            storage.put("before", b""),
            storage.apply(changes),
            storage.put("after", b""),
            return_exceptions=True,
        )
        assert isinstance(results[1], ObjectExistsError)
        assert await keys(storage) == ["after", "before", "taken"]

    @pytest.mark.requirement("S1.31")
    async def test_ten_writers_and_ten_readers(self, storage: SQLiteStorage) -> None:
        for n in range(10):
            await storage.put(f"k{n}", bytes([0]) * 100_000)

        async def write(n: int) -> None:
            for turn in range(1, 20):
                size = 100 if turn % 2 else 100_000
                await storage.put(f"k{n}", bytes([turn]) * size)

        async def read(n: int) -> None:
            for _ in range(40):
                data = await storage.get(f"k{n}")
                assert len(data) in (100, 100_000)
                assert data == data[:1] * len(data)

        await asyncio.gather(*(write(n) for n in range(10)), *(read(n) for n in range(10)))
        assert {await storage.get(f"k{n}") for n in range(10)} == {bytes([19]) * 100}

    async def test_exactly_one_of_many_creators_wins(self, storage: SQLiteStorage) -> None:
        creations = [storage.put("a", bytes([n]) * 90_000, overwrite=False) for n in range(20)]
        results = await asyncio.gather(*creations, return_exceptions=True)
        assert sum(isinstance(r, ObjectExistsError) for r in results) == 19
        assert (await storage.get("a"))[0] == next(
            n for n, r in enumerate(results) if not isinstance(r, BaseException)
        )

    async def test_reads_do_not_wait_for_a_write(self, storage: SQLiteStorage) -> None:
        await storage.put("a", b"1")
        release = threading.Event()
        writing = storage._writer.run(lambda _: release.wait(10))
        try:
            assert await storage.get("a") == b"1"
            assert not writing.done()
        finally:
            release.set()
        await writing


class TestLargeObjects:
    @pytest.mark.parametrize("size", [0, 1, 65536, 65537, MIB - 1, MIB, MIB + 1, 5 * MIB])
    async def test_every_size_comes_back(self, storage: SQLiteStorage, size: int) -> None:
        data = (PATTERN * 2)[:size]
        info = await storage.put("a", data)
        assert (info.size, await storage.get("a")) == (size, data)
        assert b"".join([chunk async for chunk in storage.stream("a")]) == data

    @pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("kind", [bytearray, memoryview, Path, open])
    async def test_every_kind_of_source(
        self, storage: SQLiteStorage, tmp_path: Path, kind: Any, data: bytes
    ) -> None:
        file = tmp_path / "source"
        file.write_bytes(data)
        source = kind(data) if kind in (bytearray, memoryview) else file
        with file.open("rb") as opened:
            await storage.put("a", opened if kind is open else source)
        assert await storage.get("a") == data
        with pytest.raises(ObjectExistsError):
            await storage.put("a", source, overwrite=False)

    async def test_odd_pieces_of_a_source_are_put_together(self, storage: SQLiteStorage) -> None:
        async def source() -> AsyncIterator[bytes]:
            for begin in range(0, len(LARGE), 99_999):
                yield LARGE[begin : begin + 99_999]

        await storage.put("a", source())
        assert await storage.get("a") == LARGE

    @pytest.mark.parametrize(
        ("start", "end"),
        [(0, 0), (5, 10), (MIB - 3, MIB + 3), (MIB, 2 * MIB), (7, None), (len(LARGE), None)],
    )
    async def test_ranges(self, storage: SQLiteStorage, start: int, end: int | None) -> None:
        await storage.put("a", LARGE)
        assert await storage.get("a", start=start, end=end) == LARGE[start:end]
        parts = [part async for part in storage.stream("a", start=start, end=end)]
        assert b"".join(parts) == LARGE[start:end]

    async def test_a_range_reads_only_the_chunks_it_needs(self, storage: SQLiteStorage) -> None:
        await storage.put("a", blocks(8))
        await on_writer(storage, lambda c: c.execute("DELETE FROM chunks WHERE number <> 3"))
        assert await storage.get("a", start=3 * MIB, end=4 * MIB) == b"\x03" * MIB
        with pytest.raises(StorageError, match="missing"):
            await storage.get("a", start=2 * MIB, end=4 * MIB)

    async def test_memory_stays_bounded(self, storage: SQLiteStorage) -> None:
        await storage.put("warm", blocks(2))
        tracemalloc.start()
        await storage.put("a", blocks(64))
        size = 0
        async for chunk in storage.stream("a"):
            size += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size == 64 * MIB
        assert peak < 12 * MIB

    async def test_a_stream_keeps_its_version(self, storage: SQLiteStorage) -> None:
        await storage.put("a", LARGE)
        stream = aiter(storage.stream("a"))
        parts = [await anext(stream)]
        await storage.put("a", b"small")
        await storage.delete("a")
        await eventually(partial(nothing_loose, storage))
        parts += [part async for part in stream]
        assert b"".join(parts) == LARGE
        assert not storage._snapshots

    async def test_an_object_replaced_before_its_stream_began(self, storage: SQLiteStorage) -> None:
        await storage.put("a", LARGE)
        stream = storage._read_blocks("a", 1, 3)
        await storage.put("a", b"small")
        assert [block async for block in stream] == [b"ma"]

    async def test_an_object_is_invisible_until_it_is_whole(self, storage: SQLiteStorage) -> None:
        await storage.put("a", b"old")
        seen: list[bytes] = []

        async def source() -> AsyncIterator[bytes]:
            async for block in blocks(4):
                yield block
                seen.append(await storage.get("a"))

        await storage.put("a", source())
        assert seen == [b"old"] * 4
        assert (await storage.stat("a")).size == 4 * MIB

    @pytest.mark.parametrize("how", ["aclose", "cancel", "garbage"])
    async def test_an_unfinished_stream_is_closed(self, storage: SQLiteStorage, how: str) -> None:
        await storage.put("a", LARGE)

        stream = aiter(storage.stream("a"))
        if how == "cancel":

            async def consume(stream: AsyncIterator[bytes]) -> None:
                async for _ in stream:
                    await asyncio.Event().wait()

            task = asyncio.create_task(consume(stream))
            await eventually(partial(has_snapshot, storage))
            (snapshot,) = storage._snapshots
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
        else:
            await anext(stream)
            (snapshot,) = storage._snapshots
            if how == "aclose":
                await stream.aclose()  # type: ignore[attr-defined]  # a generator
        del stream

        async def closed() -> bool:
            gc.collect()
            return not storage._snapshots and snapshot._connection is None

        await eventually(closed)

    async def test_a_failing_source_leaves_nothing(self, storage: SQLiteStorage) -> None:
        await storage.put("a", b"old")

        async def source() -> AsyncIterator[bytes]:
            async for block in blocks(3):
                yield block
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await storage.put("a", source())
        assert await storage.get("a") == b"old"
        await eventually(partial(nothing_loose, storage))
        assert await count(storage, "chunks") == 0

    async def test_a_cancelled_put_leaves_nothing(self, storage: SQLiteStorage) -> None:
        await storage.put("a", b"old")
        stuck = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            async for block in blocks(3):
                yield block
            stuck.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(storage.put("a", source()))
        await stuck.wait()
        assert await count(storage, "chunks") == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await storage.get("a") == b"old"
        await eventually(partial(nothing_loose, storage))
        assert await count(storage, "chunks") == 0

    async def test_a_put_cancelled_anywhere_is_whole_or_not(self, storage: SQLiteStorage) -> None:
        for turn in range(30):
            task = asyncio.create_task(storage.put("a", blocks(2)))
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if await storage.exists("a"):
                assert len(await storage.get("a")) == 2 * MIB
                await storage.delete("a")
        await eventually(partial(nothing_loose, storage))
        assert await count(storage, "chunks") == 0

    async def test_abandoned_uploads_are_removed_by_age(self, path: Path) -> None:
        long_ago = time.time() - sqlite_schema.UPLOAD_EXPIRY - 1

        def leave_two(c: sqlite3.Connection) -> None:
            for version, touched in ((1, long_ago), (2, time.time())):
                c.execute("INSERT INTO loose VALUES (?, ?)", (version, touched))
                c.executemany(
                    "INSERT INTO chunks VALUES (?, ?, x'00')", [(version, n) for n in range(100)]
                )

        async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
            await on_writer(storage, leave_two)
        async with SQLiteStorage(SQLiteConfig(path=path)) as storage:

            async def only_the_young() -> bool:
                return await count(storage, "loose") == 1

            await eventually(only_the_young)
            assert await count(storage, "chunks") == 100

    async def test_an_upload_that_was_swept_away_says_so(self, storage: SQLiteStorage) -> None:
        async def source() -> AsyncIterator[bytes]:
            async for block in blocks(2):
                yield block
            await on_writer(storage, lambda c: c.execute("UPDATE loose SET touched = 0"))
            await eventually(partial(nothing_loose, storage))

        with pytest.raises(StorageError, match="counted as abandoned"):
            await storage.put("a", source())
        assert not await storage.exists("a")


async def nothing_loose(storage: SQLiteStorage) -> bool:
    return await count(storage, "loose") == 0


async def has_snapshot(storage: SQLiteStorage) -> bool:
    return bool(storage._snapshots)


class TestCopyAndMove:
    @pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
    async def test_a_copy_outlives_its_source(self, storage: SQLiteStorage, data: bytes) -> None:
        await storage.put("a", data, content_type="x/y", metadata={"n": "v"})
        info = await storage.copy("a", "b")
        await storage.put("a", b"other")
        await storage.delete("a")
        await eventually(partial(nothing_loose, storage))
        assert (info.content_type, dict(info.metadata)) == ("x/y", {"n": "v"})
        assert await storage.get("b") == data
        await storage.delete("b")
        await eventually(partial(nothing_loose, storage))
        assert await count(storage, "chunks") == 0

    async def test_a_copy_shares_its_chunks(self, storage: SQLiteStorage) -> None:
        await storage.put("a", LARGE)
        await storage.copy("a", "b")
        await storage.copy("a", "a")
        await storage.copy("a", "b")
        assert await count(storage, "chunks") == 3
        assert await storage.get("a") == await storage.get("b") == LARGE

    async def test_a_move_replaces_its_target(self, storage: SQLiteStorage) -> None:
        await storage.put("a", LARGE)
        await storage.put("b", b"x" * 100_000)
        info = await storage.move("a", "b")
        assert (info.key, await keys(storage), await storage.get("b")) == ("b", ["b"], LARGE)
        await eventually(partial(nothing_loose, storage))
        assert await count(storage, "chunks") == 3

    async def test_refusals_change_nothing(self, storage: SQLiteStorage) -> None:
        await storage.put("a", b"1")
        await storage.put("b", b"2")
        for act, again in itertools.product((storage.copy, storage.move), range(2)):
            with pytest.raises(ObjectExistsError):
                await act("a", "b", overwrite=False)
            with pytest.raises(ObjectNotFoundError):
                await act("missing", "b", overwrite=bool(again))
        await storage.move("a", "a", overwrite=False)
        assert [await storage.get(key) for key in await keys(storage)] == [b"1", b"2"]


class TestList:
    async def test_order_is_that_of_the_bytes_across_pages(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_jobs, "PAGE_ROWS", 3)
        names = ["a", "A", "a/b", "a.b", "ab", "é", "e\u0301", "\U0001f600", "\uffee", "z", "a/b/c"]
        for name in names:
            await storage.put(name, b"")
        assert await keys(storage) == sorted(names, key=str.encode)
        assert await keys(storage, "a") == ["a", "a.b", "a/b", "a/b/c", "ab"]
        assert await keys(storage, "a/") == ["a/b", "a/b/c"]
        assert await keys(storage, "\U0001f600") == ["\U0001f600"]
        assert await keys(storage, "%") == []

    async def test_a_page_is_no_transaction(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_jobs, "PAGE_ROWS", 2)
        for name in "bdfh":
            await storage.put(name, b"")
        seen: list[str] = []
        async for info in storage.list():
            seen.append(info.key)
            if info.key == "b":
                await storage.delete("f")
                await storage.put("e", b"")
        assert seen == ["b", "d", "e", "h"]


class TestSearch:
    async def test_finds_words_of_key_and_metadata(self, storage: SQLiteStorage) -> None:
        await storage.put("reports/2024 Summary.txt", b"", metadata={"author": "Zoë Müller"})
        await storage.put("reports/draft.txt", b"", metadata={"state": "line\nbreak"})

        async def found(query: str, **options: int) -> list[str]:
            return [info.key for info in await storage.search(query, **options)]

        assert await found("summary") == ["reports/2024 Summary.txt"]
        assert await found("SUMM müll") == ["reports/2024 Summary.txt"]
        assert await found("break") == ["reports/draft.txt"]
        assert sorted(await found("rep")) == ["reports/2024 Summary.txt", "reports/draft.txt"]
        assert len(await found("rep", limit=1)) == 1
        assert await found("summary draft") == []
        assert await found("ummary") == []
        assert await found("") == await found("  ") == await found("rep", limit=0) == []

    @pytest.mark.parametrize(
        "query",
        ['"', "'", "a OR", "NOT", "key:a", "a*", "(", "^a", "-", "\0", "a\0b", "NEAR(", "+"],
    )
    async def test_no_query_is_a_syntax_error(self, storage: SQLiteStorage, query: str) -> None:
        await storage.put("a", b"")
        assert isinstance(await storage.search(query), list)

    async def test_follows_every_change(self, storage: SQLiteStorage) -> None:
        async def found(query: str) -> list[str]:
            return [info.key for info in await storage.search(query)]

        await storage.put("one", b"", metadata={"n": "first"})
        assert await found("first") == ["one"]
        await storage.put("one", b"", metadata={"n": "second"})
        assert (await found("first"), await found("second")) == ([], ["one"])
        await storage.move("one", "two")
        assert (await found("one"), await found("two")) == ([], ["two"])
        await storage.copy("two", "three")
        await storage.delete("two")
        assert await found("second") == ["three"]
        await storage.delete("three")
        await storage.put("four", b"")
        assert (await found("second"), await found("four")) == ([], ["four"])
        assert await count(storage, "words") == 1

    async def test_leaves_out_what_changed_since_it_was_indexed(
        self, storage: SQLiteStorage
    ) -> None:
        await storage.put("a", b"", metadata={"n": "first"})
        await storage.put("b", b"", metadata={"n": "first"})
        assert len(await storage.search("first")) == 2
        await storage.put("a", b"", metadata={"n": "second"})
        search = partial(sqlite_jobs.search, match="first", limit=10)
        assert [info.key for info in await storage._reader.run(search)] == ["b"]

    async def test_puts_and_deletes_leave_nothing_to_index(self, storage: SQLiteStorage) -> None:
        await storage.put("kept", b"")
        for n in range(10):
            await storage.put(f"k{n}", b"")
            await storage.put(f"k{n}", b"again")
            await storage.delete(f"k{n}")
        assert await count(storage, "pending") == 1

    async def test_indexes_more_than_a_page(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_jobs, "PAGE_ROWS", 4)
        await storage.apply([Put(f"word/{n}", b"") for n in range(10)])
        assert len(await storage.search("word")) == 10

    async def test_missing_full_text_search_is_told(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_module, "can_search", lambda _: False)
        with pytest.raises(UnsupportedCapabilityError, match="FTS5"):
            await storage.search("a")


class TestTransactions:
    async def test_all_or_nothing(self, storage: SQLiteStorage) -> None:
        await storage.put("old", b"1")
        async with storage.transaction() as transaction:
            transaction.put("a", b"1", metadata={"n": "v"})
            transaction.put("large", LARGE)
            transaction.delete("old")
        assert await keys(storage) == ["a", "large"]
        assert await storage.get("large") == LARGE
        with pytest.raises(ObjectExistsError):
            await storage.apply([Delete("a"), Put("new", LARGE), Put("large", b"", False)])
        assert await keys(storage) == ["a", "large"]
        assert await count(storage, "chunks") == 3
        assert await count(storage, "loose") == 0

    async def test_nothing_to_do_succeeds(self, storage: SQLiteStorage) -> None:
        await storage.apply([])


class TestFailures:
    @pytest.mark.parametrize("size", [50_000, 600_000, 3 * MIB])
    async def test_a_full_disk_leaves_the_old_object_whole(self, path: Path, size: int) -> None:
        instance = SQLiteStorage(SQLiteConfig(path=path))
        storage = guarded(instance, name="archive")
        await storage.put("a", b"old" * 10_000)

        def fill(c: sqlite3.Connection) -> None:
            pages = c.execute("PRAGMA page_count").fetchone()[0]
            c.execute(f"PRAGMA max_page_count = {pages + 2}")

        await on_writer(instance, fill)
        with pytest.raises(StorageFullError, match="archive"):
            await storage.put("a", b"x" * size)
        assert await storage.get("a") == b"old" * 10_000
        await on_writer(instance, lambda c: c.execute("PRAGMA max_page_count = 1000000"))
        await storage.put("a", b"x" * size)
        assert await storage.get("a") == b"x" * size
        await storage.dispose()

    async def test_a_full_disk_fails_only_what_does_not_fit(self, storage: SQLiteStorage) -> None:
        await on_writer(storage, lambda c: c.execute("PRAGMA max_page_count = 60"))
        puts = [storage.put(f"k{n}", b"x" * (800_000 if n == 5 else 10)) for n in range(10)]
        results = await asyncio.gather(*puts, return_exceptions=True)
        failed = [n for n, r in enumerate(results) if isinstance(r, sqlite3.OperationalError)]
        assert failed == [5]
        assert await keys(storage) == [f"k{n}" for n in range(10) if n != 5]

    async def test_a_lost_transaction_is_done_again_job_by_job(
        self, storage: SQLiteStorage
    ) -> None:
        def lose(connection: sqlite3.Connection) -> None:
            connection.execute("ROLLBACK")
            connection.execute("SELECT * FROM no_such_table")

        results = await asyncio.gather(
            storage.put("a", b"1"),
            on_writer(storage, lose),
            storage.put("b", b"2"),
            return_exceptions=True,
        )
        assert isinstance(results[1], sqlite3.OperationalError)
        assert await keys(storage) == ["a", "b"]

    async def test_a_lock_held_too_long_is_a_timeout(self, path: Path) -> None:
        storage = guarded(SQLiteStorage(SQLiteConfig(path=path, busy_timeout=0.1)), name="archive")
        await storage.put("a", b"1")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(StorageTimeoutError, match="busy_timeout"):
                await storage.put("a", b"2")
            assert await storage.get("a") == b"1"
        finally:
            other.close()
        await storage.put("a", b"2")
        await storage.dispose()

    async def test_a_file_that_must_not_be_written_is_told(self, path: Path) -> None:
        instance = SQLiteStorage(SQLiteConfig(path=path))
        storage = guarded(instance, name="archive")
        await storage.put("a", b"1")
        await on_writer(instance, lambda c: c.execute("PRAGMA query_only = ON"))
        with pytest.raises(StoragePermissionError, match=r"objects\.sqlite3"):
            await storage.put("a", b"2")
        assert await storage.get("a") == b"1"
        await storage.dispose()

    async def test_closing_finishes_what_was_begun(self, path: Path) -> None:
        storage = SQLiteStorage(SQLiteConfig(path=path))
        await storage._connect()
        puts = [asyncio.create_task(storage.put(str(n), b"x")) for n in range(100)]
        await asyncio.sleep(0)
        await storage._close()
        await asyncio.gather(*puts)
        with pytest.raises(InvalidStateError):
            await storage.put("late", b"")
        async with storage:
            assert len(await keys(storage)) == 100

    async def test_closing_ends_streams_and_uploads(self, path: Path) -> None:
        storage = SQLiteStorage(SQLiteConfig(path=path))
        await storage._connect()
        await storage.put("a", LARGE)
        stream = aiter(storage.stream("a"))
        await anext(stream)
        stuck, release = asyncio.Event(), asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            async for block in blocks(2):
                yield block
            stuck.set()
            await release.wait()

        upload = asyncio.create_task(storage.put("b", source()))
        await stuck.wait()
        await storage._close()
        release.set()
        with pytest.raises(InvalidStateError):
            await anext(stream)
        with pytest.raises(InvalidStateError):
            await upload
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        async with storage:
            await eventually(partial(nothing_loose, storage))
            assert await keys(storage) == ["a"]
            assert await count(storage, "chunks") == 3

    def test_two_event_loops_with_a_storage_each(self, path: Path) -> None:
        async def work(name: str) -> None:
            async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
                for n in range(20):
                    await storage.put(f"{name}/{n}", name.encode())

        workers = [threading.Thread(target=asyncio.run, args=(work(name),)) for name in "ab"]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

        async def look() -> list[str]:
            async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
                return await keys(storage)

        assert len(asyncio.run(look())) == 40


PROCESS = """
import asyncio, json, sys
from purveyor.providers.storage.sqlite import SQLiteConfig, SQLiteStorage

async def source(size):
    for _ in range(size):
        yield b"x" * 1048576

async def work(path, name, times, size):
    async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
        for n in range(times):
            await storage.put(f"{name}/{n}", source(size) if size else b"y" * 3000)
            await storage.put("shared", name.encode() * 50_000)
            print(n, flush=True)

asyncio.run(work(*json.loads(sys.argv[1])))
"""


def process(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, json.dumps(arguments, default=str)],
        stdout=subprocess.PIPE,
        text=True,
    )


class TestProcesses:
    async def test_several_processes_share_a_new_file(self, path: Path) -> None:
        running = [process(path, name, 30, 0) for name in "abcd"]
        for one in running:
            one.communicate(timeout=60)
            assert one.returncode == 0
        async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
            assert len(await keys(storage)) == 121
            data = await storage.get("shared")
            assert data == data[:1] * 50_000

    @pytest.mark.parametrize("size", [0, 40])
    async def test_a_killed_process_leaves_no_half_object(self, path: Path, size: int) -> None:
        running = process(path, "a", 10_000, size)
        assert running.stdout is not None
        async with asyncio.timeout(60):
            for _ in range(3):
                await asyncio.to_thread(running.stdout.readline)
        running.kill()
        running.communicate()
        async with SQLiteStorage(SQLiteConfig(path=path)) as storage:
            infos = [info async for info in storage.list("a/")]
            assert len(infos) >= 3
            for info in infos:
                assert info.size == (size * MIB or 3000)
                total = 0
                async for chunk in storage.stream(info.key):
                    total += len(chunk)
                assert total == info.size
            assert len(await storage.get("shared")) == 50_000
            check = await on_writer(storage, lambda c: c.execute("PRAGMA quick_check").fetchone())
            assert check == ("ok",)


def test_mistakes_in_the_use_of_sqlite_pass_through() -> None:
    error = sqlite3.ProgrammingError("a mistake")
    assert sqlite_schema.explain(error, Path("x"), "It failed") is None
    assert not isinstance(error, RegistryError)


async def test_stats_count_what_is_stored(storage: SQLiteStorage) -> None:
    await storage.put("a", LARGE)
    await storage.put("b", b"12345")
    stats = await storage.stats()
    assert (stats.object_count, stats.total_bytes) == (2, len(LARGE) + 5)
    assert stats.free_bytes is not None
