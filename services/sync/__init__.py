"""Sync: make one place hold what another holds, verified, and tell what became of it."""

from __future__ import annotations

from .engine import sync
from .errors import SourceChangedError, SyncError, VerificationError
from .events import (
    BytesMoved,
    ListingFinished,
    ObjectFailed,
    ObjectFinished,
    ObjectFound,
    ObjectIgnored,
    ObjectStarted,
    Observer,
    SyncEvent,
)
from .local import local_storage
from .places import LocalPlace, Place, StoragePlace, parse_place
from .result import FailedObject, SyncResult

__all__ = [
    "BytesMoved",
    "FailedObject",
    "ListingFinished",
    "LocalPlace",
    "ObjectFailed",
    "ObjectFinished",
    "ObjectFound",
    "ObjectIgnored",
    "ObjectStarted",
    "Observer",
    "Place",
    "SourceChangedError",
    "StoragePlace",
    "SyncError",
    "SyncEvent",
    "SyncResult",
    "VerificationError",
    "local_storage",
    "parse_place",
    "sync",
]
