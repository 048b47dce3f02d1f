"""Requests and answers of SMB 2, as bytes: what a storage needs of [MS-SMB2] 2.2 and [MS-FSCC]."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = [
    "PAYLOAD",
    "SAME",
    "WINDOW",
    "Closed",
    "Entry",
    "Message",
    "Opened",
    "as_datetime",
    "as_filetime",
    "close",
    "copy_chunks",
    "count_of",
    "create",
    "data_of",
    "entries_of",
    "everything_of",
    "free_bytes_of",
    "query_directory",
    "query_everything",
    "query_free_space",
    "read",
    "rename",
    "request_resume_key",
    "resume_key_of",
    "set_deleted",
    "set_modified",
    "write",
]

HEADER = 64
"""Bytes before the body of every message: offsets are counted from there."""
PAYLOAD = 65536
"""Bytes that one credit pays for."""
WINDOW = 2
"""Requests about one object on their way at once: the line is busy while the server is."""
SAME = b"\xff" * 16
"""The file that a chain of requests has opened itself."""
DIRECTORY = 0x10
"""The attribute of folders."""

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_CREATE, _CLOSE, _READ, _WRITE, _IOCTL = 5, 6, 8, 9, 11
_QUERY_DIRECTORY, _QUERY_INFO, _SET_INFO = 14, 16, 17
_ENTRY = struct.Struct("<II4Q2QIIIIQ")
_ALL = struct.Struct("<4QII2QIBBHQ")


@dataclass(slots=True, eq=False)
class Message:
    """One request; ``charge`` is what it costs in credits."""

    COMMAND: int
    """Its number: smbprotocol looks for it under this name."""
    body: bytes
    charge: int = 1

    def pack(self) -> bytes:
        """Return the body."""
        return self.body

    def __len__(self) -> int:
        return len(self.body)


def charge_for(payload: int) -> int:
    """Return the credits for so many bytes ([MS-SMB2] 3.2.4.1.5)."""
    return max(0, payload - 1) // PAYLOAD + 1


# -- requests ----------------------------------------------------------------------------

READ_ATTRIBUTES = 0x80
READ_DATA = 0x01
WRITE_DATA = 0x02
WRITE_ATTRIBUTES = 0x100
DELETE = 0x10000
SHARE_ALL = 7
OPEN, CREATE, OPEN_IF = 1, 2, 3
FOLDER, NO_FOLDER, DELETE_ON_CLOSE = 0x01, 0x40, 0x1000


def create(
    path: str, access: int, options: int = 0, disposition: int = OPEN, share: int = SHARE_ALL
) -> Message:
    """
    Open or make a file or folder; shared with everybody, for a reader must not stop a writer.

    ``path`` is counted from the share, with backslashes.
    """
    name = path.encode("utf-16-le")
    body = struct.pack(
        "<HBBIQQIIIIIHHII",
        *(57, 0, 0, 2, 0, 0, access, 0, share, disposition, options, HEADER + 56, len(name)),
        *(0, 0),
    )
    return Message(_CREATE, body + (name or b"\0\0"))


def close(file: bytes = SAME) -> Message:
    """Close a file, and be told of it."""
    return Message(_CLOSE, struct.pack("<HHI16s", 24, 1, 0, file))


def read(size: int, offset: int, file: bytes = SAME) -> Message:
    """Read up to ``size`` bytes."""
    body = struct.pack("<HBBIQ16sIIIHHB", 49, 80, 0, size, offset, file, 0, 0, 0, 0, 0, 0)
    return Message(_READ, body, charge_for(size))


def write(data: bytes | bytearray | memoryview, offset: int, file: bytes = SAME) -> Message:
    """Write bytes; the answer tells how many of them."""
    head = struct.pack("<HHIQ16sIIHHI", 49, HEADER + 48, len(data), offset, file, 0, 0, 0, 0, 0)
    return Message(_WRITE, b"".join((head, data)), charge_for(len(data)))


def query_everything(file: bytes = SAME) -> Message:
    """Ask for all there is to know of a file (FileAllInformation), its real name among it."""
    return _query_info(1, 18, PAYLOAD, file)


def query_free_space(file: bytes = SAME) -> Message:
    """Ask how much fits on the disk of a file (FileFsFullSizeInformation)."""
    return _query_info(2, 7, 32, file)


def _query_info(kind: int, information: int, most: int, file: bytes) -> Message:
    body = struct.pack("<HBBIHHIII16s", 41, kind, information, most, 0, 0, 0, 0, 0, file)
    return Message(_QUERY_INFO, body)


def query_directory(most: int, file: bytes = SAME) -> Message:
    """Ask for the next entries of a folder (FileIdFullDirectoryInformation)."""
    body = struct.pack("<HBBI16sHHI", 33, 38, 0, 0, file, HEADER + 32, 2, most)
    return Message(_QUERY_DIRECTORY, body + "*".encode("utf-16-le"), charge_for(most))


def rename(path: str, replace: bool, file: bytes = SAME) -> Message:
    """Give a file another path in its share (FileRenameInformation, 24 bytes at least)."""
    name = path.encode("utf-16-le")
    value = struct.pack("<B7xQI", replace, 0, len(name)) + name
    return _set_info(10, value.ljust(24, b"\0"), file)


def set_deleted(deleted: bool, file: bytes = SAME) -> Message:
    """Let a file go when nobody has it open any more, or keep it (FileDispositionInformation)."""
    return _set_info(13, struct.pack("<B", deleted), file)


def set_modified(filetime: int, file: bytes = SAME) -> Message:
    """Set when a file was last written (FileBasicInformation; what is 0 stays as it is)."""
    return _set_info(4, struct.pack("<QQQQII", 0, 0, filetime, 0, 0, 0), file)


def _set_info(information: int, value: bytes, file: bytes) -> Message:
    head = struct.pack("<HBBIHHI16s", 33, 1, information, len(value), HEADER + 32, 0, 0, file)
    return Message(_SET_INFO, head + value)


def request_resume_key(file: bytes = SAME) -> Message:
    """Ask for the key by which the server copies from a file (FSCTL_SRV_REQUEST_RESUME_KEY)."""
    return _ioctl(0x00140078, b"", 32, file)


def copy_chunks(key: bytes, chunks: list[tuple[int, int]], file: bytes = SAME) -> Message:
    """
    Let the server copy pieces, given by offset and size, of the file of a key to the same places
    (FSCTL_SRV_COPYCHUNK).
    """
    pieces = b"".join(struct.pack("<QQII", at, at, size, 0) for at, size in chunks)
    return _ioctl(0x001440F2, struct.pack("<24sII", key, len(chunks), 0) + pieces, 12, file)


def _ioctl(code: int, value: bytes, most: int, file: bytes) -> Message:
    head = struct.pack(
        "<HHI16sIIIIIIII", 57, 0, code, file, HEADER + 56, len(value), 0, 0, 0, most, 1, 0
    )
    return Message(_IOCTL, head + value)


# -- answers -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """What the answer to :func:`create` tells."""

    file: bytes

    @classmethod
    def parse(cls, body: bytes) -> Opened:
        """Read it."""
        return cls(body[64:80])


@dataclass(frozen=True, slots=True)
class Closed:
    """What the answer to :func:`close` tells."""

    modified: int
    size: int

    @classmethod
    def parse(cls, body: bytes) -> Closed:
        """Read it."""
        modified, size = struct.unpack_from("<24xQ16xQ", body, 0)
        return cls(modified, size)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder; ``path`` is its name in its folder, or from the share's root."""

    path: str
    size: int
    modified: int
    attributes: int
    number: int

    @property
    def is_folder(self) -> bool:
        """Whether it is one."""
        return bool(self.attributes & DIRECTORY)


def output_of(body: bytes) -> bytes:
    """Return what a query was answered with."""
    offset, length = struct.unpack_from("<HI", body, 2)
    return body[offset - HEADER : offset - HEADER + length]


def data_of(body: bytes) -> bytes:
    """Return what a read was answered with."""
    offset, length = struct.unpack_from("<BxI", body, 2)
    return body[offset - HEADER : offset - HEADER + length]


def count_of(body: bytes) -> int:
    """Return how many bytes a write has written."""
    return struct.unpack_from("<I", body, 4)[0]


def resume_key_of(body: bytes) -> bytes:
    """Return the key of :func:`request_resume_key`."""
    (offset,) = struct.unpack_from("<I", body, 32)
    return body[offset - HEADER : offset - HEADER + 24]


def everything_of(body: bytes) -> Entry:
    """Read the answer to :func:`query_everything`."""
    found = output_of(body)
    _, _, modified, _, attributes, _, _, size, _, _, _, _, number = _ALL.unpack_from(found)
    (length,) = struct.unpack_from("<I", found, 96)
    path = found[100 : 100 + length].decode("utf-16-le", "surrogatepass").lstrip("\\")
    return Entry(path, size, modified, attributes, number)


def entries_of(body: bytes) -> Iterator[Entry]:
    """Yield what the answer to :func:`query_directory` tells."""
    found, at = output_of(body), 0
    while True:
        following, _, _, _, modified, _, size, _, attributes, length, _, _, number = (
            _ENTRY.unpack_from(found, at)
        )
        begin = at + _ENTRY.size
        name = found[begin : begin + length].decode("utf-16-le", "surrogatepass")
        if name not in (".", ".."):
            yield Entry(name, size, modified, attributes, number)
        if not following:
            return
        at += following


def free_bytes_of(body: bytes) -> int:
    """Read the answer to :func:`query_free_space`: what is free for this account."""
    _, free, _, sectors, size = struct.unpack_from("<QQQII", output_of(body))
    return free * sectors * size


def as_datetime(filetime: int) -> datetime:
    """Return a time of the protocol, which counts 100 ns since 1601; the last for what is none."""
    try:
        return _EPOCH + timedelta(microseconds=filetime // 10)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def as_filetime(modified: datetime) -> int:
    """
    Return a time as the protocol counts it.

    Raises:
        ValueError: It is before 1601.
    """
    if modified <= _EPOCH:
        raise ValueError(f"The time {modified} is before 1601, where SMB begins to count.")
    return (modified - _EPOCH) // timedelta(microseconds=1) * 10
