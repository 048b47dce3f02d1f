"""The workers of a sync: those of a scheduler somewhere, or processes of this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from ...providers.registry.extras import import_extra
from ..sync import SyncError
from .worker import dask_setup

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Cluster"]

WORKER_THREADS = 2
"""Ranges that a local worker copies at the same time: while one begins or ends, another copies."""


class Cluster:
    """
    A connection to a Dask cluster; ``async with`` makes it and ends it.

    Args:
        scheduler: Its address, such as ``tls://scheduler:8786``; certificates are those of Dask's
            configuration. Without it, worker processes are started on this machine, which speak
            TLS on 127.0.0.1 and end with the block.
        workers: How many to start on this machine; one for each core when not given.
        timeout: Seconds to wait for the scheduler, and then for its first worker.
    """

    client: Any
    """The :class:`distributed.Client`, asynchronous."""
    threads: int
    """Ranges that can be copied at the same time."""
    is_local: bool
    """Whether all workers are on this machine."""

    def __init__(
        self, scheduler: str | None = None, *, workers: int | None = None, timeout: float = 30.0
    ) -> None:
        self._scheduler = scheduler
        self._workers = workers or os.cpu_count() or 1
        self._timeout = timeout
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """
        Connect.

        Raises:
            ImportFailedError: The extra ``dask`` is not installed.
            SyncError: There is no scheduler at the address, or it has no worker.
        """
        distributed: Any = import_extra("distributed", extra="dask")
        async with AsyncExitStack() as stack:
            place: Any = self._scheduler
            if place is None:
                place = distributed.LocalCluster(
                    n_workers=self._workers,
                    threads_per_worker=WORKER_THREADS,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its health page
                    preload=[dask_setup.__module__],
                    security=True,  # else anybody on this machine could run code in them
                    silence_logs=logging.ERROR,
                    asynchronous=True,
                )
                stack.push_async_callback(place.close)
                starting = asyncio.ensure_future(place)
                try:
                    await asyncio.shield(starting)
                finally:
                    await asyncio.wait({starting})  # what has half begun cannot be closed
            try:
                self.client = client = await stack.enter_async_context(
                    distributed.Client(
                        place, asynchronous=True, set_as_default=False, timeout=self._timeout
                    )
                )
                await client.wait_for_workers(1, timeout=self._timeout)
            except (OSError, TimeoutError) as error:
                raise SyncError(
                    "NO_CLUSTER",
                    f"There is no Dask cluster at {self._scheduler or 'this machine'}: {error}. "
                    "Start one with: dask scheduler, and: dask worker ADDRESS; or leave out the "
                    "address to have workers on this machine.",
                ) from error
            self.threads = sum((await client.nthreads()).values())
            hosts = await client.run(socket.gethostname)
            self.is_local = {*hosts.values()} <= {socket.gethostname()}
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()
