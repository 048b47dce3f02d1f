"""What becomes of SMB storage when the line, the server or its disk fails."""

from __future__ import annotations

import asyncio
import gc
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import guarded
from purveyor.providers.registry.provider import Call
from purveyor.providers.storage import smb_messages as smb
from purveyor.providers.storage.errors import (
    InvalidKeyError,
    ObjectNotFoundError,
    StorageConnectionError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageRootNotFoundError,
    StorageTimeoutError,
)
from purveyor.providers.storage.smb import SMBConfig, SMBStorage
from purveyor.providers.storage.smb_errors import StatusError, explain
from purveyor.providers.storage.smb_files import Draft
from purveyor.testing.servers import Samba, free_ports
from tests.conftest import require
from tests.providers.storage.test_smb import changed, smb_threads
from tests.servers import FaultyProxy, Peer

MIB = 1024 * 1024
LARGE = bytes(range(256)) * (16 * 1024)  # 4 MiB

server = pytest.mark.server("samba")


@asynccontextmanager
async def opened(settings: SMBConfig) -> AsyncIterator[SMBStorage]:
    storage = guarded(SMBStorage(settings), name="share")
    try:
        yield storage
    finally:
        await storage.dispose()


@pytest.fixture
async def proxy(samba: Samba) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(samba.port) as proxy:
        yield proxy


@pytest.fixture
async def storage(proxy: FaultyProxy, smb_config: SMBConfig) -> AsyncIterator[SMBStorage]:
    """A storage behind the proxy that loses its patience soon."""
    settings = changed(smb_config, port=proxy.port, request_timeout=0.5, connect_timeout=2)
    async with opened(settings) as storage:
        yield storage


async def names_on_server(samba: Samba, settings: SMBConfig, expected: list[str]) -> None:
    """See that these files are there, and soon no other: a server drops what a client left."""
    folder = samba.files / settings.root
    async with asyncio.timeout(5):
        while expected != (found := sorted(path.name for path in folder.iterdir())):
            assert set(expected) <= set(found)
            await asyncio.sleep(0.02)


async def slowly(data: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), 100_000):
        yield data[begin : begin + 100_000]
        await asyncio.sleep(0)


SOURCES: dict[str, Callable[[], Any]] = {"bytes": lambda: LARGE, "iterator": lambda: slowly(LARGE)}

# -- the line ----------------------------------------------------------------------------


@server
@pytest.mark.parametrize(
    "source", [lambda: LARGE, lambda: slowly(LARGE)], ids=["bytes", "iterator"]
)
async def test_a_connection_that_breaks_in_a_put_shows_nothing_of_it(
    storage: SMBStorage, proxy: FaultyProxy, samba: Samba, source: Callable[[], Any]
):
    await storage.put("object", b"before")
    proxy.cut_upstream_after = 2 * MIB
    for key in ("object", "other"):
        with pytest.raises(StorageConnectionError, match="Check that the server is running"):
            await storage.put(key, source())
    proxy.cut_upstream_after = None
    assert await storage.get("object") == b"before"
    assert not await storage.exists("other")
    await names_on_server(samba, storage.config, ["object"])
    await storage.put("object", source())
    assert await storage.get("object") == LARGE


@server
async def test_what_a_broken_put_has_left_is_removed_by_the_next(
    storage: SMBStorage, proxy: FaultyProxy, samba: Samba
):
    await storage.put("before", b"x")
    proxy.cut_downstream_after = 1  # the server does what it is told, and nobody hears of it
    for key in ("object", "folder/object"):
        with pytest.raises(StorageConnectionError):
            await storage.put(key, b"x")
    proxy.cut_downstream_after = None
    await storage.put("after", b"x")
    await names_on_server(samba, storage.config, ["after", "before"])


@server
async def test_a_connection_that_breaks_in_a_get_is_told_and_made_again(
    storage: SMBStorage, proxy: FaultyProxy
):
    await storage.put("object", LARGE)
    proxy.cut_downstream_after = 2 * MIB
    with pytest.raises(StorageConnectionError):
        await storage.get("object")
    with pytest.raises(StorageConnectionError):
        async for _ in storage.stream("object"):
            pass
    proxy.cut_downstream_after = None
    assert await storage.get("object") == LARGE


@server
async def test_a_server_that_stalls_is_not_waited_for_any_longer(
    storage: SMBStorage, proxy: FaultyProxy, samba: Samba
):
    await storage.put("object", b"before")
    await storage.get("object")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: storage.put("object", LARGE),  # in sending: the line takes no more
        lambda: storage.put("object", b"after"),  # in waiting for the answer
        lambda: storage.get("object"),
        lambda: storage.stat("object"),
    ]
    for call in calls:
        await storage.exists("object")  # connected again
        proxy.flowing.clear()
        started = time.monotonic()
        with pytest.raises(StorageTimeoutError, match=r"(?s)request_timeout"):
            await call()
        assert time.monotonic() - started < 3
        proxy.flowing.set()
    assert await storage.get("object") in (b"before", b"after")  # whole, in any case
    await storage.put("object", b"again")
    await names_on_server(samba, storage.config, ["object"])


@server
async def test_a_slow_line_is_waited_for_while_it_moves(storage: SMBStorage, proxy: FaultyProxy):
    data = LARGE[: MIB + MIB // 2]
    await storage.put("warm-up", b"x")
    await storage.get("warm-up")

    async def trickle() -> None:
        while True:
            proxy.flowing.set()
            await asyncio.sleep(0)
            proxy.flowing.clear()
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    started = time.monotonic()
    try:
        await storage.put("object", data)
        took = time.monotonic() - started
        assert await storage.get("object") == data
    finally:
        trickling.cancel()
        proxy.flowing.set()
    assert took > storage.config.request_timeout  # one request took longer than a pause may


@server
async def test_a_server_that_is_away_is_told(smb_config: SMBConfig):
    (port,) = free_ports(1)
    async with opened(changed(smb_config, port=port)) as storage:
        with pytest.raises(StorageConnectionError, match="host and port are right"):
            await storage.put("a", b"x")
    async with opened(changed(smb_config, host="no-such-host.invalid")) as storage:
        with pytest.raises(StorageConnectionError, match="no-such-host"):
            await storage.put("a", b"x")


@server
async def test_a_server_that_takes_connections_and_says_nothing_is_told(
    proxy: FaultyProxy, smb_config: SMBConfig
):
    proxy.silent = True
    async with opened(changed(smb_config, port=proxy.port, connect_timeout=0.3)) as storage:
        with pytest.raises(StorageTimeoutError, match="connect_timeout"):
            await storage.put("a", b"x")
        proxy.silent = False
        await storage.put("a", b"x")


class NoSMB(Peer):
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"\0\0\0\x50HTTP/1.1 400 Bad Request\r\n" + b"x" * 100)
        await writer.drain()


async def test_what_is_no_smb_server_is_told():
    login = {"host": "127.0.0.1", "share": "data", "username": "ann", "password": "hunter2"}
    async with NoSMB() as other:
        config = SMBConfig.model_validate({**login, "port": other.port})
        async with opened(config) as storage:
            with pytest.raises(StorageError, match=str(other.port)):
                await storage.put("a", b"x")


# -- the server --------------------------------------------------------------------------


@server
async def test_the_next_call_finds_a_server_that_was_restarted():
    require(Samba)
    with Samba() as samba:
        async with opened(SMBConfig.model_validate(samba.login)) as storage:
            await storage.put("object", b"x")
            assert await storage.get("object") == b"x"
            stream = storage.stream("object")
            await asyncio.to_thread(samba.restart)
            assert await storage.get("object") == b"x"
            await storage.put("object", b"y")
            assert [chunk async for chunk in stream] == [b"y"]
            await asyncio.to_thread(samba.kill)
            with pytest.raises(StorageConnectionError):
                await storage.get("object")
            await asyncio.to_thread(samba.restart)
            assert await storage.get("object") == b"y"


@server
async def test_a_share_that_the_server_closes_is_taken_again():
    require(Samba)
    with Samba() as samba:
        async with opened(SMBConfig.model_validate(samba.login)) as storage:
            await storage.put("object", b"x")
            await storage.get("object")
            samba.close_share()
            for call in (lambda: storage.put("object", b"y"), lambda: storage.get("object")):
                async with asyncio.timeout(5):
                    with pytest.raises(StorageConnectionError, match="made anew"):
                        while True:  # it does so in its own time
                            await call()
            await storage.put("object", b"z")
            assert await storage.get("object") == b"z"


@server
async def test_a_share_whose_folder_is_gone_is_told():
    require(Samba)
    with Samba() as samba:
        async with opened(SMBConfig.model_validate({**samba.login, "root": "below"})) as storage:
            await storage.put("a/object", b"x")
            shutil.rmtree(samba.files)
            with pytest.raises(StorageRootNotFoundError, match="settings share and root"):
                await storage.put("a/object", b"x")


@pytest.fixture
def full_disk(samba: Samba) -> Iterator[str]:
    """A folder of the share on a disk of one MiB."""
    folder = samba.files / "small-disk"
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("This machine lets nobody mount a small disk.")
        try:
            yield folder.name
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    finally:
        folder.rmdir()


@server
@pytest.mark.parametrize(
    "source", [lambda: LARGE, lambda: slowly(LARGE)], ids=["bytes", "iterator"]
)
async def test_a_full_disk_is_told_and_leaves_what_was_there(
    samba: Samba, smb_config: SMBConfig, full_disk: str, source: Callable[[], Any]
):
    settings = changed(smb_config, root=full_disk)
    async with opened(settings) as storage:
        await storage.put("object", b"before")
        for key in ("object", "other"):
            with pytest.raises(StorageFullError, match="Free space"):
                await storage.put(key, source())
        assert await storage.get("object") == b"before"
        await names_on_server(samba, settings, ["object"])
        await storage.put("other", bytes(500_000))


CALL = Call("put", ("a", b""), {}, "share")


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (StatusError(0xC000007F), StorageFullError, "Free space"),  # DISK_FULL
        (StatusError(0xC0000044), StorageFullError, "quota"),  # QUOTA_EXCEEDED
        (StatusError(0xC000006A), StoragePermissionError, "correct password"),
        (StatusError(0xC0000234), StoragePermissionError, "locked"),
        (StatusError(0xC0000022), StoragePermissionError, "Give the account the right"),
        (StatusError(0xC0000034), ObjectNotFoundError, "'a'"),
        (StatusError(0xC0000033), InvalidKeyError, "another key"),
        (StatusError(0xC0000203), StorageConnectionError, "made anew"),  # USER_SESSION_DELETED
        (StatusError(0xC00000B5), StorageTimeoutError, "gave up"),  # IO_TIMEOUT
        (StatusError(0xC0000185), StorageError, "disk failed"),  # IO_DEVICE_ERROR
        (StatusError(0xC00000E5), StorageError, "0xC00000E5"),  # INTERNAL_ERROR
        (TimeoutError("nothing came"), StorageTimeoutError, "nothing came"),
        (ConnectionResetError("closed"), StorageConnectionError, "closed"),
    ],
)
def test_what_a_server_says_is_told_in_the_words_of_the_family(
    error: Exception, kind: type[StorageError], told: str
):
    explained = explain(error, CALL, place=r"\\files\data", host="files:445")
    assert type(explained) is kind
    assert told in str(explained)


def test_what_is_none_of_it_is_left_alone():
    assert explain(ZeroDivisionError(), CALL, place="", host="") is None


class _Sluggish:
    """A connection on which a server writes a third of what it is given."""

    chunk = 1000

    def __init__(self) -> None:
        self.content = bytearray()

    def send(self, message: smb.Message) -> list[smb.Message]:
        return [message]

    def bodies(self, requests: list[smb.Message]) -> list[bytes]:
        (message,) = requests
        offset = int.from_bytes(message.body[8:16], "little")
        data = message.body[48:]
        taken = data[: max(1, len(data) // 3)]
        self.content[offset : offset + len(taken)] = taken
        return [bytes(4) + len(taken).to_bytes(4, "little")]

    def ask(self, message: smb.Message) -> list[bytes]:
        return self.bodies([message])


def test_what_a_server_has_not_written_is_written_again():
    draft: Any = Draft(None, "a", object())  # type: ignore[arg-type]
    draft._channel = sluggish = _Sluggish()
    draft._file = bytes(16)
    data = bytes(range(256)) * 20
    draft.write(data)
    while draft._sent:
        draft._settle(sluggish)
    assert sluggish.content == data


# -- ends --------------------------------------------------------------------------------


@server
async def test_closing_does_not_wait_for_a_server_that_hangs(
    samba: Samba, proxy: FaultyProxy, smb_config: SMBConfig
):
    storage = SMBStorage(changed(smb_config, port=proxy.port, request_timeout=60))
    await storage.initialize()
    await storage.put("object", b"before")
    proxy.flowing.clear()
    calls = [
        asyncio.create_task(call)
        for call in (
            storage.put("object", LARGE),
            storage.put("other", slowly(LARGE)),
            storage.get("object"),
            storage.stat("object"),
        )
    ]
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await storage.dispose()
    assert time.monotonic() - started < 2
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    proxy.flowing.set()
    deadline = time.monotonic() + 10
    while smb_threads() and time.monotonic() < deadline:  # they end a moment after they are told
        await asyncio.to_thread(time.sleep, 0.01)
    assert smb_threads() == []
    await names_on_server(samba, smb_config, ["object"])


@server
async def test_a_cancelled_put_leaves_nothing_on_the_server(samba: Samba, smb_config: SMBConfig):
    reached, never = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield LARGE
        reached.set()
        await never.wait()

    async with SMBStorage(smb_config) as storage:
        put = asyncio.create_task(storage.put("folder/object", source()))
        await reached.wait()
        (folder,) = (samba.files / smb_config.root).iterdir()
        assert [path.name.startswith(".purveyor-") for path in folder.iterdir()] == [True]
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert list((samba.files / smb_config.root).iterdir()) == []
        connection = storage._tree.writing.channel()._connection
        assert connection.outstanding_requests == {}  # nor of its data here


@server
async def test_many_calls_cancelled_at_any_moment_leave_whole_objects_only(
    samba: Samba, smb_config: SMBConfig
):
    contents = {bytes([number]) * 1000 for number in range(40)}
    async with SMBStorage(smb_config) as storage:
        puts = [asyncio.create_task(storage.put("object", content)) for content in contents]
        for put in puts[::2]:
            await asyncio.sleep(0.002)
            put.cancel()
        await asyncio.gather(*puts, return_exceptions=True)
        assert await storage.get("object") in contents
        await names_on_server(samba, smb_config, ["object"])
        assert [info.key async for info in storage.list()] == ["object"]


@server
def test_a_storage_dropped_unclosed_leaves_no_thread(samba: Samba, smb_config: SMBConfig):

    async def drop() -> None:
        await SMBStorage(smb_config).initialize()

    asyncio.run(drop())
    gc.collect()
    deadline = time.monotonic() + 5
    while smb_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert smb_threads() == []
    assert Path(samba.files / smb_config.root).is_dir()
