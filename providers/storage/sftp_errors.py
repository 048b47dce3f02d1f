"""What goes wrong between us and an SFTP server, in the family's words."""

from __future__ import annotations

from ..registry.provider import Call
from . import sftp_protocol as sftp
from .base import not_found
from .errors import (
    StorageConnectionError,
    StorageError,
    StoragePermissionError,
)
from .sftp_protocol import StatusError

__all__ = ["HostKeyChangedError", "HostKeyUnknownError", "explain"]


class HostKeyUnknownError(StoragePermissionError):
    """The server shows a key that nobody has vouched for; nothing was sent to it."""

    default_code = "HOST_KEY_UNKNOWN"


class HostKeyChangedError(StoragePermissionError):
    """The server shows another key than the one known: it, or the way to it, is not the same."""

    default_code = "HOST_KEY_CHANGED"


def explain(error: StatusError, call: Call, place: str) -> StorageError:
    """Return the family's error for a status that nobody closer could explain."""
    name = call.provider_name
    what = f"{call.operation} on storage {name!r} failed: {place} answered {str(error)!r}"
    context: dict[str, object] = {"sftp_status": error.code}
    match error.code:
        case sftp.NO_SUCH_FILE:
            return not_found(call.argument(0, "key") or call.argument(0, "source"), name)
        case sftp.PERMISSION_DENIED:
            return StoragePermissionError(
                f"{what}. Give the account on the server access to the folder, or set root to "
                "another one.",
                name,
                context,
            )
        case sftp.NO_CONNECTION | sftp.CONNECTION_LOST:
            return StorageConnectionError(f"{what}. Try again.", name, context)
        case sftp.FAILURE:
            return StorageError(
                f"{what}, which is how the protocol tells all it has no number for: a quota, a "
                "limit of file sizes, a broken disk. The server's log may say more.",
                name,
                context,
            )
        case _:
            return StorageError(f"{what} (status {error.code}).", name, context)
