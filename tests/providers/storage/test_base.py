"""What the base of the storage family does for every type."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import (
    ProviderConfig,
    RegistryError,
    UnsupportedCapabilityError,
)
from purveyor.providers.registry.provider import Call
from purveyor.providers.storage import (
    Delete,
    InvalidKeyError,
    InvalidRangeError,
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    Put,
    StorageConnectionError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageProvider,
    StorageTimeoutError,
    check_range,
    chunks_of,
    not_found,
)
from purveyor.providers.storage.base import reason_of


class EmptyConfig(ProviderConfig):
    """Nothing to set."""


class BareStorage(StorageProvider[EmptyConfig]):
    """A type that has no operation of its own."""


class LoggingStorage(BareStorage):
    """A type with transactions that are only noted."""

    def __init__(self) -> None:
        super().__init__(EmptyConfig())
        self.applied: list[list[Put | Delete]] = []

    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        self.applied.append(list(changes))


# -- chunks_of ---------------------------------------------------------------------------


async def iterate(*chunks: Any) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def chunk_list(data: Any, size: int = 4) -> list[bytes]:
    return [chunk async for chunk in chunks_of(data, size)]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bytes_are_cut_into_chunks(kind: type):
    assert await chunk_list(kind(b"0123456789")) == [b"0123", b"4567", b"89"]
    assert await chunk_list(kind(b"")) == []


async def test_a_view_of_wider_items_is_taken_as_its_bytes():
    view = memoryview(b"01234567").cast("I")
    assert await chunk_list(view) == [b"0123", b"4567"]


async def test_a_path_is_read_and_closed(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert await chunk_list(path) == [b"0123", b"4567", b"89"]
    chunks = chunks_of(path, 4)
    await anext(chunks)
    await chunks.aclose()  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_missing_path_is_the_error_of_the_system(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        await chunk_list(tmp_path / "missing")


async def test_an_open_file_is_read_from_where_it_is_and_left_open(tmp_path: Path):
    file = io.BytesIO(b"0123456789")
    file.seek(1)
    assert await chunk_list(file) == [b"1234", b"5678", b"9"]
    assert not file.closed


async def test_the_chunks_of_an_iterator_are_taken_as_they_are():
    assert await chunk_list(iterate(b"0", b"", bytearray(b"123456"))) == [b"0", b"", b"123456"]


async def test_a_file_in_text_mode_is_told():
    with pytest.raises(TypeError, match="open it with mode 'rb'"):
        await chunk_list(io.StringIO("text"))


@pytest.mark.parametrize("wrong", ["text", 5, None, [b"x"], object()])
async def test_anything_else_cannot_be_put(wrong: Any):
    with pytest.raises(TypeError, match=f"Cannot put '{type(wrong).__name__}': give bytes"):
        await chunk_list(wrong)


# -- check_range -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "size"),
    [(0, None, None), (0, 0, None), (5, 9, None), (10, None, 10), (10, 99, 10), (0, 0, 0)],
)
def test_ranges(start: int, end: int | None, size: int | None):
    check_range(start, end, size)


@pytest.mark.parametrize(
    ("start", "end", "size", "message"),
    [
        (-1, None, None, "Invalid range -1:: it must be 0 <= start <= end"),
        (5, 4, None, "Invalid range 5:4"),
        (0, -1, 10, "Invalid range 0:-1"),
        (11, None, 10, "it starts at 11, the object has 10 bytes"),
        (11, 20, 10, "it starts at 11"),
    ],
)
def test_what_is_no_range(start: int, end: int | None, size: int | None, message: str):
    with pytest.raises(InvalidRangeError) as caught:
        check_range(start, end, size)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)


# -- what a type need not have -----------------------------------------------------------


async def test_search_and_apply_are_refused_by_a_type_without_them():
    storage = BareStorage(EmptyConfig())
    with pytest.raises(UnsupportedCapabilityError, match=r"BareStorage does not have .*'search'"):
        await storage.search("word")
    with pytest.raises(UnsupportedCapabilityError, match="'transactions'") as caught:
        await storage.apply([])
    assert caught.value.context == {"capability": "transactions"}


async def test_a_transaction_is_refused_before_its_block_does_any_work():
    begun = False
    with pytest.raises(UnsupportedCapabilityError):
        async with BareStorage(EmptyConfig()).transaction():
            begun = True
    assert not begun


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.put("a", b""),
        lambda storage: storage.get("a"),
        lambda storage: storage.stat("a"),
        lambda storage: storage.exists("a"),
        lambda storage: storage.delete("a"),
        lambda storage: storage.copy("a", "b"),
        lambda storage: storage.move("a", "b"),
        lambda storage: storage.stats(),
    ],
)
async def test_an_operation_that_a_type_must_have_is_not_silently_missing(call: Any):
    with pytest.raises(NotImplementedError):
        await call(BareStorage(EmptyConfig()))


@pytest.mark.parametrize("name", ["stream", "list"])
def test_an_iteration_that_a_type_must_have_is_not_silently_missing(name: str):
    with pytest.raises(NotImplementedError):
        getattr(BareStorage(EmptyConfig()), name)("a")


# -- the transaction object --------------------------------------------------------------


async def test_a_transaction_applies_its_changes_at_the_end_of_the_block():
    storage = LoggingStorage()
    async with storage.transaction() as changes:
        changes.put("a", bytearray(b"x"), overwrite=False, content_type="text/plain")
        changes.put("b", b"y", metadata={"k": "v"})
        changes.delete("c")
        assert storage.applied == [[]]  # asked once whether there are transactions at all
    assert storage.applied[1] == [
        Put("a", b"x", overwrite=False, content_type="text/plain", metadata={}),
        Put("b", b"y", metadata={"k": "v"}),
        Delete("c"),
    ]


async def test_what_a_transaction_was_given_may_change_afterwards():
    storage = LoggingStorage()
    data, metadata = bytearray(b"before"), {"k": "before"}
    async with storage.transaction() as changes:
        changes.put("a", bytes(data), metadata=metadata)
        data[:] = b"after!"
        metadata["k"] = "after"
    assert storage.applied[1] == [Put("a", b"before", metadata={"k": "before"})]


async def test_a_block_that_raises_applies_nothing():
    storage = LoggingStorage()
    changes = storage.transaction()
    with pytest.raises(ZeroDivisionError):
        async with changes:
            changes.put("a", b"x")
            raise ZeroDivisionError
    assert storage.applied == [[]]


async def test_a_transaction_used_again_starts_empty():
    storage = LoggingStorage()
    changes = storage.transaction()
    async with changes:
        changes.put("a", b"x")
    async with changes:
        changes.delete("a")
    assert storage.applied[1::2] == [[Put("a", b"x", metadata={})], [Delete("a")]]


@pytest.mark.parametrize("key", ["", "../a", "a//b"])
async def test_a_transaction_refuses_a_key_when_it_is_given(key: str):
    changes = LoggingStorage().transaction()
    with pytest.raises(InvalidKeyError):
        changes.put(key, b"x")
    with pytest.raises(InvalidKeyError):
        changes.delete(key)


# -- errors of the operating system ------------------------------------------------------


def translated(error: Exception, operation: str = "put", **kwargs: Any) -> Exception | None:
    arguments: Mapping[str, Any] = kwargs or {"key": "a"}
    return BareStorage(EmptyConfig())._translate(error, Call(operation, (), arguments, "files"))


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOENT, ObjectNotFoundError, "There is no object 'a' in storage 'files'"),
        (errno.EACCES, StoragePermissionError, "Give the account that runs this process access"),
        (errno.EPERM, StoragePermissionError, "Operation not permitted"),
        (errno.ETIMEDOUT, StorageTimeoutError, "timed out"),
        (errno.ECONNREFUSED, StorageConnectionError, "Check that the server is running"),
        (errno.ECONNRESET, StorageConnectionError, "reset by peer"),
        (errno.EPIPE, StorageConnectionError, "put on storage 'files' failed: Broken pipe"),
        (errno.ENOSPC, StorageFullError, "No space left on device. Free space"),
        (errno.EDQUOT, StorageFullError, "what was stored before is untouched"),
        (errno.EIO, StorageError, "put on storage 'files' failed: Input/output error."),
        (errno.EROFS, StorageError, "Read-only file system"),
    ],
)
def test_errors_of_the_system_become_those_of_the_family(
    number: int, kind: type[StorageError], words: str
):
    error = translated(OSError(number, os.strerror(number)))
    assert isinstance(error, kind)
    assert type(error) is kind
    assert words in str(error)
    assert error.provider_name == "files"


def test_each_is_also_what_python_programmers_catch():
    for number, builtin in (
        (errno.ENOENT, LookupError),
        (errno.EACCES, PermissionError),
        (errno.ETIMEDOUT, TimeoutError),
        (errno.ECONNREFUSED, ConnectionError),
    ):
        assert isinstance(translated(OSError(number, "x")), builtin)


def test_the_source_of_a_copy_is_the_missing_object():
    missing = translated(FileNotFoundError(), "copy", source="from", target="to")
    assert "'from'" in str(missing)


def test_what_is_typed_already_and_what_is_unknown_stays_as_it_is():
    assert translated(ObjectExistsError("taken")) is None
    assert translated(RegistryError("X", "x")) is None
    assert translated(KeyError("x")) is None


def test_faults_of_the_caller_do_not_count_against_the_backend():
    for kind in (ObjectNotFoundError, ObjectExistsError, InvalidKeyError, InvalidRangeError):
        assert not kind("x").is_backend_failure
    for kind in (StorageFullError, StorageConnectionError, StorageTimeoutError, StorageError):
        assert kind("x").is_backend_failure


def test_not_found_names_the_storage_where_it_is_known():
    assert str(not_found("a")) == "There is no object 'a'."
    assert not_found("a").provider_name is None
    assert str(not_found("a", "files")) == "There is no object 'a' in storage 'files'."


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, "Input/output error", "/secret/path"), "Input/output error"),
        (ValueError("first line\nsecond"), "first line"),
        (ValueError("  "), "ValueError"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_reason_is_one_line(error: Exception, reason: str):
    assert reason_of(error) == reason


def test_an_object_without_metadata_has_an_empty_read_only_mapping():
    info = ObjectInfo("a", 1, datetime.now(UTC))
    assert info.metadata == {}
    with pytest.raises(TypeError):
        info.metadata["k"] = "v"  # pyright: ignore[reportIndexIssue]
