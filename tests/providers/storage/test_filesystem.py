"""What is special about the storage type ``filesystem``; the rest is in the conformance suite."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.registry import guarded
from purveyor.providers.storage import (
    KeyConflictError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageRootNotFoundError,
)
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage

MIB = 1024 * 1024
DAY = 24 * 3600


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
async def storage(root: Path) -> AsyncIterator[FilesystemStorage]:
    async with opened(root) as storage:
        yield storage


def opened(root: Path, **settings: Any) -> FilesystemStorage:
    return guarded(
        FilesystemStorage(FilesystemConfig.model_validate({"root": root, **settings})), name="files"
    )


async def keys(storage: FilesystemStorage, prefix: str = "") -> list[str]:
    return [info.key async for info in storage.list(prefix)]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def replace_folder(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.mkdir()


def open_files() -> int:
    try:
        return len(list(Path("/proc/self/fd").iterdir()))
    except FileNotFoundError:
        pytest.skip("this system does not list open files")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def chunks(number: int, size: int = MIB) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield bytes(size)


# -- settings ----------------------------------------------------------------------------


def test_root_is_named_after_the_provider_below_home():
    context = {"home": Path("/srv/app"), "name": "archive"}
    config = FilesystemConfig.model_validate({}, context=context)
    assert config.root == Path("/srv/app/storage/archive")


def test_root_has_a_default_without_context():
    assert FilesystemConfig().root == Path(".purveyor/storage/filesystem").absolute()


def test_a_relative_root_is_taken_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    config = FilesystemConfig(root=Path("data"))
    monkeypatch.chdir("/")
    assert config.root == tmp_path / "data"


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert FilesystemConfig(root=Path("~/data")).root == Path("/home/ada/data")


def test_directory_is_an_older_name_of_root():
    assert FilesystemConfig.model_validate({"directory": "/data"}).root == Path("/data")


def test_root_and_directory_may_agree_but_not_differ():
    same = {"root": "/data", "directory": "/data"}
    assert FilesystemConfig.model_validate(same).root == Path("/data")
    with pytest.raises(ValidationError, match="'root' and its older name 'directory'"):
        FilesystemConfig.model_validate({"root": "/data", "directory": "/other"})


@pytest.mark.parametrize(("given", "mode"), [("0640", 0o640), ("640", 0o640), (0o644, 0o644)])
def test_file_mode_is_octal_text_or_a_number(given: Any, mode: int):
    assert FilesystemConfig.model_validate({"file_mode": given}).file_mode == mode


@pytest.mark.parametrize("wrong", ["rw-r--r--", "0999", "", "0200", "7777", -1])
def test_what_is_no_mode_is_refused(wrong: Any):
    with pytest.raises(ValidationError, match="file_mode"):
        FilesystemConfig.model_validate({"file_mode": wrong})


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError, match="rot"):
        FilesystemConfig.model_validate({"rot": "/data"})


# -- files and folders -------------------------------------------------------------------


async def test_an_object_is_a_file_of_its_name(storage: FilesystemStorage, root: Path):
    await storage.put("reports/2026/ä b.txt", b"content")
    assert (root / "reports/2026/ä b.txt").read_bytes() == b"content"


async def test_a_file_put_there_by_others_is_an_object(storage: FilesystemStorage, root: Path):
    await storage.stats()
    (root / "folder").mkdir()
    (root / "folder/file").write_bytes(b"by hand")
    assert await storage.get("folder/file") == b"by hand"
    assert await keys(storage) == ["folder/file"]


@pytest.mark.parametrize("remove", ["delete", "move"])
async def test_folders_left_empty_are_removed(storage: FilesystemStorage, root: Path, remove: str):
    await storage.put("a/b/c/object", b"x")
    await storage.put("a/other", b"x")
    if remove == "delete":
        await storage.delete("a/b/c/object")
    else:
        await storage.move("a/b/c/object", "moved")
    assert not (root / "a/b").exists()
    assert (root / "a/other").exists()
    await storage.delete("a/other")
    await storage.delete("moved")
    assert files_below(root) == []


async def test_an_empty_folder_stands_for_nothing(storage: FilesystemStorage, root: Path):
    await storage.stats()
    (root / "folder").mkdir()
    assert not await storage.exists("folder")
    await storage.put("folder", b"a file now")
    assert await storage.get("folder") == b"a file now"


async def test_files_are_for_their_owner_only(storage: FilesystemStorage, root: Path):
    await storage.put("folder/object", b"x")
    assert mode_of(root / "folder/object") == 0o600
    assert mode_of(root / "folder") == 0o700


def test_file_mode_is_shown_as_octal_text(tmp_path: Path):
    config = FilesystemConfig(root=tmp_path, file_mode=0o640)
    assert config.model_dump()["file_mode"] == "0640"


@pytest.mark.parametrize(
    ("file_mode", "folder_mode"), [("0640", 0o750), ("0644", 0o755), ("0400", 0o700)]
)
async def test_folders_may_be_entered_by_whom_files_may_be_read(
    root: Path, file_mode: str, folder_mode: int
):
    old = os.umask(0)
    try:
        async with opened(root, file_mode=file_mode) as storage:
            await storage.put("folder/object", b"x")
            await storage.copy("folder/object", "folder/copy")
    finally:
        os.umask(old)
    assert mode_of(root / "folder/object") == mode_of(root / "folder/copy") == int(file_mode, 8)
    assert mode_of(root / "folder") == mode_of(root) == folder_mode


async def test_fsync_reaches_file_and_folder_before_put_returns(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    async with opened(root, fsync=True) as storage:
        await storage.put("object", b"x")
    assert synced[:1] == [False]  # the file, before it gets its name
    assert synced[-1:] == [True]  # the folder, after


async def test_without_fsync_nothing_waits_for_the_disk(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
):
    def fsync(descriptor: int) -> None:
        raise AssertionError

    monkeypatch.setattr(os, "fsync", fsync)
    await storage.put("object", b"x")


async def test_copy_reads_and_writes_where_the_system_cannot_copy(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*args: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    content = os.urandom(2 * MIB + 5)
    await storage.put("object", content)
    await storage.copy("object", "copy")
    assert await storage.get("copy") == content


# -- what is no object -------------------------------------------------------------------


@pytest.mark.parametrize("place", ["inside", "outside"])
async def test_a_link_to_a_file_is_no_object(
    storage: FilesystemStorage, root: Path, tmp_path: Path, place: str
):
    await storage.put("real", b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    (root / "link").symlink_to(root / "real" if place == "inside" else tmp_path / "secret")
    for call in (storage.get("link"), storage.stat("link"), storage.copy("link", "copy")):
        with pytest.raises(ObjectNotFoundError):
            await call
    assert not await storage.exists("link")
    assert await keys(storage) == ["real"]


async def test_putting_onto_a_link_replaces_the_link_and_not_its_target(
    storage: FilesystemStorage, root: Path, tmp_path: Path
):
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    await storage.stats()
    (root / "link").symlink_to(outside)
    await storage.put("link", b"object")
    assert outside.read_bytes() == b"untouched"
    assert not (root / "link").is_symlink()
    assert await storage.get("link") == b"object"


@pytest.mark.parametrize("place", ["inside", "outside"])
async def test_a_link_to_a_folder_is_not_followed(
    storage: FilesystemStorage, root: Path, tmp_path: Path, place: str
):
    await storage.put("real/object", b"x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "object").write_bytes(b"secret")
    (root / "link").symlink_to(root / "real" if place == "inside" else outside)
    calls: list[Callable[[], Any]] = [
        lambda: storage.get("link/object"),
        lambda: storage.put("link/new", b"x"),
        lambda: storage.delete("link/object"),
        lambda: storage.copy("real/object", "link/copy"),
        lambda: storage.move("real/object", "link/moved"),
    ]
    for call in calls:
        with pytest.raises(StoragePermissionError, match="'link' is a symbolic link"):
            await call()
    assert await keys(storage) == ["real/object"]
    assert files_below(outside) == ["object"]


async def test_no_key_leads_out_of_the_root(storage: FilesystemStorage, tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"secret")
    for key in ("../secret", "a/../../secret", str(tmp_path / "secret"), "..", "a/.."):
        with pytest.raises(ValueError, match="Invalid key"):
            await storage.get(key)
        with pytest.raises(ValueError, match="Invalid key"):
            await storage.put(key, b"x")
    assert (tmp_path / "secret").read_bytes() == b"secret"


async def test_the_root_itself_may_be_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with opened(tmp_path / "link") as storage:
        await storage.put("object", b"x")
        await storage.check_health()
    assert (tmp_path / "real/object").read_bytes() == b"x"


async def test_a_named_pipe_is_no_object_and_stops_nobody(storage: FilesystemStorage, root: Path):
    await storage.stats()
    os.mkfifo(root / "pipe")
    async with asyncio.timeout(5):
        with pytest.raises(ObjectNotFoundError):
            await storage.get("pipe")
        assert not await storage.exists("pipe")
        assert await keys(storage) == []


async def test_a_name_that_is_no_text_is_left_out_with_a_warning(
    storage: FilesystemStorage, root: Path, caplog: pytest.LogCaptureFixture
):
    await storage.put("good", b"x")
    try:
        (root / os.fsdecode(b"bad\xff")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    with caplog.at_level(logging.WARNING, "purveyor"):
        assert await keys(storage) == ["good"]
    assert "Left out of the list" in caplog.text
    assert "UTF-8" in caplog.text


async def test_debris_is_removed_when_a_day_old_and_hidden_before(
    storage: FilesystemStorage, root: Path
):
    await storage.put("folder/object", b"x")
    young, old = (root / f"folder/.purveyor-{age}.part" for age in ("young", "old"))
    for path in (young, old):
        path.write_bytes(b"half")
    a_day_ago = time.time() - DAY - 60
    os.utime(old, (a_day_ago, a_day_ago))
    assert await keys(storage) == ["folder/object"]
    assert young.exists()
    assert not old.exists()
    assert (await storage.stats()).object_count == 1


async def test_a_put_that_ends_badly_leaves_no_file_and_no_folder(
    storage: FilesystemStorage, root: Path
):
    async def failing() -> AsyncIterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await storage.put("new/folder/object", failing())
    with pytest.raises(KeyConflictError):
        await storage.put("taken", b"x")
        await storage.put("taken/below", b"x")
    assert files_below(root) == ["taken"]


# -- at the same time --------------------------------------------------------------------


async def test_a_put_never_loses_to_the_removal_of_its_folder(storage: FilesystemStorage):
    async def put_and_delete(number: int) -> None:
        for _ in range(50):
            await storage.put(f"a/b/{number}", b"x")
            assert await storage.get(f"a/b/{number}") == b"x"
            await storage.delete(f"a/b/{number}")

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(put_and_delete(number))
    assert await keys(storage) == []


async def test_two_instances_cannot_both_create(storage: FilesystemStorage, root: Path):
    async with opened(root) as other:
        results = await asyncio.gather(
            *(one.put("object", b"x", overwrite=False) for one in (storage, other) * 10),
            return_exceptions=True,
        )
    failed = [result for result in results if isinstance(result, BaseException)]
    assert len(failed) == 19
    assert all(isinstance(error, ObjectExistsError) for error in failed)


# -- what goes wrong ---------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("source", ["bytes", "iterator", "copy"])
async def test_a_full_disk_leaves_the_old_object_whole(small_disk: Path, source: str):
    old = os.urandom(300_000)
    async with opened(small_disk / "root") as storage:
        await storage.put("object", old)
        if source == "copy":
            await storage.put("source", bytes(600_000))
        calls: dict[str, Callable[[], Any]] = {
            "bytes": lambda: storage.put("object", bytes(2 * MIB)),
            "iterator": lambda: storage.put("object", chunks(20, 100_000)),
            "copy": lambda: storage.copy("source", "object"),
        }
        with pytest.raises(StorageFullError, match="No space left") as caught:
            await calls[source]()
        assert caught.value.is_backend_failure
        assert await storage.get("object") == old
        await storage.delete("source")
        assert await keys(storage) == ["object"]
        assert files_below(small_disk / "root") == ["object"]
        await storage.put("object", b"fits")


async def test_a_root_that_is_a_file_is_told(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"x")
    for root in (tmp_path / "file", tmp_path / "file/below"):
        async with asyncio.timeout(5):
            storage = opened(root)
            with pytest.raises(StorageRootNotFoundError, match="is not a folder"):
                await storage.put("object", b"x")
            await storage.dispose()


@pytest.mark.parametrize("key", ["object", "folder/object"])
async def test_a_root_removed_while_in_use_is_told(
    storage: FilesystemStorage, root: Path, key: str
):
    await storage.put("object", b"x")
    shutil.rmtree(root)
    with pytest.raises(StorageRootNotFoundError, match="removed or replaced while in use"):
        await storage.put(key, b"x")
    with pytest.raises(StorageRootNotFoundError, match="removed or replaced"):
        await storage.check_health()
    assert "root" not in files_below(root.parent)  # nothing was made in its place


async def test_a_root_replaced_while_in_use_is_unhealthy(storage: FilesystemStorage, root: Path):
    await storage.check_health()
    replace_folder(root)
    with pytest.raises(StorageRootNotFoundError, match="removed or replaced"):
        await storage.check_health()


AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
from purveyor.providers.registry import guarded
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage

os.setgroups([])
os.setgid(65534)
os.setuid(65534)  # after the imports: that account may not be able to read this Python

async def main(root, *calls):
    storage = guarded(FilesystemStorage(FilesystemConfig(root=Path(root))), name="files")
    for call in calls:
        try:
            await {"put": lambda: storage.put("folder/new", b"x"),
                   "get": lambda: storage.get("folder/object"),
                   "delete": lambda: storage.delete("folder/object")}[call]()
            print("done")
        except Exception as error:
            print(type(error).__name__, error)
    await storage.dispose()

asyncio.run(main(*sys.argv[1:]))
"""


def as_nobody(root: Path, *calls: str) -> list[str]:
    """Make calls in a process of another account, which root's rights do not help."""
    if os.getuid() != 0:
        pytest.skip("only root can become another account")
    result = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(root), *calls],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A root with an object, in a folder that every account may enter: pytest's own are not."""
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o711)
        root = Path(base) / "root"
        (root / "folder").mkdir(parents=True)
        (root / "folder/object").write_bytes(b"x")
        yield root


def test_an_object_of_another_account_is_permission_denied(shared: Path):
    (shared / "folder/object").chmod(0o600)
    for folder in (shared, shared / "folder"):
        folder.chmod(0o777)
    denied, done = as_nobody(shared, "get", "put")
    assert denied.startswith("StoragePermissionError get on storage 'files' failed: Permission")
    assert "Give the account that runs this process access" in denied
    assert done == "done"


def test_a_read_only_folder_can_be_read(shared: Path):
    (shared / "folder/object").chmod(0o644)
    for folder in (shared, shared / "folder"):
        folder.chmod(0o555)
    put, got, deleted = as_nobody(shared, "put", "get", "delete")
    assert put.startswith("StoragePermissionError put on")
    assert got == "done"
    assert deleted.startswith("StoragePermissionError delete on")
    assert files_below(shared) == ["folder", "folder/object"]


def test_a_root_that_may_not_be_entered_is_told(shared: Path):
    shared.chmod(0o700)
    (told,) = as_nobody(shared, "get")
    assert told.startswith("StoragePermissionError The storage's root")
    assert "cannot be opened: Permission denied" in told


async def test_a_file_cut_short_while_it_is_read_is_an_error(
    storage: FilesystemStorage, root: Path
):
    await storage.put("object", bytes(3 * MIB))
    stream = storage.stream("object")
    assert len(await anext(stream)) == MIB
    os.truncate(root / "object", MIB)
    with pytest.raises(StorageError, match="cut short"):
        await anext(stream)


async def test_every_descriptor_is_closed(root: Path):
    before = open_files()
    async with opened(root) as storage:
        await storage.put("a/b", chunks(2))
        await storage.copy("a/b", "c/d")
        await storage.move("c/d", "e")
        assert await keys(storage) == ["a/b", "e"]
        for call in (storage.get("missing"), storage.put("e/below", b"x"), storage.get("a")):
            with pytest.raises(StorageError):
                await call
        stream = storage.stream("a/b")
        await anext(stream)
        await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
        listing = storage.list()
        await anext(listing)
        await listing.aclose()  # pyright: ignore[reportAttributeAccessIssue]
    assert open_files() == before
