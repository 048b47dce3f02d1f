"""What a sync tells while it runs, to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "Action",
    "BytesMoved",
    "ListingFinished",
    "ObjectDelayed",
    "ObjectFailed",
    "ObjectFinished",
    "ObjectFound",
    "ObjectIgnored",
    "ObjectStarted",
    "Observer",
    "SyncEvent",
    "Verification",
]

Action: TypeAlias = Literal["copied", "skipped", "would-copy", "deleted", "would-delete"]
Verification: TypeAlias = Literal["content", "etag", "size"]
"""How a copy was compared with what was read: byte by byte, by the MD5 that is the target's
etag, or by its size alone."""


@dataclass(slots=True)
class ObjectFound:
    """The source has an object that will be looked at."""

    key: str
    size: int


@dataclass(slots=True)
class ObjectIgnored:
    """The source holds something that is no object: a symbolic link, a socket."""

    key: str
    reason: str


@dataclass(slots=True)
class ListingFinished:
    """All objects of the source are found."""


@dataclass(slots=True)
class ObjectStarted:
    """An object is about to be copied."""

    key: str
    size: int


@dataclass(slots=True)
class BytesMoved:
    """So many bytes of an object were read from the source; a second attempt counts again."""

    key: str
    count: int


@dataclass(slots=True)
class ObjectFinished:
    """An object is done: ``key`` in the source, ``target`` where it went (or was removed)."""

    key: str
    target: str
    size: int
    action: Action
    verified: Verification | None = None


@dataclass(slots=True)
class ObjectDelayed:
    """An object could not be copied for a reason that may pass; it is tried again later."""

    key: str
    code: str
    reason: str


@dataclass(slots=True)
class ObjectFailed:
    """An object could not be copied."""

    key: str
    code: str
    reason: str


SyncEvent: TypeAlias = (
    ObjectFound
    | ObjectIgnored
    | ListingFinished
    | ObjectStarted
    | BytesMoved
    | ObjectFinished
    | ObjectDelayed
    | ObjectFailed
)
Observer: TypeAlias = Callable[[SyncEvent], None]
