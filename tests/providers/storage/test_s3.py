"""What is special to S3 storage; the behaviour all types share is the conformance kit's."""

from __future__ import annotations

import asyncio
import html
import logging
import os
import re
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import PermissionDeniedError
from pydantic import ValidationError

from purveyor.providers.registry import guarded
from purveyor.providers.registry.provider import Call
from purveyor.providers.storage.base import StorageProvider
from purveyor.providers.storage.errors import (
    InvalidKeyError,
    InvalidRangeError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageConnectionError,
    StoragePermissionError,
    StorageRootNotFoundError,
    StorageTimeoutError,
)
from purveyor.providers.storage.keys import RESERVED_PREFIX
from purveyor.providers.storage.s3 import S3Config, S3Storage
from purveyor.testing.servers import SeaweedFS
from tests.servers import FaultyProxy, RecordingServer

MIB = 1024 * 1024
LARGE = os.urandom(6 * MIB)  # more than one part of the smallest size

# -- settings ----------------------------------------------------------------------------


def config(**changes: Any) -> S3Config:
    return S3Config.model_validate({"bucket": "nightly", **changes})


def test_a_bucket_is_all_that_must_be_set():
    assert config().region == "us-east-1"
    assert config().access_key is None


def test_bucket_name_is_an_older_name_of_bucket():
    assert S3Config.model_validate({"bucket_name": "nightly"}).bucket == "nightly"


@pytest.mark.parametrize("region", ["", "x@example.com/", "example.com#", "a b"])
def test_a_region_cannot_lead_to_another_server(region: str):
    with pytest.raises(ValidationError, match="a region is letters"):
        config(region=region)


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError, match="bukket"):
        config(bukket="x")


@pytest.mark.parametrize(
    ("given", "missing"), [("access_key", "secret_key"), ("secret_key", "access_key")]
)
def test_half_a_key_pair_names_the_missing_half_and_echoes_nothing(given: str, missing: str):
    with pytest.raises(ValidationError, match=f"{missing} is missing") as caught:
        config(**{given: "hunter2-value"})
    assert "hunter2-value" not in str(caught.value)


def test_a_session_token_alone_is_refused():
    with pytest.raises(ValidationError, match="without access_key and secret_key"):
        config(session_token="hunter2-value")


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("s3.example.org", "does not begin with http"),
        ("ftp://s3.example.org", "does not begin with http"),
        ("https://", "does not begin with http"),
        ("https://s3.example.org/hunter2", "goes on after the host"),
        ("https://s3.example.org?hunter2", "goes on after the host"),
        ("https://user:hunter2@s3.example.org", "credentials do not belong"),
        ("https://s3.example.org:hunter2", "cannot be parsed"),
    ],
)
def test_an_endpoint_is_scheme_host_and_port_and_is_not_echoed(url: str, fault: str):
    with pytest.raises(ValidationError, match=fault) as caught:
        config(endpoint_url=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("bucket", ["ab", "-abc", "a/b", "s3://bucket", "ü-bucket", "a" * 256, ""])
def test_what_no_service_takes_as_a_bucket_name_is_refused(bucket: str):
    with pytest.raises(ValidationError, match="3 to 255 letters"):
        config(bucket=bucket)


@pytest.mark.parametrize("bucket", ["my.bucket", "Legacy_Bucket", "nightly-2026"])
def test_what_some_service_takes_as_a_bucket_name_is_allowed(bucket: str):
    assert config(bucket=bucket).bucket == bucket


def test_parts_are_at_least_what_s3_allows():
    with pytest.raises(ValidationError, match="part_size"):
        config(part_size=MIB)


async def test_secrets_are_masked_wherever_settings_are_shown():
    settings = config(access_key="AKhunter2", secret_key="SKhunter2", session_token="SThunter2")
    async with S3Storage(settings) as storage:
        shown = [repr(settings), str(settings), settings.model_dump_json(), repr(storage)]
    assert "hunter2" not in "".join(shown)


@pytest.mark.parametrize(
    ("changes", "virtual_host", "url"),
    [
        ({}, True, None),
        ({"bucket": "my.bucket"}, False, None),
        ({"endpoint_url": "http://s3.test:9000/"}, False, "http://s3.test:9000"),
        (
            {"endpoint_url": "http://s3.test:9000", "path_style": False},
            True,
            "http://nightly.s3.test:9000",
        ),
    ],
)
async def test_the_bucket_goes_into_host_or_path(
    changes: dict[str, Any], virtual_host: bool, url: str | None
):
    async with S3Storage(config(**changes)) as storage:
        client: dict[str, Any] = {**storage._store.config}
    assert str(client["virtual_hosted_style_request"]).lower() == str(virtual_host).lower()
    assert client.get("endpoint_url_s3") == url


# -- on a server -------------------------------------------------------------------------

server = pytest.mark.server("seaweedfs")


@pytest.fixture
async def storage(s3_config: S3Config) -> AsyncIterator[S3Storage]:
    async with guarded(S3Storage(s3_config), name="bucket") as storage:
        yield storage


async def keys_of(storage: StorageProvider[Any], prefix: str = "") -> list[str]:
    return [info.key async for info in storage.list(prefix)]


def keys_on_server(seaweedfs: SeaweedFS, bucket: str) -> list[str]:
    body = seaweedfs.request("GET", f"/{bucket}", {"list-type": "2"}).body.decode()
    return [html.unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", body, re.DOTALL)]


def uploads_on_server(seaweedfs: SeaweedFS, bucket: str) -> list[str]:
    body = seaweedfs.request("GET", f"/{bucket}", {"uploads": ""}).body.decode()
    return re.findall(r"<UploadId>(.*?)</UploadId>", body)


def changed(settings: S3Config, **changes: Any) -> S3Config:
    return S3Config.model_validate({**settings.model_dump(exclude_unset=True), **changes})


async def blocks(count: int, size: int = MIB) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


@server
async def test_a_small_put_and_stat_agree(storage: S3Storage):
    metadata = {"author": "Zoë 日本", "note": "=?looks encoded?=", "plain": "two  words"}
    metadata["empty"] = ""
    put = await storage.put("a", b"hello", content_type="text/plain", metadata=metadata)
    stat = await storage.stat("a")
    assert (put.size, put.etag, put.content_type, put.metadata) == (
        stat.size,
        stat.etag,
        stat.content_type,
        stat.metadata,
    )
    assert dict(stat.metadata) == metadata
    assert abs((put.modified - stat.modified).total_seconds()) <= 2


@server
async def test_an_object_without_a_type_has_none(storage: S3Storage):
    await storage.put("small", b"plain text, as a server may guess")
    await storage.put("large", blocks(9))
    assert (await storage.stat("small")).content_type is None
    assert (await storage.stat("large")).content_type is None


@server
@pytest.mark.parametrize("name", ["Author", "two words", "größe", "", "content-type"])
async def test_a_metadata_name_that_would_not_come_back_is_refused(storage: S3Storage, name: str):
    with pytest.raises(ValueError, match="Invalid metadata name"):
        await storage.put("a", b"", metadata={name: "x"})


ODD_KEYS = [
    " lead",
    "%2F",
    "%2e%2e",
    "...",
    "<x>&\"'",
    "A",
    "a",
    "a b",
    "a b/c",
    "a!b",
    "a#b",
    "a%",
    "a%20b",
    "a+b",
    "a-b",
    "a.b",
    "a/b",
    "a/b/c",
    "a?b=c&d",
    "a|b^c`d{e}[f]",
    "a~",
    "a\u0301",
    "aé",
    "trail ",
    "ä",
    "日本/語",
    "\uffee",
    "😀",
]


@server
async def test_odd_keys_arrive_byte_for_byte(storage: S3Storage, seaweedfs: SeaweedFS):
    bucket = storage.config.bucket
    for key in ODD_KEYS:
        await storage.put(key, key.encode())
    assert sorted(keys_on_server(seaweedfs, bucket)) == sorted(ODD_KEYS)
    for key in ODD_KEYS:
        assert seaweedfs.request("GET", f"/{bucket}/{key}").body == key.encode()
        assert await storage.get(key) == key.encode()
        await storage.copy(key, f"copies/{key}")
        await storage.delete(key)
    assert await keys_of(storage) == sorted(f"copies/{key}" for key in ODD_KEYS)


async def test_a_backslash_arrives_as_it_is():
    # Not on SeaweedFS, which takes it for a slash.
    async with RecordingServer() as peer:
        settings = config(endpoint_url=peer.url, access_key="a", secret_key="b")
        async with S3Storage(settings) as storage:
            await storage.put("a\\b", b"")
    assert peer.requests[0].startswith("PUT /nightly/a%5Cb HTTP/1.1")


async def test_the_storage_class_is_sent_with_a_put():
    async with RecordingServer() as peer:
        settings = config(
            endpoint_url=peer.url, access_key="a", secret_key="b", storage_class="STANDARD_IA"
        )
        async with S3Storage(settings) as storage:
            await storage.put("a", b"")
    assert "x-amz-storage-class: STANDARD_IA" in peer.requests[0]


@server
async def test_a_listing_is_in_order_of_bytes_whatever_the_server_does(storage: S3Storage):
    for key in ODD_KEYS:
        await storage.put(key, b"")
    assert await keys_of(storage) == sorted(ODD_KEYS, key=str.encode)


@server
async def test_a_prefix_is_text_not_folders(storage: S3Storage):
    names = ["2025", "2026-", "2026-1", "2026-1 x/y", "2026-1/x", "2026-10", "2026-2", "z"]
    for name in ["log", "log0", *(f"logs/{name}" for name in names)]:
        await storage.put(name, b"")
    found = ["logs/2026-1", "logs/2026-1 x/y", "logs/2026-1/x", "logs/2026-10"]
    assert await keys_of(storage, "logs/2026-1") == found
    assert await keys_of(storage, "logs/2026-1/") == ["logs/2026-1/x"]
    assert await keys_of(storage, "logs/") == [f"logs/{name}" for name in names]
    assert await keys_of(storage, "log") == ["log", "log0", *(f"logs/{name}" for name in names)]
    assert await keys_of(storage, "logs/2026-1 x") == ["logs/2026-1 x/y"]
    assert await keys_of(storage, "logs/9") == []


@server
async def test_dots_are_a_prefix_like_any_other(storage: S3Storage):
    for key in (".a", "..b", "...", "x/..c", "x/.d"):
        await storage.put(key, b"")
    assert await keys_of(storage, ".") == ["...", "..b", ".a"]
    assert await keys_of(storage, "..") == ["...", "..b"]
    assert await keys_of(storage, "...") == ["..."]
    assert await keys_of(storage, "x/..") == ["x/..c"]


@server
async def test_listing_goes_beyond_one_page(storage: S3Storage, seaweedfs: SeaweedFS):
    for number in range(1100):
        seaweedfs.request("PUT", f"/{storage.config.bucket}/{number:04}")
    assert await keys_of(storage) == [f"{number:04}" for number in range(1100)]
    assert (await storage.stats()).object_count == 1100


@server
async def test_reserved_keys_are_neither_listed_nor_counted(
    storage: S3Storage, seaweedfs: SeaweedFS
):
    await storage.put("a", b"1")
    for name in (f"{RESERVED_PREFIX}x", f"b/{RESERVED_PREFIX}y"):
        seaweedfs.request("PUT", f"/{storage.config.bucket}/{name}", body=b"22")
    assert await keys_of(storage) == ["a"]
    assert (await storage.stats()).total_bytes == 1
    with pytest.raises(InvalidKeyError, match="reserved"):
        await storage.get(f"{RESERVED_PREFIX}x")


@server
async def test_deleting_what_is_not_there_is_no_error(storage: S3Storage):
    await storage.delete("nothing")


@server
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 3, b"012"), (2, None, b"23456789"), (8, 100, b"89"), (3, 3, b""), (10, None, b"")],
)
async def test_ranges(storage: S3Storage, start: int, end: int | None, expected: bytes):
    await storage.put("a", b"0123456789")
    assert await storage.get("a", start=start, end=end) == expected
    chunks = [chunk async for chunk in storage.stream("a", start=start, end=end)]
    assert b"".join(chunks) == expected


@server
@pytest.mark.parametrize(("start", "end"), [(11, None), (11, 20), (11, 11), (3, 2), (-1, None)])
async def test_what_is_no_range_of_the_object_is_refused(
    storage: S3Storage, start: int, end: int | None
):
    await storage.put("a", b"0123456789")
    with pytest.raises(InvalidRangeError):
        await storage.get("a", start=start, end=end)


@server
async def test_an_empty_object_has_one_empty_range(storage: S3Storage):
    await storage.put("a", b"")
    assert await storage.get("a") == b""
    assert await storage.get("a", end=5) == b""


# -- large objects -----------------------------------------------------------------------


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@server
@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_large_object_goes_through_in_bounded_memory(
    s3_config: S3Config, seaweedfs: SeaweedFS, overwrite: bool
):
    settings = changed(s3_config, part_size=5 * MIB, max_concurrency=2)
    peaks: list[int] = []

    async def watched() -> AsyncIterator[bytes]:
        async for block in blocks(160):
            peaks.append(resident_bytes())
            yield block

    async with S3Storage(settings) as storage:
        await storage.put("warm-up", LARGE)
        before = resident_bytes()
        info = await storage.put("a", watched(), overwrite=overwrite)
        assert info.size == 160 * MIB
        read = 0
        async for chunk in storage.stream("a"):
            peaks.append(resident_bytes())
            read += len(chunk)
        assert info.etag == (await storage.stat("a")).etag
    assert read == 160 * MIB
    assert max(peaks) - before < 64 * MIB
    assert sorted(keys_on_server(seaweedfs, settings.bucket)) == ["a", "warm-up"]


@server
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "path", "file", "iterator"])
async def test_every_kind_of_source_arrives_whole(s3_config: S3Config, tmp_path: Path, kind: str):
    path = tmp_path / "source"
    path.write_bytes(LARGE)

    async def iterator() -> AsyncIterator[bytes]:
        yield b""
        yield LARGE[:100]
        yield b""
        yield LARGE[100:]

    async with S3Storage(changed(s3_config, part_size=5 * MIB)) as storage:
        with path.open("rb") as file:
            source = {
                "bytes": LARGE,
                "bytearray": bytearray(LARGE),
                "path": path,
                "file": file,
                "iterator": iterator(),
            }[kind]
            info = await storage.put("a", source)
        assert info.size == len(LARGE)
        assert info.etag == (await storage.stat("a")).etag
        assert await storage.get("a") == LARGE


@server
async def test_a_source_that_fails_leaves_nothing(storage: S3Storage, seaweedfs: SeaweedFS):
    await storage.put("a", b"before")

    async def failing() -> AsyncIterator[bytes]:
        async for block in blocks(20):
            yield block
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        await storage.put("a", failing())
    assert await storage.get("a") == b"before"
    assert uploads_on_server(seaweedfs, storage.config.bucket) == []


async def test_a_source_file_that_is_missing_is_no_missing_object(tmp_path: Path):
    storage = guarded(S3Storage(config(access_key="a", secret_key="b")), name="bucket")
    async with storage:
        with pytest.raises(FileNotFoundError, match="no-such-file"):
            await storage.put("a", tmp_path / "no-such-file")


@server
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("waiting", [True, False], ids=["source waits", "source flows"])
async def test_a_cancelled_put_leaves_nothing(
    storage: S3Storage, seaweedfs: SeaweedFS, overwrite: bool, waiting: bool
):
    under_way = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for number in range(10_000):
            if number == 30:
                under_way.set()
                if waiting:
                    await asyncio.Event().wait()
            yield b"x" * MIB

    put = asyncio.create_task(storage.put("a", endless(), overwrite=overwrite))
    await under_way.wait()
    assert uploads_on_server(seaweedfs, storage.config.bucket) != []
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert not await storage.exists("a")
    assert keys_on_server(seaweedfs, storage.config.bucket) == []
    assert uploads_on_server(seaweedfs, storage.config.bucket) == []


# -- exactly one -------------------------------------------------------------------------


async def winners(*attempts: Any) -> int:
    results = await asyncio.gather(*attempts, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, ObjectExistsError) for error in errors), errors
    return len(results) - len(errors)


@server
async def test_of_several_creators_at_once_exactly_one_wins(storage: S3Storage):
    await storage.put("first", b"")  # the server is slow to make room in a new bucket
    puts = [storage.put("a", b"%d" % n, overwrite=False) for n in range(6)]
    assert await winners(*puts) == 1


@server
async def test_of_several_creators_of_a_large_object_exactly_one_wins(
    s3_config: S3Config, seaweedfs: SeaweedFS
):
    settings = changed(s3_config, part_size=5 * MIB)
    async with guarded(S3Storage(settings), name="bucket") as storage:
        puts = [storage.put("a", blocks(6), overwrite=False) for _ in range(6)]
        assert await winners(*puts) == 1
        assert (await storage.stat("a")).size == 6 * MIB
    assert keys_on_server(seaweedfs, settings.bucket) == ["a"]
    assert uploads_on_server(seaweedfs, settings.bucket) == []


@server
async def test_of_several_copies_without_overwrite_exactly_one_wins(storage: S3Storage):
    for n in range(8):
        await storage.put(f"source{n}", b"%d" % n)
    copies = [storage.copy(f"source{n}", "a", overwrite=False) for n in range(8)]
    assert await winners(*copies) == 1


@server
async def test_a_copy_keeps_type_and_metadata(storage: S3Storage):
    await storage.put("a", b"1", content_type="text/plain", metadata={"k": "v"})
    for overwrite in (True, False):
        info = await storage.copy("a", f"b{overwrite}", overwrite=overwrite)
        assert (info.content_type, dict(info.metadata)) == ("text/plain", {"k": "v"})


@server
async def test_a_taken_target_stays_untouched(storage: S3Storage):
    await storage.put("a", b"1")
    await storage.put("b", b"2")
    with pytest.raises(ObjectExistsError, match="'b'"):
        await storage.copy("a", "b", overwrite=False)
    with pytest.raises(ObjectExistsError, match="'b'"):
        await storage.move("a", "b", overwrite=False)
    with pytest.raises(ObjectExistsError, match="'b'"):
        await storage.put("b", b"3", overwrite=False)
    assert await storage.get("b") == b"2"
    assert await storage.get("a") == b"1"


@server
async def test_onto_itself_nothing_changes(storage: S3Storage):
    await storage.put("a", b"1")
    assert (await storage.copy("a", "a")).size == 1
    assert (await storage.move("a", "a", overwrite=False)).size == 1
    assert await storage.get("a") == b"1"


@server
async def test_a_missing_source_is_named(storage: S3Storage):
    with pytest.raises(ObjectNotFoundError, match="'nothing'"):
        await storage.copy("nothing", "b")
    with pytest.raises(ObjectNotFoundError, match="'nothing'"):
        await storage.move("nothing", "b", overwrite=False)


# -- prefix ------------------------------------------------------------------------------


@server
async def test_a_prefix_isolates_and_does_not_show(s3_config: S3Config, seaweedfs: SeaweedFS):
    one, two = changed(s3_config, prefix="p%q/ü x/"), changed(s3_config, prefix="p")
    async with guarded(S3Storage(one), name="one") as first, S3Storage(two) as second:
        await first.put("a/b", b"1")
        await second.put("a/b", b"22")
        await first.copy("a/b", "a b")
        assert await keys_of(first) == ["a b", "a/b"]
        assert await keys_of(first, "a/") == ["a/b"]
        assert await keys_of(second) == ["a/b"]
        assert (await first.stat("a/b")).key == "a/b"
        assert (await first.stats()).object_count == 2
        with pytest.raises(ObjectNotFoundError) as caught:
            await first.get("nothing")
        assert "p%q" not in str(caught.value)
    keys = keys_on_server(seaweedfs, s3_config.bucket)
    assert sorted(keys) == ["p%q/ü x/a b", "p%q/ü x/a/b", "p/a/b"]


# -- what goes wrong ---------------------------------------------------------------------


async def drained(storage: S3Storage, key: str) -> None:
    async for _ in storage.stream(key):
        pass


OPERATIONS = {
    "put": lambda s: s.put("a", b"1"),
    "put new": lambda s: s.put("a", b"1", overwrite=False),
    "put large": lambda s: s.put("a", blocks(9)),
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
each_operation = pytest.mark.parametrize("operation", OPERATIONS)


@server
@each_operation
async def test_a_missing_bucket_is_named(s3_config: S3Config, operation: str):
    settings = changed(s3_config, bucket="no-such-bucket")
    async with guarded(S3Storage(settings), name="backups") as storage:
        with pytest.raises(StorageRootNotFoundError, match="no bucket 'no-such-bucket'") as caught:
            await OPERATIONS[operation](storage)
    assert caught.value.context["s3_code"] == "NoSuchBucket"
    assert caught.value.provider_name == "backups"


@server
@each_operation
@pytest.mark.parametrize(
    ("field", "code"),
    [("secret_key", "SignatureDoesNotMatch"), ("access_key", "InvalidAccessKeyId")],
)
async def test_wrong_credentials_are_told_apart_and_never_shown(
    s3_config: S3Config,
    operation: str,
    field: str,
    code: str,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG)
    settings = changed(s3_config, **{field: "wrong-hunter2"})
    async with guarded(S3Storage(settings), name="backups") as storage:
        with pytest.raises(StoragePermissionError, match=f"correct {field}") as caught:
            await OPERATIONS[operation](storage)
    assert caught.value.context["s3_code"] == code
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert s3_config.access_key
    assert s3_config.secret_key
    for secret in ("hunter2", "<Error>"):
        assert secret not in shown
    if field == "access_key":
        assert s3_config.secret_key.get_secret_value() not in shown
    else:
        assert s3_config.access_key.get_secret_value() not in shown


async def test_what_a_service_repeats_of_a_request_is_told_nobody():
    async with S3Storage(config(access_key="a", secret_key="b")) as storage:
        answer = PermissionDeniedError(  # as Amazon S3 answers to a wrong signature
            "Error performing GET https://s3.test/b/a - Server returned non-2xx status code: 403 "
            "Forbidden: <?xml?><Error><Code>SignatureDoesNotMatch</Code>"
            "<AWSAccessKeyId>AKhunter2</AWSAccessKeyId><CanonicalRequest>GET\n"
            "x-amz-security-token:SThunter2</CanonicalRequest></Error>\n\nDebug source: hunter2"
        )
        error = storage._translate(answer, Call("get", ("a",), {}, "backups"))
    assert isinstance(error, StoragePermissionError)
    assert "hunter2" not in f"{error} {error.to_dict()} {answer} {answer!r}"


@each_operation
async def test_a_refused_connection_fails_fast_and_names_the_endpoint(operation: str):
    async with FaultyProxy(9) as proxy:
        await proxy.stop()
        settings = config(endpoint_url=proxy.url, access_key="a", secret_key="b")
        async with guarded(S3Storage(settings), name="backups") as storage:
            started = time.monotonic()
            with pytest.raises(StorageConnectionError, match=re.escape(proxy.url)) as caught:
                await OPERATIONS[operation](storage)
            assert time.monotonic() - started < 2
    assert caught.value.is_backend_failure


async def test_a_server_that_is_silent_is_a_timeout():
    async with FaultyProxy(9) as proxy:
        proxy.silent = True
        settings = config(
            endpoint_url=proxy.url, access_key="a", secret_key="b", request_timeout=0.3
        )
        async with guarded(S3Storage(settings), name="backups") as storage:
            for operation in ("get", "put", "list"):
                with pytest.raises(StorageTimeoutError, match="no answer in time"):
                    await OPERATIONS[operation](storage)


@server
async def test_a_server_that_goes_away_and_comes_back(s3_config: S3Config, seaweedfs: SeaweedFS):
    async with FaultyProxy(seaweedfs.port) as proxy:
        settings = changed(s3_config, endpoint_url=proxy.url, max_retries=0)
        async with guarded(S3Storage(settings), name="backups") as storage:
            await storage.put("a", LARGE)

            proxy.cut_downstream_after = MIB
            with pytest.raises(StorageConnectionError, match="or it broke"):
                await storage.get("a")
            with pytest.raises(StorageConnectionError, match="or it broke"):
                await drained(storage, "a")
            proxy.cut_downstream_after = None

            proxy.cut_upstream_after = MIB
            for overwrite in (True, False):
                with pytest.raises(StorageConnectionError, match="or it broke"):
                    await storage.put("b", LARGE, overwrite=overwrite)
                with pytest.raises(StorageConnectionError, match="or it broke"):
                    await storage.put("b", blocks(20), overwrite=overwrite)
            proxy.cut_upstream_after = None

            assert await keys_of(storage) == ["a"]
            assert await storage.get("a") == LARGE
    assert uploads_on_server(seaweedfs, settings.bucket) == []


@server
async def test_a_transfer_longer_than_the_timeout_goes_on_while_bytes_come(s3_config: S3Config):
    async with S3Storage(s3_config) as storage:
        await storage.put("a", blocks(24))
    async with S3Storage(changed(s3_config, request_timeout=1)) as storage:
        read, started = 0, time.monotonic()
        async for chunk in storage.stream("a"):
            await asyncio.sleep(0.05)  # a slow reader
            read += len(chunk)
    assert read == 24 * MIB
    assert time.monotonic() - started > 1


# -- where credentials come from ---------------------------------------------------------


@server
async def test_without_keys_those_of_the_environment_are_used(
    s3_config: S3Config, monkeypatch: pytest.MonkeyPatch
):
    assert s3_config.access_key
    assert s3_config.secret_key
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_config.access_key.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_config.secret_key.get_secret_value())
    assert s3_config.endpoint_url
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_config.endpoint_url)
    async with S3Storage(S3Config(bucket=s3_config.bucket)) as storage:
        await storage.put("a", b"1")
        assert await storage.get("a") == b"1"


async def test_without_any_credentials_the_error_says_where_to_set_them(
    monkeypatch: pytest.MonkeyPatch,
):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    async with FaultyProxy(9) as proxy:
        await proxy.stop()
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", proxy.url)
        settings = config(endpoint_url=proxy.url)
        async with guarded(S3Storage(settings), name="backups") as storage:
            with pytest.raises(StoragePermissionError, match="Set access_key and secret_key"):
                await storage.get("a")


@server
async def test_settings_do_not_mix_with_those_of_the_environment(
    s3_config: S3Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-other-keys")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_BUCKET", "another")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_COPY_IF_NOT_EXISTS", "multipart")
    async with S3Storage(s3_config) as storage:
        await storage.put("a", b"1")
        assert await storage.get("a") == b"1"
