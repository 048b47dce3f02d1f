"""What is special to SMB storage; the behaviour all types share is the conformance kit's."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.registry import guarded
from purveyor.providers.storage import smb_messages as smb
from purveyor.providers.storage.errors import (
    InvalidKeyError,
    ObjectExistsError,
    StorageConnectionError,
    StorageError,
    StoragePermissionError,
    StorageRootNotFoundError,
)
from purveyor.providers.storage.smb import SMBConfig, SMBStorage
from purveyor.providers.storage.smb_names import check_path
from purveyor.testing.servers import Samba
from tests.conftest import require
from tests.servers import FaultyProxy

MIB = 1024 * 1024

# -- settings ----------------------------------------------------------------------------


def config(**changes: Any) -> SMBConfig:
    settings = {"host": "files", "share": "data", "username": "ann", "password": "hunter2"}
    return SMBConfig.model_validate({**settings, **changes})


def test_older_names_of_settings_are_taken():
    settings = SMBConfig.model_validate(
        {"host": "files", "share_name": "data", "user": "ann", "pass": "hunter2"}
    )
    assert settings == config()
    assert settings.port == 445


def test_the_password_is_masked():
    assert "hunter2" not in repr(config()) + str(config()) + config().model_dump_json()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"host": "//files/data"}, "alone"),
        ({"host": "ann@files"}, "alone"),
        ({"share": "data/below"}, "set root"),
        ({"share": ""}, "1 to 80"),
        ({"port": 0}, "greater than or equal to 1"),
        ({"root": "a/../b"}, "part"),
        ({"root": "what?"}, "cannot hold"),
        ({"username": None}, "username and password are needed"),
        ({"password": None}, "username and password are needed"),
        ({"kerberos": True, "username": None}, "password is set without username"),
        ({"shar": "x"}, "shar"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], fault: str):
    with pytest.raises(ValidationError, match=fault) as caught:
        config(**changes)
    assert "hunter2" not in str(caught.value)


def test_with_kerberos_the_ticket_of_the_process_is_enough():
    assert config(kerberos=True, username=None, password=None).account is None


@pytest.mark.parametrize(
    ("changes", "account"),
    [
        ({}, "ann"),
        ({"domain": "CORP"}, "CORP\\ann"),
        ({"domain": "CORP", "username": "ann@corp.test"}, "ann@corp.test"),
        ({"domain": "CORP", "username": "OTHER\\ann"}, "OTHER\\ann"),
    ],
)
def test_the_domain_goes_with_the_user_name(changes: dict[str, Any], account: str):
    assert config(**changes).account == account


def test_a_root_may_be_written_as_windows_does():
    assert config(root="\\backups\\nightly\\").root == "backups/nightly"


# -- names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        *("a\\b", "a:b", "a*", "a?", 'a"', "<a", "a>", "a|b", "a.", "a ", "a./b", "a /b", "..."),
        *("CON", "con.txt", "x/nul", "COM1", "lpt9.a.b", "Aux /y", "com²"),
    ],
)
def test_names_no_server_holds_are_refused(key: str):
    with pytest.raises(InvalidKeyError, match="an SMB server cannot hold"):
        check_path(key)


@pytest.mark.parametrize("key", ["console", "a.con", "null", ".a", "a b", "com10", "COM", "~1"])
def test_names_that_only_look_alike_are_allowed(key: str):
    assert check_path(key) == key


def test_times_are_those_of_the_protocol():
    moment = datetime(2026, 11, 21, 12, 30, 15, 123456, UTC)
    assert smb.as_datetime(smb.as_filetime(moment)) == moment
    assert smb.as_filetime(datetime(1970, 1, 1, tzinfo=UTC)) == 116444736000000000
    assert smb.as_datetime(2**64 - 1).year == 9999  # what a server says who knows none
    with pytest.raises(ValueError, match="before 1601"):
        smb.as_filetime(datetime(1600, 1, 1, tzinfo=UTC))


# -- on a server -------------------------------------------------------------------------

server = pytest.mark.server("samba")


@pytest.fixture
async def storage(smb_config: SMBConfig) -> AsyncIterator[SMBStorage]:
    async with guarded(SMBStorage(smb_config), name="share") as storage:
        yield storage


def changed(settings: SMBConfig, **changes: Any) -> SMBConfig:
    return SMBConfig.model_validate({**settings.model_dump(exclude_unset=True), **changes})


def files_on_server(samba: Samba, settings: SMBConfig) -> list[str]:
    folder = samba.files / settings.root
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def smb_threads() -> list[str]:
    """Return the names of our threads, and of those of the library."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("purveyor-smb", "msg_worker"))]


async def blocks(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * MIB


@server
async def test_objects_are_files_of_the_share(
    storage: SMBStorage, samba: Samba, smb_config: SMBConfig
):
    await storage.put("docs/größe 日本.txt", b"hello")
    assert files_on_server(samba, smb_config) == ["docs", "docs/größe 日本.txt"]
    path = samba.files / smb_config.root / "docs" / "größe 日本.txt"
    assert path.read_bytes() == b"hello"
    path.write_bytes(b"changed outside")
    assert await storage.get("docs/größe 日本.txt") == b"changed outside"


@server
async def test_folders_left_empty_are_removed(
    storage: SMBStorage, samba: Samba, smb_config: SMBConfig
):
    await storage.put("a/b/c", b"x")
    await storage.put("a/d", b"x")
    await storage.delete("a/b/c")
    assert files_on_server(samba, smb_config) == ["a", "a/d"]
    await storage.move("a/d", "e")
    assert files_on_server(samba, smb_config) == ["e"]


@server
async def test_an_empty_folder_stands_for_nothing(
    storage: SMBStorage, samba: Samba, smb_config: SMBConfig
):
    await storage.put("other", b"x")
    folder = samba.files / smb_config.root / "a"
    folder.mkdir(mode=0o777)
    assert not await storage.exists("a")
    await storage.put("a", b"x", overwrite=False)
    assert folder.read_bytes() == b"x"


@server
async def test_the_info_of_put_stat_and_list_is_the_same(storage: SMBStorage):
    for data in (b"", b"small", bytes(3 * MIB)):
        put = await storage.put("object", data)
        (listed,) = [info async for info in storage.list()]
        assert put == listed == await storage.stat("object")


@server
async def test_an_object_is_replaced_while_it_is_read(storage: SMBStorage):
    await storage.put("object", bytes(8 * MIB))
    stream = storage.stream("object")
    first = await anext(stream)
    await storage.put("object", b"new")
    assert await storage.get("object") == b"new"
    await storage.delete("object")
    assert not await storage.exists("object")
    await storage.put("object", b"newer", overwrite=False)
    rest = [chunk async for chunk in stream]
    assert len(first) + sum(map(len, rest)) == 8 * MIB
    assert await storage.get("object") == b"newer"


@server
async def test_what_another_program_holds_open_alone_is_told(
    storage: SMBStorage, smb_config: SMBConfig
):
    await storage.put("object", b"x")
    async with SMBStorage(smb_config) as other:
        channel = other._tree.writing.channel()
        alone = smb.create(other._tree.path("object"), smb.READ_DATA, smb.NO_FOLDER, share=0)
        await asyncio.to_thread(channel.ask, alone)
        with pytest.raises(StorageError, match="another program has it open"):
            await storage.get("object")


@server
@pytest.mark.parametrize("closed", [True, False])
async def test_where_an_open_object_cannot_be_replaced_its_closing_is_waited_for(
    storage: SMBStorage, samba: Samba, smb_config: SMBConfig, closed: bool
):
    # As it is on Windows, and here on the connection that has it open itself.
    await storage.put("object", b"before")
    tree = storage._tree
    tree._patience = 5 if closed else 0.2
    channel = tree.writing.channel()
    file, _, _ = await asyncio.to_thread(tree.open, channel, "object", smb.READ_DATA)
    put = asyncio.create_task(storage.put("object", b"after"))
    await asyncio.wait([put], timeout=0.1)
    assert not put.done()
    assert await storage.get("object") == b"before"
    if closed:
        await asyncio.to_thread(channel.ask, smb.close(file))
        await put
    else:
        with pytest.raises(StorageError, match="another program has it open"):
            await put
    assert await storage.get("object") == (b"after" if closed else b"before")
    assert files_on_server(samba, smb_config) == ["object"]


@server
async def test_what_is_no_key_is_left_out_of_a_list_with_a_warning(
    storage: SMBStorage, samba: Samba, smb_config: SMBConfig, caplog: pytest.LogCaptureFixture
):
    await storage.put("a", b"x")
    (samba.files / smb_config.root / "bad\x7fname").touch()
    assert [info.key async for info in storage.list()] == ["a"]
    assert "Left out of a list, 1 in all" in caplog.text


@server
async def test_copies_are_made_by_the_server(samba: Samba, smb_config: SMBConfig):
    async with (
        FaultyProxy(samba.port) as proxy,
        SMBStorage(changed(smb_config, port=proxy.port)) as storage,
    ):
        await storage.put("object", blocks(40))  # more than is copied at a time
        before = proxy.passed
        info = await storage.copy("object", "copy")
        assert proxy.passed - before < 100_000
        assert info.size == 40 * MIB
        assert await storage.get("copy", start=17 * MIB - 1, end=17 * MIB + 1) == b"\x10\x11"
        with pytest.raises(ObjectExistsError):
            await storage.copy("object", "copy", overwrite=False)


@server
async def test_more_calls_than_threads_wait(smb_config: SMBConfig):
    async with SMBStorage(changed(smb_config, threads=2)) as storage:
        await asyncio.gather(*(storage.put(f"{n:02}", bytes([n])) for n in range(40)))
        got = await asyncio.gather(*(storage.get(f"{n:02}") for n in range(40)))
        assert got == [bytes([n]) for n in range(40)]
        assert len([name for name in smb_threads() if name.startswith("purveyor")]) == 2
    assert smb_threads() == []


@server
async def test_files_half_written_and_long_left_are_removed_by_a_list(
    storage: SMBStorage, samba: Samba, smb_config: SMBConfig
):
    await storage.put("docs/a", b"x")
    folder = samba.files / smb_config.root / "docs"
    for name, age in ((".purveyor-1.part", 2 * 86400), (".purveyor-2.part", 60)):
        path = folder / name
        path.touch(mode=0o666)
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))
    assert [info.key async for info in storage.list()] == ["docs/a"]
    assert files_on_server(samba, smb_config) == ["docs", "docs/.purveyor-2.part", "docs/a"]


@server
async def test_names_that_differ_in_case_stand_beside_each_other_where_the_server_lets_them():
    require(Samba)
    with Samba({"case sensitive": "yes"}) as samba:
        async with SMBStorage(SMBConfig.model_validate(samba.login)) as storage:
            for key in ("Case", "case", "Folder/a", "folder/a"):
                await storage.put(key, key.encode())
            for key in ("Case", "case", "Folder/a", "folder/a"):
                assert await storage.get(key) == key.encode()
            assert [info.key async for info in storage.list("f")] == ["folder/a"]


# -- who may come in ---------------------------------------------------------------------


@server
@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"password": "wr0ng-hunter2"}, StoragePermissionError, "correct .*password"),
        ({"username": "nosuchuser"}, StoragePermissionError, "correct .*user"),
        ({"share": "nosuchshare"}, StorageRootNotFoundError, "correct the setting share"),
    ],
)
async def test_what_the_server_refuses_is_told_with_a_remedy(
    samba: Samba, smb_config: SMBConfig, changes: dict[str, Any], kind: type[Exception], told: str
):
    async with guarded(SMBStorage(smb_config), name="right") as right:
        await right.put("a", b"x")
        # Whoever else is logged in there.
        wrong = guarded(SMBStorage(changed(smb_config, **changes)), name="wrong")
        with pytest.raises(kind, match=told) as caught:
            await wrong.get("a")
        await wrong.dispose()
        shown = str(caught.value) + repr(caught.value.__cause__)
        assert "hunter2" not in shown
        assert samba.password not in shown
        assert await right.get("a") == b"x"


@server
async def test_a_server_that_lets_strangers_in_as_guests_is_told():
    require(Samba)
    with Samba({"guest ok": "yes"}, {"map to guest": "bad user"}) as samba:
        settings = SMBConfig.model_validate({**samba.login, "username": "nosuchuser"})
        storage = guarded(SMBStorage(settings), name="share")
        with pytest.raises(StoragePermissionError, match=r"guest.*Correct username"):
            await storage.put("a", b"x")
        await storage.dispose()


@server
async def test_a_missing_right_is_told(samba: Samba, smb_config: SMBConfig):
    async with guarded(SMBStorage(smb_config), name="share") as storage:
        await storage.put("locked/a", b"x")
        folder = samba.files / smb_config.root / "locked"
        os.chown(folder, 0, 0)
        folder.chmod(0o755)
        for call in (
            storage.put("locked/b", b"x"),
            storage.put("locked/a", b"x"),
            storage.delete("locked/a"),
            storage.move("locked/a", "b"),
            storage.copy("locked/a", "locked/b"),
        ):
            with pytest.raises(StoragePermissionError, match="Give the account the right"):
                await call
        (folder / "a").chmod(0)
        os.chown(folder / "a", 0, 0)
        with pytest.raises(StoragePermissionError):
            await storage.get("locked/a")
        assert files_on_server(samba, smb_config) == ["locked", "locked/a"]


@server
async def test_a_share_that_is_read_only_can_be_read():
    require(Samba)
    with Samba({"read only": "yes"}) as samba:
        path = samba.files / "a"
        path.write_bytes(b"x")
        async with guarded(SMBStorage(SMBConfig.model_validate(samba.login)), name="s") as storage:
            await storage.check_health()
            assert await storage.get("a") == b"x"
            for call in (storage.put("b", b"x"), storage.put("a", b"x"), storage.delete("a")):
                with pytest.raises(StoragePermissionError):
                    await call
        assert path.read_bytes() == b"x"


# -- on the wire -------------------------------------------------------------------------


class Wire(FaultyProxy):
    """Keeps what passes, and changes what it is told to."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.seen = bytearray()
        self.replace: tuple[bytes, bytes] | None = None

    def passing(self, data: bytes) -> bytes:
        self.seen += data
        return data.replace(*self.replace) if self.replace else data


MARK = b"a text that is easily found on the wire"


@server
@pytest.mark.parametrize("encrypt", [True, False])
async def test_what_is_encrypted_cannot_be_read_on_the_way(
    samba: Samba, smb_config: SMBConfig, encrypt: bool
):
    async with Wire(samba.port) as wire:
        settings = changed(smb_config, port=wire.port, encrypt=encrypt)
        async with SMBStorage(settings) as storage:
            await storage.put("object", MARK)
            assert await storage.get("object") == MARK
    assert (MARK not in wire.seen) is encrypt
    assert samba.password.encode() not in wire.seen
    assert samba.password.encode("utf-16-le") not in wire.seen


@server
async def test_what_is_changed_on_the_way_is_not_accepted(samba: Samba, smb_config: SMBConfig):
    async with Wire(samba.port) as wire:
        settings = changed(smb_config, port=wire.port)
        async with guarded(SMBStorage(settings), name="share") as storage:
            await storage.put("object", MARK)
            wire.replace = (MARK, MARK.upper())
            with pytest.raises(StorageConnectionError, match="signature"):
                await storage.get("object")
            with pytest.raises(StorageError):
                await storage.put("other", MARK)
            wire.replace = None
            assert await storage.get("object") == MARK
            assert not await storage.exists("other")


@server
async def test_encryption_a_server_cannot_do_is_told():
    require(Samba)
    with Samba(global_settings={"server smb encrypt": "off"}) as samba:
        settings = SMBConfig.model_validate({**samba.login, "encrypt": True})
        storage = guarded(SMBStorage(settings), name="share")
        with pytest.raises(StorageConnectionError, match=r"cannot encrypt.*encrypt = false"):
            await storage.put("a", b"x")
        await storage.dispose()
        assert list(samba.files.iterdir()) == []


@server
async def test_a_server_that_demands_encryption_gets_it():
    require(Samba)
    with Samba(global_settings={"server smb encrypt": "required"}) as samba:
        async with Wire(samba.port) as wire:
            settings = SMBConfig.model_validate({**samba.login, "port": wire.port})
            async with SMBStorage(settings) as storage:
                await storage.put("a", MARK)
                assert await storage.get("a") == MARK
        assert MARK not in wire.seen


@server
async def test_a_server_of_an_older_protocol_is_refused():
    require(Samba)
    older = {"server min protocol": "SMB2_10", "server max protocol": "SMB3_02"}
    with Samba(global_settings=older) as samba:
        storage = guarded(SMBStorage(SMBConfig.model_validate(samba.login)), name="share")
        with pytest.raises(StorageConnectionError, match=r"SMB 3\.1\.1"):
            await storage.put("a", b"x")
        await storage.dispose()
