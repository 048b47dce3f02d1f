"""Fetching several items of several sources at a time, all of them or none."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TypeAlias

from ...providers.data_sources import DataSource, FetchedItem, Workspace
from ...providers.registry import RegistryError
from .errors import FetchError
from .manifest import Manifest, ManifestItem
from .plan import Query, Wanted, parse_wanted
from .staging import Staging

__all__ = ["Observer", "fetch"]

Observer: TypeAlias = Callable[[ManifestItem], None]


class _Registry(Protocol):
    def default_name(self) -> str: ...


class _Selector(Protocol):
    @property
    def registry(self) -> _Registry: ...

    def __call__(self, name: str | None = None, /) -> DataSource[Any]: ...


class _Container(Protocol):
    @property
    def data_sources(self) -> _Selector: ...


async def fetch(
    wanted: Sequence[Wanted | Query | str],
    workspace: os.PathLike[str] | str,
    *,
    container: _Container,
    jobs: int = 16,
    jobs_per_source: int = 4,
    observer: Observer | None = None,
) -> Manifest:
    """
    Fetch items and answers of data sources into a folder: all of them, or nothing.

    An earlier workspace in that place is replaced as a whole, and stays if anything fails. Each
    source has a folder of its own in it.

    Args:
        wanted: What: ``"NAME:item"`` with patterns, :class:`Wanted`, :class:`Query`.
        workspace: The folder: free, empty, or an earlier workspace.
        container: Has the data sources.
        jobs: Files at the same time.
        jobs_per_source: Files of one source at the same time.
        observer: Told of each file when it is there; what it raises ends the fetch.

    Returns:
        The manifest, which is also in the folder.

    Raises:
        NotFoundError: There is no such data source.
        FetchError: Something failed, or nothing is wanted; the message names each failure.
    """
    if not wanted or jobs < 1 or jobs_per_source < 1:
        raise FetchError(
            "Nothing to fetch: name at least one item or query, and allow at least one job.",
            code="INVALID_PLACE",
        )
    started = monotonic()
    run = _Run(container.data_sources, jobs, jobs_per_source, observer)
    tasks = [parse_wanted(one) if isinstance(one, str) else one for one in wanted]
    for task in tasks:
        run.source(task.source)  # an unknown one is told before any work
    # Not in threads: a cancelled task would not wait for them.
    staging = Staging(Path(workspace))
    staging.begin()
    try:
        plan = await run.expand(tasks)
        items = await run.fetch(plan, staging.folder)
        manifest = Manifest(
            fetched_at=datetime.now(UTC), seconds=round(monotonic() - started, 3), items=items
        )
        staging.finish(manifest)
    finally:
        staging.tidy()
    return manifest


@dataclass(frozen=True, slots=True)
class _File:
    """One file to be made."""

    source: str
    item: str
    get: Callable[[Workspace], Awaitable[FetchedItem]]
    query: str | None = None

    def __str__(self) -> str:
        return f"{self.source}:{self.item}"


class _Run:
    """One fetch."""

    def __init__(
        self, select: _Selector, jobs: int, per_source: int, observer: Observer | None
    ) -> None:
        self._select = select
        self._room = asyncio.Semaphore(jobs)
        self._room_of = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(per_source))
        self._observer = observer

    def source(self, name: str | None) -> tuple[str, DataSource[Any]]:
        """Return a source and its name."""
        return name or self._select.registry.default_name(), self._select(name)

    async def expand(self, tasks: Sequence[Wanted | Query]) -> list[_File]:
        """Return the files to be made, each once."""
        files: dict[tuple[str, str], _File] = {}
        for found in await self._all([(str(task), self._files(task)) for task in tasks]):
            for file in found:
                known = files.setdefault((file.source, file.item), file)
                if known is not file and file.query != known.query:
                    raise FetchError(
                        f"Two files would be called {file}: give each query a name of its own.",
                        code="INVALID_PLACE",
                    )
        return list(files.values())

    async def _files(self, task: Wanted | Query) -> list[_File]:
        name, source = self.source(task.source)
        if isinstance(task, Query):
            query = task

            async def answer(workspace: Workspace) -> FetchedItem:
                return await source.fetch_query(
                    query.statement,
                    workspace,
                    query.parameters,
                    name=query.name,
                    format=query.format,
                )

            return [_File(name, task.name, answer, task.statement)]
        items = [task.item]
        if task.is_pattern:
            async with self._room, self._room_of[name]:
                listing = source.list_items(task.prefix)
                items = [one.name async for one in listing if task.matches(one.name)]
            if not items:
                raise FetchError("no item matches the pattern", code="ITEM_NOT_FOUND")

        def getter(item: str) -> Callable[[Workspace], Awaitable[FetchedItem]]:
            return lambda workspace: source.fetch(item, workspace, format=task.format)

        return [_File(name, item, getter(item)) for item in items]

    async def fetch(self, files: Sequence[_File], folder: Path) -> tuple[ManifestItem, ...]:
        """Make all files below ``folder``."""
        rooms = Workspace(folder)

        async def one(file: _File) -> ManifestItem:
            async with self._room, self._room_of[file.source]:
                fetched = await file.get(Workspace(rooms.path_of(file.source)))
            item = ManifestItem(
                source=file.source,
                item=file.item,
                path=fetched.path.relative_to(folder).as_posix(),
                size=fetched.size,
                rows=fetched.rows,
                sha256=fetched.sha256,
                fetched_at=fetched.fetched_at,
                query=file.query,
            )
            if self._observer is not None:
                self._observer(item)
            return item

        return tuple(await self._all([(str(file), one(file)) for file in files]))

    async def _all(self, work: Sequence[tuple[str, Any]]) -> list[Any]:
        """Await all; the first that fails ends the others, and all that failed are told."""
        tasks = {asyncio.ensure_future(awaitable): name for name, awaitable in work}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        failures = [
            (name, error)
            for task, name in tasks.items()
            if not task.cancelled() and (error := task.exception()) is not None
        ]
        if failures:
            raise _failure(failures)
        return [task.result() for task in tasks]


def _failure(failures: Sequence[tuple[str, BaseException]]) -> BaseException:
    for _, error in failures:
        if not isinstance(error, RegistryError):
            return error  # a defect keeps its traceback
    rows = [
        {"item": name, "code": error.code, "reason": error.message}
        for name, error in failures
        if isinstance(error, RegistryError)
    ]
    lines = "".join(f"\n  {row['item']}: {row['reason']}" for row in rows)
    fault = FetchError(
        f"Nothing was fetched: {len(rows)} of what is wanted failed.{lines}",
        context={"failures": rows},
    )
    fault.__cause__ = failures[0][1]
    return fault
