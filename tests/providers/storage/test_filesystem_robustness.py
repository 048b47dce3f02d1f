"""The storage type ``filesystem`` when calls are cancelled, meet each other, or are cut off."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.registry import guarded
from purveyor.providers.registry.errors import InvalidStateError
from purveyor.providers.registry.provider import Call
from purveyor.providers.storage import (
    InvalidKeyError,
    KeyConflictError,
    ObjectExistsError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
)
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage

MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
async def storage(root: Path) -> AsyncIterator[FilesystemStorage]:
    config = FilesystemConfig(root=root)
    async with guarded(FilesystemStorage(config), name="files") as storage:
        yield storage


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def open_files() -> int:
    gc.collect()
    try:
        return len(list(Path("/proc/self/fd").iterdir()))
    except FileNotFoundError:
        pytest.skip("this system does not list open files")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is awaited happens in a thread
            await asyncio.sleep(0.005)


async def two_chunks() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


class Gate:
    """Holds threads in a system call until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, applies: Callable[..., bool]):
        real = getattr(os, call)
        self._reached = threading.Event()
        self._opened = threading.Event()

        def held(*args: Any, **kwargs: Any) -> Any:
            if applies(*args):
                self._reached.set()
                assert self._opened.wait(10)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, call, held)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 10)

    def open(self) -> None:
        self._opened.set()


def creates(path: object, flags: int, *rest: object) -> bool:
    return bool(flags & os.O_CREAT)


def opens(name: str) -> Callable[..., bool]:
    return lambda path, *rest: path == name


async def cancelled(task: asyncio.Task[Any], gate: Gate, times: int) -> None:
    """Cancel a task whose thread is held at a gate, and see that it waits for the thread."""
    await gate.reached()
    for _ in range(times):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- cancelled ---------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("step", ["creating", "writing"])
async def test_a_put_cancelled_in_any_step_leaves_nothing(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch, step: str, times: int
):
    await storage.stats()
    before = open_files()
    gate = (
        Gate(monkeypatch, "open", creates)
        if step == "creating"
        else Gate(monkeypatch, "write", lambda *_: True)
    )
    await cancelled(asyncio.create_task(storage.put("folder/key", two_chunks())), gate, times)
    assert files_below(root) == []
    assert open_files() == before


@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_put_of_bytes_cancelled_under_way_has_happened_when_it_returns(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
):
    gate = Gate(monkeypatch, "write", lambda _, data: data == b"whole")
    put = asyncio.create_task(storage.put("key", b"whole", overwrite=overwrite))
    await cancelled(put, gate, 1)
    assert files_below(root) == ["key"]
    assert await storage.get("key") == b"whole"


async def test_a_cancelled_cleanup_is_finished(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
):
    async def failing() -> AsyncIterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    await storage.stats()
    before = open_files()
    gate = Gate(monkeypatch, "unlink", lambda name, **_: True)
    await cancelled(asyncio.create_task(storage.put("folder/key", failing())), gate, 2)
    assert files_below(root) == []
    assert open_files() == before


async def test_calls_cancelled_at_any_moment_leave_nothing(storage: FilesystemStorage, root: Path):
    await storage.put("key", bytes(MIB))
    before = open_files()
    calls: list[Callable[[], Any]] = [
        lambda: storage.put("folder/new", two_chunks(), overwrite=False),
        lambda: storage.copy("key", "folder/new"),
        lambda: storage.get("key"),
    ]
    for turn in range(150):
        task = asyncio.ensure_future(calls[turn % 3]())
        for _ in range(turn // 3 % 12):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await storage.delete("folder/new")
    assert open_files() == before
    assert files_below(root) == ["key"]


@pytest.mark.parametrize("operation", ["stream", "copy"])
async def test_a_read_cancelled_while_opening_closes_the_file(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch, operation: str
):
    await storage.put("key", b"x")

    async def stream() -> None:
        async for _ in storage.stream("key"):
            pass

    before = open_files()
    gate = Gate(monkeypatch, "open", opens("key"))
    call = stream() if operation == "stream" else storage.copy("key", "other")
    await cancelled(asyncio.ensure_future(call), gate, 1)
    assert open_files() == before
    assert files_below(root) == ["key"]


async def test_a_cancelled_copy_ends_with_its_step(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
):
    await storage.put("key", bytes(3 * MIB))
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    gate = Gate(monkeypatch, "write", lambda *_: True)
    await cancelled(asyncio.ensure_future(storage.copy("key", "other")), gate, 1)
    assert files_below(root) == ["key"]


# -- closed under way --------------------------------------------------------------------


async def test_a_storage_closed_under_a_put_leaves_no_debris(root: Path):
    go_on = asyncio.Event()
    half_way = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"half"
        half_way.set()
        await go_on.wait()
        yield b"more"

    before = open_files()
    storage = guarded(FilesystemStorage(FilesystemConfig(root=root)), name="files")
    put = asyncio.create_task(storage.put("folder/key", source()))
    await half_way.wait()
    await storage.dispose()
    assert files_below(root) == []
    go_on.set()
    with pytest.raises(InvalidStateError, match="closed"):
        await put
    assert files_below(root) == []
    assert open_files() == before


async def test_a_stream_says_that_its_storage_was_closed(storage: FilesystemStorage):
    await storage.put("key", bytes(2 * MIB))
    stream = storage.stream("key")
    await anext(stream)
    await storage.dispose()
    with pytest.raises(InvalidStateError, match="closed"):
        await anext(stream)


async def test_without_a_guard_a_closed_storage_says_so(root: Path):
    storage = FilesystemStorage(FilesystemConfig(root=root))
    for call in (storage.get("key"), storage.put("key", two_chunks()), storage.stats()):
        with pytest.raises(InvalidStateError, match="not connected"):
            await call


async def test_the_threads_end_with_the_storage(root: Path):
    before = threading.active_count()
    async with FilesystemStorage(FilesystemConfig(root=root)) as storage:
        await storage.put("key", b"x")
        assert threading.active_count() > before
    await until(lambda: threading.active_count() == before)


def test_a_storage_dropped_with_its_loop_leaves_no_thread_and_no_file_open(root: Path):
    async def use() -> None:
        storage = FilesystemStorage(FilesystemConfig(root=root))
        await storage.initialize()
        await storage.put("key", b"x")

    asyncio.run(asyncio.sleep(0))
    files, threads = open_files(), threading.active_count()
    asyncio.run(use())
    gc.collect()
    asyncio.run(until(lambda: threading.active_count() == threads))
    assert open_files() == files


# -- at the same time --------------------------------------------------------------------


async def test_lists_at_the_same_time_are_each_complete(storage: FilesystemStorage, root: Path):
    await storage.stats()
    names = [f"a-file-with-a-rather-long-name-{number:05}" for number in range(3000)]
    for name in names:
        (root / name).touch()

    async def listed() -> list[str]:
        return [info.key async for info in storage.list()]

    for found in await asyncio.gather(*(listed() for _ in range(6))):
        assert found == names


async def test_a_move_never_loses_to_the_removal_of_its_folder(storage: FilesystemStorage):
    async def move_about(number: int) -> None:
        for turn in range(30):
            await storage.put(f"from/{number}", b"x")
            await storage.move(f"from/{number}", f"to/{turn % 2}/{number}")
            await storage.delete(f"to/{turn % 2}/{number}")

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(move_about(number))
    assert (await storage.stats()).object_count == 0


# -- what lies in the root ---------------------------------------------------------------


async def test_delete_removes_objects_only(storage: FilesystemStorage, root: Path):
    await storage.stats()
    (root / "link").symlink_to("elsewhere")
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    for key in ("link", "pipe", "folder"):
        await storage.delete(key)
    assert files_below(root) == ["folder", "link", "pipe"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("operation", ["copy", "move"])
async def test_an_empty_folder_is_in_nobodys_way(
    storage: FilesystemStorage, root: Path, operation: str, overwrite: bool
):
    await storage.put("source", b"x")
    (root / "target").mkdir()
    await getattr(storage, operation)("source", "target", overwrite=overwrite)
    assert await storage.get("target") == b"x"


async def test_overwrite_false_never_replaces_what_is_no_object(
    storage: FilesystemStorage, root: Path
):
    await storage.stats()
    (root / "link").symlink_to("elsewhere")
    with pytest.raises(ObjectExistsError):
        await storage.put("link", b"x", overwrite=False)
    assert files_below(root) == ["link"]


async def test_refused_writes_leave_no_folders(storage: FilesystemStorage, root: Path):
    await storage.put("a/b", b"x")
    await storage.put("source", b"y")
    for call in (
        storage.put("a", b"z"),
        storage.move("source", "a"),
        storage.move("source", "a/b/c/d"),
        storage.copy("source", "a/b/c/d"),
    ):
        with pytest.raises(KeyConflictError):
            await call
    with pytest.raises(ObjectExistsError):
        await storage.move("source", "a/b", overwrite=False)
    assert files_below(root) == ["a", "a/b", "source"]
    assert await storage.get("a/b") == b"x"


async def test_only_debris_is_removed_and_everything_of_ours_hidden(
    storage: FilesystemStorage, root: Path
):
    await storage.stats()
    for name in (".purveyor-1.part", ".purveyor-notes"):
        (root / name).write_bytes(b"x")
        os.utime(root / name, (0, 0))
    assert [info async for info in storage.list()] == []
    assert files_below(root) == [".purveyor-notes"]


async def test_many_names_that_are_no_keys_are_one_warning(
    storage: FilesystemStorage, root: Path, caplog: pytest.LogCaptureFixture
):
    await storage.put("good", b"x")
    for number in range(30):
        (root / f"bad\n{number}").touch()
    with caplog.at_level(logging.WARNING, "purveyor"):
        assert [info.key async for info in storage.list()] == ["good"]
    (record,) = caplog.records
    assert "30 in all" in record.getMessage()
    assert str(root) in record.getMessage()
    assert record.getMessage().count("control character") == 10


async def test_the_deepest_key_can_be_listed_and_removed(storage: FilesystemStorage, root: Path):
    key = "/".join("a" * 512)
    await storage.put(key, b"x")
    assert [info.key async for info in storage.list("a/a/")] == [key]
    await storage.delete(key)
    assert files_below(root) == []


async def test_a_list_left_half_way_closes_every_folder(storage: FilesystemStorage):
    await storage.put("a/b/c/d", b"x")
    await storage.put("a/b/c/e", b"x")
    before = open_files()
    async with aclosing(storage.list("a/")) as items:  # pyright: ignore[reportArgumentType]
        await anext(items)
    assert open_files() == before


async def test_copying_where_the_system_claims_to_be_done_at_once(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
):
    """Some file systems answer copy_file_range with 0 though there is something to copy."""
    content = os.urandom(2 * MIB + 5)
    await storage.put("object", content)
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0, raising=False)
    assert (await storage.copy("object", "copy")).size == len(content)
    assert await storage.get("copy") == content


async def test_a_view_of_wide_items_is_written_whole(storage: FilesystemStorage):
    view = memoryview(bytes(range(256)) * 16).cast("I")
    info = await storage.put("key", view)
    assert info.size == 4096
    assert await storage.get("key") == view.tobytes()


@pytest.mark.parametrize("source", [b"0123456789" * 100, two_chunks()], ids=["bytes", "iterator"])
async def test_a_write_that_takes_less_than_it_is_given_goes_on(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, source: Any
):
    real = os.write
    monkeypatch.setattr(
        os, "write", lambda file, data: real(file, data[:7]) if len(data) > 1 else real(file, data)
    )
    await storage.put("key", source)
    expected = source if isinstance(source, bytes) else b"onetwo"
    monkeypatch.undo()
    assert await storage.get("key") == expected


# -- settings and errors -----------------------------------------------------------------


def test_a_root_of_a_dot_is_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert FilesystemConfig.model_validate({"root": "."}).root == tmp_path


@pytest.mark.parametrize("root", ["", "~no-such-account/data"])
def test_a_root_that_is_no_path_is_refused(root: str):
    with pytest.raises(ValidationError, match="root"):
        FilesystemConfig.model_validate({"root": root})


def test_a_mode_written_in_decimal_by_mistake_is_told():
    with pytest.raises(ValidationError, match="octal number from 0400 to 0777"):
        FilesystemConfig.model_validate({"file_mode": 640})


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.EACCES, StoragePermissionError, "Give the account"),
        (errno.EROFS, StoragePermissionError, "Make the file system writable"),
        (errno.ENOSPC, StorageFullError, "Free space"),
        (errno.EDQUOT, StorageFullError, "Free space"),
        (errno.EMFILE, StorageError, "limit of open files"),
        (errno.EIO, StorageError, "Input/output error"),
        (errno.ENAMETOOLONG, InvalidKeyError, "longer than the file system"),
    ],
)
def test_errors_name_the_root_and_what_to_do(
    root: Path, number: int, kind: type[StorageError], advice: str
):
    storage = FilesystemStorage(FilesystemConfig(root=root))
    call = Call("put", ("key", b"x"), {}, "files")
    error = storage._translate(OSError(number, os.strerror(number)), call)
    assert type(error) is kind
    assert str(root) in str(error)
    assert advice in str(error)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that can be read only, with one object."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        (folder / "object").write_bytes(b"x")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_read_only_file_system_can_be_read_and_is_unhealthy(read_only: Path):
    config = FilesystemConfig(root=read_only)
    async with guarded(FilesystemStorage(config), name="files") as storage:
        assert await storage.get("object") == b"x"
        for call in (storage.put("new", b"x"), storage.delete("object")):
            with pytest.raises(StoragePermissionError, match="Read-only file system"):
                await call
        with pytest.raises(StoragePermissionError, match="cannot be written"):
            await storage.check_health()


async def test_a_root_that_cannot_be_made_on_a_read_only_file_system_is_told(read_only: Path):
    config = FilesystemConfig(root=read_only / "below")
    storage = guarded(FilesystemStorage(config), name="files")
    with pytest.raises(StoragePermissionError, match=r"root .* cannot be opened: Read-only"):
        await storage.initialize()
    await storage.dispose()


@pytest.mark.parametrize("operation", ["get", "list"])
async def test_a_removed_root_is_not_taken_for_an_empty_one(
    storage: FilesystemStorage, root: Path, operation: str
):
    await storage.put("key", b"x")
    shutil.rmtree(root)
    with pytest.raises(StorageError, match="removed or replaced while in use"):
        if operation == "get":
            await storage.get("key")
        else:
            _ = [info async for info in storage.list()]


async def test_fsync_reaches_the_folders_made_on_the_way(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    config = FilesystemConfig(root=root, fsync=True)
    async with guarded(FilesystemStorage(config), name="files") as storage:
        await storage.put("a/b/key", b"x")
        for place in (root, root / "a", root / "a/b", root / "a/b/key"):
            assert place.stat().st_ino in synced, place
