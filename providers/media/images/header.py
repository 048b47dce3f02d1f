"""What a picture's own bytes say of it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["ImageHeader", "read_header"]


class ImageHeader(NamedTuple):
    """Format (``png``, ``jpeg``, ``webp``), width and height in pixels."""

    format: str
    width: int
    height: int


def read_header(data: bytes) -> ImageHeader:
    """
    Read format, width and height from the beginning of a picture.

    Raises:
        ValueError: It is no PNG, JPEG or WebP, or is cut off before its size is told.
    """
    for name, begins, read in _FORMATS:
        if begins(data):
            try:
                width, height = read(data)
            except (struct.error, IndexError):
                raise ValueError(f"it is cut off: a {name} without its header") from None
            if not width or not height:
                raise ValueError(f"a {name} of {width} by {height} pixels")
            return ImageHeader(name, width, height)
    raise ValueError("it is neither PNG nor JPEG nor WebP")


def _png(data: bytes) -> tuple[int, int]:
    # The first chunk must be IHDR (W3C PNG, 5.6), whose first fields are the size (11.2.1).
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if (length, kind) != (13, b"IHDR"):
        raise ValueError("a png whose first chunk is not IHDR")
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    # Segments follow each other until a frame header, SOF0-15 but for three others (T.81, B.1).
    place = 2
    while True:
        marker, kind = data[place], data[place + 1]
        if marker != 0xFF:
            raise ValueError("a jpeg whose segments do not follow each other")
        if kind == 0xFF:  # fill
            place += 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        elif kind in (0xD9, 0xDA):
            raise ValueError("a jpeg without a frame header")
        else:
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]


def _webp(data: bytes) -> tuple[int, int]:
    # RFC 9649, 2.4 to 2.7: lossy, lossless, extended.
    kind = data[12:16]
    if kind == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", data, 23)
        if start != b"\x9d\x01\x2a":
            raise ValueError("a webp without a key frame")
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise ValueError("a webp without its signature")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        low, high = struct.unpack_from("<IH", data, 24)
        bits = low | high << 32
        return (bits & 0xFFFFFF) + 1, (bits >> 24) + 1
    raise ValueError("a webp of an unknown kind")


_FORMATS: tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], tuple[int, int]]], ...] = (
    ("png", lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    ("jpeg", lambda data: data.startswith(b"\xff\xd8\xff"), _jpeg),
    ("webp", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
)
