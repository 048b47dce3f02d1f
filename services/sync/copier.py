"""The seam for copying elsewhere: what a sync hands over, and what it hears back."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ...providers.registry import RegistryError
from .transfer import Copied

__all__ = ["Copier", "CopyDone", "CopyJob"]


@dataclass(frozen=True, slots=True)
class CopyJob:
    """
    One object to be copied.

    Args:
        key: Its key at the source.
        target: Its key at the target.
        size: In bytes, as the source's listing has it.
        listed: When it was last changed, as the source's listing has it.
        modified: The same, as far as is known: what the copy gets where the target keeps times.
        etag: As the source's listing has it.
    """

    key: str
    target: str
    size: int
    listed: datetime
    modified: datetime
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class CopyDone:
    """What became of one object: the copy, or why there is none."""

    key: str
    copied: Copied | None = None
    error: RegistryError | None = None


class Copier(Protocol):
    """Copies the objects that a sync finds, somewhere else than in its own process."""

    async def copy(self, jobs: AsyncIterable[CopyJob], done: Callable[[CopyDone], None]) -> None:
        """
        Copy all objects, and tell ``done`` of each, in any order.

        Raises:
            RegistryError: The whole cannot go on.
        """
        ...
