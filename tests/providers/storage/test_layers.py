"""What is stored under layers: readable by age and zstd, and by nobody who changed it."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purveyor.providers.registry import InvalidStateError, guarded
from purveyor.providers.storage import (
    EncryptionKeyError,
    ForeignObjectError,
    InvalidRangeError,
    ObjectDamagedError,
    StorageError,
)
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from purveyor.providers.storage.layers.age import content_size
from purveyor.providers.storage.layers.age_header import HEADER_SIZE, Header
from purveyor.providers.storage.layers.bech32 import bech32_decode, bech32_encode
from purveyor.providers.storage.layers.keys import (
    new_identity,
    parse_identity,
    parse_recipient,
    recipient_of,
)
from purveyor.providers.storage.layers.storage import LayeredStorage, layered
from purveyor.providers.storage.sqlite import SQLiteStorage

MIB = 1024 * 1024
CHUNK = 64 * 1024
SEALED = CHUNK + 16
BODY = HEADER_SIZE + 16

MINE, OTHER = new_identity(), new_identity()
COMPRESSED: dict[str, Any] = {"compression": "zstd"}
ENCRYPTED: dict[str, Any] = {"encryption": "age", "encryption_identities": (MINE,)}
LAYERS = [
    pytest.param(COMPRESSED, id="compression"),
    pytest.param(ENCRYPTED, id="encryption"),
    pytest.param({**COMPRESSED, **ENCRYPTED}, id="both"),
]

Open = Callable[..., LayeredStorage]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def layers(root: Path) -> Open:
    """Return a storage of one folder, with the layers that settings switch on."""
    of_files = layered(FilesystemStorage)

    def make(**settings: Any) -> LayeredStorage:
        config = of_files.config_class.model_validate({"root": root, **settings})
        return guarded(of_files(config), name="docs")

    return make


def text(size: int) -> bytes:
    """Return something that compresses."""
    source = random.Random(7)
    words = [b"%x" % source.getrandbits(40) for _ in range(500)]
    return b" ".join(source.choices(words, k=size // 5))[:size].ljust(size)


def output_of(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


# -- other programs --------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * MIB + 5])
async def test_pyrage_and_the_age_tool_read_what_is_stored(
    layers: Open, root: Path, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    both = (recipient_of(MINE), recipient_of(OTHER))
    async with layers(**ENCRYPTED, encryption_recipients=both) as storage:
        await storage.put("object", data)
    stored = root / "object"
    for identity in (MINE, OTHER):
        key = pyrage.x25519.Identity.from_str(identity)
        assert pyrage.decrypt(stored.read_bytes(), [key]) == data
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(stored.read_bytes(), [pyrage.x25519.Identity.generate()])
    if shutil.which("age") is None:
        pytest.skip("the age tool is not installed: apt-get install age")
    (tmp_path / "identity").write_text(f"# mine\n{OTHER}\n")
    assert output_of("age", "--decrypt", "--identity", tmp_path / "identity", stored) == data


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 5])
async def test_zstd_reads_what_is_stored(layers: Open, root: Path, size: int) -> None:
    data = text(size)
    async with layers(**COMPRESSED) as storage:
        await storage.put("object", data)
    stored = root / "object"
    assert len(stored.read_bytes()) < size / 2 + 200
    if shutil.which("zstd") is None:
        pytest.skip("the zstd tool is not installed: apt-get install zstd")
    assert output_of("zstd", "--decompress", "--stdout", stored) == data


async def test_both_are_zstd_within_age(layers: Open, root: Path) -> None:
    data = text(2 * MIB)
    async with layers(**COMPRESSED, **ENCRYPTED) as storage:
        await storage.put("object", data)
    key = pyrage.x25519.Identity.from_str(MINE)
    opened = pyrage.decrypt((root / "object").read_bytes(), [key])
    assert opened[16:20] == b"\x28\xb5\x2f\xfd"
    assert len(opened) < MIB


def test_keys_are_those_of_age() -> None:
    identity = pyrage.x25519.Identity.generate()
    assert recipient_of(str(identity)) == str(identity.to_public())
    mine = pyrage.x25519.Identity.from_str(MINE)
    assert recipient_of(MINE) == str(mine.to_public())


# BIP 173, "Test vectors".
@pytest.mark.parametrize("valid", ["A12UEL5L", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"])
def test_bech32_keeps_its_test_vectors(valid: str) -> None:
    prefix, data = bech32_decode(valid)
    assert bech32_encode(prefix, data) == valid.lower()


@pytest.mark.parametrize("wrong", ["A1G7SGD8", "1qzzfhee", "x1b4n0q5v", "li1dgmt3", "A12uEL5L", ""])
def test_bech32_refuses_what_is_malformed(wrong: str) -> None:
    with pytest.raises(ValueError):
        bech32_decode(wrong)


@given(st.binary(max_size=70))
def test_bech32_comes_back(data: bytes) -> None:
    assert bech32_decode(bech32_encode("age", data)) == ("age", data)


@given(st.integers(0, 2**44))
def test_the_size_of_content_follows_from_the_stored_size(size: int) -> None:
    chunks = max(1, -(-size // CHUNK))
    assert content_size(BODY + size + 16 * chunks) == size


def test_a_header_has_one_length_for_one_to_nine_recipients() -> None:
    for count in (1, 5, 9):
        identities = [new_identity() for _ in range(count)]
        recipients = [parse_recipient(recipient_of(one)) for one in identities]
        written = Header.written(b"k" * 16, recipients)
        assert len(written) == HEADER_SIZE
        for identity in identities:
            assert Header.read(written).file_key([parse_identity(identity)]) == b"k" * 16


# -- places in an object ---------------------------------------------------------------


@pytest.mark.parametrize("settings", LAYERS)
@pytest.mark.parametrize("size", [0, 5, CHUNK, 2 * MIB, 2 * MIB + 7])
async def test_a_range_is_exact_wherever_it_begins(
    layers: Open, settings: dict[str, Any], size: int
) -> None:
    data = text(size)
    edges = (0, 1, CHUNK, CHUNK + 1, MIB - 1, MIB, MIB + 1, 2 * MIB, size - 1, size)
    places = sorted({place for place in edges if 0 <= place <= size})
    async with layers(**settings) as storage:
        await storage.put("object", data)
        for start in places:
            for end in (start, start + 1, start + CHUNK, size, size + MIB, None):
                got = await storage.get("object", start=start, end=end)
                assert got == data[start:end], (start, end)
        for start in (size + 1, size + CHUNK, size + 3 * MIB):
            with pytest.raises(InvalidRangeError, match=f"has {size} bytes"):
                await storage.get("object", start=start)
            with pytest.raises(InvalidRangeError):
                await storage.get("object", start=start, end=start + 1)


@pytest.mark.parametrize("settings", LAYERS)
async def test_a_range_reads_no_more_than_it_must(
    layers: Open, root: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 16 MiB that do not compress, the last ten bytes cost a few blocks."""
    read = 0
    stream = FilesystemStorage.stream

    async def counted(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        nonlocal read
        async for chunk in stream(self, *args, **kwargs):
            read += len(chunk)
            yield chunk

    async with layers(**settings) as storage:
        await storage.put("object", data := os.urandom(16 * MIB))
        monkeypatch.setattr(FilesystemStorage, "stream", counted)
        assert await storage.get("object", start=16 * MIB - 10) == data[-10:]
        assert await storage.get("object", start=MIB + 5, end=MIB + 8) == data[MIB + 5 : MIB + 8]
    assert read < 5 * MIB


async def test_many_sizes_of_pieces_make_the_same_object(layers: Open) -> None:
    data = text(2 * MIB + 3)

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for begin in range(0, len(data), size):
            yield data[begin : begin + size]
            yield b""

    async with layers(**COMPRESSED, **ENCRYPTED) as storage:
        for size in (1000, CHUNK, MIB, MIB + 1, len(data)):
            info = await storage.put("object", pieces(size))
            assert info.size == len(data)
            assert await storage.get("object") == data


async def test_what_compresses_best_is_read_in_bounded_memory(layers: Open, root: Path) -> None:
    """A block of what is read may stand for thousands of blocks of zeros: one at a time."""

    async def zeros() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield bytes(MIB)

    async with layers(**COMPRESSED) as storage:
        await storage.put("object", zeros())
        assert (root / "object").stat().st_size < CHUNK
        size = 0
        async for chunk in storage.stream("object"):
            assert len(chunk) <= MIB
            size += len(chunk)
    assert size == 200 * MIB


async def test_the_loop_goes_on_while_objects_are_encoded(layers: Open) -> None:
    data = text(6 * MIB)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async with layers(**COMPRESSED, **ENCRYPTED) as storage:
        ticking = asyncio.create_task(tick())
        await storage.put("object", data)
        ticking.cancel()
    assert ticks > 100


# -- sizes -----------------------------------------------------------------------------


@pytest.mark.parametrize("settings", LAYERS)
async def test_a_listing_tells_the_sizes_of_contents(
    layers: Open, root: Path, settings: dict[str, Any]
) -> None:
    sizes = {f"object-{size:08}": size for size in (0, 1, CHUNK, CHUNK + 1, MIB, 3 * MIB + 1)}
    async with layers(**settings) as storage:
        for key, size in sizes.items():
            assert (await storage.put(key, os.urandom(size))).size == size
    async with layers(**settings) as storage:  # which remembers nothing
        assert {info.key: info.size async for info in storage.list()} == sizes
        for key, size in sizes.items():
            assert (await storage.stat(key)).size == size
        stats = await storage.stats()
        assert (stats.object_count, stats.total_bytes) == (len(sizes), sum(sizes.values()))


async def test_a_listing_of_encrypted_objects_reads_none(
    layers: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with layers(**ENCRYPTED) as storage:
        await storage.put("object", bytes(MIB))
        monkeypatch.delattr(FilesystemStorage, "get")
        monkeypatch.delattr(FilesystemStorage, "stream")
    async with layers(**ENCRYPTED) as storage:
        assert [info.size async for info in storage.list()] == [MIB]


async def test_sizes_of_compressed_objects_are_looked_up_once(
    layers: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with layers(**COMPRESSED) as storage:
        for number in range(5):
            await storage.put(str(number), bytes(number))
        storage_of_another_process = layers(**COMPRESSED)
        async with storage_of_another_process as other:
            assert [info.size async for info in other.list()] == [0, 1, 2, 3, 4]
            monkeypatch.delattr(FilesystemStorage, "get")
            monkeypatch.delattr(FilesystemStorage, "stream")
            assert [info.size async for info in other.list()] == [0, 1, 2, 3, 4]
            assert [info.size async for info in storage.list()] == [0, 1, 2, 3, 4]


async def test_one_damaged_object_does_not_end_a_listing(layers: Open, root: Path) -> None:
    async with layers(**COMPRESSED, **ENCRYPTED) as storage:
        for key in "abc":
            await storage.put(key, b"content")
    (root / "b").write_bytes(b"age-encryption.org/v1\n" + bytes(2000))
    async with layers(**COMPRESSED, **ENCRYPTED) as storage:
        assert [(info.key, info.size) async for info in storage.list()] == [
            ("a", 7),
            ("b", 2022),
            ("c", 7),
        ]


# -- objects that were there before ----------------------------------------------------


async def test_what_was_stored_before_compression_is_given_as_it_is(
    layers: Open, root: Path
) -> None:
    plain = {"empty": b"", "small": b"x", "large": os.urandom(2 * MIB)}
    plain["zstd"] = b"\x28\xb5\x2f\xfd" + os.urandom(500)
    async with FilesystemStorage(FilesystemConfig(root=root)) as before:
        for key, data in plain.items():
            await before.put(key, data)
    async with layers(**COMPRESSED) as storage:
        for key, data in plain.items():
            assert await storage.get(key) == data
            assert (await storage.stat(key)).size == len(data)
            assert await storage.get(key, start=len(data) // 2) == data[len(data) // 2 :]


async def test_what_is_not_encrypted_is_refused_unless_it_is_allowed(
    layers: Open, root: Path
) -> None:
    data = os.urandom(2 * MIB)
    async with FilesystemStorage(FilesystemConfig(root=root)) as before:
        await before.put("planted", data)
    async with layers(**ENCRYPTED) as storage:
        for start in (0, 1, MIB):
            with pytest.raises(ForeignObjectError, match=r"'planted'.*not encrypted"):
                await storage.get("planted", start=start)
    async with layers(**ENCRYPTED, encryption_allow_plain=True) as storage:
        await storage.put("sealed", data)
        for key in ("planted", "sealed"):
            assert await storage.get(key) == data
            assert await storage.get(key, start=MIB, end=MIB + 5) == data[MIB : MIB + 5]
        assert [info.size async for info in storage.list()] == [2 * MIB, 2 * MIB]


async def test_what_another_program_encrypted_is_refused_by_name(layers: Open, root: Path) -> None:
    recipient = pyrage.x25519.Recipient.from_str(recipient_of(MINE))
    foreign = pyrage.encrypt(bytes(5000), [recipient])
    async with FilesystemStorage(FilesystemConfig(root=root)) as before:
        await before.put("object", foreign)
    async with layers(**ENCRYPTED) as storage:
        with pytest.raises(ForeignObjectError, match="another program"):
            await storage.get("object")


async def test_compression_can_be_switched_on_later(layers: Open) -> None:
    async with layers(**ENCRYPTED) as storage:
        await storage.put("before", text(MIB))
    async with layers(**COMPRESSED, **ENCRYPTED) as storage:
        assert await storage.get("before") == text(MIB)
        assert (await storage.stat("before")).size == MIB


# -- keys ------------------------------------------------------------------------------


async def test_a_writer_without_a_secret_key_cannot_read(layers: Open) -> None:
    public: dict[str, Any] = {
        "encryption": "age",
        "encryption_recipients": (recipient_of(MINE),),
    }
    async with layers(**public) as writer:
        info = await writer.put("object", b"content")
        assert info.size == 7
        assert [info.size async for info in writer.list()] == [7]
        with pytest.raises(EncryptionKeyError, match=r"no key to read.*encryption_identities"):
            await writer.get("object")
    async with layers(**ENCRYPTED) as reader:
        assert await reader.get("object") == b"content"


async def test_a_writer_without_a_secret_key_is_told_no_wrong_sizes(layers: Open) -> None:
    public = {**COMPRESSED, "encryption": "age", "encryption_recipients": recipient_of(MINE)}
    async with layers(**COMPRESSED, **ENCRYPTED) as storage:
        await storage.put("object", b"content")
    async with layers(**public) as writer:
        with pytest.raises(EncryptionKeyError, match="no key to read"):
            _ = [info async for info in writer.list()]


async def test_another_key_reads_nothing(layers: Open) -> None:
    async with layers(**ENCRYPTED) as storage:
        await storage.put("object", bytes(MIB))
    async with layers(**{**ENCRYPTED, "encryption_identities": (OTHER,)}) as storage:
        for start in (0, CHUNK):
            with pytest.raises(EncryptionKeyError, match=r"'object'.*none of the 1"):
                await storage.get("object", start=start)


async def test_nothing_gets_past_the_layers_before_they_are_there(root: Path) -> None:
    of_files = layered(FilesystemStorage)
    storage = of_files(of_files.config_class.model_validate({"root": root, **ENCRYPTED}))
    with pytest.raises(InvalidStateError):
        await storage.put("object", b"secret")


# -- tampering -------------------------------------------------------------------------


def flip(place: int) -> Callable[[bytes], bytes]:
    def change(stored: bytes) -> bytes:
        at = place % len(stored)
        return stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]

    return change


def swap(stored: bytes) -> bytes:
    first, second = (stored[BODY + n * SEALED : BODY + (n + 1) * SEALED] for n in (0, 1))
    return stored[:BODY] + second + first + stored[BODY + 2 * SEALED :]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit of the first chunk": flip(BODY),
    "a bit of the last chunk": flip(-1),
    "a bit of the salt": flip(HEADER_SIZE + 3),
    "a bit of the wrapped key": flip(100),
    "a bit of the proof": flip(HEADER_SIZE - 10),
    "a bit of our own stanza": flip(HEADER_SIZE - 200),
    "chunks in another order": swap,
    "a chunk left out": lambda stored: stored[:BODY] + stored[BODY + SEALED :],
    "cut at the end of a chunk": lambda stored: stored[: BODY + 2 * SEALED],
    "cut in a chunk": lambda stored: stored[: BODY + SEALED + 5],
    "cut after the salt": lambda stored: stored[:BODY],
    "cut in the salt": lambda stored: stored[: HEADER_SIZE + 3],
    "cut in the header": lambda stored: stored[:500],
    "more after the end": lambda stored: stored + bytes(16),
    "an empty chunk after the end": lambda stored: stored + stored[-16:],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_what_was_tampered_with_is_never_handed_out(
    layers: Open, root: Path, change: Callable[[bytes], bytes]
) -> None:
    data = os.urandom(3 * CHUNK + 100)
    async with layers(**ENCRYPTED) as storage:
        await storage.put("object", data)
        stored = root / "object"
        stored.write_bytes(change(stored.read_bytes()))
        with pytest.raises((ObjectDamagedError, ForeignObjectError, EncryptionKeyError)) as caught:
            await storage.get("object")
        assert "'object'" in str(caught.value)
        assert caught.value.provider_name == "docs"
        seen = b""
        with pytest.raises(StorageError):
            async for chunk in storage.stream("object"):
                seen += chunk
        assert data.startswith(seen)
        try:  # what does not hold the change may be read
            assert await storage.get("object", start=CHUNK + 5) == data[CHUNK + 5 :]
        except StorageError as error:
            told = str(error)
            assert "'object'" in told


async def test_a_range_of_an_object_that_was_cut_off_is_refused_past_the_cut(
    layers: Open, root: Path
) -> None:
    async with layers(**ENCRYPTED) as storage:
        await storage.put("object", os.urandom(3 * CHUNK))
        stored = root / "object"
        stored.write_bytes(stored.read_bytes()[: BODY + 2 * SEALED])
        for start in (2 * CHUNK, 2 * CHUNK + 5, 3 * CHUNK):
            with pytest.raises(ObjectDamagedError, match="cut off"):
                await storage.get("object", start=start)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), flips=st.integers(1, 3))
def test_no_flipped_bit_of_a_header_goes_unseen(seed: int, flips: int) -> None:
    recipient, identity = parse_recipient(recipient_of(MINE)), parse_identity(MINE)
    written = bytearray(Header.written(b"k" * 16, [recipient]))
    source = random.Random(seed)
    for place in source.sample(range(HEADER_SIZE), flips):
        written[place] ^= 1 << source.randrange(8)
    with pytest.raises((ObjectDamagedError, ForeignObjectError, EncryptionKeyError)):
        Header.read(bytes(written)).file_key([identity])


@pytest.mark.parametrize("place", [20, 5_000, -300, -100, -30, -1])
async def test_a_damaged_compressed_object_is_told(layers: Open, root: Path, place: int) -> None:
    data = os.urandom(2 * MIB)
    async with layers(**COMPRESSED) as storage:
        await storage.put("object", data)
        stored = root / "object"
        for changed in (flip(place)(stored.read_bytes()), stored.read_bytes()[:place]):
            stored.write_bytes(changed)
            try:
                assert await storage.get("object") == data  # the table is not needed for all of it
            except ObjectDamagedError as error:
                told = str(error)
                assert "'object'" in told


# -- at the same time ------------------------------------------------------------------


@pytest.mark.parametrize("settings", LAYERS)
async def test_a_range_of_an_object_that_is_replaced_is_of_one_version(
    layers: Open, settings: dict[str, Any]
) -> None:
    versions = [bytes([number]) * (2 * MIB) for number in range(3)]
    async with layers(**settings) as storage:
        await storage.put("object", versions[0])

        async def write() -> None:
            for number in range(12):
                await storage.put("object", versions[number % 3])

        writing = asyncio.create_task(write())
        read = 0
        while not writing.done():
            part = await storage.get("object", start=MIB - 5, end=MIB + 5)
            assert len(set(part)) == 1
            assert len(part) == 10
            read += 1
        await writing
    assert read


# -- what a type has beside contents ---------------------------------------------------


@pytest.mark.parametrize("settings", LAYERS)
async def test_a_copy_on_the_server_stays_there(
    layers: Open, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with layers(**settings) as storage:
        await storage.put("source", data := text(MIB))
        monkeypatch.setattr(FilesystemStorage, "put", None)
        assert (await storage.copy("source", "copied")).size == MIB
        assert (await storage.move("copied", "moved")).size == MIB
        assert await storage.get("moved") == data


async def test_transactions_and_search_go_through(tmp_path: Path) -> None:
    of_sqlite = layered(SQLiteStorage)
    config = of_sqlite.config_class.model_validate(
        {"path": tmp_path / "objects.sqlite3", **COMPRESSED, **ENCRYPTED}
    )
    async with of_sqlite(config) as storage:
        async with storage.transaction() as changes:
            changes.put("red apple", b"one", metadata={"owner": "ada"})
            changes.put("green apple", b"two")
        assert await storage.get("red apple") == b"one"
        found = await storage.search("apple")
        assert {info.key: info.size for info in found} == {"red apple": 3, "green apple": 3}
        assert storage.capabilities > {"search", "transactions", "compression", "encryption"}
    assert b"one" not in (tmp_path / "objects.sqlite3").read_bytes()
