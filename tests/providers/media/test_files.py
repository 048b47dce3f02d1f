"""Files are there whole, or not at all."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from purveyor.providers.media.files import check_target, write_file


async def test_a_file_is_written_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert await write_file(path, b"one") == path
    await write_file(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert below(tmp_path) == {"a.png": 3}


@pytest.mark.parametrize(
    ("path", "error", "told"),
    [
        ("no/a.png", FileNotFoundError, "Make it first"),
        ("file/a.png", NotADirectoryError, "no folder"),
        ("folder", IsADirectoryError, "name of a file"),
    ],
)
async def test_where_no_file_can_be_is_told_and_nothing_is_left(
    tmp_path: Path, path: str, error: type[OSError], told: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(error, match=told):
        await write_file(tmp_path / path, b"data")
    assert below(tmp_path) == {"file": 0}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours_is_told_before(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="another folder"):
        check_target(tmp_path / "a.png")


async def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="name too long"):
        await write_file(tmp_path / ("n" * 300), b"data")
    assert below(tmp_path) == {}


async def test_who_is_cancelled_leaves_what_was_there_for_good(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    await write_file(path, b"before")
    task = asyncio.create_task(write_file(path, bytes(32 * 1024 * 1024)))
    while len(below(tmp_path)) < 2:  # noqa: ASYNC110 - a thread makes it true
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert below(tmp_path) == {"a.bin": 6}
    await until_no_thread_writes()
    assert below(tmp_path) == {"a.bin": 6}


async def test_who_is_cancelled_before_it_begins_leaves_nothing(tmp_path: Path) -> None:
    for turns in range(20):
        task = asyncio.create_task(write_file(tmp_path / "a.bin", bytes(100_000)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await until_no_thread_writes()
    assert below(tmp_path).items() <= {("a.bin", 100_000)}


async def until_no_thread_writes() -> None:
    async with asyncio.timeout(10):
        while any("write_file" in one.name for one in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def below(folder: Path) -> dict[str, int]:
    """Return the files below a folder, hidden or not, and their sizes."""
    return {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
