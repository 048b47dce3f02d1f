"""How a sync is done: what is compared, left out, deleted, and at which pace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .filters import Filters

__all__ = ["Compare", "SyncOptions", "Verify"]

Compare: TypeAlias = Literal["time", "size", "checksum"]
Verify: TypeAlias = Literal["auto", "full", "size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """
    How a sync is done.

    Args:
        jobs: Objects copied at the same time.
        compare: When what is at the target counts as the same. ``time``: same size, and the
            time that its source had then, or where that is unknown, one not older than its
            source's. ``size``: same size. ``checksum``: same size and content; where an end
            keeps no checksum the content is read.
        verify: How a copy is compared with what was read; see :class:`Transfer`.
        filters: What takes part; the rest is left alone at both ends.
        delete: Remove what is only at the target, after everything else, and only if nothing
            failed.
        max_delete: Remove nothing at all where more than so many would go.
        force: Delete also where the source holds nothing at all.
        bytes_per_second: At most so many bytes read from the source; None: no limit.
        requests_per_second: At most so many calls of storages; None: no limit.
        retries: How often an object that failed for a reason that may pass is tried again,
            after all others; and how often an end that is away is waited for.
        dry_run: Do everything but write.
    """

    jobs: int = 32
    compare: Compare = "time"
    verify: Verify = "auto"
    filters: Filters = field(default_factory=Filters)
    delete: bool = False
    max_delete: int | None = None
    force: bool = False
    bytes_per_second: float | None = None
    requests_per_second: float | None = None
    retries: int = 2
    dry_run: bool = False
