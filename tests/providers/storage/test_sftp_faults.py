"""SFTP storage when the server or the way to it fails: nothing half-written is ever visible."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from purveyor.providers.registry import guarded
from purveyor.providers.storage.errors import (
    StorageConnectionError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageTimeoutError,
)
from purveyor.providers.storage.sftp import SFTPConfig, SFTPStorage
from purveyor.testing.servers import OpenSSH
from tests.conftest import require
from tests.servers import FaultyProxy
from tests.sftp_servers import PythonSFTP

pytestmark = pytest.mark.server("openssh")

MIB = 1024 * 1024
LARGE = os.urandom(6 * MIB)


def guarded_at(settings: SFTPConfig, **changes: Any) -> SFTPStorage:
    return guarded(SFTPStorage(settings.model_copy(update=changes)), name="backups")


async def keys_of(storage: SFTPStorage) -> list[str]:
    return [info.key async for info in storage.list()]


async def drained(storage: SFTPStorage, key: str) -> bytes:
    return b"".join([chunk async for chunk in storage.stream(key)])


async def blocks(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number]) * MIB


def names_in(settings: SFTPConfig) -> list[str]:
    """Return all there is on the server's disk."""
    return names_below(Path(settings.root))


def file_in(folder: Path, content: bytes) -> None:
    (folder / "a").write_bytes(content)


def names_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (what another process does sets no event)
            await asyncio.sleep(0.01)


# -- a connection that breaks ------------------------------------------------------------


async def test_a_connection_reset_in_a_transfer(sftp_config: SFTPConfig, openssh: OpenSSH):
    async with (
        FaultyProxy(openssh.port) as proxy,
        guarded_at(sftp_config, port=proxy.port) as storage,
    ):
        await storage.put("a", LARGE)

        proxy.cut_downstream_after = MIB
        for read in (storage.get("a"), drained(storage, "a")):
            with pytest.raises(StorageConnectionError, match="a new connection is made"):
                await read
        proxy.cut_downstream_after = None

        proxy.cut_upstream_after = MIB
        for overwrite in (True, False):
            for key in ("a", "new/b"):
                with pytest.raises(StorageConnectionError):
                    await storage.put(key, blocks(20), overwrite=overwrite)
        proxy.cut_upstream_after = None

        assert await keys_of(storage) == ["a"]
        assert await storage.get("a") == LARGE
        await until(lambda: names_in(sftp_config) == ["a"])


async def test_a_server_that_restarts_is_connected_to_again(tmp_path: Path):
    require(OpenSSH)
    with OpenSSH() as server:
        settings = SFTPConfig.model_validate({"root": server.create_root(), **server.login})
        async with guarded_at(settings) as storage:
            await storage.put("a", blocks(30))
            stream = storage.stream("a")
            await anext(stream)
            await asyncio.to_thread(server.restart)
            with pytest.raises(StorageConnectionError):
                await drained_rest(stream)
            assert (await storage.stat("a")).size == 30 * MIB
            await storage.put("b", b"2")
            assert await keys_of(storage) == ["a", "b"]


async def drained_rest(stream: AsyncIterator[bytes]) -> None:
    async for _ in stream:
        pass


async def test_one_dead_connection_does_not_stop_the_others(
    sftp_config: SFTPConfig, openssh: OpenSSH
):
    async with (
        FaultyProxy(openssh.port) as proxy,
        guarded_at(sftp_config, port=proxy.port, connections=2, channels=1) as storage,
    ):
        await storage.put("a", LARGE)
        streams = [storage.stream("a") for _ in range(20)]
        for stream in streams:
            await anext(stream)
        await until(lambda: storage.sessions == (2, 2))
        await asyncio.to_thread(openssh.break_connections)
        for stream in streams:
            with pytest.raises(StorageConnectionError):
                await drained_rest(stream)
        assert await asyncio.gather(*(storage.get("a") for _ in range(20))) == [LARGE] * 20


# -- a connection that is silent ---------------------------------------------------------

CALLS: dict[str, Callable[[SFTPStorage], Coroutine[Any, Any, object]]] = {
    "get": lambda storage: storage.get("a"),
    "stream": lambda storage: drained(storage, "a"),
    "put": lambda storage: storage.put("b", LARGE),
    "put of an iterator": lambda storage: storage.put("b", blocks(6), overwrite=False),
    "list": keys_of,
    "stat": lambda storage: storage.stat("a"),
    "copy": lambda storage: storage.copy("a", "b"),
}


async def test_a_stall_ends_every_call_with_a_timeout(sftp_config: SFTPConfig, openssh: OpenSSH):
    async with (
        FaultyProxy(openssh.port) as proxy,
        guarded_at(sftp_config, port=proxy.port, request_timeout=1) as storage,
    ):
        await storage.put("a", LARGE)
        proxy.flowing.clear()
        started = time.monotonic()
        results = await asyncio.gather(
            *(call(storage) for call in CALLS.values()), return_exceptions=True
        )
        assert time.monotonic() - started < 10
        assert [type(result) for result in results] == [StorageTimeoutError] * len(CALLS)
        assert "raise request_timeout" in str(results[0])

        proxy.flowing.set()
        assert await storage.get("a") == LARGE
        assert await keys_of(storage) == ["a"]


async def test_a_stall_in_the_middle_leaves_nothing(sftp_config: SFTPConfig, openssh: OpenSSH):
    async with (
        FaultyProxy(openssh.port) as proxy,
        guarded_at(sftp_config, port=proxy.port, request_timeout=1) as storage,
    ):
        await storage.put("a", b"1")

        async def source() -> AsyncIterator[bytes]:
            async for block in blocks(3):
                yield block
            proxy.flowing.clear()
            async for block in blocks(3):
                yield block

        with pytest.raises(StorageTimeoutError):
            await storage.put("a", source())
        proxy.flowing.set()
        assert await storage.get("a") == b"1"
        await until(lambda: names_in(sftp_config) == ["a"])


async def test_a_slow_transfer_goes_on_for_longer_than_the_timeout(
    sftp_config: SFTPConfig, openssh: OpenSSH
):
    async with (
        FaultyProxy(openssh.port) as proxy,
        guarded_at(sftp_config, port=proxy.port, request_timeout=1) as storage,
    ):
        await storage.put("a", LARGE)

        async def trickle() -> None:
            while True:
                proxy.flowing.clear()
                await asyncio.sleep(0.1)
                proxy.flowing.set()
                await asyncio.sleep(0)

        trickling = asyncio.create_task(trickle())
        try:
            started = time.monotonic()
            assert await storage.get("a", end=2 * MIB) == LARGE[: 2 * MIB]
            half = time.monotonic()
            await storage.put("b", LARGE[: 2 * MIB])
            assert min(half - started, time.monotonic() - half) > 1
        finally:
            trickling.cancel()
            proxy.flowing.set()
        assert await storage.get("b") == LARGE[: 2 * MIB]


@pytest.mark.parametrize("source", ["bytes", "iterator"])
async def test_a_cancelled_put_leaves_no_file(
    sftp_config: SFTPConfig, openssh: OpenSSH, source: str
):
    async with guarded_at(sftp_config) as storage:
        for delay in range(12):
            data = LARGE if source == "bytes" else blocks(6)
            put = asyncio.create_task(storage.put("new/folder/a", data))
            await asyncio.sleep(delay / 500)
            if not put.cancel():
                continue
            with pytest.raises(asyncio.CancelledError):
                await put
            if names_in(sftp_config):  # it was too late
                assert (await storage.stat("new/folder/a")).size == len(LARGE)
                await storage.delete("new/folder/a")
            assert names_in(sftp_config) == [], delay
        await storage.put("a", b"1")


async def test_a_cancelled_put_ends_soon_though_the_server_is_silent(
    sftp_config: SFTPConfig, openssh: OpenSSH, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("purveyor.providers.storage.sftp.CLEANING", 0.2)
    async with (
        FaultyProxy(openssh.port) as proxy,
        guarded_at(sftp_config, port=proxy.port) as storage,
    ):
        await storage.put("a", b"1")
        proxy.flowing.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await storage.put("b", LARGE)
        proxy.flowing.set()
        await until(lambda: names_in(sftp_config) == ["a"])


# -- a server that refuses ---------------------------------------------------------------


async def test_a_read_only_server(tmp_path: Path):
    require(OpenSSH)
    with OpenSSH(subsystem="internal-sftp -R") as server:
        settings = SFTPConfig.model_validate({"root": server.create_root(), **server.login})
        file_in(Path(settings.root), b"1")
        async with guarded_at(settings) as storage:
            assert await storage.get("a") == b"1"
            for call in (
                storage.put("b", b"2"),
                storage.put("new/b", b"2"),
                storage.delete("a"),
                storage.move("a", "b"),
                storage.copy("a", "b"),
            ):
                with pytest.raises(StoragePermissionError, match="Give the account on the server"):
                    await call
            assert await keys_of(storage) == ["a"]


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="only root can mount a small disk"
)
async def test_a_disk_that_is_full(sftp_config: SFTPConfig):
    root = Path(sftp_config.root)
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=8m", "x", root)
    if await mount.wait() != 0:
        pytest.skip("this system lets nobody mount a small disk")
    try:
        async with guarded_at(sftp_config) as storage:
            await storage.put("a", LARGE)
            for overwrite in (True, False):
                with pytest.raises(StorageFullError, match=r"Free space.*untouched"):
                    await storage.put("a" if overwrite else "b", blocks(6), overwrite=overwrite)
            with pytest.raises(StorageFullError):
                await storage.copy("a", "b")
            assert await storage.get("a") == LARGE
            assert names_in(sftp_config) == ["a"]
            await storage.delete("a")
            await storage.put("b", blocks(6))
    finally:
        umount = await asyncio.create_subprocess_exec("umount", "-l", root)
        await umount.wait()


class FullDisk(asyncssh.SFTPServer):
    """Has a number for a full disk, as OpenSSH has not."""

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


class FullQuota(asyncssh.SFTPServer):
    """Has none, but tells how much space is left."""

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        raise asyncssh.SFTPFailure("Failure")

    def statvfs(self, path: bytes) -> asyncssh.SFTPVFSAttrs:
        return asyncssh.SFTPVFSAttrs(frsize=4096, bsize=4096, bavail=3)


class Broken(asyncssh.SFTPServer):
    """Fails, and does not say why."""

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        raise asyncssh.SFTPFailure("Failure")


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        (FullDisk, StorageFullError, "untouched"),
        (FullQuota, StorageFullError, "untouched"),
        (Broken, StorageError, "The server's log may say more"),
    ],
)
async def test_a_write_that_fails_says_why_as_far_as_it_is_known(
    tmp_path: Path, kind: type[asyncssh.SFTPServer], error: type[StorageError], told: str
):
    file_in(tmp_path, b"old")
    async with (
        PythonSFTP(tmp_path, kind) as server,
        guarded_at(SFTPConfig.model_validate(server.login)) as storage,
    ):
        for key in ("a", "new/b"):
            with pytest.raises(error, match=told) as caught:
                await storage.put(key, LARGE)
            assert type(caught.value) is error
        assert await storage.get("a") == b"old"
    assert names_below(tmp_path) == ["a"]
