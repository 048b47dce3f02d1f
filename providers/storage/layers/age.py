"""
Encryption: objects in the format of age, which the ``age`` tool reads.

After the header come 16 bytes of salt and the content in chunks of 64 KiB, each sealed with
ChaCha20-Poly1305 under its number and whether it is the last (age-encryption.org/v1, "Payload"):
so a chunk can be read by itself, and none can be changed, moved, left out or cut off unseen.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ..base import check_range
from ..errors import InvalidRangeError, ObjectDamagedError
from .age_header import HEADER_SIZE, MAGIC, Header, derived, new_file_key
from .content import Content, Layer
from .flow import BLOCK_SIZE, Chunks, after, blocks, in_order, trimmed

__all__ = ["Age"]

_CHUNK = 64 * 1024
_SALT = 16
_TAG = 16
_SEALED = _CHUNK + _TAG
_BODY = HEADER_SIZE + _SALT
_CHUNKS_A_BLOCK = BLOCK_SIZE // _CHUNK
_WIDTH = 3
"""Blocks ahead. Each is a step of the event loop, half a millisecond long, and none goes to a
thread: the cipher keeps Python's lock, so a thread would hold the loop up for as long, and cost."""


class Age(Layer):
    """
    Encrypts.

    Args:
        recipients: Public keys that new objects are encrypted to.
        identities: Secret keys that objects are read with, the newest first.
        allow_plain: Whether objects that are not encrypted are given as they are.
    """

    def __init__(
        self, recipients: Sequence[bytes], identities: Sequence[bytes], *, allow_plain: bool = False
    ) -> None:
        self.recipients = recipients
        self.identities = identities
        self.allow_plain = allow_plain

    def size_of(self, stored_size: int) -> int | None:
        """See :meth:`Layer.size_of`: computed, unless some objects may be plain."""
        return None if self.allow_plain else content_size(stored_size)

    def decode(self, stored: Content) -> Content:
        """See :meth:`Layer.decode`."""
        return _Decrypted(self, stored)

    async def encode(self, chunks: Chunks) -> Chunks:
        """See :meth:`Layer.encode`."""
        file_key, salt = new_file_key(), os.urandom(_SALT)
        cipher = _cipher(file_key, salt)
        head = Header.written(file_key, self.recipients) + salt

        async def numbered() -> AsyncGenerator[tuple[int, bytes, bool], None]:
            number = 0
            async with aclosing(blocks(chunks, BLOCK_SIZE)) as found:
                async for block, last in found:
                    yield number, block, last
                    number += _CHUNKS_A_BLOCK

        async def seal(block: tuple[int, bytes, bool]) -> bytes:
            return _sealed(cipher, *block)

        async with aclosing(in_order(numbered(), seal, _WIDTH)) as sealed:
            async for block in sealed:
                yield head + block if head else block
                head = b""

    def rewrapped(self, head: bytes) -> bytes | None:
        """
        Return a header for the present recipients in the place of one, None if it is for them.

        Raises:
            ForeignObjectError: There is no header of ours.
            EncryptionKeyError: No identity fits.
            ObjectDamagedError: It was tampered with.
        """
        header = Header.read(head)
        file_key = header.file_key(self.identities)
        if header.is_for(file_key, self.recipients):
            return None
        return Header.written(file_key, self.recipients)

    def opened(self, head: bytes) -> ChaCha20Poly1305:
        """Return what the chunks of an object are opened with, by its header and salt."""
        file_key = Header.read(head).file_key(self.identities)
        if len(head) < _BODY:
            raise ObjectDamagedError("It ends in the middle.")
        return _cipher(file_key, head[HEADER_SIZE:_BODY])


class _Decrypted(Content):
    def __init__(self, layer: Age, stored: Content) -> None:
        self._layer = layer
        self._stored = stored
        self._cipher: ChaCha20Poly1305 | None = None
        self._plain = False

    async def size(self) -> int:
        if self._layer.allow_plain and self._cipher is None:
            await self._open()
        stored = await self._stored.size()
        return stored if self._plain else content_size(stored)

    async def read(self, start: int = 0, end: int | None = None) -> Chunks:
        if start == 0 and self._cipher is None and not self._plain:
            reading = self._from_start(end)
        else:
            reading = self._from(start, end)
        async with aclosing(reading) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _from_start(self, end: int | None) -> Chunks:
        """Read header and content by one request."""
        stop = None if end is None else _BODY + _sealed_size(end) + 1
        async with aclosing(self._stored.read(0, stop)) as chunks:
            head = b""
            async for chunk in chunks:
                head += chunk
                if len(head) >= _BODY:
                    break
            if self._take_plain(head):
                async with aclosing(trimmed(after(head, chunks), 0, end)) as plain:
                    async for chunk in plain:
                        yield chunk
                return
            self._cipher = cipher = self._layer.opened(head)
            plain = self._decrypt(cipher, after(head[_BODY:], chunks), 0, 0, end)
            async with aclosing(plain):
                async for chunk in plain:
                    yield chunk

    async def _from(self, start: int, end: int | None) -> Chunks:
        cipher = await self._open()
        if cipher is None:
            async with aclosing(self._stored.read(start, end)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        # With the byte before it, so that a start at the very end is at the end of a chunk.
        first = max(0, start - 1) // _CHUNK
        stop = None if end is None else _BODY + _sealed_size(end) + 1
        chunks = self._stored.read(_BODY + first * _SEALED, stop)
        try:
            async with aclosing(self._decrypt(cipher, chunks, first, start, end)) as plain:
                async for chunk in plain:
                    yield chunk
        except InvalidRangeError:
            size = await self.size()
            if size < start:
                await self.get(size)  # proves that it ends there
            check_range(start, end, size)
            raise

    async def _open(self) -> ChaCha20Poly1305 | None:
        if self._cipher is None and not self._plain:
            head = await self._stored.get(0, _BODY)
            if not self._take_plain(head):
                self._cipher = self._layer.opened(head)
        return self._cipher

    def _take_plain(self, head: bytes) -> bool:
        self._plain = self._layer.allow_plain and not head.startswith(MAGIC)
        return self._plain

    async def _decrypt(
        self, cipher: ChaCha20Poly1305, chunks: Chunks, first: int, start: int, end: int | None
    ) -> Chunks:
        """Decrypt from the chunk ``first`` on; yield the bytes from ``start`` up to ``end``."""
        # One byte more was asked for: if it is there, what comes before it is not the end.
        limit = None if end is None else _sealed_size(end) - first * _SEALED
        found = 0

        async def numbered() -> AsyncGenerator[tuple[int, bytes, bool], None]:
            place = 0
            async with aclosing(blocks(chunks, _CHUNKS_A_BLOCK * _SEALED)) as cut:
                async for block, last in cut:
                    beyond = limit is not None and place + len(block) > limit
                    data = block[: limit - place] if limit is not None and beyond else block
                    if first and not (place or data):
                        raise InvalidRangeError("The range starts past the object's end.")
                    if data or not beyond:
                        yield first + place // _SEALED, data, last and not beyond
                    place += len(data)

        async def open_block(block: tuple[int, bytes, bool]) -> bytes:
            return _opened(cipher, *block)

        async def counted(opened: Chunks) -> Chunks:
            nonlocal found
            async with aclosing(opened):
                async for data in opened:
                    found += len(data)
                    yield data

        place = first * _CHUNK
        opened = counted(in_order(numbered(), open_block, _WIDTH))
        cut = None if end is None else end - place
        async with aclosing(trimmed(opened, start - place, cut)) as plain:
            async for chunk in plain:
                yield chunk
        if place + found < start:
            check_range(start, end, place + found)


def content_size(stored_size: int) -> int:
    """Return how much content something encrypted of that size has."""
    sealed = max(0, stored_size - _BODY)
    return max(0, sealed - _TAG * -(-sealed // _SEALED))


def _sealed_size(size: int) -> int:
    """Return the size of all the chunks that hold the first ``size`` bytes."""
    return max(1, -(-size // _CHUNK)) * _SEALED


def _cipher(file_key: bytes, salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(derived(file_key, b"payload", salt))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _sealed(cipher: ChaCha20Poly1305, number: int, data: bytes, last: bool) -> bytes:
    """Return content in chunks, the first of which has that number."""
    view = memoryview(data)
    starts = range(0, len(data), _CHUNK) or range(1)
    return b"".join(
        [
            cipher.encrypt(
                _nonce(number + at // _CHUNK, last and at + _CHUNK >= len(data)),
                view[at : at + _CHUNK],
                None,
            )
            for at in starts
        ]
    )


def _opened(cipher: ChaCha20Poly1305, number: int, data: bytes, last: bool) -> bytes:
    """Return the content of chunks, the first of which has that number."""
    view = memoryview(data)
    starts = range(0, len(data), _SEALED) or range(1)
    found: list[bytes] = []
    for at in starts:
        ends = last and at + _SEALED >= len(data)
        sealed, nth = view[at : at + _SEALED], number + at // _SEALED
        try:
            found.append(cipher.decrypt(_nonce(nth, ends), sealed, None))
        except InvalidTag:
            if ends and _is_whole(cipher, nth, sealed):
                raise ObjectDamagedError("It is cut off: its last part is missing.") from None
            raise ObjectDamagedError(
                f"It is damaged, or was tampered with (in the 64 KiB from {nth * _CHUNK})."
            ) from None
    if last and not found[-1] and number + len(found) > 1:
        raise ObjectDamagedError("It ends with an empty part, which nobody writes.")
    return b"".join(found)


def _is_whole(cipher: ChaCha20Poly1305, number: int, sealed: memoryview) -> bool:
    """Tell whether a chunk is one from the middle."""
    try:
        cipher.decrypt(_nonce(number, False), sealed, None)
    except InvalidTag:
        return False
    return True
