"""What is special to Azure Blob Storage; what all sources share is the conformance kit's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import logging
import os
import pickle
import time
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
import pyarrow
import pytest
from pyarrow import parquet

from purveyor.providers.azure import listing
from purveyor.providers.azure.requests import Answer, Request, ask
from purveyor.providers.data_sources import (
    DataSourceConnectionError,
    DataSourceError,
    DataSourcePermissionError,
    DataSourceTimeoutError,
    InvalidItemError,
    ItemNotFoundError,
    UnsupportedFormatError,
    Workspace,
    WorkspaceError,
)
from purveyor.providers.data_sources.azure_blob import AzureBlobConfig, AzureBlobSource
from purveyor.providers.registry import guarded
from purveyor.testing.servers import Azurite
from tests.servers import FaultyProxy, Peer, RecordingServer

pytestmark = pytest.mark.server("azurite")

MIB = 1024 * 1024


@pytest.fixture
def container(azurite: Azurite) -> str:
    return azurite.create_container()


def config(azurite: Azurite, container: str, **changes: Any) -> AzureBlobConfig:
    values = {"container": container, **azurite.login, **changes}
    given = {name: value for name, value in values.items() if value is not None}
    return AzureBlobConfig.model_validate(given)


def source_of(azurite: Azurite, container: str, **changes: Any) -> AzureBlobSource:
    return guarded(AzureBlobSource(config(azurite, container, **changes)), name="warehouse")


@pytest.fixture
async def source(azurite: Azurite, container: str) -> AsyncIterator[AzureBlobSource]:
    async with source_of(azurite, container) as source:
        yield source


@pytest.fixture
async def proxy(azurite: Azurite) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(azurite.port) as proxy:
        yield proxy


def behind(proxy: FaultyProxy, azurite: Azurite, container: str, **changes: Any) -> AzureBlobSource:
    url = f"{proxy.url}/{azurite.account}"
    return source_of(azurite, container, account_url=url, **changes)


async def names(source: AzureBlobSource, prefix: str = "") -> list[str]:
    return [item.name async for item in source.list_items(prefix)]


class Answering(Peer):
    """A server that gives one answer to every request, and closes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        await writer.drain()


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


# -- listing -----------------------------------------------------------------------------


@pytest.mark.requirement("S3.36", "S3.38")
async def test_blobs_are_items(source: AzureBlobSource, azurite: Azurite, container: str):
    azurite.put_blob(container, "2026/sales.csv", b"a,b\n1,2\n")
    (item,) = [item async for item in source.list_items()]
    assert (item.name, item.kind, item.size, item.format) == ("2026/sales.csv", "blob", 8, "csv")
    assert item.modified is not None
    assert item.modified.utcoffset() is not None


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("", ["a-b.csv", "a.csv", "a/b.csv", "a/bc/d.csv", "ab.csv"]),
        ("a", ["a-b.csv", "a.csv", "a/b.csv", "a/bc/d.csv", "ab.csv"]),
        ("a/", ["a/b.csv", "a/bc/d.csv"]),
        ("a/b", ["a/b.csv", "a/bc/d.csv"]),
        ("a/bc/", ["a/bc/d.csv"]),
        ("a/b.csv", ["a/b.csv"]),
        ("a/b.csv/", []),
        ("b", []),
        ("a//", []),
        ("/", []),
        ("../", []),
        ("\ud800", []),
    ],
)
async def test_a_prefix_is_the_beginning_of_a_name(
    source: AzureBlobSource, azurite: Azurite, container: str, prefix: str, found: list[str]
):
    for name in ("ab.csv", "a/bc/d.csv", "a/b.csv", "a.csv", "a-b.csv"):
        azurite.put_blob(container, name, b"x")
    assert await names(source, prefix) == found


ODD = ("a//b.csv", "a/../b.csv", "./c.csv", "folder/", "/lead.txt")
PLAIN = ("a.csv", "a/b.csv", "folder/x.csv", "z.csv")


@pytest.mark.parametrize("odd", ODD)
async def test_blobs_that_no_item_can_be_are_left_out(
    source: AzureBlobSource,
    azurite: Azurite,
    container: str,
    odd: str,
    caplog: pytest.LogCaptureFixture,
):
    for name in (odd, *PLAIN):
        azurite.put_blob(container, name, b"" if odd.endswith("/") and name == odd else b"x")
    with caplog.at_level(logging.DEBUG, "purveyor"):
        assert await names(source) == list(PLAIN)
    told = [record.message for record in caplog.records if "are no items" in record.message]
    assert len(told) == 1
    with pytest.raises(InvalidItemError):
        await source.get_metadata(odd)


async def test_empty_blobs_are_items_too(source: AzureBlobSource, azurite: Azurite, container: str):
    for name in ("a.csv", "_SUCCESS", "b.csv"):
        azurite.put_blob(container, name, b"")
    assert await names(source) == ["_SUCCESS", "a.csv", "b.csv"]


async def test_an_item_is_listed_once_where_names_have_to_be_asked_for_in_the_midst(
    source: AzureBlobSource, azurite: Azurite, container: str
):
    for name in ("a.csv", "b.csv", "folder/", "z.csv"):
        azurite.put_blob(container, name, b"" if name == "folder/" else b"x")
    items = source.list_items()
    assert (await anext(items)).name == "a.csv"
    azurite.put_blob(container, "0.csv", b"x")
    assert [item.name async for item in items] == ["b.csv", "z.csv"]


async def test_a_listing_that_loses_its_place_says_so(
    source: AzureBlobSource, azurite: Azurite, container: str
):
    azurite.put_blob(container, "a.csv", b"x")
    azurite.put_blob(container, "empty", b"")
    items = source.list_items()
    assert (await anext(items)).name == "a.csv"
    azurite.delete_blob(container, "a.csv")
    with pytest.raises(DataSourceError, match="List it again"):
        await anext(items)


@pytest.mark.parametrize("answer", [b"<Enumer", b"<Enumeration><Blobs><Blob><Properties/>"])
async def test_an_answer_that_is_no_listing_is_an_error(
    azurite: Azurite, container: str, answer: bytes
):
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with (
        Answering(head + answer) as peer,
        source_of(azurite, container, account_url=f"{peer.url}/dev") as source,
    ):
        with pytest.raises(DataSourceError, match="answered InvalidListing"):
            await names(source, "by name")


async def test_what_is_signed_is_not_sent_elsewhere(azurite: Azurite, container: str):
    async with RecordingServer() as elsewhere:
        head = f"HTTP/1.1 307 Moved\r\nLocation: {elsewhere.url}/x\r\nContent-Length: 0\r\n\r\n"
        async with (
            Answering(head.encode()) as peer,
            source_of(azurite, container, account_url=f"{peer.url}/dev") as source,
        ):
            with pytest.raises(DataSourceError, match="307"):
                await names(source, "by name")
        assert elsewhere.requests == []


async def test_names_of_any_letters_are_kept(
    source: AzureBlobSource, azurite: Azurite, container: str, tmp_path: Path
):
    odd = ["100%41.csv", "a b#c?d&e.csv", "q'\"<>.csv", "ünï/日本.csv", "emoji😀.csv", "...csv"]
    for name in odd:
        azurite.put_blob(container, name, name.encode())
    assert await names(source) == sorted(odd)
    azurite.put_blob(container, "x//y", b"x")  # now they are listed by name
    assert await names(source) == sorted(odd)
    for name in odd:
        assert (await source.fetch(name, tmp_path)).path.read_bytes() == name.encode()


async def test_a_prefix_of_the_settings_is_a_root(azurite: Azurite, container: str, tmp_path: Path):
    for name in ("root/a.csv", "root/b/c.csv", "rooted.csv", "other/a.csv"):
        azurite.put_blob(container, name, name.encode())
    async with source_of(azurite, container, prefix="root/") as source:
        assert await names(source) == ["a.csv", "b/c.csv"]
        assert await names(source, "b/c") == ["b/c.csv"]
        assert await names(source, "b/") == ["b/c.csv"]
        fetched = await source.fetch("a.csv", tmp_path)
        assert fetched.path.read_bytes() == b"root/a.csv"
        assert (await source.get_metadata("b/c.csv")).item.name == "b/c.csv"


async def test_listings_go_over_many_pages(azurite: Azurite, container: str, monkeypatch: Any):
    async with source_of(azurite, container) as source:
        for number in range(7):
            azurite.put_blob(container, f"part-{number}.csv", b"x")

        async def in_pages_of_two(config: AzureBlobConfig, request: Request) -> Answer:
            return await ask(config, replace(request, query={**request.query, "maxresults": "2"}))

        monkeypatch.setattr(listing, "ask", in_pages_of_two)
        assert await names(source, "part-") == [f"part-{number}.csv" for number in range(7)]


# -- looking -----------------------------------------------------------------------------


async def test_a_preview_reads_only_the_beginning(
    azurite: Azurite, container: str, proxy: FaultyProxy
):
    azurite.put_blob(container, "large.csv", b"a,b\n" + b"1,2\n" * (2 * MIB))
    proxy.cut_downstream_after = 512 * 1024
    async with behind(proxy, azurite, container, max_retries=0) as source:
        table = await source.preview("large.csv", rows=3)
    assert [column.name for column in table.columns] == ["a", "b"]
    assert len(table.rows) == 3
    assert table.truncated


async def test_a_parquet_file_is_read_from_its_end(
    azurite: Azurite, container: str, proxy: FaultyProxy
):
    file = io.BytesIO()
    columns = {"id": pyarrow.array(range(500_000)), "noise": pyarrow.array(os.urandom(500_000))}
    parquet.write_table(pyarrow.table(columns), file, compression="none", row_group_size=10_000)
    azurite.put_blob(container, "large.parquet", file.getvalue())
    proxy.cut_downstream_after = 2 * MIB
    assert len(file.getvalue()) > 2 * proxy.cut_downstream_after
    async with behind(proxy, azurite, container, max_retries=0) as source:
        table = await source.preview("large.parquet", rows=2)
        metadata = await source.get_metadata("large.parquet")
    assert [row[0] for row in table.rows] == [0, 1]
    assert metadata.rows == 500_000
    assert [column.name for column in metadata.columns] == ["id", "noise"]


async def test_metadata_has_what_the_service_says(
    source: AzureBlobSource, azurite: Azurite, container: str
):
    headers = {"x-ms-blob-content-type": "text/csv", "x-ms-meta-owner": "sales"}
    azurite.put_blob(container, "a.csv", b"a,b\n1,2\n", headers)
    metadata = await source.get_metadata("a.csv")
    assert metadata.item.size == 8
    assert [column.name for column in metadata.columns] == ["a", "b"]
    assert metadata.details["Content-Type"] == "text/csv"
    assert metadata.details["owner"] == "sales"
    assert metadata.details["ETag"]


# -- fetching ----------------------------------------------------------------------------


async def test_a_fetch_is_whole_and_says_so(
    source: AzureBlobSource, azurite: Azurite, container: str, tmp_path: Path
):
    body = os.urandom(5 * MIB)
    azurite.put_blob(container, "a/big.bin", body)
    fetched = await source.fetch("a/big.bin", Workspace(tmp_path))
    assert fetched.path.read_bytes() == body
    assert (fetched.size, fetched.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert files_in(tmp_path) == [fetched.path]


async def test_an_empty_blob_is_fetched(
    source: AzureBlobSource, azurite: Azurite, container: str, tmp_path: Path
):
    azurite.put_blob(container, "empty.csv", b"")
    assert (await source.fetch("empty.csv", tmp_path)).path.read_bytes() == b""
    assert (await source.preview("empty.csv")).rows == ()


async def test_a_blob_is_fetched_in_its_own_format_only(
    source: AzureBlobSource, azurite: Azurite, container: str, tmp_path: Path
):
    azurite.put_blob(container, "a.csv", b"a\n1\n")
    assert (await source.fetch("a.csv", tmp_path, format="csv")).size == 4
    with pytest.raises(UnsupportedFormatError, match=r"'a\.csv' is csv, not parquet"):
        await source.fetch("a.csv", tmp_path, format="parquet")


async def test_what_breaks_in_the_middle_goes_on_where_it_broke(
    azurite: Azurite, container: str, proxy: FaultyProxy, tmp_path: Path
):
    body = os.urandom(6 * MIB)
    azurite.put_blob(container, "big.bin", body)
    proxy.cut_downstream_after = int(1.7 * MIB)
    async with behind(proxy, azurite, container) as source:
        fetched = await source.fetch("big.bin", tmp_path)
    assert fetched.sha256 == hashlib.sha256(body).hexdigest()


async def test_what_breaks_again_and_again_leaves_nothing(
    azurite: Azurite, container: str, proxy: FaultyProxy, tmp_path: Path
):
    azurite.put_blob(container, "big.bin", os.urandom(6 * MIB))
    proxy.cut_downstream_after = 300_000
    async with behind(proxy, azurite, container) as source:
        with pytest.raises(DataSourceConnectionError):
            await source.fetch("big.bin", tmp_path)
    assert files_in(tmp_path) == []


class Meddler(FaultyProxy):
    """Does something to the server the first time a connection has broken."""

    async def meddle_after(self, limit: int, deed: Any, *, every: bool = False) -> None:
        self.cut_downstream_after = limit
        self._deed, self._every = deed, every

    async def serve(self, reader: Any, writer: Any) -> None:
        try:
            await super().serve(reader, writer)
        finally:
            if self._deed is not None and self.cut_downstream_after is not None:
                self._deed()
                if not self._every:
                    self._deed = None


@pytest.fixture
async def meddler(azurite: Azurite) -> AsyncIterator[Meddler]:
    async with Meddler(azurite.port) as proxy:
        yield proxy


async def test_a_blob_that_is_replaced_meanwhile_is_begun_anew(
    azurite: Azurite, container: str, meddler: Meddler, tmp_path: Path
):
    azurite.put_blob(container, "big.bin", b"1" * 3 * MIB)
    await meddler.meddle_after(
        2 * MIB, lambda: azurite.put_blob(container, "big.bin", b"2" * 3 * MIB)
    )
    async with behind(meddler, azurite, container) as source:
        fetched = await source.fetch("big.bin", tmp_path)
    assert fetched.path.read_bytes() == b"2" * 3 * MIB
    assert files_in(tmp_path) == [fetched.path]


async def test_a_blob_that_is_replaced_again_and_again_is_an_error(
    azurite: Azurite, container: str, meddler: Meddler, tmp_path: Path
):
    azurite.put_blob(container, "big.bin", b"1" * 3 * MIB)
    await meddler.meddle_after(
        2 * MIB, lambda: azurite.put_blob(container, "big.bin", b"2" * 3 * MIB), every=True
    )
    async with behind(meddler, azurite, container) as source:
        with pytest.raises(DataSourceError, match="replaced while it was fetched, twice"):
            await source.fetch("big.bin", tmp_path)
    assert files_in(tmp_path) == []


async def test_a_blob_that_vanishes_meanwhile_is_not_found(
    azurite: Azurite, container: str, meddler: Meddler, tmp_path: Path
):
    azurite.put_blob(container, "big.bin", b"1" * 3 * MIB)
    await meddler.meddle_after(2 * MIB, lambda: azurite.delete_blob(container, "big.bin"))
    async with behind(meddler, azurite, container) as source:
        with pytest.raises(ItemNotFoundError, match=r"There is no blob 'big\.bin'"):
            await source.fetch("big.bin", tmp_path)
    assert files_in(tmp_path) == []


async def test_a_blob_that_vanishes_between_list_and_fetch_is_not_found(
    source: AzureBlobSource, azurite: Azurite, container: str, tmp_path: Path
):
    azurite.put_blob(container, "a.csv", b"a\n")
    (name,) = await names(source)
    azurite.delete_blob(container, name)
    with pytest.raises(ItemNotFoundError, match=r"There is no blob 'a\.csv'"):
        await source.fetch(name, tmp_path)
    assert files_in(tmp_path) == []


class Stalling(Peer):
    """A server that gives half of a blob, and no more."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: {4 * MIB}\r\n'
        head += "Last-Modified: Sat, 21 Nov 2026 12:00:00 GMT\r\n\r\n"
        writer.write(head.encode() + b"1" * 2 * MIB)
        await reader.read()  # until the client goes
        writer.transport.abort()
        self.left.set()


async def test_a_cancelled_fetch_leaves_nothing(azurite: Azurite, container: str, tmp_path: Path):
    def wait_for_a_file() -> None:
        deadline = time.monotonic() + 20
        while not any(path.stat().st_size for path in tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    async with Stalling() as stalling:
        url = f"{stalling.url}/{azurite.account}"
        async with source_of(azurite, container, account_url=url) as source:
            fetching = asyncio.create_task(source.fetch("a.csv", tmp_path))
            await asyncio.to_thread(wait_for_a_file)
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            del fetching
        await asyncio.wait_for(stalling.left.wait(), 20)
    assert files_in(tmp_path) == []


async def test_a_folder_that_cannot_be_written_is_told(
    source: AzureBlobSource, azurite: Azurite, container: str, tmp_path: Path
):
    azurite.put_blob(container, "a.csv", b"a\n")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WorkspaceError, match="A file is where a folder must be"):
        await source.fetch("a.csv", tmp_path / "file")


async def test_a_blob_that_vanishes_while_it_is_looked_at_is_not_found(
    source: AzureBlobSource, azurite: Azurite, container: str, monkeypatch: pytest.MonkeyPatch
):
    azurite.put_blob(container, "a.csv", b"a\n")
    await source.check_health()
    answered = obstore.get_async

    async def answer_and_delete(*args: Any, **kwargs: Any) -> Any:
        answer = await answered(*args, **kwargs)
        azurite.delete_blob(container, "a.csv")
        return answer

    monkeypatch.setattr(obstore, "get_async", answer_and_delete)
    with pytest.raises(DataSourceError) as caught:
        await source.preview("a.csv")
    assert isinstance(caught.value, ItemNotFoundError) or "replaced meanwhile" in str(caught.value)


# -- who may -----------------------------------------------------------------------------


async def test_every_way_to_log_in_reads(azurite: Azurite, container: str, tmp_path: Path):
    public = azurite.create_container(public=True)
    url, sas = azurite.account_url, azurite.sas_token(container)
    by_string = {"account_url": None, "account_key": None}
    ways = {
        "key": source_of(azurite, container),
        "sas": source_of(azurite, container, account_key=None, sas_token=sas),
        "public": source_of(azurite, public, account_key=None),
        "string": source_of(
            azurite, container, **by_string, connection_string=azurite.connection_string
        ),
        "string with sas": source_of(
            azurite,
            container,
            **by_string,
            connection_string=f"BlobEndpoint={url};SharedAccessSignature={sas}",
        ),
    }
    for place in (container, public):
        azurite.put_blob(place, "a.csv", b"a\n1\n")
        azurite.put_blob(place, "x//y", b"x")
    for way, source in ways.items():
        async with source:
            assert await source.test_connection()
            assert await names(source) == ["a.csv"], way
            assert (await source.fetch("a.csv", tmp_path / way)).size == 4
            assert (await source.preview("a.csv")).rows == (("1",),)


WRONG_KEY = base64.b64encode(os.urandom(64)).decode()


@pytest.mark.parametrize("call", ["list", "list by name", "fetch", "preview", "health"])
@pytest.mark.parametrize("who", ["wrong key", "expired", "no rights", "private", "disguised"])
async def test_refused_access_says_what_to_do(
    azurite: Azurite, container: str, tmp_path: Path, who: str, call: str
):
    azurite.put_blob(container, "a.csv", b"a\n")
    expired = azurite.sas_token(container, valid=-60)
    other = azurite.sas_token(azurite.create_container())
    changes, remedy = {
        "wrong key": ({"account_key": WRONG_KEY}, "The key is not the account's"),
        "expired": ({"account_key": None, "sas_token": expired}, "The SAS token expired at 2"),
        "no rights": (
            {"account_key": None, "sas_token": azurite.sas_token(container, permissions="w")},
            "lack a right: to read and to list",
        ),
        "private": ({"account_key": None}, "Set account_key or sas_token"),
        "disguised": ({"account_key": None, "sas_token": other}, "not valid for this container"),
    }[who]
    async with source_of(azurite, container, **changes) as source:
        calls = {
            "list": lambda: names(source),
            "list by name": lambda: names(source, "a"),
            "fetch": lambda: source.fetch("a.csv", tmp_path),
            "preview": lambda: source.preview("a.csv"),
            "health": source.check_health,
        }
        with pytest.raises(DataSourcePermissionError, match=remedy) as caught:
            await calls[call]()
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.to_dict())
    for secret in (expired, other, WRONG_KEY, "sig=", "<Error>"):
        assert secret not in told
    assert not caught.value.is_backend_failure


@pytest.mark.parametrize("call", ["list", "list by name", "fetch", "preview", "health"])
async def test_a_missing_container_is_no_missing_blob(azurite: Azurite, tmp_path: Path, call: str):
    async with source_of(azurite, "no-such-container") as source:
        calls = {
            "list": lambda: names(source),
            "list by name": lambda: names(source, "a"),
            "fetch": lambda: source.fetch("a.csv", tmp_path),
            "preview": lambda: source.preview("a.csv"),
            "health": source.check_health,
        }
        with pytest.raises(DataSourceError, match="there is no container 'no-such-con") as caught:
            await calls[call]()
    assert not isinstance(caught.value, ItemNotFoundError)
    assert caught.value.context["azure_code"] == "ContainerNotFound"


# -- what cannot be reached --------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "by name"])
async def test_a_host_that_does_not_exist_is_told_at_once(
    azurite: Azurite, container: str, prefix: str
):
    url = "https://nightly.blob.invalid"
    async with source_of(azurite, container, account_url=url) as source:
        began = time.monotonic()
        with pytest.raises(DataSourceConnectionError, match=r"nightly\.blob\.invalid"):
            await names(source, prefix)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("prefix", ["", "by name"])
async def test_a_refused_connection_is_told_at_once(
    azurite: Azurite, container: str, proxy: FaultyProxy, prefix: str
):
    async with behind(proxy, azurite, container) as source:
        await proxy.stop()
        began = time.monotonic()
        with pytest.raises(DataSourceConnectionError, match="Check that it is reachable"):
            await names(source, prefix)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("prefix", ["", "by name"])
async def test_silence_ends_with_the_timeout(
    azurite: Azurite, container: str, proxy: FaultyProxy, prefix: str
):
    proxy.silent = True
    async with behind(proxy, azurite, container, timeout=0.3) as source:
        began = time.monotonic()
        with pytest.raises(DataSourceTimeoutError, match="raise connect_timeout or timeout"):
            await names(source, prefix)
        assert time.monotonic() - began < 5


async def test_a_source_heals_when_its_server_does(
    azurite: Azurite, container: str, proxy: FaultyProxy
):
    azurite.put_blob(container, "a.csv", b"a\n")
    proxy.silent = True
    async with behind(proxy, azurite, container, timeout=0.3, max_retries=0) as source:
        with pytest.raises(DataSourceTimeoutError):
            await names(source)
        proxy.silent = False
        assert await names(source) == ["a.csv"]


# -- secrets -----------------------------------------------------------------------------


@pytest.mark.requirement("S3.28", "S3.30")
async def test_no_secret_leaves_by_errors_and_logs(
    azurite: Azurite, container: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    key, sas = WRONG_KEY, azurite.sas_token(container, valid=-1)
    text = f"AccountName={azurite.account};AccountKey={key};BlobEndpoint={azurite.account_url}"
    signature = sas.rpartition("sig=")[2]
    ways = [
        {"account_key": key},
        {"account_key": None, "sas_token": sas},
        {"account_key": None, "account_url": None, "connection_string": text},
        {"account_key": None, "account_url": "http://127.0.0.1:9/dev", "sas_token": sas},
    ]
    shown = ""
    for changes in ways:
        async with source_of(azurite, container, **changes) as source:
            shown += repr(source) + repr(source.config)
            for call in (names(source), names(source, "a"), source.fetch("a.csv", tmp_path)):
                with pytest.raises(DataSourceError) as caught:
                    await call
                error = caught.value
                shown += "".join(traceback.format_exception(error))
                shown += repr(error.to_dict()) + repr(pickle.dumps(error))
    for secret in (key, sas, signature, text):
        assert secret not in shown + caplog.text
