from __future__ import annotations

import asyncio
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import NotFoundError
from purveyor.providers.storage import (
    StorageConnectionError,
    StorageFullError,
    StoragePermissionError,
)
from purveyor.providers.storage.s3 import S3Config
from purveyor.services.sync import (
    BytesMoved,
    ListingFinished,
    ObjectFailed,
    ObjectFinished,
    ObjectFound,
    ObjectIgnored,
    ObjectStarted,
    SyncError,
    SyncEvent,
    SyncOptions,
    sync,
)
from purveyor.settings import Settings
from tests.services.conftest import CHUNK, MisbehavingStorage, age, objects, size_of, tree


def codes(result: Any) -> dict[str, str]:
    return {one.key: one.code for one in result.failed}


# -- copying -----------------------------------------------------------------------------


async def test_a_folder_arrives_in_the_default_storage_byte_for_byte(
    docs: Path, container: ApplicationContainer
) -> None:
    result = await sync(docs, ":docs", container=container)

    assert result.success
    expected = tree(docs)
    assert result.files == len(expected)
    assert result.bytes == size_of(docs)
    assert result.verified == {"content": len(expected)}
    assert await objects(container.storage()) == {
        f"docs/{key}": one for key, one in expected.items()
    }


@pytest.mark.parametrize("target", [":docs", "sqlite:docs", "local"])
async def test_a_second_run_copies_nothing(
    docs: Path, tmp_path: Path, container: ApplicationContainer, target: str
) -> None:
    place = tmp_path / "local" if target == "local" else target
    first = await sync(docs, place, container=container)
    second = await sync(docs, place, container=container)

    assert (second.success, second.files, second.skipped) == (True, 0, first.files)


async def test_objects_go_through_every_kind_of_place_unchanged(
    docs: Path, tmp_path: Path, container: ApplicationContainer
) -> None:
    back = tmp_path / "back" / "again"
    for source, target in [
        (docs, tmp_path / "copy"),
        (tmp_path / "copy", ":"),
        (":", "sqlite:x/y"),
        ("sqlite:x/y/", "other:"),
        ("other:", back),
    ]:
        result = await sync(source, target, container=container)
        assert (result.success, result.error) == (True, None)

    assert tree(back) == tree(docs)


async def test_content_type_and_metadata_go_where_they_can_be_kept(
    container: ApplicationContainer, tmp_path: Path
) -> None:
    await container.storage("sqlite").put(
        "a.csv", b"1,2", content_type="text/csv", metadata={"owner": "me"}
    )

    assert (await sync("sqlite:", "other:", container=container)).success
    assert (await sync("sqlite:", tmp_path / "out", container=container)).success

    copied = await container.storage("other").stat("a.csv")
    assert (copied.content_type, dict(copied.metadata)) == ("text/csv", {"owner": "me"})
    assert (tmp_path / "out" / "a.csv").read_bytes() == b"1,2"


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (":", "a.txt"),
        (":there/", "there/a.txt"),
        (":there", "there"),
        (":there/b.txt", "there/b.txt"),
    ],
)
async def test_one_file_is_called_what_the_target_says(
    docs: Path, container: ApplicationContainer, target: str, key: str
) -> None:
    result = await sync(docs / "a.txt", target, container=container)
    again = await sync(docs / "a.txt", target, container=container)

    assert (result.files, again.files, again.skipped) == (1, 0, 1)
    assert await container.storage().get(key) == b"a"


async def test_one_object_goes_into_a_folder_that_is_there_or_becomes_the_file(
    tmp_path: Path, container: ApplicationContainer
) -> None:
    await container.storage().put("x/a.txt", b"a")
    await container.storage().put("x/a.txt.old", b"not this")

    await sync(":x/a.txt", tmp_path, container=container)
    await sync(":x/a.txt", tmp_path / "new" / "b.txt", container=container)

    assert (tmp_path / "a.txt").read_bytes() == b"a"
    assert (tmp_path / "new" / "b.txt").read_bytes() == b"a"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.txt"]


async def test_a_source_named_by_a_link_is_what_the_link_names(
    docs: Path, tmp_path: Path, container: ApplicationContainer
) -> None:
    (tmp_path / "folder").symlink_to(docs)
    (tmp_path / "file").symlink_to(docs / "a.txt")

    assert (await sync(tmp_path / "folder", ":docs", container=container)).success
    assert (await sync(tmp_path / "file", ":file", container=container)).success
    assert await container.storage().get("file") == b"a"
    assert set(await objects(container.storage(), "docs/")) == {f"docs/{key}" for key in tree(docs)}


async def test_what_is_only_at_the_target_stays(
    docs: Path, container: ApplicationContainer
) -> None:
    for key in ("docs/0", "docs/zzz", "docs2"):
        await container.storage().put(key, b"mine")

    assert (await sync(docs, ":docs", container=container)).success
    assert await container.storage().get("docs/zzz") == b"mine"
    assert await container.storage().get("docs/0") == b"mine"


async def test_other_size_or_a_newer_source_is_copied_and_an_older_one_is_not(
    docs: Path, container: ApplicationContainer
) -> None:
    await sync(docs, ":docs", container=container)
    (docs / "a.txt").write_bytes(b"longer")
    os.utime(docs / "a.txt", (0, 0))
    (docs / "readme.md").write_bytes(b"# Hallo\n")
    far = (docs / "readme.md").stat().st_mtime + 60
    os.utime(docs / "readme.md", (far, far))
    (docs / "a/b/c.txt").write_bytes(b"DEEP")
    os.utime(docs / "a/b/c.txt", (0, 0))
    copied: list[str] = []

    def observe(event: SyncEvent) -> None:
        if isinstance(event, ObjectFinished) and event.action == "copied":
            copied.append(event.key)

    await sync(docs, ":docs", container=container, observer=observe)

    assert sorted(copied) == ["a.txt", "readme.md"]


async def test_an_empty_folder_is_nothing_to_copy(
    tmp_path: Path, container: ApplicationContainer
) -> None:
    (tmp_path / "void").mkdir()

    result = await sync(tmp_path / "void", ":void", container=container)

    assert (result.success, result.files) == (True, 0)


async def test_a_source_that_cannot_be_written_can_be_copied(
    docs: Path, unprivileged: Path
) -> None:
    source = unprivileged / "source"
    source.mkdir()
    (source / "a.txt").write_bytes(b"a")
    source.chmod(0o555)

    result = await sync(source, unprivileged / "target")

    assert result.success
    assert tree(unprivileged / "target") == tree(source)
    source.chmod(0o755)


async def test_large_objects_are_never_whole_in_memory(
    tmp_path: Path, container: ApplicationContainer
) -> None:
    (tmp_path / "large").mkdir()
    with (tmp_path / "large" / "file").open("wb") as file:
        for _ in range(48):
            file.write(os.urandom(CHUNK))
    tracemalloc.start()
    try:
        assert (await sync(tmp_path / "large", ":", container=container)).success
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 16 * CHUNK


# -- a dry run ---------------------------------------------------------------------------


async def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    docs: Path, tmp_path: Path, container: ApplicationContainer
) -> None:
    would: list[str] = []

    def observe(event: SyncEvent) -> None:
        if isinstance(event, ObjectFinished):
            assert event.action == "would-copy"
            would.append(event.key)

    before = tree(tmp_path)
    for target in (tmp_path / "new" / "folder", ":docs"):
        would.clear()
        result = await sync(
            docs, target, container=container, options=SyncOptions(dry_run=True), observer=observe
        )
        assert (result.success, result.dry_run, result.files) == (True, True, len(tree(docs)))
        assert sorted(would) == sorted(tree(docs))

    assert tree(tmp_path) == before
    assert not (tmp_path / "new").exists()


# -- what cannot be copied ---------------------------------------------------------------


async def test_links_and_special_files_are_left_out_by_name(
    docs: Path, tmp_path: Path, container: ApplicationContainer
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"secret")
    (docs / "link").symlink_to(secret / "key")
    (docs / "folder link").symlink_to(secret)
    (docs / "loop").symlink_to(docs)
    (docs / "dangling").symlink_to("nowhere")
    os.mkfifo(docs / "pipe")
    ignored: dict[str, str] = {}

    def observe(event: SyncEvent) -> None:
        if isinstance(event, ObjectIgnored):
            ignored[event.key] = event.reason

    result = await sync(docs, ":docs", container=container, observer=observe)

    assert (result.success, result.ignored) == (True, 5)
    assert set(ignored) == {"link", "folder link", "loop", "dangling", "pipe"}
    assert not [key async for key in container.storage().list("docs/link")]


async def test_names_that_are_no_keys_fail_by_name_and_the_others_arrive(
    docs: Path, container: ApplicationContainer
) -> None:
    odd = ["new\nline", "bell\x07", ".purveyor-mine", os.fsdecode(b"latin-\xe9")]
    for name in odd:
        (docs / name).write_bytes(b"odd")

    result = await sync(docs, ":docs", container=container)

    assert codes(result) == dict.fromkeys(odd, "INVALID_KEY")
    assert not result.success
    assert result.files == len(tree(docs)) - len(odd)
    json.dumps(result.to_dict())


async def test_a_key_that_gets_too_long_below_the_target_fails(
    docs: Path, container: ApplicationContainer
) -> None:
    prefix = "/".join(["p" * 200] * 5)  # 1,004 bytes

    result = await sync(
        docs, f"sqlite:{prefix}", container=container, options=SyncOptions(dry_run=True)
    )

    assert set(codes(result).values()) == {"INVALID_KEY"}
    assert "größe/日本.txt" not in codes(result)
    assert "with space & %41?#.txt" in codes(result)


async def test_a_key_beside_a_folder_of_its_name_fails_alone(
    tmp_path: Path, container: ApplicationContainer
) -> None:
    for key in ("a", "a/b", "c"):
        await container.storage("sqlite").put(key, b"x")

    result = await sync(
        "sqlite:", tmp_path / "out", container=container, options=SyncOptions(jobs=1)
    )

    assert codes(result) == {"a/b": "KEY_CONFLICT"}
    assert result.error is None
    assert set(tree(tmp_path / "out")) == {"a", "c"}


async def test_what_cannot_be_read_fails_alone(unprivileged: Path) -> None:
    source = unprivileged / "source"
    (source / "locked").mkdir(parents=True)
    for name in ("a", "b", "locked/c", "z"):
        (source / name).write_bytes(b"x")
    (source / "b").chmod(0)
    (source / "locked").chmod(0)

    result = await sync(source, unprivileged / "target")
    (source / "locked").chmod(0o700)

    assert codes(result) == {"b": "PERMISSION_DENIED", "locked/": "PERMISSION_DENIED"}
    assert result.error is None
    assert set(tree(unprivileged / "target")) == {"a", "z"}


async def test_a_place_that_cannot_be_written_fails_for_its_objects_only(
    unprivileged: Path,
) -> None:
    source, target = unprivileged / "source", unprivileged / "target"
    for name in ("a", "locked/b", "z"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"x")
    (target / "locked").mkdir(parents=True)
    (target / "locked").chmod(0o500)

    result = await sync(source, target)

    assert codes(result) == {"locked/b": "PERMISSION_DENIED"}
    assert set(tree(target)) == {"a", "z"}
    (target / "locked").chmod(0o700)


async def test_a_file_that_is_gone_before_its_turn_fails_alone(
    docs: Path, container: ApplicationContainer
) -> None:
    def observe(event: SyncEvent) -> None:
        if isinstance(event, ListingFinished):
            (docs / "readme.md").unlink()

    result = await sync(
        docs, ":docs", container=container, observer=observe, options=SyncOptions(jobs=1)
    )

    assert codes(result) == {"readme.md": "OBJECT_NOT_FOUND"}


async def test_drafts_of_another_process_are_no_files_of_the_source(
    docs: Path, container: ApplicationContainer
) -> None:
    expected = tree(docs)
    draft = docs / ".purveyor-0123456789abcdef.part"
    draft.write_bytes(b"half")
    os.utime(draft, (0, 0))

    result = await sync(docs, ":docs", container=container)

    assert (result.success, result.files) == (True, len(expected))
    assert draft.exists()  # nothing in a source is ever removed


async def test_a_listing_that_breaks_off_ends_the_sync(
    docs: Path,
    container: ApplicationContainer,
    misbehaving: MisbehavingStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(self: Any, prefix: str = "") -> Any:
        raise StorageConnectionError("connection lost")
        yield

    misbehaving.before_put = lambda _key, data: data
    monkeypatch.setattr(misbehaving, "list", broken.__get__(misbehaving))
    with container.storage.override_provider("bare", misbehaving):
        async with misbehaving:
            result = await sync(docs, "bare:", container=container)

    assert str(result.error) == "connection lost"
    assert not result.success


# -- changes under way, bad copies -------------------------------------------------------


@pytest.mark.parametrize("name", ["large.bin", "a.txt"])
async def test_a_source_that_changes_once_is_copied_as_it_is_now(
    docs: Path, container: ApplicationContainer, name: str
) -> None:
    changed: list[str] = []

    def observe(event: SyncEvent) -> None:
        # A small object is one read: it can change only before that.
        kind = ObjectStarted if name == "a.txt" else BytesMoved
        if isinstance(event, kind) and event.key == name and not changed:
            changed.append(name)
            with (docs / name).open("ab") as file:
                file.write(b"more")

    result = await sync(docs, ":docs", container=container, observer=observe)

    assert result.success
    assert await container.storage().get(f"docs/{name}") == (docs / name).read_bytes()


async def test_a_source_that_keeps_changing_is_reported_and_what_was_there_stays(
    docs: Path, container: ApplicationContainer
) -> None:
    name = "large.bin"
    await container.storage().put(f"docs/{name}", b"the last good one")

    def observe(event: SyncEvent) -> None:
        if isinstance(event, BytesMoved) and event.key == name:
            with (docs / name).open("ab") as file:
                file.write(b"more")

    result = await sync(docs, ":docs", container=container, observer=observe)

    assert codes(result) == {name: "SOURCE_CHANGED"}
    assert await container.storage().get(f"docs/{name}") == b"the last good one"


def damaged(times: int) -> Callable[[str, Any], Any]:
    """Return what alters the first ``times`` writes of each key."""
    seen: dict[str, int] = {}

    async def altered(data: Any) -> Any:
        async for chunk in data:
            yield bytes(len(chunk))

    def before_put(key: str, data: Any) -> Any:
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > times:
            return data
        return bytes(len(data)) if isinstance(data, bytes) else altered(data)

    return before_put


async def test_a_copy_that_arrives_damaged_is_made_again(
    docs: Path, container: ApplicationContainer, misbehaving: MisbehavingStorage
) -> None:
    misbehaving.before_put = damaged(1)

    result = await sync(docs, "bad:", container=container)

    assert result.success
    assert tree(misbehaving.config.root) == tree(docs)


async def test_a_copy_that_stays_damaged_is_removed_and_reported(
    docs: Path, container: ApplicationContainer, misbehaving: MisbehavingStorage
) -> None:
    misbehaving.before_put = damaged(2)
    (docs / "empty.txt").unlink()  # nothing to damage

    result = await sync(docs, "bad:", container=container)

    assert codes(result) == dict.fromkeys(tree(docs), "VERIFICATION_FAILED")
    assert tree(misbehaving.config.root) == {}


async def test_verify_by_size_does_not_read_back(
    docs: Path, container: ApplicationContainer, misbehaving: MisbehavingStorage
) -> None:
    misbehaving.before_put = damaged(2)

    result = await sync(docs, "bad:", container=container, options=SyncOptions(verify="size"))

    assert result.success
    assert result.verified == {"size": len(tree(docs))}

    misbehaving.before_put = lambda _key, data: b"short" if isinstance(data, bytes) else data
    (docs / "a.txt").write_bytes(b"another length")
    result = await sync(docs, "bad:", container=container, options=SyncOptions(verify="size"))
    assert codes(result) == {"a.txt": "VERIFICATION_FAILED"}


# -- the whole fails ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        StorageFullError("no space left"),
        StorageConnectionError("server gone"),
        StoragePermissionError("not with these credentials"),
    ],
)
async def test_a_target_that_fails_as_a_whole_ends_the_sync_with_one_error(
    tmp_path: Path,
    container: ApplicationContainer,
    misbehaving: MisbehavingStorage,
    monkeypatch: pytest.MonkeyPatch,
    error: Any,
) -> None:
    (tmp_path / "many").mkdir()
    for number in range(200):
        (tmp_path / "many" / f"{number}").write_bytes(b"x")
    asked: list[str] = []

    def before_put(key: str, data: Any) -> Any:
        asked.append(key)
        raise error

    async def check_health() -> None:
        if asked:
            raise error

    misbehaving.before_put = before_put
    monkeypatch.setattr(misbehaving, "check_health", check_health)

    result = await sync(tmp_path / "many", "bad:", container=container, options=SyncOptions(jobs=4))

    assert not result.success
    assert result.error is error
    assert (result.files, result.failed) == (0, [])
    assert len(asked) <= 4


async def test_an_end_that_is_well_but_refuses_everything_ends_the_sync(
    tmp_path: Path,
    container: ApplicationContainer,
    misbehaving: MisbehavingStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "many").mkdir()
    for number in range(200):
        (tmp_path / "many" / f"{number}").write_bytes(b"x")

    def before_put(key: str, data: Any) -> Any:
        raise StoragePermissionError("may list, may not write")

    misbehaving.before_put = before_put
    monkeypatch.setattr(type(misbehaving), "capabilities", frozenset({"remote-storage"}))

    result = await sync(tmp_path / "many", "bad:", container=container, options=SyncOptions(jobs=1))

    assert str(result.error) == "may list, may not write"
    assert len(result.failed) == 9


async def test_a_source_that_is_not_there_is_an_error_and_nothing_is_made(
    tmp_path: Path, container: ApplicationContainer
) -> None:
    missing = await sync(tmp_path / "missing", tmp_path / "target", container=container)
    empty = await sync(":missing", tmp_path / "other", container=container)

    assert "There is no folder or file" in str(missing.error)
    assert not (tmp_path / "missing").exists()
    assert not (tmp_path / "target").exists()
    assert "nothing to copy" in str(empty.error)
    assert not missing.success
    assert not empty.success


async def test_a_target_that_is_a_file_is_an_error(
    docs: Path, tmp_path: Path, container: ApplicationContainer
) -> None:
    (tmp_path / "file").write_bytes(b"mine")

    result = await sync(docs, tmp_path / "file", container=container)

    assert "is not a folder" in str(result.error)
    assert (tmp_path / "file").read_bytes() == b"mine"


async def test_a_target_in_its_own_source_is_refused(
    docs: Path, tmp_path: Path, container: ApplicationContainer
) -> None:
    await container.storage().put("docs/x", b"x")
    for source, target in [
        (docs, docs),
        (docs, docs / "a" / "copy"),
        (tmp_path, ":copy"),  # the default storage's folder is below
        (tmp_path, "sqlite:copy"),
        (":docs", ":docs/copy"),
        (":", ":copy"),
        (":docs/x", ":docs/x"),
        (docs / "a.txt", docs),
    ]:
        result = await sync(source, target, container=container)
        assert result.error is not None
        assert result.error.code in ("SAME_PLACE", "TARGET_IN_SOURCE")
        assert result.files == 0
    assert not (docs / "a" / "copy").exists()


async def test_unknown_providers_and_places_without_a_container_are_the_callers_mistake(
    docs: Path, container: ApplicationContainer
) -> None:
    with pytest.raises(NotFoundError, match="filesystem, other, sqlite"):
        await sync(docs, "filesytem:", container=container)
    with pytest.raises(NotFoundError, match="off is disabled"):
        await sync("off:", docs, container=container)
    with pytest.raises(SyncError, match="needs a container"):
        await sync(docs, ":x")


async def test_a_disabled_provider_is_skipped_and_the_result_says_so(
    docs: Path, container: ApplicationContainer
) -> None:
    result = await sync(docs, "off:", container=container)

    assert (result.success, result.files) == (True, 0)
    assert result.note == "The provider 'off' is disabled: nothing was copied."


# -- telling, ending ---------------------------------------------------------------------


async def test_events_tell_each_object_in_order(
    docs: Path, container: ApplicationContainer
) -> None:
    os.mkfifo(docs / "pipe")
    (docs / "bad\nname").write_bytes(b"")
    events: list[SyncEvent] = []

    await sync(docs, ":docs", container=container, observer=events.append)

    of_large = [event for event in events if getattr(event, "key", "") == "large.bin"]
    assert [type(event) for event in of_large] == [
        ObjectFound,
        ObjectStarted,
        *[BytesMoved] * 4,
        ObjectFinished,
    ]
    assert of_large[-1] == ObjectFinished(
        "large.bin", "docs/large.bin", 3 * CHUNK + 17, "copied", "content"
    )
    kinds = [type(event) for event in events]
    assert [kinds.count(kind) for kind in (ListingFinished, ObjectFailed, ObjectIgnored)] == [
        1,
        1,
        1,
    ]


async def test_an_observer_that_raises_changes_nothing(
    docs: Path, container: ApplicationContainer, caplog: pytest.LogCaptureFixture
) -> None:
    def observe(_event: SyncEvent) -> None:
        raise RuntimeError("not my day")

    result = await sync(docs, ":docs", container=container, observer=observe)

    assert result.success
    assert "not my day" in caplog.text


async def test_the_result_is_json(docs: Path, container: ApplicationContainer) -> None:
    result = await sync(docs, ":docs", container=container)

    data = json.loads(json.dumps(result.to_dict()))
    assert data["success"] is True
    assert data["files"] == result.files
    assert data["seconds"] > 0
    assert data["error"] is None


@pytest.mark.parametrize("target", ["filesystem:", "sqlite:"])
async def test_a_cancelled_sync_leaves_whole_objects_only(
    docs: Path, container: ApplicationContainer, target: str
) -> None:
    reading = asyncio.Event()

    def observe(event: SyncEvent) -> None:
        if isinstance(event, BytesMoved) and event.key == "large.bin":
            reading.set()

    task = asyncio.create_task(sync(docs, target, container=container, observer=observe))
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    storage = container.storage(target.rstrip(":"))
    there, expected = await objects(storage), tree(docs)
    assert there.items() <= expected.items()
    assert "large.bin" not in there
    if target == "filesystem:":
        assert tree(storage.config.root) == there  # no draft is left behind
    again = await sync(docs, target, container=container)
    assert again.success
    assert again.skipped >= len(there)  # a put that was cancelled may have happened, whole
    assert await objects(storage) == expected


# -- S3 ----------------------------------------------------------------------------------


@pytest.mark.server("seaweedfs")
async def test_a_folder_goes_to_s3_and_back(
    docs: Path, tmp_path: Path, s3_config: S3Config
) -> None:
    s3 = {**s3_config.model_dump(), "type": "s3", "part_size": 5 * CHUNK}
    (docs / "parts.bin").write_bytes(os.urandom(6 * CHUNK))
    age(docs)  # S3 keeps whole seconds
    settings = Settings(home=tmp_path / "home", storage={"providers": {"cloud": s3}})
    container = ApplicationContainer(settings=settings)
    async with container.lifespan():
        first = await sync(docs, "cloud:docs", container=container)
        second = await sync(docs, "cloud:docs", container=container)
        full = await sync(
            docs / "parts.bin",
            "cloud:full",
            container=container,
            options=SyncOptions(verify="full"),
        )
        back = await sync("cloud:docs", tmp_path / "back", container=container)

    assert (first.error, first.failed) == (None, [])
    assert first.verified == {"etag": len(tree(docs)) - 1, "size": 1}
    assert (second.files, second.skipped) == (0, len(tree(docs)))
    assert full.verified == {"content": 1}
    assert back.success
    assert tree(tmp_path / "back") == tree(docs)


@pytest.mark.server("seaweedfs")
async def test_no_bucket_and_wrong_credentials_are_one_error_each(
    docs: Path, tmp_path: Path, s3_config: S3Config
) -> None:
    good = {**s3_config.model_dump(), "type": "s3"}
    providers = {
        "lost": {**good, "bucket": "no-such-bucket"},
        "wrong": {**good, "secret_key": "not-the-secret"},
    }
    settings = Settings(home=tmp_path / "home", storage={"default": "lost", "providers": providers})
    container = ApplicationContainer(settings=settings)
    async with container.lifespan():
        lost = await sync(docs, "lost:", container=container)
        wrong = await sync(docs, "wrong:", container=container)

    assert (lost.error and lost.error.code) == "STORAGE_ROOT_NOT_FOUND"
    assert (wrong.error and wrong.error.code) == "PERMISSION_DENIED"
    assert lost.failed == wrong.failed == []
    assert "not-the-secret" not in str(wrong.to_dict())
