"""What an SMB server answers when something goes wrong, in the family's words."""

from __future__ import annotations

from ..registry.provider import Call
from .base import not_found, reason_of
from .errors import (
    InvalidKeyError,
    StorageConnectionError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageRootNotFoundError,
    StorageTimeoutError,
)

__all__ = [
    "BUSY",
    "LOST",
    "MISSING",
    "TAKEN",
    "StatusError",
    "explain",
]

ACCESS_DENIED = 0xC0000022
SHARING_VIOLATION = 0xC0000043
NO_MORE_FILES = 0x80000006
END_OF_FILE = 0xC0000011
INVALID_PARAMETER = 0xC000000D
NAME_COLLISION = 0xC0000035
FILE_IS_A_DIRECTORY = 0xC00000BA
NOT_A_DIRECTORY = 0xC0000103
DIRECTORY_NOT_EMPTY = 0xC0000101
DELETE_PENDING = 0xC0000056

MISSING = frozenset(
    (
        0xC0000034,  # OBJECT_NAME_NOT_FOUND
        0xC000003A,  # OBJECT_PATH_NOT_FOUND
        0xC000000F,  # NO_SUCH_FILE
        FILE_IS_A_DIRECTORY,
        NOT_A_DIRECTORY,
        DELETE_PENDING,
    )
)
"""There is no such object."""
TAKEN = frozenset((NAME_COLLISION, ACCESS_DENIED, FILE_IS_A_DIRECTORY))
"""A name cannot be taken, perhaps because something has it."""
BUSY = frozenset((ACCESS_DENIED, SHARING_VIOLATION))
"""An object cannot be replaced, perhaps because somebody has it open."""

LOST = frozenset((0xC0000203, 0xC000035C, 0xC00000C9, 0xC000020C, 0xC000020D, 0xC000013B))
"""The server has ended the login or the share, though perhaps not the connection: make it anew."""

_REFUSED_LOGIN = {
    0xC000006D: "The user name or the password is wrong: correct username, domain and password.",
    0xC000006A: "The password is wrong: correct password.",
    0xC0000064: "The server does not know the user: correct username and domain.",
    0xC000006E: "The account may not log in like this: have its restrictions changed.",
    0xC000006F: "The account may not log in at this time.",
    0xC0000070: "The account may not log in from this machine.",
    0xC0000071: "The password has expired: set a new one.",
    0xC0000072: "The account is disabled: have it enabled, or configure another.",
    0xC000015B: "The account may not log in over the network: have it allowed to.",
    0xC0000193: "The account has expired: configure another.",
    0xC0000224: "The password must be changed before the first login.",
    0xC0000234: "The account is locked, after too many wrong passwords: wait, or have it unlocked.",
    0xC000018B: "The server has no account in its domain.",
    0xC0000133: "This machine's clock and the server's differ too much: set it.",
}
"""What to do about refused logins, by status ([MS-ERREF] 2.3.1)."""
_NO_SHARE = frozenset((0xC00000CC, 0xC00000CB))
_FULL = frozenset((0xC000007F, 0xC0000044, 0xC0000802))
_INVALID_NAME = frozenset((0xC0000033, 0xC0000039, 0xC000003B, 0xC0000106))
_SLOW = frozenset((0xC00000B5, 0xC0000102))
_NAMES = {
    ACCESS_DENIED: "access denied",
    SHARING_VIOLATION: "another program has it open and does not share it",
    0xC00000A2: "the share is write-protected",
    0xC00000BB: "the server does not support it",
    0xC0000010: "the server does not support it",
    0xC0000205: "the server has not enough resources",
    0xC000009A: "the server has not enough resources",
    0xC000012D: "the server has not enough memory",
    0xC0000185: "the server's disk failed",
    0x8000002D: "a link on the server leads elsewhere",
}


class StatusError(Exception):
    """A server refused a request: with a status of [MS-ERREF] 2.3.1."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered {_NAMES.get(status, f'status 0x{status:08X}')}")
        self.status = status


def explain(error: Exception, call: Call, *, place: str, host: str) -> Exception | None:
    """
    Return the family's error for one of a server, of the connection or of the library.

    Args:
        error: What happened.
        call: In which call.
        place: The share.
        host: Server and port.
    """
    name = call.provider_name
    status: int | None = getattr(error, "status", None)
    context: dict[str, object] = {"place": place}
    if status is not None:
        context["status"] = f"0x{status:08X}"

    def made(kind: type[StorageError], why: str, remedy: str) -> StorageError:
        what = f"{call.operation} on storage {name!r} failed: {why}"
        return kind(f"{what.rstrip('.')}. {remedy}".rstrip(), name, context)

    if status is not None:
        told = f"{place}: {StatusError(status)}"
        if status in MISSING:
            return not_found(call.argument(0, "key") or call.argument(0, "source"), name)
        if status in _REFUSED_LOGIN:
            return made(StoragePermissionError, f"{host} refused the login", _REFUSED_LOGIN[status])
        if status in _NO_SHARE:
            return made(
                StorageRootNotFoundError,
                f"there is no share {place}",
                "Create it, or correct the setting share.",
            )
        if status in _FULL:
            return made(
                StorageFullError,
                f"no space is left on {place}, or the quota is used up",
                "Free space or choose another storage; what was stored before is untouched.",
            )
        if status in (ACCESS_DENIED, 0xC0000061, 0xC00000A2):
            return made(
                StoragePermissionError,
                told,
                "Give the account the right to do this in the share's permissions and in those of "
                "its files; where the server demands encryption, set encrypt.",
            )
        if status == SHARING_VIOLATION:
            return made(StorageError, told, "Close it there, or try again later.")
        if status in _INVALID_NAME:
            return made(InvalidKeyError, f"{place} cannot hold such a name", "Choose another key.")
        if status in LOST:
            return made(
                StorageConnectionError,
                f"{host} ended the connection",
                "Try again; it is made anew.",
            )
        if status in _SLOW:
            return made(StorageTimeoutError, f"{host} gave up waiting for its disk", "Try again.")
        return made(StorageError, told, "")
    kind = type(error).__name__
    if kind == "SMBAuthenticationError":
        return made(
            StoragePermissionError,
            f"no login at {host} is possible: {reason_of(error)}",
            "Correct username and password; kerberos needs a ticket (kinit) and "
            "pip install 'smbprotocol[kerberos]'.",
        )
    if isinstance(error, TimeoutError):
        return made(
            StorageTimeoutError,
            f"{host} does not answer: {reason_of(error)}",
            "Check the server, or raise connect_timeout or request_timeout.",
        )
    if isinstance(error, OSError) or kind == "SMBConnectionClosed":
        return made(
            StorageConnectionError,
            f"no connection to {host}, or it broke: {reason_of(error)}",
            "Check that the server is running and that host and port are right.",
        )
    if any(base.__name__ == "SMBException" for base in type(error).__mro__):
        return made(StorageConnectionError, f"{host}: {reason_of(error)}", "")
    return None
