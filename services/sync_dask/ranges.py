"""What goes to a worker and what comes back: a range of keys, and what became of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ...providers.registry import RegistryError
from ..sync import FailedObject, Place
from ..sync.events import Verification
from ..sync.transfer import Verify

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["Copied", "CopyJob", "RangeDone", "RangeTask", "cut", "settings_digest"]

RANGE_OBJECTS = 256
"""Objects in a range, at most."""
RANGE_BYTES = 64 * 1024 * 1024
"""A range ends with the object that brings it to so many bytes."""


@dataclass(frozen=True, slots=True)
class CopyJob:
    """
    One object to be copied.

    Args:
        key: Its key at the source.
        target: Its key at the target.
        size: In bytes, as the source's listing has it.
        modified: As the source's listing has it.
        etag: As the source's listing has it.
    """

    key: str
    target: str
    size: int
    modified: datetime
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Copied:
    """One object that arrived: its keys, its bytes, and by what it was verified."""

    key: str
    target: str
    size: int
    verified: Verification


@dataclass(frozen=True, slots=True)
class RangeTask:
    """
    A range of keys to be copied by one worker. All of it may be seen by who watches the cluster.

    Args:
        run: Which sync it belongs to.
        number: Which of its ranges it is.
        source: The place that is copied from; a provider in it is named.
        target: The place that is copied to; likewise.
        jobs: The objects, in order of their keys.
        concurrency: Objects copied at the same time.
        verify: How copies are compared with what was read.
        settings: For each provider, the digest of its settings where the sync was started.
    """

    run: str
    number: int
    source: Place
    target: Place
    jobs: tuple[CopyJob, ...]
    concurrency: int
    verify: Verify
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class RangeDone:
    """
    What became of a range.

    Args:
        number: Which it was.
        copied: The objects that arrived.
        failed: Those that did not, and why.
        error: Why the whole sync cannot go on, if so: it is no fault of one object.
        seconds: How long the worker took.
    """

    number: int
    copied: list[Copied] = field(default_factory=list[Copied])
    failed: list[FailedObject] = field(default_factory=list[FailedObject])
    error: RegistryError | None = None
    seconds: float = 0.0


async def cut(jobs: AsyncIterable[CopyJob]) -> AsyncGenerator[tuple[CopyJob, ...]]:
    """
    Cut a stream of objects into ranges of about :data:`RANGE_OBJECTS` or :data:`RANGE_BYTES`.

    The first ranges are shorter, so that every worker has something to do at once.
    """
    found: list[CopyJob] = []
    size, limit = 0, RANGE_OBJECTS // 8
    async for job in jobs:
        found.append(job)
        size += job.size
        if len(found) >= limit or size >= RANGE_BYTES:
            yield tuple(found)
            found, size, limit = [], 0, min(RANGE_OBJECTS, limit + RANGE_OBJECTS // 8)
    if found:
        yield tuple(found)


def settings_digest(container: ApplicationContainer, provider: str) -> str:
    """
    Return a short text that is the same wherever a provider has the same settings.

    Secrets are no part of it, neither themselves nor as a digest.
    """
    registry = container.storage.registry
    config = registry.config(provider)
    settings = None if config is None else config.model_dump(mode="json")  # secrets are masked
    text = json.dumps([registry.info(provider).type, settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
