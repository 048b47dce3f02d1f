"""What a picture's own bytes say, and the pictures of the doubles: read by Pillow too."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from PIL import Image

from purveyor.providers.media.images.header import ImageHeader, read_header
from purveyor.testing.doubles import picture

SIZES = [(1, 1), (130, 77), (1024, 1536)]
WAYS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0", "comment": b"by hand"}),
    ("WEBP", {"quality": 30}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"quality": 30, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "options"), WAYS)
def test_what_another_program_wrote_is_read(
    kind: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    file = io.BytesIO()
    Image.new("RGB", size, (1, 99, 3)).save(file, kind, **options)
    assert read_header(file.getvalue()) == ImageHeader(kind.lower(), *size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_double_sends_real_pictures(kind: str, size: tuple[int, int]) -> None:
    data = picture(kind, *size, shade=9)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert (image.format, image.size) == (kind.upper(), size)
    assert read_header(data) == ImageHeader(kind, *size)
    assert picture(kind, *size, shade=10) != data


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "neither PNG"),
        (b"<html>", "neither PNG"),
        (b"GIF89a\x01\0\x01\0", "neither PNG"),
        (picture("png", 5, 5)[:20], "cut off: a png"),
        (picture("jpeg", 5, 5)[:30], "cut off: a jpeg"),
        (picture("webp", 5, 5)[:22], "cut off: a webp"),
        (picture("png", 5, 5).replace(b"IHDR", b"IDAT", 1), "not IHDR"),
        (picture("png", 5, 5)[:16] + struct.pack(">II", 0, 5), "of 0 by 5"),
        (b"\xff\xd8\xff\xe0\0\x04ab????????", "do not follow"),
        (b"\xff\xd8\xff\xe0\0\x04ab\xff\xd9??", "without a frame header"),
        (b"RIFF????WEBPVP8 " + bytes(20), "key frame"),
        (b"RIFF????WEBPVP8L" + bytes(20), "signature"),
        (b"RIFF????WEBPABCD" + bytes(20), "unknown kind"),
    ],
)
def test_what_is_no_picture_is_told(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_header(data)


def test_a_jpeg_that_ends_in_its_segments_is_not_read_for_ever() -> None:
    with pytest.raises(ValueError, match="cut off"):
        read_header(b"\xff\xd8" + b"\xff" * 1000)
