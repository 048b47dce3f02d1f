"""What is special to Azure Blob storage; the behaviour all types share is the conformance kit's."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from purveyor.providers.azure import listing, requests
from purveyor.providers.azure.faults import ServiceError
from purveyor.providers.azure.requests import Answer, Request, ask
from purveyor.providers.families import STORAGE
from purveyor.providers.registry import guarded
from purveyor.providers.registry.candidates import from_well_known
from purveyor.providers.registry.types import default_types
from purveyor.providers.storage import (
    InvalidKeyError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageConnectionError,
    StorageError,
    StoragePermissionError,
    StorageProvider,
    StorageRootNotFoundError,
    StorageTimeoutError,
)
from purveyor.providers.storage.azure_blob import (
    AzureBlobStorage,
    AzureBlobStorageConfig,
    _identifier,
    _name,
)
from purveyor.providers.storage.keys import RESERVED_PREFIX
from purveyor.testing.servers import Azurite
from tests.servers import FaultyProxy, Peer

MIB = 1024 * 1024
LARGE = os.urandom(5 * MIB)  # several blocks of the smallest size
KEY = "c2VjcmV0LWNhbmFyeS1rZXk="
URL = "https://nightly.blob.core.windows.net"

# -- settings ----------------------------------------------------------------------------


def config(**changes: Any) -> AzureBlobStorageConfig:
    values = {"container": "reports", "account_url": URL, "account_key": KEY, **changes}
    return AzureBlobStorageConfig.model_validate(values)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("part_size", MIB - 1), ("part_size", 4001 * MIB), ("max_concurrency", 0), ("bucket", "x")],
)
def test_what_is_out_of_range_or_unknown_is_refused(setting: str, value: Any):
    with pytest.raises(ValidationError, match=setting):
        config(**{setting: value})


def test_a_prefix_is_the_beginning_of_keys():
    assert config(prefix="/a/b/").prefix == "a/b"
    with pytest.raises(ValidationError, match="reserved"):
        config(prefix=".purveyor-x")


def test_the_well_known_variables_make_a_provider():
    text = f"AccountName=nightly;AccountKey={KEY}"
    variables = {"AZURE_STORAGE_CONNECTION_STRING": text, "AZURE_STORAGE_CONTAINER": "reports"}
    found = {one.name: one for one in from_well_known(default_types, STORAGE, variables)}
    assert found["azure_blob"].source == "environment"
    del variables["AZURE_STORAGE_CONTAINER"]
    assert from_well_known(default_types, STORAGE, variables) == []


# -- names of metadata -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("author", "author"),
        ("created_by", "created_by"),
        ("content-language-2", "content_x002d_language_x002d_2"),
        ("a.b", "a_x002e_b"),
        ("7zip", "_x0037_zip"),
        ("a_x002d_b", "a_x005f_x002d_b"),
    ],
)
def test_a_metadata_name_becomes_an_identifier(name: str, identifier: str):
    assert _identifier(name) == identifier
    assert _name(identifier) == name


@settings(max_examples=50)
@given(st.from_regex(r"[a-z0-9][a-z0-9._x-]*", fullmatch=True))
def test_every_metadata_name_comes_back(name: str):
    assert re.fullmatch(r"[a-z_][a-z0-9_]*", _identifier(name))
    assert _name(_identifier(name)) == name


# -- on a server -------------------------------------------------------------------------

server = pytest.mark.server("azurite")


@pytest.fixture
async def storage(azure_config: AzureBlobStorageConfig) -> AsyncIterator[AzureBlobStorage]:
    async with guarded(AzureBlobStorage(changed(azure_config)), name="backups") as storage:
        yield storage


@pytest.fixture
async def direct(storage: AzureBlobStorage) -> AzureBlobStorage:
    """The same container, past the proxy."""
    return storage


@pytest.fixture
async def proxy(azurite: Azurite) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(azurite.port) as proxy:
        yield proxy


def changed(settings: AzureBlobStorageConfig, **changes: Any) -> AzureBlobStorageConfig:
    values = {"part_size": MIB, "max_concurrency": 2, **settings.model_dump(exclude_unset=True)}
    return AzureBlobStorageConfig.model_validate({**values, **changes})


def behind(
    proxy: FaultyProxy, settings: AzureBlobStorageConfig, **changes: Any
) -> AzureBlobStorage:
    account_url = f"{proxy.url}/{settings.account.name}"
    faulty = changed(settings, account_url=account_url, **changes)
    return guarded(AzureBlobStorage(faulty), name="backups")


def with_sas(azurite: Azurite, settings: AzureBlobStorageConfig, **sas: Any) -> AzureBlobStorage:
    token = azurite.sas_token(settings.container, **sas)
    values = changed(settings, account_key=None, sas_token=token)
    return guarded(AzureBlobStorage(values), name="backups")


async def keys_of(storage: StorageProvider[Any], prefix: str = "") -> list[str]:
    return [info.key async for info in storage.list(prefix)]


async def blocks(count: int, size: int = MIB) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


async def drained(storage: AzureBlobStorage, key: str) -> bytes:
    return b"".join([chunk async for chunk in storage.stream(key)])


@server
@pytest.mark.parametrize("size", [5, 3 * MIB], ids=["small", "large"])
async def test_etag_type_and_metadata_agree_everywhere(storage: AzureBlobStorage, size: int):
    metadata = {"author": "Zoë 日本", "created-by": "a.b", "7": "=?looks encoded?=", "empty": ""}
    put = await storage.put("a", bytes(size), content_type="text/plain", metadata=metadata)
    stat = await storage.stat("a")
    (listed,) = [info async for info in storage.list()]
    assert put.etag is not None
    assert put.etag == stat.etag == listed.etag
    assert put.size == stat.size == listed.size == size
    assert (stat.content_type, dict(stat.metadata)) == ("text/plain", metadata)
    assert abs((put.modified - stat.modified).total_seconds()) <= 2


@server
@pytest.mark.parametrize("size", [5, 3 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("overwrite", [True, False])
async def test_metadata_may_stand_in_any_order(
    storage: AzureBlobStorage, azurite: Azurite, size: int, overwrite: bool
):
    # What is signed is sorted, by the service otherwise than by obstore.
    metadata: dict[str, str] = dict.fromkeys(("a", "a1", "a_", "a-b", "aa", "7", "7_"), "x")
    put = await storage.put("a", bytes(size), metadata=metadata, overwrite=overwrite)
    stat = await storage.stat("a")
    assert (put.etag, metadata, None) == (stat.etag, stat.metadata, stat.content_type)
    with pytest.raises(ObjectExistsError, match="'a'"):
        await storage.put("a", b"", metadata=metadata, overwrite=False)


@server
async def test_an_object_without_a_type_has_none(storage: AzureBlobStorage):
    await storage.put("small", b"x")
    await storage.put("large", blocks(3))
    await storage.put("typed", b"x", content_type="application/octet-stream")
    assert (await storage.stat("small")).content_type is None
    assert (await storage.stat("large")).content_type is None
    assert (await storage.stat("typed")).content_type == "application/octet-stream"


@server
@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("a.", "which Azure drops"),
        ("a./b", "which Azure drops"),
        ("a\\b", "of which Azure makes a slash"),
        ("a/" * 254 + "a", "more than 254 parts"),
    ],
)
async def test_a_key_that_azure_would_change_is_refused(
    storage: AzureBlobStorage, key: str, fault: str
):
    for call in (storage.put(key, b""), storage.get(key), storage.copy("a", key)):
        with pytest.raises(InvalidKeyError, match=fault):
            await call


@server
async def test_a_prefix_counts_where_azure_counts(azure_config: AzureBlobStorageConfig):
    long = "/".join(["k" * 200] * 5)
    async with AzureBlobStorage(changed(azure_config, prefix="p" * 200)) as storage:
        with pytest.raises(InvalidKeyError, match="1205 letters, at most 1024"):
            await storage.put(long, b"")


@server
async def test_a_listing_is_in_order_of_bytes_over_many_pages(
    storage: AzureBlobStorage, monkeypatch: pytest.MonkeyPatch
):
    async def in_pages_of_two(config: AzureBlobStorageConfig, request: Request) -> Answer:
        return await ask(config, replace(request, query={**request.query, "maxresults": "2"}))

    monkeypatch.setattr(listing, "ask", in_pages_of_two)
    # Azurite orders by UTF-16, in which what is beyond U+FFFF comes before U+E000.
    names = [
        "A",
        "a b",
        "a-b",
        "a/b",
        "a/😀",
        "a/😀/x",
        "a/\ue000",
        "b",
        "😀",
        "😀/\uff5e",
        "\uff5e",
    ]
    names += ["a/\U00020000", "a/\uff5e", "z/😀", "日本"]
    for name in names:
        await storage.put(name, b"")
    assert await keys_of(storage) == sorted(names, key=str.encode)
    below = [name for name in names if name.startswith("a/")]
    assert await keys_of(storage, "a/") == sorted(below, key=str.encode)


@server
async def test_a_prefix_is_text_not_folders(storage: AzureBlobStorage):
    for key in ["log", "log0", "logs/2026-1", "logs/2026-1/x", "logs/2026-10", "logs/2026-2"]:
        await storage.put(key, b"")
    found = ["logs/2026-1", "logs/2026-1/x", "logs/2026-10"]
    assert await keys_of(storage, "logs/2026-1") == found
    assert await keys_of(storage, "log") == ["log", "log0", *found, "logs/2026-2"]
    assert await keys_of(storage, "logs/9") == []


@server
async def test_what_is_no_key_is_neither_listed_nor_counted(
    storage: AzureBlobStorage, azurite: Azurite
):
    names = ["a", "a/", "a//b", f"{RESERVED_PREFIX}x", f"b/{RESERVED_PREFIX}y", "c./d"]
    for name in names:
        azurite.put_blob(storage.config.container, name, b"1")
    assert await keys_of(storage) == ["a"]
    assert (await storage.stats()).object_count == 1


@server
async def test_a_prefix_isolates_and_does_not_show(
    azure_config: AzureBlobStorageConfig, azurite: Azurite
):
    one, two = changed(azure_config, prefix="p%q/ü x/"), changed(azure_config, prefix="p")
    async with guarded(AzureBlobStorage(one), name="one") as first, AzureBlobStorage(two) as second:
        await first.put("a/b", b"1")
        await first.put("large", LARGE, overwrite=False)
        await second.put("a/b", b"22")
        await first.copy("a/b", "a b")
        assert await keys_of(first) == ["a b", "a/b", "large"]
        assert await keys_of(first, "a/") == ["a/b"]
        assert await keys_of(second) == ["a/b"]
        assert (await first.stats()).object_count == 3
        with pytest.raises(ObjectNotFoundError) as caught:
            await first.get("nothing")
        assert "p%q" not in str(caught.value)
    assert azurite.request("HEAD", f"/{azure_config.container}/p%q/ü x/large").status == 200


# -- large objects -----------------------------------------------------------------------


@server
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("kind", ["bytes", "path", "one chunk", "odd chunks"])
async def test_a_large_object_arrives_whole(
    storage: AzureBlobStorage, tmp_path: Path, kind: str, overwrite: bool
):
    path = tmp_path / "source"
    path.write_bytes(LARGE)

    async def chunks(size: int) -> AsyncIterator[bytes]:
        yield b""
        for begin in range(0, len(LARGE), size):
            yield LARGE[begin : begin + size]

    sources: dict[str, Any] = {
        "bytes": LARGE,
        "path": path,
        "one chunk": chunks(len(LARGE)),
        "odd chunks": chunks(700_001),
    }
    info = await storage.put("a", sources[kind], overwrite=overwrite)
    assert info.size == len(LARGE)
    assert info.etag == (await storage.stat("a")).etag
    assert await storage.get("a") == LARGE


@server
@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_source_that_fails_leaves_nothing(storage: AzureBlobStorage, overwrite: bool):
    async def failing() -> AsyncIterator[bytes]:
        async for block in blocks(6):
            yield block
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        await storage.put("a", failing(), overwrite=overwrite)
    assert await keys_of(storage) == []


@server
@pytest.mark.parametrize("waiting", [True, False], ids=["source waits", "source flows"])
async def test_a_cancelled_put_leaves_nothing(storage: AzureBlobStorage, waiting: bool):
    under_way = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for number in range(10_000):
            if number == 6:
                under_way.set()
                if waiting:
                    await asyncio.Event().wait()
            yield b"x" * MIB

    await storage.put("a", b"before")
    put = asyncio.create_task(storage.put("a", endless()))
    await under_way.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert await storage.get("a") == b"before"


@server
async def test_a_put_cancelled_at_its_last_request_overtakes_no_later_one(
    storage: AzureBlobStorage, monkeypatch: pytest.MonkeyPatch
):
    committing = asyncio.Event()

    async def slow_to_commit(config: AzureBlobStorageConfig, request: Request) -> Answer:
        if request.query.get("comp") == "blocklist":
            committing.set()
            await asyncio.sleep(0.2)
        return await ask(config, request)

    monkeypatch.setattr(requests, "ask", slow_to_commit)
    put = asyncio.create_task(storage.put("a", LARGE))
    await committing.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert await storage.get("a") == LARGE  # it is through, and so not under way any more


@server
async def test_a_last_request_whose_answer_was_lost_is_sent_again(
    storage: AzureBlobStorage, monkeypatch: pytest.MonkeyPatch
):
    send, lost = requests._send, list[Answer]()

    def lose_the_first(config: AzureBlobStorageConfig, request: Request) -> Answer:
        answer = send(config, request)
        if request.query.get("comp") == "blocklist" and not lost:
            lost.append(answer)
            raise ServiceError(None)
        return answer

    monkeypatch.setattr(requests, "_send", lose_the_first)
    info = await storage.put("a", LARGE)
    assert len(lost) == 1
    assert info.etag == (await storage.stat("a")).etag
    assert await storage.get("a") == LARGE


# -- exactly one -------------------------------------------------------------------------


async def winners(*attempts: Any) -> int:
    results = await asyncio.gather(*attempts, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, ObjectExistsError) for error in errors), errors
    return len(results) - len(errors)


@server
async def test_of_several_creators_of_a_large_object_exactly_one_wins(storage: AzureBlobStorage):
    puts = [storage.put("a", blocks(3 + n), overwrite=False) for n in range(6)]
    small = [storage.put("a", b"small", overwrite=False) for _ in range(2)]
    assert await winners(*puts, *small) == 1
    assert await keys_of(storage) == ["a"]


@server
async def test_of_several_large_puts_at_once_one_is_the_object_and_losers_are_told(
    storage: AzureBlobStorage,
):
    contents = [bytes([65 + n]) * 3 * MIB for n in range(4)]
    puts = (storage.put("a", content) for content in contents)
    results = await asyncio.gather(*puts, return_exceptions=True)
    won = [n for n, result in enumerate(results) if not isinstance(result, BaseException)]
    assert won
    assert await storage.get("a") in [contents[n] for n in won]
    for result in results:
        if isinstance(result, BaseException):
            assert isinstance(result, ObjectChangedError)
            assert not result.is_backend_failure
            assert "replaced meanwhile. Try again" in str(result)


@server
async def test_a_copy_onto_itself_changes_nothing(storage: AzureBlobStorage):
    await storage.put("a", b"1", metadata={"k-1": "v"})
    info = await storage.copy("a", "a")
    assert (await storage.move("a", "a", overwrite=False)).etag == info.etag
    with pytest.raises(ObjectExistsError, match="'a'"):
        await storage.copy("a", "a", overwrite=False)
    with pytest.raises(ObjectNotFoundError, match="'b'"):
        await storage.copy("b", "b")
    assert dict((await storage.stat("a")).metadata) == {"k-1": "v"}


class SlowCopies(Peer):
    """A service whose copies are ``pending`` at first; it understands no batch."""

    def __init__(self, end: str) -> None:
        self.requests: list[str] = []
        self._statuses = iter(("pending", "pending", end))

    def storage(self) -> AzureBlobStorage:
        url = f"{self.url}/nightly"
        return guarded(AzureBlobStorage(config(account_url=url, max_retries=0)), name="backups")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(" ".join(head.split(" ")[:2]))
        if head.startswith("POST"):  # a batch
            answer = "400 Bad Request\r\n"
        else:
            modified = "Last-Modified: Sat, 21 Nov 2026 14:00:00 GMT"
            status = next(self._statuses, "success")
            answer = f"200 OK\r\nETag: 1\r\n{modified}\r\nx-ms-copy-status: {status}\r\n"
        writer.write(f"HTTP/1.1 {answer}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()


@pytest.mark.parametrize(("end", "error"), [("success", "batch|400"), ("failed", "as 'failed'")])
async def test_a_move_removes_nothing_before_its_copy_has_ended(
    monkeypatch: pytest.MonkeyPatch, end: str, error: str
):
    monkeypatch.setattr("purveyor.providers.storage.azure_blob.COPY_POLL", 0.01)
    service = SlowCopies(end)
    async with service, service.storage() as storage:
        with pytest.raises(StorageError, match=error):
            await storage.move("a", "b")
    blob = "/nightly/reports/b"
    looks = 3 if end == "success" else 2  # the third is that of stat
    assert service.requests[: looks + 1] == [f"PUT {blob}", *[f"HEAD {blob}"] * looks]
    (batch,) = service.requests[looks + 1 :]
    assert "comp=batch" in batch


# -- what goes wrong ---------------------------------------------------------------------


OPERATIONS: dict[str, Any] = {
    "put": lambda s: s.put("a", b"1"),
    "put new": lambda s: s.put("a", b"1", overwrite=False),
    "put large": lambda s: s.put("a", LARGE),
    "put large new": lambda s: s.put("a", LARGE, overwrite=False),
    "get": lambda s: s.get("a"),
    "stream": lambda s: drained(s, "a"),
    "stat": lambda s: s.stat("a"),
    "exists": lambda s: s.exists("a"),
    "delete": lambda s: s.delete("a"),
    "list": keys_of,
    "copy": lambda s: s.copy("a", "b"),
    "copy new": lambda s: s.copy("a", "b", overwrite=False),
    "move": lambda s: s.move("a", "b"),
    "stats": lambda s: s.stats(),
    "check_health": lambda s: s.check_health(),
}
WRITES = ("put", "put new", "put large", "put large new", "delete", "copy", "copy new", "move")
each_operation = pytest.mark.parametrize("operation", OPERATIONS)


@server
@each_operation
async def test_a_missing_container_is_named(azure_config: AzureBlobStorageConfig, operation: str):
    settings = changed(azure_config, container="no-such-container")
    async with guarded(AzureBlobStorage(settings), name="backups") as storage:
        with pytest.raises(StorageRootNotFoundError, match="'no-such-container'") as caught:
            await OPERATIONS[operation](storage)
    assert caught.value.context["container"] == "no-such-container"
    assert caught.value.provider_name == "backups"


@server
@each_operation
async def test_a_wrong_key_is_told_and_never_shown(
    azure_config: AzureBlobStorageConfig, operation: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    settings = changed(azure_config, account_key=KEY)
    async with guarded(AzureBlobStorage(settings), name="backups") as storage:
        with pytest.raises(StoragePermissionError, match="not the account's") as caught:
            await OPERATIONS[operation](storage)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    for secret in (KEY, "<Error>", "SharedKey", "AuthenticationErrorDetail"):
        assert secret not in shown


@server
@pytest.mark.parametrize("operation", WRITES)
async def test_a_signature_to_read_writes_nothing_and_is_told_what_it_lacks(
    azure_config: AzureBlobStorageConfig,
    azurite: Azurite,
    operation: str,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG)
    container = azure_config.container
    if not operation.endswith("new"):
        azurite.put_blob(container, "a", b"before")
    storage = with_sas(azurite, azure_config, permissions="rl")
    async with storage:
        with pytest.raises(StoragePermissionError, match="create, to write and to delete") as error:
            await OPERATIONS[operation](storage)
        assert await keys_of(storage) == ([] if operation.endswith("new") else ["a"])
    token = storage.config.account.sas_pairs
    shown = "".join(traceback.format_exception(error.value)) + caplog.text
    assert dict(token)["sig"] not in shown
    assert "sig=" not in shown


@server
async def test_a_signature_with_all_rights_does_all(
    azure_config: AzureBlobStorageConfig, azurite: Azurite
):
    async with with_sas(azurite, azure_config, permissions="rcwdl") as storage:
        await storage.put("a", LARGE, metadata={"k-1": "v"}, overwrite=False)
        await storage.copy("a", "b", overwrite=False)
        info = await storage.move("b", "c")
        assert (info.size, dict(info.metadata)) == (len(LARGE), {"k-1": "v"})
        assert await keys_of(storage) == ["a", "c"]
        await storage.delete("a")
        await storage.delete("a")
        assert await keys_of(storage) == ["c"]


@server
@pytest.mark.parametrize("operation", ["put", "put large", "get", "list", "delete", "copy"])
async def test_an_expired_signature_says_since_when(
    azure_config: AzureBlobStorageConfig, azurite: Azurite, operation: str
):
    async with with_sas(azurite, azure_config, permissions="rcwdl", valid=-60) as storage:
        with pytest.raises(StoragePermissionError, match=r"expired at \d{4}-\d\d-\d\d"):
            await OPERATIONS[operation](storage)


@server
async def test_a_public_container_can_be_read_by_anyone_and_written_by_nobody(azurite: Azurite):
    container = azurite.create_container(public=True)
    azurite.put_blob(container, "a", b"1")
    settings = config(container=container, account_url=azurite.account_url, account_key=None)
    async with guarded(AzureBlobStorage(settings), name="public") as storage:
        assert await storage.get("a") == b"1"
        assert await keys_of(storage) == ["a"]
        with pytest.raises(StoragePermissionError, match="account_key or sas_token"):
            await storage.put("b", b"2")
        with pytest.raises(StoragePermissionError, match="account_key or sas_token"):
            await storage.put("b", LARGE)
    assert azurite.request("HEAD", f"/{container}/b").status == 404


@each_operation
async def test_a_refused_connection_fails_fast_and_names_the_address(operation: str):
    async with FaultyProxy(9) as proxy:
        await proxy.stop()
        settings = config(account_url=f"{proxy.url}/nightly")
        async with guarded(AzureBlobStorage(settings), name="backups") as storage:
            started = time.monotonic()
            with pytest.raises(StorageConnectionError, match=re.escape(proxy.url)) as caught:
                await OPERATIONS[operation](storage)
            assert time.monotonic() - started < 2
    assert caught.value.is_backend_failure


async def test_a_source_file_that_is_missing_is_no_missing_object(tmp_path: Path):
    async with guarded(AzureBlobStorage(config()), name="backups") as storage:
        with pytest.raises(FileNotFoundError, match="no-such-file"):
            await storage.put("a", tmp_path / "no-such-file")


@server
async def test_a_connection_that_breaks_in_the_middle_shows_nothing(
    azure_config: AzureBlobStorageConfig, proxy: FaultyProxy
):
    async with behind(proxy, azure_config, max_retries=0) as storage:
        await storage.put("a", LARGE)

        proxy.cut_downstream_after = MIB
        for read in (storage.get("a"), drained(storage, "a")):
            with pytest.raises(StorageConnectionError, match="or it broke"):
                await read
        proxy.cut_downstream_after = None

        proxy.cut_upstream_after = MIB // 2
        for overwrite in (True, False):
            for source in (LARGE[:MIB], LARGE, blocks(20)):
                with pytest.raises(StorageConnectionError, match="or it broke"):
                    await storage.put("b", source, overwrite=overwrite)
        with pytest.raises(StorageConnectionError, match="or it broke"):
            await storage.put("a", blocks(20))
        proxy.cut_upstream_after = None

        assert await keys_of(storage) == ["a"]
        assert await storage.get("a") == LARGE


@server
async def test_a_block_that_broke_is_sent_again(
    azure_config: AzureBlobStorageConfig, proxy: FaultyProxy
):
    async with behind(proxy, azure_config) as storage:
        proxy.cut_upstream_after = MIB // 2

        async def watched() -> AsyncIterator[bytes]:
            async for block in blocks(3):
                yield block
            await proxy.broken.wait()
            proxy.cut_upstream_after = None
            yield b"x"

        assert (await storage.put("a", watched())).size == 3 * MIB + 1
        assert await storage.get("a", start=3 * MIB) == b"x"


@server
@pytest.mark.parametrize(
    "operation", ["put", "put large", "put large new", "get", "list", "copy", "delete"]
)
async def test_a_server_that_stalls_for_longer_than_the_timeout_is_told(
    azure_config: AzureBlobStorageConfig,
    direct: AzureBlobStorage,
    proxy: FaultyProxy,
    operation: str,
):
    new = operation == "put large new"
    if not new:
        await direct.put("a", b"before")
    async with behind(proxy, azure_config, timeout=0.3, max_retries=0) as storage:
        proxy.flowing.clear()
        with pytest.raises(StorageTimeoutError, match="no answer in time"):
            await OPERATIONS[operation](storage)
        proxy.flowing.set()
        await proxy.stop()
    if new:
        assert await keys_of(direct) == []
    elif operation == "put large":
        assert await direct.get("a") == b"before"


@server
async def test_a_server_that_stalls_in_the_middle_of_an_answer_is_told(
    azure_config: AzureBlobStorageConfig, direct: AzureBlobStorage, proxy: FaultyProxy
):
    await direct.put("a", blocks(16))
    async with behind(proxy, azure_config, timeout=0.5, max_retries=0) as storage:
        with pytest.raises(StorageTimeoutError, match="no answer in time"):
            async for _ in storage.stream("a"):
                proxy.flowing.clear()
        proxy.flowing.set()


@server
async def test_a_slow_trickle_takes_longer_than_the_timeout_and_arrives(
    azure_config: AzureBlobStorageConfig, proxy: FaultyProxy
):
    async def trickle() -> None:
        while True:  # a piece of 64 KiB each time
            proxy.flowing.clear()
            await asyncio.sleep(0.05)
            proxy.flowing.set()
            await asyncio.sleep(0)

    async with behind(proxy, azure_config, timeout=1, max_retries=0) as storage:
        await storage.put("a", b"")
        dripping = asyncio.create_task(trickle())
        started = time.monotonic()
        await storage.put("a", LARGE)
        assert await storage.get("a") == LARGE
        dripping.cancel()
    assert time.monotonic() - started > 1


@server
async def test_a_server_that_goes_away_and_comes_back_is_used_again(
    azure_config: AzureBlobStorageConfig, direct: AzureBlobStorage, proxy: FaultyProxy
):
    async def interrupted() -> AsyncIterator[bytes]:
        async for block in blocks(3):
            yield block
        await proxy.stop()
        yield b"x"

    async with behind(proxy, azure_config, max_retries=0) as storage:
        await storage.put("a", b"1")
        with pytest.raises(StorageConnectionError):
            await storage.put("a", interrupted())
        for call in (storage.put("a", b"2"), storage.get("a"), keys_of(storage)):
            with pytest.raises(StorageConnectionError):
                await call
        assert await direct.get("a") == b"1"
        await proxy.start()
        assert await keys_of(storage) == ["a"]
        await storage.put("a", LARGE)
        assert await storage.get("a") == LARGE


# -- the environment ---------------------------------------------------------------------


@server
async def test_settings_do_not_mix_with_those_of_the_environment(
    azure_config: AzureBlobStorageConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=other;AccountKey={KEY}")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", "sv=1&sig=other")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    async with AzureBlobStorage(azure_config) as storage:
        await storage.put("a", b"1")
        assert await storage.get("a") == b"1"


@server
async def test_a_connection_string_is_a_login_and_its_key_is_masked(azurite: Azurite):
    values = {"container": azurite.create_container(), "account_url": None, "account_key": None}
    settings = config(**values, connection_string=azurite.connection_string)
    async with guarded(AzureBlobStorage(settings), name="backups") as storage:
        await storage.put("a", LARGE)
        assert await storage.get("a") == LARGE
        shown = f"{settings!r} {settings} {settings.model_dump_json()} {storage!r}"
    assert azurite.account_key not in shown
