"""Texts piece by piece: decoded, cut into lines, and JSON value by value."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Generator, Iterable
from itertools import islice
from typing import Any, BinaryIO, TypeVar, cast

from .errors import MalformedDataError

__all__ = ["LONGEST", "JSONReader", "cut", "lines_of", "too_long"]

T = TypeVar("T")

LONGEST = 1024 * 1024
"""Characters of one row, line or JSON value at most."""
_CHUNK = 64 * 1024
_GZIP = b"\x1f\x8b"
"""How gzip begins; no text in UTF-8 does."""
_SPACE = re.compile(r"[ \t\r\n]*")
"""What may stand between JSON values."""
_END: Any = object()


def cut(values: Iterable[T], count: int) -> tuple[list[T], bool]:
    """Return the first ``count`` values, and whether there is more, malformed or not."""
    rest = iter(values)
    found = list(islice(rest, count))
    if len(found) < count:
        return found, False
    try:
        return found, next(rest, _END) is not _END
    except MalformedDataError:
        return found, True


def too_long(item: str, what: str) -> MalformedDataError:
    """Return the error for something that would not fit into the memory given to it."""
    return MalformedDataError(
        f"{item!r}: {what} has more than {LONGEST:,} characters, which is more than is read into "
        "memory. `fetch` gives the file as it is."
    )


def text_of(file: BinaryIO, item: str) -> Generator[str, None, None]:
    """Yield a file's text in pieces, decompressed, without byte order mark."""
    data = file.read(_CHUNK)
    if data.startswith(_GZIP):
        file.seek(0)
        file = cast("BinaryIO", gzip.GzipFile(fileobj=file))
        data = _decompressed(file, item)
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, is_first = 0, True
    while True:
        kept = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise MalformedDataError(
                f"{item!r} is not UTF-8 text: byte {offset - kept + error.start:,} is "
                f"0x{error.object[error.start]:02x}. Save it as UTF-8; other encodings are not "
                "guessed."
            ) from error
        offset += len(data)
        if text and is_first:
            text = text.removeprefix("\ufeff")
            is_first = False
        if text:
            yield text
        if not data:
            return
        data = _decompressed(file, item)


def _decompressed(file: BinaryIO, item: str) -> bytes:
    try:
        return file.read(_CHUNK)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise MalformedDataError(
            f"{item!r} is compressed by gzip and is damaged or incomplete."
        ) from error


def lines_of(file: BinaryIO, item: str) -> Generator[str, None, None]:
    """Yield a file's lines with their ends, which may be LF, CRLF or CR."""
    number, rest = 1, ""
    for text in text_of(file, item):
        # The last line is kept: it may go on, and so may a CRLF.
        *lines, rest = io.StringIO(rest + text, newline="")
        number += len(lines)
        yield from lines
        if len(rest) > LONGEST:
            raise too_long(item, f"line {number:,}")
    if rest:
        yield rest


class JSONReader:
    """
    The rows of a JSON file, decoded one by one.

    Args:
        file: The file.
        item: What errors call it.
    """

    def __init__(self, file: BinaryIO, item: str) -> None:
        self._item = item
        self._pieces = text_of(file, item)
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._place = 0
        self._before = 0

    def values(self) -> Generator[Any, None, None]:
        """Yield the elements of an array, or the one value that is there."""
        if self._next() != "[":
            yield self._value("the value")
        else:
            self._place += 1
            number = 1
            if self._next() != "]":
                yield self._value(f"row {number:,}")
                while (character := self._next()) == ",":
                    self._place += 1
                    number += 1
                    yield self._value(f"row {number:,}")
                if character != "]":
                    raise self._malformed(
                        f"after row {number:,} neither ',' nor ']' follows"
                        if character
                        else f"it ends after row {number:,}, and the array has no end"
                    )
            self._place += 1
        if self._next():
            raise self._malformed(
                "something follows the end; a file with one value a line is named .jsonl"
            )

    def _next(self) -> str:
        """Go to the next character that is no space, and return it; empty at the end."""
        skipped = 0
        while True:
            end = _SPACE.match(self._text, self._place).end()  # pyright: ignore[reportOptionalMemberAccess] - it matches nothing too
            skipped += end - self._place
            self._place = end
            if end < len(self._text):
                return self._text[end]
            if skipped > LONGEST:
                raise too_long(self._item, "the space between two values")
            if not self._more(1):
                return ""

    def _value(self, what: str) -> Any:
        if not self._next():
            raise self._malformed(f"it ends where {what} should be")
        wanted = _CHUNK
        while True:
            try:
                value, end = self._decode(self._text, self._place)
            except json.JSONDecodeError as error:
                # Perhaps there is only not enough of it yet.
                if len(self._text) - self._place > LONGEST:
                    raise too_long(
                        self._item, f"{what}, unless it is no JSON ({error.msg}),"
                    ) from error
                length = error.pos - self._place
                if not self._more(wanted):
                    self._place += length
                    raise self._malformed(
                        f"{what} is not whole, or no JSON: {error.msg}"
                    ) from error
                wanted *= 2
            except (ValueError, RecursionError) as error:  # a huge number, too many brackets
                reason = str(error).rstrip(".")
                raise self._malformed(f"{what} cannot be read: {reason}") from error
            else:
                length = end - self._place
                # A number might go on after the last character there is.
                if end == len(self._text) and self._more(1):
                    continue
                if length > LONGEST:
                    raise too_long(self._item, what)
                self._place += length
                return value

    def _more(self, wanted: int) -> bool:
        """Read on by some characters, and forget those that were used: what is next is first."""
        pieces = [self._text[self._place :]]
        self._before += self._place
        self._place = 0
        while wanted > 0 and (piece := next(self._pieces, "")):
            pieces.append(piece)
            wanted -= len(piece)
        self._text = "".join(pieces)
        return len(pieces) > 1

    def _malformed(self, fault: str) -> MalformedDataError:
        place = self._before + self._place
        return MalformedDataError(f"{self._item!r} is not JSON: at character {place:,}, {fault}.")
