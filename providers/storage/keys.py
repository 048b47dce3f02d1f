"""Which keys there are: one rule for every storage type, so that any object fits any backend."""

from __future__ import annotations

from .errors import InvalidKeyError

__all__ = [
    "MANIFEST_NAME",
    "MAX_KEY_BYTES",
    "MAX_SEGMENT_BYTES",
    "RESERVED_PREFIX",
    "check_key",
    "check_prefix",
    "is_reserved",
]

MAX_KEY_BYTES = 1024
"""Longest key, in bytes of UTF-8: Amazon S3's limit, the smallest of the object stores."""
MAX_SEGMENT_BYTES = 255
"""Longest part between two slashes, in bytes of UTF-8: the limit of the usual file systems."""
RESERVED_PREFIX = ".purveyor-"
"""No part of a key may begin so: Purveyor's own files beside the objects do."""
MANIFEST_NAME = ".purveyor-manifest"
"""The one reserved name that a key may end with: what is known of the objects beside it. Such an
object is read and written like any other, and never listed."""


def check_key(key: str) -> str:
    """
    Return ``key`` if it may name an object.

    A key is 1 to 1,024 bytes of UTF-8, made of parts joined by ``/``. A part is 1 to 255
    bytes, is neither ``.`` nor ``..``, does not begin with ``.purveyor-`` and holds no control
    character (U+0000 to U+001F, U+007F) and none of U+FFFE and U+FFFF, which XML cannot carry
    and so S3 cannot list. Everything else is allowed and kept as it is:
    spaces, ``%``, ``#``, ``?``, backslashes, any script, both Unicode normal forms.

    Raises:
        InvalidKeyError: The message says which rule the key breaks.
    """
    fault = _fault(key)
    if fault is None:
        return key
    raise InvalidKeyError(f"Invalid key {_shown(key)}: {fault}.", context={"reason": fault})


def check_prefix(prefix: str) -> str:
    """
    Return ``prefix`` if objects can be listed below it.

    A prefix is any beginning of a key, compared as text: ``logs/2026-1`` finds
    ``logs/2026-10.txt``. The empty prefix finds everything.

    Raises:
        InvalidKeyError: No key can begin with ``prefix``.
    """
    if prefix == "":
        return prefix
    # What follows the last slash may still grow; what stands before it must be whole parts.
    folders, slash, rest = prefix.rpartition("/")
    fault = _fault(folders) if slash else None
    if fault is None and rest and rest not in (".", ".."):
        fault = _fault(rest)
    if fault is None:
        return prefix
    raise InvalidKeyError(f"Invalid prefix {_shown(prefix)}: {fault}.", context={"reason": fault})


def is_reserved(key: str) -> bool:
    """Tell whether an object is never listed: a part of its key is a reserved name."""
    return RESERVED_PREFIX in key and any(
        part.startswith(RESERVED_PREFIX) for part in key.split("/")
    )


def _fault(key: str) -> str | None:
    if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return f"a key is a str, not {type(key).__name__}"
    if key == "":
        return "it is empty"
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "it cannot be encoded as UTF-8"
    if len(encoded) > MAX_KEY_BYTES:
        return f"it has {len(encoded)} bytes of UTF-8, at most {MAX_KEY_BYTES} are allowed"
    if not key.isprintable() and any(char < " " or char in "\x7f\ufffe\uffff" for char in key):
        return "it holds a control character, or one that is none (U+FFFE, U+FFFF)"
    parts = key.split("/")
    if parts[-1] == MANIFEST_NAME:
        parts.pop()
    for part in parts:
        if part == "":
            return "it begins or ends with '/' or holds '//'"
        if part in (".", ".."):
            return f"it has a part {part!r}"
        if part.startswith(RESERVED_PREFIX):
            return f"parts that begin with {RESERVED_PREFIX!r} are reserved"
        if len(part) * 4 > MAX_SEGMENT_BYTES and len(part.encode()) > MAX_SEGMENT_BYTES:
            return f"a part has {len(part.encode())} bytes, at most {MAX_SEGMENT_BYTES} are allowed"
    return None


def _shown(key: object) -> str:
    shown = repr(key)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
