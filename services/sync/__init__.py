"""Sync: make one place hold what another holds, verified, and tell what became of it."""

from __future__ import annotations

from .copier import Copier, CopyDone, CopyJob
from .engine import sync
from .errors import SourceChangedError, SyncError, VerificationError
from .events import (
    BytesMoved,
    ListingFinished,
    ObjectDelayed,
    ObjectFailed,
    ObjectFinished,
    ObjectFound,
    ObjectIgnored,
    ObjectStarted,
    Observer,
    SyncEvent,
)
from .filters import Filters, Rule
from .local import local_storage
from .options import Compare, SyncOptions, Verify
from .places import LocalPlace, Place, StoragePlace, parse_place
from .result import FailedObject, SyncResult
from .verify import Difference, VerifyResult, verify
from .watch import follow

__all__ = [
    "BytesMoved",
    "Compare",
    "Copier",
    "CopyDone",
    "CopyJob",
    "Difference",
    "FailedObject",
    "Filters",
    "ListingFinished",
    "LocalPlace",
    "ObjectDelayed",
    "ObjectFailed",
    "ObjectFinished",
    "ObjectFound",
    "ObjectIgnored",
    "ObjectStarted",
    "Observer",
    "Place",
    "Rule",
    "SourceChangedError",
    "StoragePlace",
    "SyncError",
    "SyncEvent",
    "SyncOptions",
    "SyncResult",
    "VerificationError",
    "Verify",
    "VerifyResult",
    "follow",
    "local_storage",
    "parse_place",
    "sync",
    "verify",
]
