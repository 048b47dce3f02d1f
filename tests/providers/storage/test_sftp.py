"""What is special to SFTP storage; the behaviour all types share is the conformance kit's."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import InvalidStateError, guarded
from purveyor.providers.storage.errors import (
    KeyConflictError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StoragePermissionError,
    StorageRootNotFoundError,
)
from purveyor.providers.storage.keys import RESERVED_PREFIX
from purveyor.providers.storage.sftp import SFTPConfig, SFTPStorage
from purveyor.testing.servers import OpenSSH
from tests.conftest import require
from tests.sftp_servers import PythonSFTP

pytestmark = pytest.mark.server("openssh")

MIB = 1024 * 1024
LARGE = os.urandom(5 * MIB + 77)


@pytest.fixture
def root(sftp_config: SFTPConfig) -> Path:
    """The folder of the storage, as the server sees it."""
    return Path(sftp_config.root)


@pytest.fixture
async def storage(sftp_config: SFTPConfig) -> AsyncIterator[SFTPStorage]:
    async with guarded(SFTPStorage(sftp_config), name="backups") as storage:
        yield storage


@pytest.fixture(scope="module")
def plain() -> Iterator[OpenSSH]:
    """A server without any extension of the protocol."""
    require(OpenSSH)
    denied = "posix-rename,hardlink,statvfs,fstatvfs,limits,copy-data,lsetstat,fsync,expand-path"
    with OpenSSH(subsystem=f"internal-sftp -P {denied}") as server:
        yield server


async def keys_of(storage: SFTPStorage, prefix: str = "") -> list[str]:
    return [info.key async for info in storage.list(prefix)]


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def relative_to_home(path: str) -> str:
    home = pwd.getpwuid(os.getuid()).pw_dir  # the server does not ask $HOME
    return os.path.relpath(path, home)


async def blocks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(MIB)


# -- files -------------------------------------------------------------------------------


async def test_an_object_is_a_file_of_its_name(storage: SFTPStorage, root: Path):
    await storage.put("docs/ünï/a.txt", b"content")
    assert (root / "docs" / "ünï" / "a.txt").read_bytes() == b"content"
    assert names_below(root) == ["docs", "docs/ünï", "docs/ünï/a.txt"]
    (root / "docs" / "b").write_bytes(b"from outside")
    assert await storage.get("docs/b") == b"from outside"


async def test_a_relative_root_is_below_where_the_account_arrives(sftp_config: SFTPConfig):
    relative = relative_to_home(sftp_config.root)
    async with SFTPStorage(sftp_config.model_copy(update={"root": relative})) as storage:
        await storage.put("a", b"1")
    async with SFTPStorage(sftp_config) as storage:
        assert await storage.get("a") == b"1"


async def test_folders_left_empty_are_removed(storage: SFTPStorage, root: Path):
    await storage.put("a/b/c/one", b"1")
    await storage.put("a/two", b"2")
    await storage.delete("a/b/c/one")
    assert names_below(root) == ["a", "a/two"]
    await storage.move("a/two", "x/y/two")
    assert names_below(root) == ["x", "x/y", "x/y/two"]
    await storage.delete("x/y/two")
    assert names_below(root) == []
    await storage.check_health()


async def test_an_empty_folder_stands_for_no_object(storage: SFTPStorage, root: Path):
    for overwrite in (True, False):
        (root / "a").mkdir()
        await storage.put("a", b"1", overwrite=overwrite)
        assert await storage.get("a") == b"1"
        await storage.delete("a")


async def test_what_a_refused_put_made_is_removed(storage: SFTPStorage, root: Path):
    await storage.put("taken", b"1")
    with pytest.raises(ObjectExistsError):
        await storage.put("taken", b"2", overwrite=False)
    with pytest.raises(KeyConflictError):
        await storage.put("taken/below/it", b"2")
    with pytest.raises(StorageError):
        await storage.copy("missing", "new/folder/a")
    assert names_below(root) == ["taken"]


async def test_writers_and_removers_of_one_folder_do_not_hinder_each_other(storage: SFTPStorage):
    async def come_and_go(number: int) -> None:
        for _ in range(10):
            await storage.put(f"shared/folder/{number}", b"x")
            await storage.delete(f"shared/folder/{number}")

    await asyncio.gather(*map(come_and_go, range(8)))
    assert await keys_of(storage) == []


async def test_a_time_is_kept_in_whole_seconds(storage: SFTPStorage, root: Path):
    moment = datetime(2001, 2, 3, 4, 5, 6, 987654, UTC)
    info = await storage.put("a", b"1", modified=moment)
    assert info.modified == moment.replace(microsecond=0)
    assert (root / "a").stat().st_mtime == info.modified.timestamp()


@pytest.mark.parametrize("year", [1969, 2107])
async def test_a_time_the_protocol_cannot_hold_is_refused(storage: SFTPStorage, year: int):
    with pytest.raises(ValueError, match="from 1970 to 2106"):
        await storage.put("a", b"1", modified=datetime(year, 1, 1, tzinfo=UTC))
    assert await keys_of(storage) == []


async def test_large_objects_go_through_in_ranges_too(storage: SFTPStorage):
    await storage.put("a", LARGE)
    assert await storage.get("a") == LARGE
    for start, end in ((0, 1), (MIB - 1, MIB + 1), (65_536, 131_072), (5 * MIB, None)):
        assert await storage.get("a", start=start, end=end) == LARGE[start:end]


# -- names -------------------------------------------------------------------------------


async def test_a_name_that_is_no_utf8_is_left_out_and_told(
    storage: SFTPStorage, root: Path, caplog: pytest.LogCaptureFixture
):
    (root / "docs").mkdir()
    for name in (b"caf\xe9", b"a", b"line\nfeed", b"z"):
        (root / "docs" / os.fsdecode(name)).touch()
    with caplog.at_level(logging.WARNING, "purveyor"):
        assert await keys_of(storage) == ["docs/a", "docs/z"]
    assert "2 in all" in caplog.text
    assert "caf\\xe9" in caplog.text


async def test_files_that_are_being_written_are_not_listed(storage: SFTPStorage, root: Path):
    (root / f"{RESERVED_PREFIX}1.part").write_bytes(b"half")
    assert await keys_of(storage) == []
    assert (await storage.stats()).object_count == 0


async def test_what_a_killed_process_left_goes_a_day_later(storage: SFTPStorage, root: Path):
    old, new = root / f"{RESERVED_PREFIX}old.part", root / f"{RESERVED_PREFIX}new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    await keys_of(storage)
    assert names_below(root) == [new.name]


# -- what is no object -------------------------------------------------------------------


async def test_links_do_not_lead_out_of_the_root(storage: SFTPStorage, root: Path, tmp_path: Path):
    (tmp_path / "secret").write_text("hunter2")
    (root / "folder").symlink_to(tmp_path)
    (root / "file").symlink_to(tmp_path / "secret")
    await storage.put("a", b"1")
    assert await keys_of(storage) == ["a"]
    for key in ("folder/secret", "folder/new/deep"):
        for call in (
            storage.get(key),
            storage.stat(key),
            storage.put(key, b"x"),
            storage.delete(key),
            storage.copy("a", key),
            storage.move("a", key),
        ):
            with pytest.raises(StoragePermissionError, match="symbolic link"):
                await call
    with pytest.raises(StoragePermissionError, match="symbolic link"):
        await keys_of(storage, "folder/")
    for call in (storage.get("file"), storage.stat("file")):
        with pytest.raises(ObjectNotFoundError):
            await call
    await storage.delete("file")
    assert (root / "file").is_symlink()
    assert names_below(tmp_path) == ["secret"]


async def test_a_link_is_replaced_not_written_through(
    storage: SFTPStorage, root: Path, tmp_path: Path
):
    outside = tmp_path / "outside"
    outside.write_text("whole")
    (root / "a").symlink_to(outside)
    await storage.put("a", b"1")
    assert outside.read_text() == "whole"
    assert not (root / "a").is_symlink()


async def test_a_folder_is_no_object(storage: SFTPStorage):
    await storage.put("a/b", b"1")
    with pytest.raises(ObjectNotFoundError):
        await storage.get("a")
    with pytest.raises(KeyConflictError, match="flat-keys"):
        await storage.put("a", b"2")


async def test_a_root_that_was_removed_is_told(storage: SFTPStorage, root: Path):
    await storage.put("a", b"1")
    shutil.rmtree(root)
    for call in (
        storage.get("a"),
        storage.stat("a"),
        storage.exists("a/b"),
        storage.put("a", b"1"),
        storage.put("a/b", b"1"),
        keys_of(storage),
        storage.check_health(),
    ):
        with pytest.raises(StorageRootNotFoundError, match="set root to another folder"):
            await call


# -- listing -----------------------------------------------------------------------------


async def test_a_list_reads_only_the_folders_it_must(storage: SFTPStorage, root: Path):
    for folder in ("a", "b/c", "b/d"):
        (root / folder).mkdir(parents=True)
        for number in range(3):
            (root / folder / str(number)).touch()
    unreadable = root / "z"
    unreadable.symlink_to("/nowhere")
    assert await keys_of(storage, "b/c") == ["b/c/0", "b/c/1", "b/c/2"]
    async with aclosing(storage.list()) as found:  # pyright: ignore[reportArgumentType]
        assert (await anext(found)).key == "a/0"


async def test_many_folders_come_in_order(storage: SFTPStorage, root: Path):
    expected: list[str] = []
    for number in range(60):
        folder = root / f"f{number}" / "deep"
        folder.mkdir(parents=True)
        (folder / "x").touch()
        (root / f"f{number}.txt").touch()
        expected += [f"f{number}/deep/x", f"f{number}.txt"]
    assert await keys_of(storage) == sorted(expected, key=str.encode)


# -- servers that can less ---------------------------------------------------------------


async def test_without_extensions_objects_are_created_but_not_replaced(plain: OpenSSH):
    settings = SFTPConfig.model_validate({"root": plain.create_root(), **plain.login})
    async with guarded(SFTPStorage(settings), name="backups") as storage:
        await storage.put("a", LARGE)
        assert await storage.get("a") == LARGE
        with pytest.raises(StorageError, match="posix-rename"):
            await storage.put("a", b"2")
        for change in (storage.put("a", b"2", overwrite=False), storage.copy("b", "a")):
            with pytest.raises((ObjectExistsError, ObjectNotFoundError)):
                await change
        assert await storage.get("a") == LARGE

        await storage.copy("a", "copied/b")
        await storage.move("copied/b", "moved/b", overwrite=False)
        assert await keys_of(storage) == ["a", "moved/b"]
        assert await storage.get("moved/b") == LARGE
        stats = await storage.stats()
        assert (stats.object_count, stats.free_bytes) == (2, None)

        won = await asyncio.gather(
            *(storage.put("new", str(n).encode(), overwrite=False) for n in range(10)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, ObjectExistsError) for one in won) == 9
    assert [name for name in names_below(Path(settings.root)) if RESERVED_PREFIX in name] == []


async def test_another_implementation_serves_as_well(tmp_path: Path):
    async with PythonSFTP(tmp_path) as server:
        settings = SFTPConfig.model_validate(server.login)
        async with guarded(SFTPStorage(settings), name="backups") as storage:
            await storage.put("docs/a", LARGE)
            await storage.put("docs/a", LARGE[::-1])
            with pytest.raises(ObjectExistsError):
                await storage.put("docs/a", b"", overwrite=False)
            with pytest.raises(KeyConflictError):
                await storage.put("docs/a/b", b"")
            await storage.copy("docs/a", "b")
            assert await keys_of(storage) == ["b", "docs/a"]
            assert await storage.get("b") == LARGE[::-1]
            await storage.delete("docs/a")
            assert not await storage.exists("docs/a")
    assert names_below(tmp_path) == ["b"]


# -- connections -------------------------------------------------------------------------


async def test_sessions_are_opened_as_the_load_asks_for_them(sftp_config: SFTPConfig):
    settings = sftp_config.model_copy(update={"connections": 2, "channels": 2})
    async with SFTPStorage(settings) as storage:
        assert storage.sessions == (1, 1)
        streams: list[Any] = []
        await storage.put("a", LARGE)
        for _ in range(40):
            streams.append(storage.stream("a"))
            await anext(streams[-1])
        while storage.sessions != (2, 4):
            await asyncio.sleep(0.01)
            await storage.exists("a")
        await asyncio.gather(*(stream.aclose() for stream in streams))


async def test_a_closed_storage_says_so(sftp_config: SFTPConfig):
    storage = SFTPStorage(sftp_config)
    async with storage:
        await storage.put("a", b"1")
    with pytest.raises(InvalidStateError, match="closed"):
        await storage.get("a")
