"""The rules for what goes wrong: errors, races, cancellation, secrets, the end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import traceback
from typing import Any

import pytest

from ...providers.registry import InvalidStateError
from ...providers.storage import ObjectExistsError, ObjectNotFoundError
from .storage_case import (
    MIB,
    PROVIDER_NAME,
    PausedSource,
    Storage,
    StorageCase,
    calls_on,
    drained,
    infos,
    keys,
    pieces,
    refusal,
    secrets_in,
    storage_test,
)

__all__ = ["RobustnessRules"]

WRITERS = READERS = 10
ROUNDS = 5
OLD = bytes(range(256)) * 1024


class RobustnessRules(StorageCase):
    """What a caller may rely on when something goes wrong."""

    # -- errors --------------------------------------------------------------------------

    @storage_test
    async def test_a_missing_object_is_told_everywhere(self, storage: Storage) -> None:
        """A missing key is an ObjectNotFoundError that names key and provider, a LookupError."""
        for name, call in calls_on(storage, "missing/one", "missing/other").items():
            if name.startswith(("put", "exists", "delete")):
                continue
            error = await refusal(ObjectNotFoundError, name, call())
            missing = "'missing/other'" if name.endswith(" to") else "'missing/one'"
            assert missing in str(error), f"{name}: the message does not name the key: {error}"
            assert isinstance(error, LookupError)
            assert error.provider_name == PROVIDER_NAME
            assert error.code == "OBJECT_NOT_FOUND"
        assert await keys(storage) == []

    @storage_test
    async def test_errors_are_data(self, storage: Storage) -> None:
        """An error has a code and the provider's name, and can be written as JSON."""
        await storage.put("object", b"x")
        for kind, call in (
            (ObjectNotFoundError, storage.get("missing")),
            (ObjectExistsError, storage.put("object", b"y", overwrite=False)),
        ):
            error = await refusal(kind, kind.__name__, call)
            told = json.loads(json.dumps(error.to_dict()))
            assert told["code"] == error.code
            assert told["provider_name"] == PROVIDER_NAME

    # -- at the same time ----------------------------------------------------------------

    @storage_test
    async def test_readers_never_see_a_torn_object(self, storage: Storage) -> None:
        """10 writers and 10 readers of the same keys: every read is one whole version."""
        names = ("shared/a", "shared/b")
        for name in names:
            await storage.put(name, _sealed(0))

        async def write(writer: int) -> None:
            for turn in range(ROUNDS):
                data = _sealed(writer * ROUNDS + turn)
                await storage.put(names[turn % 2], data if writer % 2 else pieces(data, 20_000))

        async def read(reader: int, writers: list[asyncio.Task[None]]) -> None:
            turn = 0
            while not all(writer.done() for writer in writers):
                await asyncio.sleep(0)
                turn += 1
                key = names[turn % 2]
                whole = await (storage.get(key) if reader % 2 else drained(storage.stream(key)))
                assert _is_sealed(whole), f"a read of {key!r} is no version that was ever put"
                assert (await storage.stat(key)).size > 0

        async with asyncio.TaskGroup() as group:
            writers = [group.create_task(write(number)) for number in range(WRITERS)]
            for number in range(READERS):
                group.create_task(read(number, writers))
        assert await keys(storage) == list(names)

    @pytest.mark.parametrize("kind", ["bytes", "iterator", "copy"])
    @storage_test
    async def test_one_of_many_creates_wins(self, storage: Storage, kind: str) -> None:
        """Of many writers with overwrite=False at once exactly one succeeds; its object stays."""
        contents = [f"writer {number}".encode() for number in range(self.racers)]
        if kind == "copy":
            for number, content in enumerate(contents):
                await storage.put(f"source/{number}", content)

        async def create(number: int) -> bool:
            try:
                if kind == "copy":
                    await storage.copy(f"source/{number}", "contested", overwrite=False)
                else:
                    content = contents[number]
                    source = pieces(content, 3) if kind == "iterator" else content
                    await storage.put("contested", source, overwrite=False)
            except ObjectExistsError:
                return False
            return True

        won = await asyncio.gather(*map(create, range(self.racers)))
        assert won.count(True) == 1, f"{won.count(True)} of {self.racers} writers succeeded"
        assert await storage.get("contested") == contents[won.index(True)]

    # -- interrupted ---------------------------------------------------------------------

    @pytest.mark.parametrize("before", [None, OLD], ids=["new", "replacing"])
    @storage_test
    async def test_a_put_under_way_shows_nothing(
        self, storage: Storage, before: bytes | None
    ) -> None:
        """Until a put is through, readers see what was there before, or nothing."""
        source = await self._prepared(storage, before)
        put = asyncio.create_task(storage.put("object", source))
        await source.reached(put)
        await self._expect(storage, before)
        source.go_on.set()
        await put
        await self._expect(storage, bytes(3 * MIB))

    @pytest.mark.parametrize("before", [None, OLD], ids=["new", "replacing"])
    @storage_test
    async def test_a_cancelled_put_leaves_nothing(
        self, storage: Storage, before: bytes | None
    ) -> None:
        """A put cancelled half way shows nothing, leaves no debris, and the old object whole."""
        source = await self._prepared(storage, before)
        put = asyncio.create_task(storage.put("object", source))
        await source.reached(put)
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        await self._expect(storage, before)
        await storage.put("object", b"after")
        await self._expect(storage, b"after")

    @pytest.mark.parametrize("before", [None, OLD], ids=["new", "replacing"])
    @storage_test
    async def test_a_source_that_raises_leaves_nothing(
        self, storage: Storage, before: bytes | None
    ) -> None:
        """The source's own error comes out of put; nothing shows, and the old object is whole."""
        source = await self._prepared(storage, before)
        source.error = ZeroDivisionError("the source failed")
        source.go_on.set()
        with pytest.raises(ZeroDivisionError, match="the source failed"):
            await storage.put("object", source)
        await self._expect(storage, before)
        await storage.put("object", b"after")
        await self._expect(storage, b"after")

    @storage_test
    async def test_cancelled_reads_leave_the_storage_usable(self, storage: Storage) -> None:
        """Readers that are cancelled at any moment take nothing with them."""
        await storage.put("object", OLD)
        reads = [asyncio.create_task(storage.get("object")) for _ in range(20)]
        reads += [asyncio.create_task(drained(storage.stream("object"))) for _ in range(20)]
        for number, read in enumerate(reads):
            if number % 4 == 0:
                await asyncio.sleep(0)
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        await self._expect(storage, OLD)

    async def _prepared(self, storage: Storage, before: bytes | None) -> PausedSource:
        if before is not None:
            await storage.put("object", before)
        return PausedSource()

    async def _expect(self, storage: Storage, content: bytes | None) -> None:
        """See that ``object`` has this content, or is missing, and that there is nothing else."""
        assert await storage.exists("object") is (content is not None)
        if content is not None:
            assert await storage.get("object") == content
        expected = [] if content is None else [("object", len(content))]
        assert [(info.key, info.size) for info in await infos(storage)] == expected
        assert (await storage.stats()).object_count == len(expected)

    # -- health, secrets, the end --------------------------------------------------------

    @storage_test
    async def test_the_health_check_passes(self, storage: Storage) -> None:
        """A storage that works is healthy, and its check leaves nothing behind."""
        await storage.initialize()
        await storage.check_health()
        assert await keys(storage) == []

    @storage_test
    async def test_secrets_are_shown_nowhere(self, storage: Storage) -> None:
        """No secret of the settings stands in a repr, str, JSON or error."""
        config = storage.config
        secrets = set(secrets_in(config))
        if not secrets:
            pytest.skip("the settings hold no secret")
        error = await refusal(ObjectNotFoundError, "get", storage.get("missing"))
        plain = self.provider_class(config)
        shown = {
            "repr of the settings": repr(config),
            "str of the settings": str(config),
            "JSON of the settings": config.model_dump_json(),
            "the settings as a dict": str(config.model_dump()),
            "repr of the storage": repr(plain) + repr(storage),
            "str of the storage": str(plain) + str(storage),
            "an error": str(error) + repr(error) + json.dumps(error.to_dict()),
            "a traceback": "".join(traceback.format_exception(error)),
        }
        leaks = [where for where, text in shown.items() if any(one in text for one in secrets)]
        assert leaks == [], "a secret is shown by: " + ", ".join(leaks)

    @storage_test
    async def test_objects_outlive_the_instance(self, storage: Storage) -> None:
        """What one instance stored, the next one with the same settings finds."""
        if not self.persistent:
            pytest.skip("the type is declared not to be persistent")
        await storage.put("object", OLD)
        await storage.dispose()
        async with self.make_storage(storage.config) as other:
            assert await other.get("object") == OLD
            assert await keys(other) == ["object"]

    @storage_test
    async def test_a_disposed_storage_refuses_work(self, storage: Storage) -> None:
        """Dispose may be called twice; every operation afterwards is an InvalidStateError."""
        await storage.put("other", b"x")
        await storage.dispose()
        await storage.dispose()
        calls: dict[str, Any] = calls_on(storage, "object", "other")
        calls |= {"list": lambda: keys(storage), "stats": storage.stats}
        for name, call in calls.items():
            await refusal(InvalidStateError, name, call())

    @storage_test
    async def test_an_unused_storage_can_be_disposed(self, storage: Storage) -> None:
        """Dispose is fine without an operation before, and when connected only."""
        await storage.dispose()
        connected = self.make_storage(storage.config)
        await connected.initialize()
        await connected.dispose()


def _sealed(number: int) -> bytes:
    """Return content that shows when it is not whole, of a size of its own."""
    body = bytes([number % 256]) * (10_000 + 3_000 * number)
    return hashlib.sha256(body).digest() + body


def _is_sealed(data: bytes) -> bool:
    return hashlib.sha256(data[32:]).digest() == data[:32]
