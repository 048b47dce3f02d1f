"""Names of media files that every system's Anki can hold, and how a field shows such a file."""

from __future__ import annotations

import re
import unicodedata
from html import escape

from ...web.errors import InvalidRequestError

__all__ = ["image_in", "safe_name", "sound_in"]

LONGEST = 120
"""Bytes; Anki's own limit."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f\[\]<>:"/?*^\\|\ud800-\udfff]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def safe_name(name: str) -> str:
    """
    Return a file's name as Anki keeps it: no folders, nothing that Windows cannot hold.

    Raises:
        InvalidRequestError: Nothing is left of it.
    """
    plain = _UNSAFE.sub("_", unicodedata.normalize("NFC", name)).strip(" .")
    if not plain.strip("_"):
        raise InvalidRequestError(
            f"A media file cannot be named {name!r:.100}: give it a name with letters, hello.mp3 "
            "say."
        )
    if _DEVICES.match(plain):
        plain = f"_{plain}"
    stem, dot, ending = plain.rpartition(".")
    if not dot or len(ending) > 10:
        stem, ending = plain, ""
    room = LONGEST - len(dot and ending and f".{ending}".encode())
    short = stem.encode()[:room].decode(errors="ignore").rstrip(" .")
    return f"{short}.{ending}" if ending else short


def image_in(name: str) -> str:
    """Return how a field shows a picture."""
    return f'<img src="{escape(name)}">'


def sound_in(name: str) -> str:
    """Return how a field plays a sound."""
    return f"[sound:{escape(name, quote=False)}]"
