"""The whole of a sync on Dask: compare here, copy there, one result."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..sync import Observer, Place, SyncError, SyncOptions, SyncResult, parse_place, sync
from .cluster import Cluster
from .copier import DaskCopier

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["sync_on_dask"]

JOBS = 16
"""Objects that each range copies at the same time, if nothing else is said."""


async def sync_on_dask(
    source: str | os.PathLike[str] | Place,
    target: str | os.PathLike[str] | Place,
    *,
    container: ApplicationContainer | None = None,
    options: SyncOptions | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    observer: Observer | None = None,
) -> SyncResult:
    """
    Do what :func:`purveyor.services.sync.sync` does, with the workers of a Dask cluster.

    This process compares the two listings; the workers copy ranges of keys, with providers of
    their own, made from their own environment. Nothing secret leaves this process.

    Args:
        source: Where from.
        target: Where to.
        container: Gives the providers by name; two local places need none.
        options: How; ``jobs`` are the objects that each range copies at the same time.
        scheduler: The cluster's address; without it, worker processes of this machine, which are
            started if there is anything to copy.
        workers: How many to start on this machine.
        observer: Called with each event; objects that were copied are told of range by range.

    Returns:
        What became of it; ``success`` is False whenever anything at all went wrong.

    Raises:
        NotFoundError: No such provider.
        SyncError: A place is empty; an option needs all copying in one process.
    """
    options = options or SyncOptions(jobs=JOBS)
    for name, used in (
        ("compare by checksum", options.compare == "checksum"),
        ("limit bytes a second", options.bytes_per_second is not None),
        ("limit calls a second", options.requests_per_second is not None),
    ):
        if used:
            raise SyncError(
                "UNSUPPORTED_OPTION",
                f"A sync on Dask cannot {name}: no process sees all of it. Leave that out, or "
                "sync in one process.",
            )
    one, other = parse_place(source), parse_place(target)
    copier = DaskCopier(Cluster(scheduler, workers=workers), one, other, container, options)
    return await sync(
        one,
        other,
        container=container,
        options=options,
        observer=observer,
        copier=copier,
    )
