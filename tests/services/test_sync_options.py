"""What a sync compares, deletes, leaves out and tries again."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import guarded
from purveyor.providers.storage import (
    ObjectInfo,
    StorageConnectionError,
    StoragePermissionError,
)
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from purveyor.providers.storage.keys import MANIFEST_NAME
from purveyor.services.sync import (
    Filters,
    ObjectDelayed,
    ObjectFinished,
    Place,
    SyncError,
    SyncEvent,
    SyncOptions,
    SyncResult,
    follow,
    sync,
)
from purveyor.services.sync.errors import StopError
from purveyor.services.sync.manifest import Ledger
from purveyor.services.sync.merge import Known, microseconds
from purveyor.services.sync.pace import Pace
from tests.services.conftest import MisbehavingStorage, age, objects, size_of, tree

AGED = 1_700_000_000


class TimelessStorage(FilesystemStorage):
    """What an object store does: it sets the time itself, and counts what it is asked."""

    capabilities = frozenset({"remote-storage"})

    def __init__(self, config: FilesystemConfig) -> None:
        super().__init__(config)
        self.puts: list[str] = []
        self.reads: list[str] = []
        self.refused: set[str] = set()
        """Keys that nobody may write or remove."""

    async def put(self, key: str, data: Any, *, modified: Any = None, **options: Any) -> ObjectInfo:
        assert modified is None
        self._check(key)
        self.puts.append(key)
        return await super().put(key, data, **options)

    async def delete(self, key: str) -> None:
        self._check(key)
        await super().delete(key)

    def _check(self, key: str) -> None:
        if key in self.refused:
            raise StoragePermissionError("no")

    async def stream(self, key: str, **options: Any) -> AsyncIterator[bytes]:
        self.reads.append(key)
        async for chunk in super().stream(key, **options):
            yield chunk


@pytest.fixture
async def cloud(tmp_path: Path, container: ApplicationContainer) -> AsyncIterator[TimelessStorage]:
    """What ``cloud:`` names."""
    storage = TimelessStorage(FilesystemConfig.model_validate({"root": tmp_path / "cloud"}))
    with container.storage.override_provider("cloud", guarded(storage, name="cloud")):
        yield storage


def touch(path: Path, seconds: float, content: bytes | None = None) -> None:
    """Give a file a time, and another content first."""
    if content is not None:
        path.write_bytes(content)
    os.utime(path, (seconds, seconds))


def counts(result: SyncResult) -> tuple[int, int, int, int]:
    return result.files, result.skipped, result.deleted, len(result.failed)


# -- what counts as the same -------------------------------------------------------------


async def test_files_keep_their_times_where_the_target_can_hold_them(
    docs: Path, tmp_path: Path, container: ApplicationContainer
) -> None:
    age(docs)
    touch(docs / "a.txt", AGED + 0.123456)
    await sync(docs, ":docs", container=container)
    await sync(":docs", tmp_path / "back", container=container)
    for name in tree(docs):
        assert (tmp_path / "back" / name).stat().st_mtime == pytest.approx(
            (docs / name).stat().st_mtime, abs=1e-6
        )
    again = await sync(docs, ":docs", container=container)
    assert counts(again) == (0, len(tree(docs)), 0, 0)


async def test_files_keep_their_times_by_way_of_a_storage_that_sets_them_itself(
    docs: Path, tmp_path: Path, container: ApplicationContainer, cloud: TimelessStorage
) -> None:
    age(docs)
    touch(docs / "a.txt", AGED + 0.123456)
    await sync(docs, "cloud:docs", container=container)
    assert f"docs/{MANIFEST_NAME}" in cloud.puts
    await sync("cloud:docs", tmp_path / "back", container=container)
    assert tree(tmp_path / "back") == tree(docs)
    for name in tree(docs):
        assert (tmp_path / "back" / name).stat().st_mtime == pytest.approx(
            (docs / name).stat().st_mtime, abs=1e-6
        )


async def test_a_rerun_writes_nothing_and_asks_for_no_object(
    docs: Path, container: ApplicationContainer, cloud: TimelessStorage
) -> None:
    await sync(docs, "cloud:docs", container=container)
    cloud.puts.clear()
    cloud.reads.clear()
    result = await sync(docs, "cloud:docs", container=container)
    assert counts(result) == (0, len(tree(docs)), 0, 0)
    assert cloud.puts == []
    assert cloud.reads == [f"docs/{MANIFEST_NAME}"]


@pytest.mark.parametrize("seconds", [AGED - 5, AGED + 5], ids=["older", "newer"])
async def test_a_changed_time_is_noticed_whatever_the_clock_of_the_target_says(
    docs: Path,
    tmp_path: Path,
    container: ApplicationContainer,
    cloud: TimelessStorage,
    seconds: float,
) -> None:
    age(docs)
    await sync(docs, "cloud:docs", container=container)
    touch(docs / "a.txt", seconds, b"z")  # as long as before, and long before the target's clock
    result = await sync(docs, "cloud:docs", container=container)
    assert counts(result) == (1, len(tree(docs)) - 1, 0, 0)
    assert await objects(cloud, "docs/a.txt") == {"docs/a.txt": tree(docs)["a.txt"]}


async def test_what_others_wrote_to_the_target_counts_by_its_own_time(
    docs: Path, container: ApplicationContainer, cloud: TimelessStorage
) -> None:
    age(docs)
    await sync(docs, "cloud:docs", container=container)
    await cloud.put("docs/a.txt", b"z")  # newer than its source: it stays
    result = await sync(docs, "cloud:docs", container=container)
    assert counts(result) == (0, len(tree(docs)), 0, 0)
    assert await cloud.get("docs/a.txt") == b"z"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut short"),
        (b"nonsense", "damaged"),
        (zlib.compress(b'{"version": 1}\n["a.txt"]\n'), "damaged"),
        (zlib.compress(b'{"version": 1}\n["a.txt", 1, 2, 3, null]\n'), "another form"),
        (zlib.compress(b'{"version": 2}\n'), "another version"),
        (zlib.compress(b'{"version": 1}\n["a.txt", 1, null, 1, null]'), "cut short"),
        (zlib.compress(b'{"version": 1}\n["b",1,null,1,null]\n["a",1,null,1,null]\n'), "order"),
        (zlib.compress(b" " * 10_000_000), "too long"),
        (zlib.compress(b'{"version": 1}\n')[:-2], "cut short"),
    ],
)
async def test_a_manifest_that_cannot_be_read_is_told_and_replaced(
    docs: Path,
    container: ApplicationContainer,
    cloud: TimelessStorage,
    content: bytes,
    reason: str,
) -> None:
    age(docs)
    await sync(docs, "cloud:docs", container=container)
    good = await cloud.get(f"docs/{MANIFEST_NAME}")
    await cloud.put(f"docs/{MANIFEST_NAME}", content)
    result = await sync(docs, "cloud:docs", container=container)
    assert counts(result) == (0, len(tree(docs)), 0, 0)
    assert [reason in warning for warning in result.warnings] == [True]
    replaced = await cloud.get(f"docs/{MANIFEST_NAME}")
    assert zlib.decompress(replaced).count(b"\n") == zlib.decompress(good).count(b"\n")


async def test_a_manifest_that_cannot_be_written_is_told_and_nothing_else_fails(
    docs: Path, container: ApplicationContainer, cloud: TimelessStorage
) -> None:
    cloud.refused = {f"docs/{MANIFEST_NAME}"}
    result = await sync(docs, "cloud:docs", container=container)
    assert result.success
    assert result.warnings == [
        f"The times of the sources could not be kept in docs/{MANIFEST_NAME}: no"
    ]


def test_a_disk_with_no_room_for_what_a_sync_remembers_is_told() -> None:
    with closing(Ledger()) as ledger:
        ledger._database.execute("PRAGMA max_page_count = 8")
        with pytest.raises(StopError, match="SQLITE_TMPDIR") as caught:
            for number in range(10_000):
                ledger.note(Known(f"{number:09}", 1, None, 1), new=True)
    assert caught.value.error.code == "NO_ROOM"


async def test_a_dry_run_writes_no_manifest(
    docs: Path, container: ApplicationContainer, cloud: TimelessStorage
) -> None:
    await sync(docs, "cloud:docs", container=container, options=SyncOptions(dry_run=True))
    assert cloud.puts == []


async def test_a_cancelled_sync_keeps_the_times_of_what_it_copied(
    docs: Path, container: ApplicationContainer, cloud: TimelessStorage
) -> None:
    task: asyncio.Task[Any]

    def observe(event: SyncEvent) -> None:
        if isinstance(event, ObjectFinished):
            task.cancel()

    running = sync(
        docs, "cloud:docs", container=container, options=SyncOptions(jobs=1), observer=observe
    )
    task = asyncio.create_task(running)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cloud.puts[-1] == f"docs/{MANIFEST_NAME}"
    assert zlib.decompress(await cloud.get(cloud.puts[-1])).count(b"\n") == 2


async def test_sizes_alone_can_be_compared(docs: Path, container: ApplicationContainer) -> None:
    await sync(docs, ":docs", container=container)
    touch(docs / "a.txt", 2e9, b"z")
    result = await sync(docs, ":docs", container=container, options=SyncOptions(compare="size"))
    assert counts(result) == (0, len(tree(docs)), 0, 0)


@pytest.mark.parametrize("target", [":docs", "sqlite:docs", "cloud:docs"])
async def test_by_checksum_content_decides_and_no_time(
    docs: Path, container: ApplicationContainer, cloud: TimelessStorage, target: str
) -> None:
    age(docs)
    options = SyncOptions(compare="checksum")
    await sync(docs, target, container=container, options=options)
    touch(docs / "readme.md", 2e9)
    touch(docs / "a.txt", AGED, b"z")
    result = await sync(docs, target, container=container, options=options)
    assert counts(result) == (1, len(tree(docs)) - 1, 0, 0)
    storage = container.storage(target.partition(":")[0] or None)
    assert await storage.get("docs/a.txt") == b"z"


async def test_a_dry_run_by_checksum_tells_what_differs(
    docs: Path, container: ApplicationContainer
) -> None:
    await sync(docs, ":docs", container=container)
    touch(docs / "a.txt", AGED, b"z")
    options = SyncOptions(compare="checksum", dry_run=True)
    result = await sync(docs, ":docs", container=container, options=options)
    assert counts(result) == (1, len(tree(docs)) - 1, 0, 0)
    assert await container.storage().get("docs/a.txt") == b"a"


async def test_a_checksum_that_was_noted_saves_reading_the_target(
    docs: Path, container: ApplicationContainer, cloud: TimelessStorage
) -> None:
    options = SyncOptions(compare="checksum")
    await sync(docs, "cloud:docs", container=container, options=options)
    cloud.reads.clear()
    result = await sync(docs, "cloud:docs", container=container, options=options)
    assert counts(result) == (0, len(tree(docs)), 0, 0)
    assert cloud.reads == [f"docs/{MANIFEST_NAME}"]


# -- deleting ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [":docs", "sqlite:docs", "cloud:docs", "path"])
async def test_what_is_only_at_the_target_goes_if_asked_for(
    docs: Path,
    tmp_path: Path,
    container: ApplicationContainer,
    cloud: TimelessStorage,
    target: str,
) -> None:
    place = str(tmp_path / "out") if target == "path" else target
    await sync(docs, place, container=container)
    (docs / "a.txt").unlink()
    (docs / "a" / "b" / "c.txt").unlink()
    result = await sync(docs, place, container=container, options=SyncOptions(delete=True))
    assert result.success
    assert counts(result) == (0, len(tree(docs)), 2, 0)
    await sync(place, tmp_path / "back", container=container)
    assert tree(tmp_path / "back") == tree(docs)


async def test_nothing_goes_if_anything_failed(
    docs: Path, container: ApplicationContainer, misbehaving: MisbehavingStorage
) -> None:
    def before_put(key: str, data: Any) -> Any:
        if key == "docs/readme.md":
            raise StoragePermissionError("no")
        return data

    misbehaving.before_put = lambda key, data: data
    await container.storage("bad").put("docs/beyond", b"x")
    misbehaving.before_put = before_put
    result = await sync(docs, "bad:docs", container=container, options=SyncOptions(delete=True))
    assert [failure.key for failure in result.failed] == ["readme.md"]
    assert result.deleted == 0
    assert result.warnings == ["Nothing was deleted (1 would be): not everything was copied."]
    assert await container.storage("bad").exists("docs/beyond")


async def test_no_more_goes_than_is_allowed(docs: Path, container: ApplicationContainer) -> None:
    for name in ("x", "y"):
        await container.storage().put(f"docs/{name}", b"x")
    refused = await sync(
        docs, ":docs", container=container, options=SyncOptions(delete=True, max_delete=1)
    )
    assert refused.error is not None
    assert (refused.error.code, refused.deleted) == ("TOO_MANY_DELETIONS", 0)
    assert "2 objects" in refused.error.message
    allowed = await sync(
        docs, ":docs", container=container, options=SyncOptions(delete=True, max_delete=2)
    )
    assert (allowed.success, allowed.deleted) == (True, 2)


async def test_an_empty_source_empties_the_target_only_by_force(
    tmp_path: Path, container: ApplicationContainer
) -> None:
    (tmp_path / "empty").mkdir()
    await container.storage().put("docs/x", b"x")
    refused = await sync(
        tmp_path / "empty", ":docs", container=container, options=SyncOptions(delete=True)
    )
    assert refused.error is not None
    assert refused.error.code == "EMPTY_SOURCE"
    assert "--force" in refused.error.message
    assert await container.storage().exists("docs/x")
    forced = await sync(
        tmp_path / "empty",
        ":docs",
        container=container,
        options=SyncOptions(delete=True, force=True),
    )
    assert (forced.success, forced.deleted) == (True, 1)


async def test_a_dry_run_tells_what_would_go(docs: Path, container: ApplicationContainer) -> None:
    await container.storage().put("docs/x", b"x")
    told: list[str] = []

    def observe(event: SyncEvent) -> None:
        if isinstance(event, ObjectFinished) and event.action == "would-delete":
            told.append(event.key)

    result = await sync(
        docs,
        ":docs",
        container=container,
        options=SyncOptions(delete=True, dry_run=True),
        observer=observe,
    )
    assert (result.deleted, told) == (1, ["docs/x"])
    assert await container.storage().exists("docs/x")


async def test_an_object_that_cannot_be_removed_is_a_failure(
    docs: Path, container: ApplicationContainer, cloud: TimelessStorage
) -> None:
    for name in ("x", "y"):
        await container.storage("cloud").put(f"docs/{name}", b"x")
    cloud.refused = {"docs/x"}
    result = await sync(docs, "cloud:docs", container=container, options=SyncOptions(delete=True))
    assert ([one.key for one in result.failed], result.deleted) == (["docs/x"], 1)


# -- filters -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "admitted"),
    [
        ((), {"a.txt", "b.tmp", "d/a.txt", "d/e/c.tmp", "tmp/x"}),
        (("- *.tmp",), {"a.txt", "d/a.txt", "tmp/x"}),
        (("- /*.tmp",), {"a.txt", "d/a.txt", "d/e/c.tmp", "tmp/x"}),
        (("- tmp",), {"a.txt", "b.tmp", "d/a.txt", "d/e/c.tmp"}),
        (("- tmp/",), {"a.txt", "b.tmp", "d/a.txt", "d/e/c.tmp"}),
        (("- a.txt/",), {"a.txt", "b.tmp", "d/a.txt", "d/e/c.tmp", "tmp/x"}),
        (("+ c.tmp", "- *.tmp"), {"a.txt", "d/a.txt", "d/e/c.tmp", "tmp/x"}),
        (("- *.tmp", "+ c.tmp"), {"a.txt", "d/a.txt", "tmp/x"}),
        (("- d/*.txt",), {"a.txt", "b.tmp", "d/e/c.tmp", "tmp/x"}),
        (("- d/**",), {"a.txt", "b.tmp", "tmp/x"}),
        (("- ?.txt",), {"b.tmp", "d/e/c.tmp", "tmp/x"}),
        (("+ *.txt", "- **"), {"a.txt", "d/a.txt"}),
    ],
)
def test_the_first_rule_that_matches_decides(rules: tuple[str, ...], admitted: set[str]) -> None:
    paths = {"a.txt", "b.tmp", "d/a.txt", "d/e/c.tmp", "tmp/x"}
    assert {path for path in paths if Filters(rules).admit(path)} == admitted


def test_what_is_included_is_all_there_is_but_for_what_is_excluded() -> None:
    filters = Filters(include=["*.txt"], exclude=["/d/"])
    assert [path for path in ("a.txt", "b.tmp", "d/a.txt") if filters.admit(path)] == ["a.txt"]


@pytest.mark.parametrize("text", ["", "*.tmp", "- ", "+", "x *.tmp", "- /"])
def test_a_rule_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(SyncError, match="to take in what matches") as caught:
        Filters([text])
    assert caught.value.code == "INVALID_FILTER"


async def test_what_is_left_out_is_left_alone_at_both_ends(
    docs: Path, container: ApplicationContainer
) -> None:
    await container.storage().put("docs/kept.bin", b"x")
    await container.storage().put("docs/gone.txt", b"x")
    result = await sync(
        docs,
        ":docs",
        container=container,
        options=SyncOptions(delete=True, filters=Filters(["- *.bin"])),
    )
    assert result.success
    there = set(await objects(container.storage(), "docs/"))
    expected = {f"docs/{name}" for name in tree(docs) if not name.endswith(".bin")}
    assert there == expected | {"docs/kept.bin"}


# -- trying again ------------------------------------------------------------------------


def failing(times: int, error: Callable[[], Exception]) -> Callable[[str, Any], Any]:
    """Return what fails the first ``times`` puts of ``docs/a.txt``."""
    left = [times]

    def before_put(key: str, data: Any) -> Any:
        if key == "docs/a.txt" and left[0]:
            left[0] -= 1
            raise error()
        return data

    return before_put


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("purveyor.services.sync.engine.RETRY_SECONDS", 0.01)


@pytest.mark.usefixtures("impatient")
async def test_what_may_pass_is_tried_again_after_the_others(
    docs: Path, container: ApplicationContainer, misbehaving: MisbehavingStorage
) -> None:
    misbehaving.before_put = failing(2, lambda: StorageConnectionError("lost"))
    told: list[str] = []

    def observe(event: SyncEvent) -> None:
        if isinstance(event, ObjectDelayed | ObjectFinished):
            told.append(f"{type(event).__name__} {event.key}")

    result = await sync(docs, "bad:docs", container=container, observer=observe)
    assert result.success
    assert told.count("ObjectDelayed a.txt") == 2
    assert told[-1] == "ObjectFinished a.txt"


@pytest.mark.usefixtures("impatient")
async def test_what_does_not_pass_fails_after_the_last_try(
    docs: Path, container: ApplicationContainer, misbehaving: MisbehavingStorage
) -> None:
    misbehaving.before_put = failing(9, lambda: StorageConnectionError("lost"))
    result = await sync(docs, "bad:docs", container=container)
    assert [(one.key, one.reason) for one in result.failed] == [("a.txt", "lost")]


@pytest.mark.usefixtures("impatient")
async def test_what_will_not_pass_is_not_tried_again(
    docs: Path, container: ApplicationContainer, misbehaving: MisbehavingStorage
) -> None:
    misbehaving.before_put = failing(1, lambda: StoragePermissionError("no"))
    result = await sync(docs, "bad:docs", container=container)
    assert [(one.key, one.reason) for one in result.failed] == [("a.txt", "no")]


@pytest.mark.usefixtures("impatient")
async def test_an_end_that_is_away_for_a_moment_is_waited_for(
    docs: Path, container: ApplicationContainer, misbehaving: MisbehavingStorage
) -> None:
    away = [2]
    check = misbehaving.check_health

    async def check_health() -> None:
        if misbehaving_now and away[0]:
            away[0] -= 1
            raise StorageConnectionError("away")
        await check()

    misbehaving_now: list[bool] = []

    def before_put(key: str, data: Any) -> Any:
        if not misbehaving_now:
            misbehaving_now.append(True)
            raise StorageConnectionError("away")
        return data

    misbehaving.before_put = before_put
    misbehaving.check_health = check_health  # type: ignore[method-assign]
    result = await sync(docs, "bad:docs", container=container)
    assert result.success
    assert away == [0]


# -- pace --------------------------------------------------------------------------------


async def test_a_pace_lets_through_so_much_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = [100.0], list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 6))
        now[0] += seconds

    monkeypatch.setattr("purveyor.services.sync.pace.asyncio.sleep", sleep)
    pace = Pace(10.0, clock=lambda: now[0])
    for _ in range(4):
        await pace.take(5)
    assert waits == [0.5, 0.5, 0.5]
    now[0] += 1000  # what was not used is lost but for a moment's share
    await pace.take(5)
    await pace.take(5)
    assert waits[3:] == [0.4]


async def test_no_rate_is_no_limit() -> None:
    pace = Pace(None)
    async with asyncio.timeout(1):
        for _ in range(1000):
            await pace.take(1e12)


async def test_limits_slow_a_sync_down(docs: Path, container: ApplicationContainer) -> None:
    options = SyncOptions(bytes_per_second=size_of(docs) / 0.4)
    result = await sync(docs, ":docs", container=container, options=options)
    assert result.success
    assert result.seconds > 0.2


# -- within one storage ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["filesystem", "sqlite", "cloud"])
async def test_within_one_storage_the_storage_copies(
    docs: Path, container: ApplicationContainer, cloud: TimelessStorage, name: str
) -> None:
    await sync(docs, f"{name}:docs", container=container)
    cloud.puts.clear()
    result = await sync(f"{name}:docs", f"{name}:copies", container=container)
    assert result.success
    assert result.files == len(tree(docs))
    assert await objects(container.storage(name), "copies/") == {
        f"copies/{path}": digest for path, digest in tree(docs).items()
    }
    assert cloud.puts in ([], [f"copies/{MANIFEST_NAME}"])
    again = await sync(f"{name}:docs", f"{name}:copies", container=container)
    assert counts(again) == (0, len(tree(docs)), 0, 0)


# -- following ---------------------------------------------------------------------------


async def test_a_followed_folder_is_synced_whenever_it_changes(
    docs: Path, container: ApplicationContainer
) -> None:
    results: asyncio.Queue[SyncResult] = asyncio.Queue()
    task = asyncio.create_task(
        follow(
            docs,
            ":docs",
            results.put_nowait,
            container=container,
            options=SyncOptions(delete=True),
            interval=0.05,
        )
    )
    async with asyncio.timeout(30):
        assert (await results.get()).files == len(tree(docs))
        (docs / "new.txt").write_bytes(b"new")
        assert (await results.get()).files == 1
        (docs / "new.txt").unlink()
        assert (await results.get()).deleted == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert results.empty()


async def test_a_failed_sync_of_a_followed_folder_is_tried_again(
    docs: Path, container: ApplicationContainer, misbehaving: MisbehavingStorage
) -> None:
    misbehaving.before_put = failing(1, lambda: StoragePermissionError("no"))
    results: asyncio.Queue[SyncResult] = asyncio.Queue()
    task = asyncio.create_task(
        follow(docs, "bad:docs", results.put_nowait, container=container, interval=0.05)
    )
    async with asyncio.timeout(30):
        assert not (await results.get()).success
        assert (await results.get()).success
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("source", [":docs", "nowhere"])
async def test_only_a_folder_of_this_machine_can_be_followed(
    container: ApplicationContainer, source: str | Place
) -> None:
    with pytest.raises(SyncError, match="Only a folder of this machine"):
        await follow(str(source), ":docs", lambda result: None, container=container)


def test_times_are_in_utc() -> None:
    """What the manifest keeps means the same on every machine."""
    time = datetime(2026, 11, 21, 12, 0, 0, 123456, UTC)
    assert Known("a", 1, None, microseconds(time)).time == time
