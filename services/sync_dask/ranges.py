"""What goes to a worker and what comes back: a range of keys, and what became of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...providers.registry import RegistryError
from ..sync import CopyDone, CopyJob, Place, SyncOptions

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["RangeDone", "RangeTask", "cut", "settings_digest"]

RANGE_OBJECTS = 256
"""Objects in a range, at most."""
RANGE_BYTES = 64 * 1024 * 1024
"""A range ends with the object that brings it to so many bytes."""


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
        options: How.
        settings: For each provider, the digest of its settings where the sync was started.
    """

    run: str
    number: int
    source: Place
    target: Place
    jobs: tuple[CopyJob, ...]
    options: SyncOptions
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class RangeDone:
    """
    What became of a range.

    Args:
        number: Which it was.
        objects: What became of each object, as far as it was tried.
        error: Why the whole sync cannot go on, if so: it is no fault of one object.
        seconds: How long the worker took.
    """

    number: int
    objects: list[CopyDone] = field(default_factory=list[CopyDone])
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
