"""Places: what ``docs``, ``backups:docs`` and ``:docs`` name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from .errors import SyncError

__all__ = ["LocalPlace", "Place", "StoragePlace", "parse_place"]

_NAMED = re.compile(r"([\w.-]*):(.*)", re.DOTALL)
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A file or folder of this machine; ``is_folder`` is what a trailing slash says."""

    path: Path
    is_folder: bool = False

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class StoragePlace:
    """A key, or the beginning of keys, in a storage provider; None is the default provider."""

    provider: str | None
    key: str

    def __str__(self) -> str:
        return f"{self.provider or ''}:{self.key}"


Place: TypeAlias = LocalPlace | StoragePlace


def parse_place(text: str | os.PathLike[str] | Place, *, windows: bool = os.name == "nt") -> Place:
    """
    Return the place that ``text`` names; a place names itself.

    ``NAME:key`` is in the provider ``NAME``, ``:key`` in the default one, and anything else is
    a path of this machine: so is what has a slash before its first colon (``./a:b``), every
    :class:`os.PathLike`, and on Windows what begins with a drive letter.

    Raises:
        SyncError: ``text`` is empty.
    """
    if isinstance(text, LocalPlace | StoragePlace):
        return text
    if not isinstance(text, str):
        return LocalPlace(Path(text))
    if text == "":
        raise SyncError("INVALID_PLACE", "A place cannot be empty: name a path, :key or NAME:key.")
    named = _NAMED.fullmatch(text)
    if named is None or (windows and _DRIVE.match(text)):
        separators = (os.sep, os.altsep or os.sep)
        return LocalPlace(Path(text), is_folder=text.endswith(separators))
    return StoragePlace(named[1] or None, named[2])
