"""The rules of capabilities: what is declared works, what is not is refused."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ...providers.registry import UnsupportedCapabilityError
from ...providers.storage import (
    Delete,
    InvalidMetadataError,
    KeyConflictError,
    ObjectExistsError,
    Put,
)
from .storage_case import MIB, Storage, StorageCase, keys, pieces, refusal, storage_test

__all__ = ["CapabilityRules"]

LARGE_CHUNKS = 64
"""MiB of the object that must go through in bounded memory."""
PYTHON_LIMIT = 24 * MIB
PROCESS_LIMIT = 60 * MIB
"""Less than the object: what a library in another language holds counts too."""
MODIFIED = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
METADATA = {"author": "Ada Lovelace", "note": 'größer als 5 % & "so"', "empty": ""}


class CapabilityRules(StorageCase):
    """Each declared capability is proven; each undeclared one is refused."""

    def test_capabilities_are_declared(self) -> None:
        """Capabilities are lower-case names, and say where the objects are."""
        assert all(name == name.lower() and name for name in self.capabilities)
        assert self.capabilities & {"local-storage", "remote-storage"}, (
            f"{self.provider_class.__name__} declares neither local-storage nor remote-storage"
        )

    # -- streaming -----------------------------------------------------------------------

    @storage_test
    async def test_streaming_needs_bounded_memory(self, storage: Storage) -> None:
        """64 MiB go in from an iterator and out by a stream in less than 24 MiB of memory."""
        self.needs("streaming")
        await storage.put("large", b"x")  # connected, and everything imported
        memory = _Memory()
        put, got = hashlib.sha256(), hashlib.sha256()

        async def source() -> AsyncIterator[bytes]:
            for number in range(LARGE_CHUNKS):
                chunk = bytes([number]) * MIB
                put.update(chunk)
                memory.look()
                yield chunk

        with memory:
            await storage.put("large", source())
            await storage.copy("large", "copy")
            async for chunk in storage.stream("copy"):
                got.update(chunk)
                memory.look()
        assert (await storage.stat("copy")).size == LARGE_CHUNKS * MIB
        assert got.digest() == put.digest()
        assert memory.python < PYTHON_LIMIT, f"{memory.python / MIB:.0f} MiB in Python"
        assert memory.process < PROCESS_LIMIT, f"the process grew by {memory.process / MIB:.0f} MiB"

    # -- metadata ------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [5, 3 * MIB], ids=["small", "large"])
    @storage_test
    async def test_metadata_is_kept(self, storage: Storage, size: int) -> None:
        """Content type and metadata come back as they were given, whatever the object's size."""
        self.needs("metadata")
        given = await storage.put(
            "object", pieces(bytes(size)), content_type="text/csv", metadata=METADATA
        )
        for info in (given, await storage.stat("object")):
            assert (info.content_type, dict(info.metadata)) == ("text/csv", METADATA)

    @storage_test
    async def test_metadata_goes_with_its_object(self, storage: Storage) -> None:
        """Copy and move take the metadata along; a put without any leaves none behind."""
        self.needs("metadata")
        await storage.put("source", b"x", content_type="text/csv", metadata=METADATA)
        await storage.put("copied", b"y", metadata={"other": "value"})
        await storage.copy("source", "copied")
        await storage.move("source", "moved")
        for key in ("copied", "moved"):
            info = await storage.stat(key)
            assert (info.content_type, dict(info.metadata)) == ("text/csv", METADATA), key
        await storage.put("moved", b"z")
        info = await storage.stat("moved")
        assert (info.content_type, dict(info.metadata)) == (None, {})

    @storage_test
    async def test_undeclared_metadata_is_refused(self, storage: Storage) -> None:
        """Without the capability, metadata is refused rather than lost, and nothing is stored."""
        self.lacks("metadata")
        for name, call in (
            ("put with content_type", storage.put("object", b"x", content_type="text/csv")),
            ("put with metadata", storage.put("object", b"x", metadata={"a": "b"})),
        ):
            await _refuses(name, call, "metadata")
        assert await keys(storage) == []

    # -- times ---------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [5, 3 * MIB], ids=["small", "large"])
    @storage_test
    async def test_a_given_time_is_kept(self, storage: Storage, size: int) -> None:
        """The time a put was given is the object's, to the second at least, wherever it shows."""
        self.needs("modified-times")
        put = await storage.put("object", pieces(bytes(size)), modified=MODIFIED)
        (listed,) = [info async for info in storage.list()]
        for info in (put, listed, await storage.stat("object")):
            assert abs(info.modified - MODIFIED) < timedelta(seconds=1)
        await storage.put("object", b"x")
        assert (await storage.stat("object")).modified > MODIFIED + timedelta(days=1)

    @storage_test
    async def test_a_time_without_a_zone_is_refused(self, storage: Storage) -> None:
        """A time that could be any is refused, and nothing is stored."""
        self.needs("modified-times")
        naive = storage.put("object", b"x", modified=MODIFIED.replace(tzinfo=None))
        await refusal(InvalidMetadataError, "put with a time of no zone", naive)
        assert await keys(storage) == []

    @storage_test
    async def test_an_undeclared_time_is_refused(self, storage: Storage) -> None:
        """Without the capability, a time is refused rather than lost, and nothing is stored."""
        self.lacks("modified-times")
        call = storage.put("object", b"x", modified=MODIFIED)
        await _refuses("put with modified", call, "modified-times")
        assert await keys(storage) == []

    # -- search --------------------------------------------------------------------------

    @storage_test
    async def test_search_finds_words(self, storage: Storage) -> None:
        """Search finds what holds every word, from its beginning, in whatever case."""
        self.needs("search")
        await storage.put("reports/Annual summary.txt", b"x")
        await storage.put("reports/monthly.txt", b"x")
        await storage.put("annual", b"x")
        for query, expected in (
            ("annual", {"reports/Annual summary.txt", "annual"}),
            ("SUMM annu", {"reports/Annual summary.txt"}),
            ("monthly annual", set[str]()),
            ("nnual", set[str]()),
        ):
            found = {info.key for info in await storage.search(query)}
            assert found == expected, f"search for {query!r}"
        assert len(await storage.search("annual", limit=1)) == 1
        await storage.delete("annual")
        found = {info.key for info in await storage.search("annual")}
        assert found == {"reports/Annual summary.txt"}

    @storage_test
    async def test_search_finds_metadata(self, storage: Storage) -> None:
        """Search looks into metadata too, where the type keeps any."""
        self.needs("search")
        self.needs("metadata")
        await storage.put("a", b"x", metadata={"author": "Lovelace"})
        await storage.put("b", b"x", metadata={"author": "Babbage"})
        assert [info.key for info in await storage.search("lovelace")] == ["a"]

    @storage_test
    async def test_search_takes_any_text(self, storage: Storage) -> None:
        """What a person types is words, never syntax that fails."""
        self.needs("search")
        await storage.put("object", b"x")
        for query in ('"', "*", "a AND", "NOT", "key:", "(", "'; --", "\0", "%", "_", "  "):
            assert list(await storage.search(query)) == [], f"search for {query!r}"

    @storage_test
    async def test_undeclared_search_is_refused(self, storage: Storage) -> None:
        """Without the capability, search says so rather than finding nothing."""
        self.lacks("search")
        await _refuses("search", storage.search("word"), "search")

    # -- transactions --------------------------------------------------------------------

    @storage_test
    async def test_a_transaction_applies_all(self, storage: Storage) -> None:
        """Changes are made in order and become visible when the block ends, not before."""
        self.needs("transactions")
        await storage.put("old", b"x")
        async with storage.transaction() as changes:
            changes.put("a", b"first")
            changes.put("a", b"second")
            changes.put("b", b"third")
            changes.delete("b")
            changes.delete("old")
            assert await keys(storage) == ["old"]
        assert await keys(storage) == ["a"]
        assert await storage.get("a") == b"second"

    @storage_test
    async def test_a_transaction_that_fails_applies_nothing(self, storage: Storage) -> None:
        """A block that raises, and a change that is refused, leave everything as it was."""
        self.needs("transactions")
        await storage.put("taken", b"x")
        changes = storage.transaction()
        with suppress(ZeroDivisionError):
            async with changes:
                changes.put("a", b"y")
                raise ZeroDivisionError
        assert await keys(storage) == ["taken"]
        refused = [Put("a", b"y"), Delete("taken"), Put("b", b"y"), Put("b", b"z", overwrite=False)]
        await refusal(ObjectExistsError, "apply", storage.apply(refused))
        assert await keys(storage) == ["taken"]

    @storage_test
    async def test_readers_see_all_of_a_transaction_or_nothing(self, storage: Storage) -> None:
        """No list shows a transaction half applied."""
        self.needs("transactions")
        names = [f"key{number}" for number in range(10)]
        seen: list[list[str]] = []
        done = asyncio.Event()

        async def look() -> None:
            while not done.is_set():
                seen.append(await keys(storage))

        async with asyncio.TaskGroup() as group:
            group.create_task(look())
            for _ in range(10):
                await storage.apply([Put(name, b"x") for name in names])
                await storage.apply([Delete(name) for name in names])
            done.set()
        assert all(found in ([], names) for found in seen)

    @storage_test
    async def test_undeclared_transactions_are_refused(self, storage: Storage) -> None:
        """Without the capability, a transaction is refused before its block does any work."""
        self.lacks("transactions")
        await _refuses("apply", storage.apply([Put("a", b"x")]), "transactions")
        await _refuses("transaction", storage.transaction().__aenter__(), "transactions")
        assert await keys(storage) == []

    # -- flat keys -----------------------------------------------------------------------

    @pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a")])
    @storage_test
    async def test_a_key_beside_keys_below_it(
        self, storage: Storage, first: str, second: str
    ) -> None:
        """With flat-keys `a` stands beside `a/b`; without: KeyConflictError, the first whole."""
        await storage.put(first, b"first")
        await storage.put("other", b"other")
        calls = {
            "put": lambda: storage.put(second, b"second"),
            "put of an iterator": lambda: storage.put(second, pieces(b"second")),
            "copy": lambda: storage.copy("other", second),
            "move": lambda: storage.move("other", second),
        }
        for name, call in calls.items():
            if "flat-keys" in self.capabilities:
                await call()
                assert await storage.exists(second), name
                await storage.delete(second)
                await storage.put("other", b"other")
            else:
                await refusal(KeyConflictError, name, call())
            assert await storage.get(first) == b"first", name
            assert await storage.get("other") == b"other", name
            assert await keys(storage) == sorted([first, "other"]), name
        await storage.delete(first)
        await storage.put(second, b"second")  # no longer beside anything
        assert await keys(storage) == sorted([second, "other"])


async def _refuses(name: str, call: Awaitable[object], capability: str) -> None:
    error = await refusal(UnsupportedCapabilityError, name, call)
    assert capability in str(error), f"{name}: the message does not name {capability!r}: {error}"


class _Memory:
    """How far memory grew while the block ran: Python's, and the whole process's."""

    def __enter__(self) -> None:
        self._started_here = not tracemalloc.is_tracing()
        if self._started_here:
            tracemalloc.start()
        tracemalloc.reset_peak()
        self._python = tracemalloc.get_traced_memory()[0]
        self._resident = _resident()
        self._most = 0

    def look(self) -> None:
        """Note the size of the process."""
        self._most = max(self._most, _resident())

    def __exit__(self, *exc_info: object) -> None:
        self.python = tracemalloc.get_traced_memory()[1] - self._python
        self.process = self._most - self._resident
        if self._started_here:
            tracemalloc.stop()


def _resident() -> int:
    """Return the bytes of memory the process holds; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
