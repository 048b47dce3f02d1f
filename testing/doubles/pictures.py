"""Real pictures of any size and one colour, made without a library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping

__all__ = ["picture"]


def picture(kind: str, width: int, height: int, *, shade: int = 128) -> bytes:
    """
    Return the bytes of a picture.

    Args:
        kind: ``png``, ``jpeg`` or ``webp``.
        width: In pixels.
        height: In pixels.
        shade: 0 to 255; another one gives other bytes.
    """
    return _KINDS[kind](width, height, shade)


def _png(width: int, height: int, shade: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits of grey
    rows = (b"\0" + bytes([shade]) * width) * height
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _jpeg(width: int, height: int, shade: int) -> bytes:
    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    # Every block is the one before: two codes of one bit, 0, say so. The shade is but a comment.
    one_code = bytes([1, *[0] * 15, 0])
    blocks = -(-width // 8) * -(-height // 8)
    bits = "0" * (2 * blocks) + "1" * (-2 * blocks % 8)
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            segment(0xFE, b"shade %d" % shade),
            segment(0xDB, bytes([0, *[1] * 64])),
            segment(0xC0, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)),
            segment(0xC4, b"\x00" + one_code),
            segment(0xC4, b"\x10" + one_code),
            segment(0xDA, b"\x01\x01\x00\x00\x3f\x00"),
            int(bits, 2).to_bytes(len(bits) // 8, "big"),
            b"\xff\xd9",
        ]
    )


def _webp(width: int, height: int, shade: int) -> bytes:
    # Lossless (RFC 9649, 3): no transform, no cache, one group of prefix codes, each of a single
    # symbol, so that no pixel takes a bit.
    bits = f"{height - 1:014b}{width - 1:014b}"  # the lowest bit is the last
    bits = "000" + "0" + bits  # version, alpha
    bits = "0" + "0" + "0" + bits
    for symbol in (shade, shade, shade, 255):  # green, red, blue, alpha
        bits = f"{symbol:08b}" + "1" + "0" + "1" + bits
    bits = "0" + "0" + "0" + "1" + bits  # distance
    data = b"\x2f" + int(bits, 2).to_bytes(-(-len(bits) // 8), "little")
    padded = data + b"\0" * (len(data) % 2)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + padded
    return b"RIFF" + struct.pack("<I", len(body)) + body


_KINDS: Mapping[str, Callable[[int, int, int], bytes]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
}
