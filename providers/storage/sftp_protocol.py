"""
The SFTP protocol as far as a storage speaks it: version 3, which every server has.

Numbers and layouts are those of draft-ietf-secsh-filexfer-02 and, for extensions, of the file
PROTOCOL in OpenSSH. Names are bytes.
"""

from __future__ import annotations

import stat
import struct
from datetime import datetime
from typing import NamedTuple

from .base import timestamp

__all__ = [
    "Attributes",
    "StatusError",
    "parse_attributes",
    "parse_extensions",
    "parse_names",
    "parse_status",
    "parse_text",
    "text",
    "times",
    "u32",
    "u64",
    "whole_seconds",
]

INIT, VERSION = 1, 2
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, FSETSTAT = 3, 4, 5, 6, 7, 8, 10
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME = 11, 12, 13, 14, 15, 16, 17, 18
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
EXTENDED, EXTENDED_REPLY = 200, 201

OK, END_OF_FILE, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = 0, 1, 2, 3, 4, 5
NO_CONNECTION, CONNECTION_LOST, UNSUPPORTED = 6, 7, 8
NO_SPACE, QUOTA_EXCEEDED = 14, 15
"""Later versions' codes, which some servers use in version 3 too."""

FOR_READING = 0x01
NEW_FOR_WRITING = 0x02 | 0x08 | 0x20
"""Write, create, and fail if it is there."""
NO_ATTRIBUTES = bytes(4)

POSIX_RENAME = b"posix-rename@openssh.com"
HARDLINK = b"hardlink@openssh.com"
STATVFS = b"statvfs@openssh.com"
LIMITS = b"limits@openssh.com"
COPY_DATA = b"copy-data"

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_TIMES = struct.Struct(">III")
_HAS_SIZE, _HAS_OWNER, _HAS_MODE, _HAS_TIMES, _HAS_MORE = 1, 2, 4, 8, 0x80000000

u32 = _U32.pack
u64 = _U64.pack


def text(value: bytes) -> bytes:
    """Return a string as it is sent: its length, and itself."""
    return _U32.pack(len(value)) + value


def whole_seconds(moment: datetime) -> int:
    """
    Return a time as the protocol has it: seconds since 1970, in 32 bits.

    Raises:
        ValueError: It has no time zone, or is not from 1970 to 2106.
    """
    seconds = int(timestamp(moment) // 1)
    if not 0 <= seconds < 1 << 32:
        raise ValueError(f"SFTP keeps times from 1970 to 2106, and {moment} is none of them.")
    return seconds


def times(seconds: int) -> bytes:
    """Return the attributes that set a file's times."""
    return _TIMES.pack(_HAS_TIMES, seconds, seconds)


class StatusError(Exception):
    """The server answered a request with an error status."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason or f"status {code}")
        self.code = code
        """One of the numbers above."""


class Attributes(NamedTuple):
    """What a server tells of a file; what it leaves out is None."""

    size: int | None
    mode: int | None
    modified: int | None

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.mode is not None and stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.mode is not None and stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.mode is not None and stat.S_ISLNK(self.mode)


def parse_attributes(data: bytes, at: int = 0) -> tuple[Attributes, int]:
    """Return the attributes that begin at a place in an answer, and where they end."""
    (flags,) = _U32.unpack_from(data, at)
    at += 4
    size = mode = modified = None
    if flags & _HAS_SIZE:
        (size,) = _U64.unpack_from(data, at)
        at += 8
    if flags & _HAS_OWNER:
        at += 8
    if flags & _HAS_MODE:
        (mode,) = _U32.unpack_from(data, at)
        at += 4
    if flags & _HAS_TIMES:
        (modified,) = _U32.unpack_from(data, at + 4)
        at += 8
    if flags & _HAS_MORE:
        (count,) = _U32.unpack_from(data, at)
        at += 4
        for _ in range(2 * count):
            at += 4 + _U32.unpack_from(data, at)[0]
    return Attributes(size, mode, modified), at


def parse_names(data: bytes) -> list[tuple[bytes, Attributes]]:
    """Return the names of an answer with their attributes."""
    found: list[tuple[bytes, Attributes]] = []
    (count,) = _U32.unpack_from(data)
    at = 4
    for _ in range(count):
        end = at + 4 + _U32.unpack_from(data, at)[0]
        name = data[at + 4 : end]
        at = end + 4 + _U32.unpack_from(data, end)[0]  # after a line for people, as of ls -l
        attributes, at = parse_attributes(data, at)
        found.append((name, attributes))
    return found


def parse_text(data: bytes, at: int = 0) -> tuple[bytes, int]:
    """Return the string that begins at a place in an answer, and where it ends."""
    end = at + 4 + _U32.unpack_from(data, at)[0]
    return data[at + 4 : end], end


def parse_status(data: bytes) -> StatusError | None:
    """Return what a status says; None where all is well."""
    (code,) = _U32.unpack_from(data)
    if code == OK:
        return None
    reason = parse_text(data, 4)[0] if len(data) >= 8 else b""
    return StatusError(code, reason.decode(errors="replace"))


def parse_extensions(data: bytes) -> frozenset[bytes]:
    """Return the names of the extensions a server announces."""
    found: set[bytes] = set()
    at = 4  # after the version
    while at < len(data):
        name, at = parse_text(data, at)
        _, at = parse_text(data, at)
        found.add(name)
    return frozenset(found)
