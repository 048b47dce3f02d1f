"""The kit has teeth: a correct type passes, and each broken one fails the rule it breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from purveyor.testing.conformance import StorageConformance

from .teeth import expect, report_of

BROKEN = '''
import asyncio

import pytest
from examples.memory_storage import MemoryConfig, MemoryStorage
from purveyor.providers.registry import operation
from purveyor.providers.storage import ObjectExistsError, check_key, chunks_of
from purveyor.testing.conformance import StorageConformance
from pydantic import SecretStr


class Case(StorageConformance):
    persistent = False
    timeout = 10

    @pytest.fixture
    def storage_config(self):
        return MemoryConfig()


class TestCorrect(Case):
    provider_class = MemoryStorage


class Torn(MemoryStorage):
    """Shows an object while it is written; what was there comes back when the put fails."""

    async def put(self, key, data, **options):
        before = self._objects.get(check_key(key))
        done = content = b""
        try:
            async for chunk in chunks_of(data):
                content += chunk
                if options.get("overwrite", True):
                    await MemoryStorage.put(self, key, content)
            done = await MemoryStorage.put(self, key, content, **options)
            return done
        finally:
            if not done and options.get("overwrite", True):
                self._objects.pop(key, None)
                if before:
                    self._objects[key] = before


class TestTorn(Case):
    provider_class = Torn


class CancelledVisible(MemoryStorage):
    """Keeps what it has when the put is cancelled."""

    async def put(self, key, data, **options):
        content = b""
        try:
            async for chunk in chunks_of(data):
                content += chunk
        except asyncio.CancelledError:
            self._place(key, content, True)
            raise
        return await MemoryStorage.put(self, key, content, **options)


class TestCancelledVisible(Case):
    provider_class = CancelledVisible


class FailedVisible(MemoryStorage):
    """Takes a source that raises for one that ends."""

    async def put(self, key, data, **options):
        content = b""
        try:
            async for chunk in chunks_of(data):
                content += chunk
        except ZeroDivisionError:
            pass
        return await MemoryStorage.put(self, key, content, **options)


class TestFailedVisible(Case):
    provider_class = FailedVisible


class WrongOrder(MemoryStorage):
    """Lists folder by folder, as a walk through a file system does."""

    async def list(self, prefix=""):
        found = [info async for info in MemoryStorage.list(self, prefix)]
        for info in sorted(found, key=lambda info: info.key.split("/")):
            yield info


class TestWrongOrder(Case):
    provider_class = WrongOrder


class FolderPrefix(MemoryStorage):
    """Takes the prefix for a folder."""

    async def list(self, prefix=""):
        async for info in MemoryStorage.list(self, prefix):
            if not prefix or prefix.endswith("/") or info.key[len(prefix):][:1] in ("", "/"):
                yield info


class TestFolderPrefix(Case):
    provider_class = FolderPrefix


class OnePage(MemoryStorage):
    """Lists the first page only."""

    async def list(self, prefix=""):
        count = 0
        async for info in MemoryStorage.list(self, prefix):
            count += 1
            if count <= 1000:
                yield info


class TestOnePage(Case):
    provider_class = OnePage


class LateCreate(MemoryStorage):
    """Looks first and creates later."""

    async def put(self, key, data, *, overwrite=True, **options):
        if not overwrite and check_key(key) in self._objects:
            raise ObjectExistsError(f"There is an object {key!r} already.")
        await asyncio.sleep(0)
        return await MemoryStorage.put(self, key, data, **options)


class TestLateCreate(Case):
    provider_class = LateCreate


class MissingSwallowed(MemoryStorage):
    """Has an empty object where there is none."""

    async def stream(self, key, **options):
        if await self.exists(key):
            async for chunk in MemoryStorage.stream(self, key, **options):
                yield chunk


class TestMissingSwallowed(Case):
    provider_class = MissingSwallowed


class RawErrors(MemoryStorage):
    """Lets the errors of what it is made of through."""

    async def stat(self, key):
        check_key(key)
        self._objects[key]
        return self._info(key)


class TestRawErrors(Case):
    provider_class = RawErrors


class TestSearchMissing(Case):
    provider_class = MemoryStorage
    capabilities = frozenset({"local-storage", "flat-keys", "search"})


class TestNowhere(Case):
    provider_class = MemoryStorage
    capabilities = frozenset({"flat-keys"})


class TestNotStreaming(Case):
    provider_class = MemoryStorage
    capabilities = frozenset({"local-storage", "flat-keys", "streaming"})


class MetadataUndeclared(MemoryStorage):
    """Takes metadata, and loses it."""

    async def put(self, key, data, *, overwrite=True, content_type=None, metadata=None, **options):
        return await MemoryStorage.put(self, key, data, overwrite=overwrite, **options)


class TestMetadataUndeclared(Case):
    provider_class = MetadataUndeclared


class TestFlatKeysUndeclared(Case):
    provider_class = MemoryStorage
    capabilities = frozenset({"local-storage"})


class SecretConfig(MemoryConfig):
    password: SecretStr = SecretStr("correct horse")


class SecretShown(MemoryStorage):
    """Shows whom it logs in as, and how."""

    def __repr__(self):
        return f"<SecretShown {self.config.password.get_secret_value()}>"


class TestSecretShown(Case):
    provider_class = SecretShown

    @pytest.fixture
    def storage_config(self):
        return SecretConfig()


class DeleteRaises(MemoryStorage):
    """Finds fault with deleting what is gone."""

    async def delete(self, key):
        self._find(key)
        await MemoryStorage.delete(self, key)


class TestDeleteRaises(Case):
    provider_class = DeleteRaises


class RangeOffByOne(MemoryStorage):
    """Takes the end for the last byte, as HTTP does."""

    async def get(self, key, *, start=0, end=None):
        await MemoryStorage.get(self, key, start=start, end=end)
        return self._find(key)[0][start : None if end is None else end + 1]


class TestRangeOffByOne(Case):
    provider_class = RangeOffByOne


class AnyKey(MemoryStorage):
    """Lets a key pass that leads out of its folder."""

    async def exists(self, key):
        return key in self._objects


class TestAnyKey(Case):
    provider_class = AnyKey


class FoldedKeys(MemoryStorage):
    """Takes keys that differ in case only for one."""

    def _place(self, key, content, overwrite):
        return super()._place(key.lower(), content, overwrite)


class TestFoldedKeys(Case):
    provider_class = FoldedKeys


class Sick(MemoryStorage):
    """Is never well."""

    async def check_health(self):
        raise ConnectionError("not today")


class TestSick(Case):
    provider_class = Sick


class MoveCopies(MemoryStorage):
    """Leaves the source of a move."""

    async def move(self, source, target, *, overwrite=True):
        return await MemoryStorage.copy(self, source, target, overwrite=overwrite)


class TestMoveCopies(Case):
    provider_class = MoveCopies


class TestForgetful(Case):
    provider_class = MemoryStorage
    persistent = True
'''

FAILURES = {
    "Correct": set[str](),
    "Torn": {"a_put_under_way_shows_nothing", "readers_never_see_a_torn_object"},
    "CancelledVisible": {"a_cancelled_put_leaves_nothing"},
    "FailedVisible": {"a_source_that_raises_leaves_nothing"},
    "WrongOrder": {"list_is_in_order_of_the_bytes_of_keys"},
    "FolderPrefix": {"list_compares_the_prefix_as_text", "list_goes_beyond_one_page"},
    "OnePage": {"list_goes_beyond_one_page"},
    "LateCreate": {"one_of_many_creates_wins"},
    "MissingSwallowed": {"a_missing_object_is_told_everywhere"},
    "RawErrors": {"a_missing_object_is_told_everywhere"},
    "SearchMissing": {"search_finds_words", "search_takes_any_text"},
    "Nowhere": {"capabilities_are_declared"},
    "NotStreaming": {"streaming_needs_bounded_memory"},
    "MetadataUndeclared": {"undeclared_metadata_is_refused"},
    "FlatKeysUndeclared": {"a_key_beside_keys_below_it"},
    "SecretShown": {"secrets_are_shown_nowhere"},
    "DeleteRaises": {"delete_of_what_is_not_there_is_no_error"},
    "RangeOffByOne": {"ranges", "ranges_across_chunks", "an_object_and_its_info_come_together"},
    "AnyKey": {"refused_keys_are_refused_by_all_operations"},
    "FoldedKeys": {
        "odd_keys_work",
        "odd_keys_can_be_copied_and_moved",
        "list_is_in_order_of_the_bytes_of_keys",
        "keys_that_differ_in_case",
    },
    "Sick": {"the_health_check_passes"},
    "MoveCopies": {"copy_and_move", "odd_keys_can_be_copied_and_moved"},
    "Forgetful": {"objects_outlive_the_instance"},
}

SELECTED = "Correct or AnyKey or RangeOffByOne or not (refused_keys or refused_prefixes or range)"
"""The many cases of keys and ranges only where they are in question, to save time."""


def test_each_fails_exactly_the_rules_it_breaks_and_says_which(tmp_path: Path) -> None:
    report = report_of(tmp_path, BROKEN, select=SELECTED)
    expect(report, FAILURES)
    told = report["MissingSwallowed"]["a_missing_object_is_told_everywhere"]
    assert "stream must raise ObjectNotFoundError, and raised nothing" in told
    told = report["RawErrors"]["a_missing_object_is_told_everywhere"]
    assert "stat must raise ObjectNotFoundError, and raised KeyError: 'missing/one'" in told
    told = report["LateCreate"]["one_of_many_creates_wins"]
    assert "20 of 20 writers succeeded" in told

    # Nor does the failure show the secret that it found.
    told = report["SecretShown"]["secrets_are_shown_nowhere"]
    assert "a secret is shown by: repr of the storage" in told


def test_every_rule_says_what_it_is() -> None:
    tests = [name for name in dir(StorageConformance) if name.startswith("test_")]
    assert len(tests) > 40
    for name in tests:
        doc = getattr(StorageConformance, name).__doc__
        assert doc, name
        assert "\n" not in doc.strip(), name


def test_a_class_that_no_catalogue_knows_must_say_its_capabilities() -> None:
    with pytest.raises(TypeError, match="decorate it with @register_provider, or set capabilities"):
        type("TestUnknown", (StorageConformance,), {"provider_class": object})
