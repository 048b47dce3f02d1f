"""
Compression: objects as zstd, in frames of their own that can be read from any place.

An object is stored as the seekable format of zstd has it
(github.com/facebook/zstd, contrib/seekable_format): a frame for each mebibyte, and at the end a
skippable frame with the sizes of all of them. Before and after the frames stands one of ours, so
that what was stored as it is is never taken for compressed. The ``zstd`` tool reads all of it.
"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_right
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import accumulate
from typing import Any

from ...registry.extras import import_extra
from ..base import check_range
from ..errors import ObjectDamagedError
from .content import Content, Layer
from .flow import BLOCK_SIZE, Chunks, after, blocks, in_order, trimmed, worked

__all__ = ["Zstd"]

_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
_MARK = struct.pack("<II", 0x184D2A5D, 8) + b"purveyor"
_TABLE_MAGIC = 0x184D2A5E
_FOOTER = struct.Struct("<IBI")  # frames, descriptor, magic
_FOOTER_MAGIC = 0x8F92EAB1
_CHECKSUMS = 0x80
_ENTRY = struct.Struct("<III")  # stored size, size, checksum
_MARK_ENTRY = _ENTRY.pack(len(_MARK), 0, 0)
_TAIL = 2 * _ENTRY.size + _FOOTER.size
"""Bytes at the end that tell the size: the last frame's entry, our mark's, and the footer."""
_MOST = 2 * BLOCK_SIZE
"""Bytes; no frame of ours has more."""
_WIDTH = 3


_Frames = AsyncGenerator[tuple[bytes, int | None], None]
"""Frames, each with the checksum that the table of contents has of it, if that was read."""


class Zstd(Layer):
    """
    Compresses.

    Args:
        level: How hard to try.
    """

    def __init__(self, level: int) -> None:
        self._library: Any = import_extra("zstandard", extra="compression")
        self._level = level
        self._threads = threading.local()  # a compressor serves one thread at a time

    def size_of(self, stored_size: int) -> int | None:
        """See :meth:`Layer.size_of`: the size stands in the object."""
        return None

    def decode(self, stored: Content) -> Content:
        """See :meth:`Layer.decode`."""
        return _Decompressed(self, stored)

    async def encode(self, chunks: Chunks) -> Chunks:
        """See :meth:`Layer.encode`."""
        table = bytearray(_MARK_ENTRY)
        yield _MARK

        async def compress(block: tuple[bytes, bool]) -> tuple[int, bytes]:
            data = block[0]
            return len(data), await worked(self._compressed, data) if data else b""

        async with aclosing(in_order(blocks(chunks, BLOCK_SIZE), compress, _WIDTH)) as frames:
            async for size, frame in frames:
                if frame:
                    table += _ENTRY.pack(len(frame), size, int.from_bytes(frame[-4:], "little"))
                    yield frame
        table += _MARK_ENTRY
        table += _FOOTER.pack(len(table) // _ENTRY.size, _CHECKSUMS, _FOOTER_MAGIC)
        yield _MARK + struct.pack("<II", _TABLE_MAGIC, len(table)) + table

    def _compressed(self, data: bytes) -> bytes:
        try:
            compressor = self._threads.compressor
        except AttributeError:
            compressor = self._library.ZstdCompressor(
                level=self._level, write_checksum=True, write_content_size=True
            )
            self._threads.compressor = compressor
        frame = compressor.compress(data)
        # The library keeps room for the worst case with what it gives; a copy does not.
        return frame if len(frame) > len(data) * 7 // 8 else bytes(memoryview(frame))

    def decompressed(self, data: bytes, checksum: int | None) -> bytes:
        """Return the content of a frame, which is no more than a block."""
        if checksum not in (None, int.from_bytes(data[-4:], "little")):
            raise ObjectDamagedError("It is not what its table of contents says.")
        try:
            decompressor = self._threads.decompressor
        except AttributeError:
            decompressor = self._threads.decompressor = self._library.ZstdDecompressor()
        try:
            size = self._library.get_frame_parameters(data).content_size
            if not 0 < size <= BLOCK_SIZE:
                raise ObjectDamagedError("A frame of it is larger than any that is written.")
            return decompressor.decompress(data, max_output_size=BLOCK_SIZE)
        except self._library.ZstdError as error:
            raise ObjectDamagedError(f"It cannot be decompressed: {error}.") from error


class _Decompressed(Content):
    def __init__(self, layer: Zstd, stored: Content) -> None:
        self._layer = layer
        self._stored = stored

    async def size(self) -> int:
        stored = await self._stored.size()
        if stored >= len(_MARK) + _TAIL:
            tail = await self._stored.get(stored - _TAIL, stored)
            if (frames := _frames_told(tail)) is not None:
                last = _ENTRY.unpack(tail[: _ENTRY.size])[1]
                return max(0, frames - 3) * BLOCK_SIZE + last
        return stored  # it is stored as it is

    async def read(self, start: int = 0, end: int | None = None) -> Chunks:
        async with aclosing(self._read(start, end) if start else self._from_start(end)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _from_start(self, end: int | None) -> Chunks:
        """Read without asking how it ends, so that one request does."""
        async with aclosing(self._stored.read()) as chunks:
            head = b""
            async for chunk in chunks:
                head += chunk
                if len(head) >= len(_MARK):
                    break
            if not head.startswith(_MARK):
                async with aclosing(trimmed(after(head, chunks), 0, end)) as plain:
                    async for chunk in plain:
                        yield chunk
                return
            frames = _split(after(head[len(_MARK) :], chunks))
            async with aclosing(trimmed(self._decompress(frames), 0, end)) as plain:
                async for chunk in plain:
                    yield chunk

    async def _read(self, start: int, end: int | None) -> Chunks:
        """Read from the middle, by the table of contents."""
        entries = await self._table()
        if entries is None:
            async with aclosing(self._stored.read(start, end)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        sizes = [size for _, size, _ in entries]
        check_range(start, end, sum(sizes))
        places = [0, *accumulate(sizes)]
        first = min(bisect_right(places, start) - 1, len(entries))
        last = len(entries) if end is None else bisect_right(places, max(end - 1, start))
        wanted = entries[first:last]
        if not wanted or end == start:
            return
        begin = len(_MARK) + sum(length for length, _, _ in entries[:first])
        stop = begin + sum(length for length, _, _ in wanted)
        frames = _cut(self._stored.read(begin, stop), wanted)
        cut = None if end is None else end - places[first]
        plain = trimmed(self._decompress(frames), start - places[first], cut)
        async with aclosing(plain):
            async for chunk in plain:
                yield chunk

    async def _table(self) -> list[tuple[int, int, int]] | None:
        """Return the entries of the frames, None if it is stored as it is."""
        stored = await self._stored.size()
        if stored < len(_MARK) + _TAIL:
            return None
        frames = _frames_told(await self._stored.get(stored - _TAIL, stored))
        if frames is None:
            return None
        length = frames * _ENTRY.size + _FOOTER.size
        if length + len(_MARK) > stored:
            raise ObjectDamagedError("Its table of contents is longer than itself.")
        table = await self._stored.get(stored - length, stored)
        if len(table) != length or table[: _ENTRY.size] != _MARK_ENTRY:
            raise ObjectDamagedError("Its table of contents is damaged.")
        return [*_ENTRY.iter_unpack(table[_ENTRY.size : -_ENTRY.size - _FOOTER.size])]

    def _decompress(self, frames: _Frames) -> Chunks:
        async def decompress(frame: tuple[bytes, int | None]) -> bytes:
            if len(frame[0]) > BLOCK_SIZE * 7 // 8:  # hardly compressed: it is copied
                return self._layer.decompressed(*frame)
            return await worked(self._layer.decompressed, *frame)

        return in_order(frames, decompress, _WIDTH)


def _frames_told(tail: bytes) -> int | None:
    """Return how many entries the table has, None if what ends so is none of ours."""
    frames, descriptor, magic = _FOOTER.unpack(tail[-_FOOTER.size :])
    ours = (
        (descriptor, magic) == (_CHECKSUMS, _FOOTER_MAGIC)
        and tail[_ENTRY.size : 2 * _ENTRY.size] == _MARK_ENTRY
        and frames >= 2
    )
    return frames if ours else None


async def _cut(chunks: Chunks, entries: list[tuple[int, int, int]]) -> _Frames:
    """Yield frames whose sizes are known."""
    held = bytearray()
    waiting = iter(entries)
    length, _, checksum = next(waiting)
    async with aclosing(chunks):
        async for chunk in chunks:
            held += chunk
            while length and len(held) >= length:
                yield bytes(memoryview(held)[:length]), checksum
                del held[:length]
                length, _, checksum = next(waiting, (0, 0, 0))
    if length:
        raise ObjectDamagedError("It ends in the middle.")


async def _split(chunks: Chunks) -> _Frames:
    """Yield the frames of an object, the mark before them taken off; check how it ends."""
    held = bytearray()
    count = 2
    async with aclosing(chunks):
        async for chunk in chunks:
            held += chunk
            while held.startswith(_FRAME_MAGIC) and (length := _frame_length(held)):
                count += 1
                yield bytes(memoryview(held)[:length]), None
                del held[:length]
            known = held.startswith((_FRAME_MAGIC, _MARK[:4])) or len(held) < 4
            if not known or (len(held) > _MOST and held.startswith(_FRAME_MAGIC)):
                raise ObjectDamagedError("It holds what is no frame.")
    whole = held.startswith(_MARK) and len(held) >= _TAIL
    if not whole or _frames_told(bytes(held[-_TAIL:])) != count:
        raise ObjectDamagedError("It ends in the middle, or holds what was never written.")


def _frame_length(data: bytearray) -> int | None:
    """Return the length of the frame ``data`` begins with (RFC 8878, 3.1.1), if all is there."""
    if len(data) < 18:
        return None
    flags = data[4]
    single, checksum = flags >> 5 & 1, flags >> 2 & 1
    place = 5 + (not single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
    while True:
        header = int.from_bytes(data[place : place + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if len(data) < place + 3:
            return None
        place += 3 + (1 if kind == 1 else size)
        if last:
            place += 4 * checksum
            return place if len(data) >= place else None
