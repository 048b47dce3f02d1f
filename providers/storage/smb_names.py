"""Which keys an SMB server can hold, and the paths they have there."""

from __future__ import annotations

import re

from .errors import InvalidKeyError
from .keys import check_key

__all__ = ["check_path", "in_other_case", "path_of"]

_FORBIDDEN = re.compile(r'[\\:*?"<>|]')
_DEVICE = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE
)


def check_path(key: str) -> str:
    r"""
    Return ``key`` if it may name an object on an SMB server.

    Beside the rules of :func:`~purveyor.providers.storage.keys.check_key` no part holds any of
    ``\ : * ? " < > |``, none ends with a dot or a space, and none is the name of a device (``CON``,
    ``nul.txt``): a server cannot hold these, takes them for something else, or shows them under
    another name (https://learn.microsoft.com/windows/win32/fileio/naming-a-file).

    Raises:
        InvalidKeyError: The message says which rule the key breaks.
    """
    check_key(key)
    fault = None
    if found := _FORBIDDEN.search(key):
        fault = f"it holds {found[0]!r}"
    elif key.endswith((".", " ")) or "./" in key or " /" in key:
        fault = "a part ends with a dot or a space"
    elif _DEVICE.search(key):
        for part in key.split("/"):
            if _DEVICE.fullmatch(part):
                fault = f"{part!r} is the name of a device"
    if fault is None:
        return key
    raise InvalidKeyError(
        f"Invalid key {key!r}: {fault}, which an SMB server cannot hold. Choose another key, or "
        "another type of storage.",
        context={"reason": fault},
    )


def path_of(root: str, key: str) -> str:
    """Return the path in the share of a key, or of the beginning of one, below ``root``."""
    path = f"{root}/{key}" if root and key else root or key
    return path.replace("/", "\\")


def in_other_case(path: str, key: str) -> bool:
    """Tell whether the real path of what a server has opened differs from the key in case."""
    wanted = path_of("", key)
    real = path[-len(wanted) :] if wanted else ""  # before it is the root, or more of the server's
    return real != wanted and real.casefold() == wanted.casefold()
