"""The rules of every operation: what it does, what it returns, what it leaves alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest

from ...providers.storage import (
    InvalidRangeError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from .storage_case import (
    MIB,
    Storage,
    StorageCase,
    drained,
    each,
    infos,
    keys,
    pieces,
    refusal,
    storage_test,
)

__all__ = ["BehaviourRules"]

Chunks: TypeAlias = "AsyncGenerator[bytes]"
SIZES = {"nothing": 0, "one byte": 1, "one chunk": MIB, "several chunks": 3 * MIB + 17}
LARGE = bytes(range(251)) * (3 * MIB // 251 + 1)
DIGITS = b"0123456789"
RANGES: tuple[tuple[int, int | None, bytes], ...] = (
    (0, None, DIGITS),
    (0, 10, DIGITS),
    (3, 7, b"3456"),
    (9, 10, b"9"),
    (5, None, b"56789"),
    (5, 1000, b"56789"),
    (4, 4, b""),
    (0, 0, b""),
    (10, None, b""),
    (10, 10, b""),
    (10, 20, b""),
)
NO_RANGES = ((-1, None), (-3, -1), (0, -1), (7, 3), (11, None), (11, 20))
PAGED = 1_100
"""Objects of the test of long listings: more than any service lists at once."""


def sources_of(data: bytes, path: Path) -> dict[str, Callable[[], Any]]:
    """Return ``data``, which is in a file too, as each kind of thing that can be put."""
    return {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "path": lambda: path,
        "file": lambda: path.open("rb"),
        "iterator": lambda: pieces(data, 100_000),
    }


class BehaviourRules(StorageCase):
    """What each operation does."""

    # -- put, get, stat, exists, delete --------------------------------------------------

    @pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
    @storage_test
    async def test_get_returns_what_was_put(self, storage: Storage, size: int) -> None:
        """What put stored, get and stream return, byte for byte."""
        data = LARGE[:size]
        await storage.put("folder/object", data)
        assert await storage.get("folder/object") == data
        assert await drained(storage.stream("folder/object")) == data

    @storage_test
    async def test_an_object_and_its_info_come_together(self, storage: Storage) -> None:
        """What get_with_info says of an object is what stat says; an end cuts the content only."""
        await storage.put("object", LARGE)
        await storage.put("empty", b"")
        for key, data in (("object", LARGE), ("empty", b"")):
            known = await storage.stat(key)
            assert await storage.get_with_info(key) == (known, data)
            assert await storage.get_with_info(key, end=5) == (known, data[:5])
            assert await storage.get_with_info(key, end=0) == (known, b"")
        missing = storage.get_with_info("missing")
        await refusal(ObjectNotFoundError, "get_with_info of nothing", missing)

    @storage_test
    async def test_every_kind_of_source_is_stored(self, storage: Storage, tmp_path: Path) -> None:
        """Bytes, a path, an open binary file and an async iterator can be put, of any size."""
        path = tmp_path / "source"
        for data in (b"", b"small", LARGE):
            path.write_bytes(data)
            for kind, make in sources_of(data, path).items():
                source = make()
                try:
                    info = await storage.put(kind, source)
                finally:
                    if kind == "file":
                        source.close()
                assert info.size == len(data), kind
                assert await storage.get(kind) == data, kind

    @storage_test
    async def test_what_is_no_source_is_refused(self, storage: Storage) -> None:
        """Text, a number or None cannot be put: TypeError, and nothing is stored."""
        wrong: Any
        for wrong in ("text", 5, None):
            await refusal(TypeError, f"put of {wrong!r}", storage.put("object", wrong))
        assert await keys(storage) == []

    @storage_test
    async def test_put_and_stat_tell_what_is_known(self, storage: Storage) -> None:
        """What put returns and stat tells agree: key, size, and a time in UTC that is now."""
        put = await storage.put("folder/object", b"12345")
        told = await storage.stat("folder/object")
        for info in (put, told):
            assert (info.key, info.size) == ("folder/object", 5)
            assert info.modified.utcoffset() == timedelta(0)
            assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=10)
        assert told.etag == put.etag

    @storage_test
    async def test_etag_changes_with_the_content(self, storage: Storage) -> None:
        """Content of the same size that is put anew has another etag, where the type has etags."""
        first = await storage.put("object", b"one")
        second = await storage.put("object", b"two")
        assert first.etag is None or first.etag != second.etag

    @storage_test
    async def test_put_replaces(self, storage: Storage) -> None:
        """A put over an object replaces all of it, also by something shorter."""
        for data in (LARGE, b"short", b"", LARGE[:MIB]):
            await storage.put("object", data)
            assert await storage.get("object") == data
            assert (await storage.stat("object")).size == len(data)
        assert await keys(storage) == ["object"]

    @storage_test
    async def test_put_without_overwrite_refuses_a_taken_key(self, storage: Storage) -> None:
        """overwrite=False creates, or raises ObjectExistsError and leaves the object whole."""
        await storage.put("object", b"first", overwrite=False)
        for source in (b"second", pieces(b"second"), pieces(LARGE)):
            error = await refusal(
                ObjectExistsError, "put", storage.put("object", source, overwrite=False)
            )
            assert "'object'" in str(error)
        assert await storage.get("object") == b"first"
        assert await keys(storage) == ["object"]

    @storage_test
    async def test_exists_tells_objects_only(self, storage: Storage) -> None:
        """Exists is true of an object, and of nothing else: no folder, no beginning of a key."""
        await storage.put("folder/object", b"x")
        assert await storage.exists("folder/object") is True
        for missing in ("folder", "folder/obj", "folder/object/below", "other"):
            assert await storage.exists(missing) is False, missing

    @storage_test
    async def test_delete_removes(self, storage: Storage) -> None:
        """A deleted object is gone for every operation; its neighbours stay."""
        await storage.put("folder/object", b"x")
        await storage.put("folder/other", b"y")
        await storage.delete("folder/object")
        assert await storage.exists("folder/object") is False
        await refusal(ObjectNotFoundError, "get", storage.get("folder/object"))
        assert await keys(storage) == ["folder/other"]

    @storage_test
    async def test_delete_of_what_is_not_there_is_no_error(self, storage: Storage) -> None:
        """Deleting a missing object, or a second time, does nothing, and never deletes below."""
        await storage.put("folder/object", b"x")
        for missing in ("never", "folder", "folder/object/below", "no/such/folder"):
            await storage.delete(missing)
        assert await keys(storage) == ["folder/object"]
        await storage.delete("folder/object")
        await storage.delete("folder/object")
        assert await keys(storage) == []

    # -- ranges and streams --------------------------------------------------------------

    @storage_test
    async def test_ranges(self, storage: Storage) -> None:
        """A range is from start up to but not including end; an end past the object is its end."""
        await storage.put("object", DIGITS)
        for start, end, expected in RANGES:
            asked = f"from {start} to {end}"
            assert await storage.get("object", start=start, end=end) == expected, asked
            assert await drained(storage.stream("object", start=start, end=end)) == expected, asked

    @storage_test
    async def test_what_is_no_range_is_refused(self, storage: Storage) -> None:
        """A start that is negative, past the object or after the end: InvalidRangeError."""
        await storage.put("object", DIGITS)
        for start, end in NO_RANGES:
            for name, call in (
                ("get", storage.get("object", start=start, end=end)),
                ("stream", drained(storage.stream("object", start=start, end=end))),
            ):
                asked = f"{name} from {start} to {end}"
                assert isinstance(await refusal(InvalidRangeError, asked, call), ValueError)

    @storage_test
    async def test_ranges_across_chunks(self, storage: Storage) -> None:
        """A range that begins and ends within chunks of a large object is exact."""
        await storage.put("object", LARGE)
        start, end = MIB - 3, 2 * MIB + 5
        assert await storage.get("object", start=start, end=end) == LARGE[start:end]
        assert await drained(storage.stream("object", start=start, end=end)) == LARGE[start:end]

    @storage_test
    async def test_a_stream_stays_on_one_version(self, storage: Storage) -> None:
        """A stream that has begun goes on with the object it began with, though it is replaced."""
        await storage.put("object", LARGE)
        async with aclosing(cast(Chunks, storage.stream("object"))) as chunks:
            data = await anext(chunks)
            await storage.put("object", bytes(len(LARGE)))
            data += await drained(chunks)
        assert data == LARGE
        assert await storage.get("object") == bytes(len(LARGE))

    @storage_test
    async def test_a_stream_and_a_list_may_be_left(self, storage: Storage) -> None:
        """Leaving a stream or a list half way closes it; the storage goes on."""
        await storage.put("a", LARGE)
        await storage.put("b", b"x")
        for iterator in (storage.stream("a"), storage.list()):
            async with aclosing(cast(Chunks, iterator)) as items:
                await anext(items)
        await storage.delete("a")
        assert await keys(storage) == ["b"]

    # -- list and stats ------------------------------------------------------------------

    @storage_test
    async def test_list_is_in_order_of_the_bytes_of_keys(self, storage: Storage) -> None:
        """List yields each object once, ordered by the UTF-8 of its key, folders or not."""
        names = ["a", "a b", "a-b", "a.b", "b/a", "b/a-b", "b/a.b", "b-", "b.c", "aé"]
        names += ["a~", "A", "B/x", "Z", "z", "é", "ab", "\uff5e", "\U0001f600", "b/aé", "b0"]
        if "flat-keys" not in self.capabilities:
            names.remove("b/a")
        if not self.case_sensitive:
            names = [name for name in names if name not in ("A", "B/x", "Z")]
        await each(lambda name: storage.put(name, name.encode()), names)
        # After b/a: a server that keeps keys in folders may lose one of two made at one moment.
        names.append("b/a/c")
        await storage.put("b/a/c", b"b/a/c")
        found = await infos(storage)
        assert [info.key for info in found] == sorted(names, key=str.encode)
        assert {info.key: info.size for info in found} == {n: len(n.encode()) for n in names}

    @storage_test
    async def test_list_compares_the_prefix_as_text(self, storage: Storage) -> None:
        """A prefix is any beginning of a key, whether or not it ends at a slash."""
        names = ["log/2025", "log/2026-1", "log/2026-10/x", "log/2026-2", "log-old", "lo", "other"]
        await each(lambda name: storage.put(name, b"x"), names)
        for prefix in ("", "l", "lo", "log", "log/", "log/2026-1", "log/2026-10/", "log/2026-10/x"):
            expected = sorted(name for name in names if name.startswith(prefix))
            assert sorted(await keys(storage, prefix)) == expected, f"prefix {prefix!r}"
        for prefix in ("x", "log/2026-10/x/", "log/3", "log/2025/", "LOG"):
            assert await keys(storage, prefix) == [], f"prefix {prefix!r}"

    @storage_test
    async def test_list_goes_beyond_one_page(self, storage: Storage) -> None:
        """All of more objects than a page holds are listed, also while others come and go."""
        names = [f"page/{number:04}" for number in range(PAGED)]
        await each(lambda name: storage.put(name, b"x"), names)
        assert await keys(storage) == names
        assert await keys(storage, "page/10") == names[1000:1100]
        stay, go = names[::2], set(names[1::2])
        seen: list[str] = []
        async for info in storage.list():
            if not seen:
                await each(storage.delete, go)
                await storage.put("page/0500+", b"new")
            seen.append(info.key)
        assert [key for key in seen if key not in go and key != "page/0500+"] == stay

    @storage_test
    async def test_stats_count_objects_and_bytes(self, storage: Storage) -> None:
        """Stats tell how many objects there are and how many bytes they have."""
        empty = await storage.stats()
        assert (empty.object_count, empty.total_bytes) == (0, 0)
        for size in (0, 1, 1000):
            await storage.put(f"folder/{size}", bytes(size))
        await storage.put("folder/1000", bytes(500))
        stats = await storage.stats()
        assert (stats.object_count, stats.total_bytes) == (3, 501)
        assert stats.free_bytes is None or stats.free_bytes > 0
