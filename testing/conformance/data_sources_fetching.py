"""The rules of fetching: whole or not at all, into the workspace and nowhere else."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from ...providers.data_sources import (
    FetchedItem,
    TableFormat,
    UnsupportedFormatError,
    Workspace,
    WorkspaceError,
)
from .data_sources_case import DataSourceCase, Source, infos, leftovers, refusal, source_test

__all__ = ["FetchingRules"]

MIB = 1024 * 1024
PYTHON_LIMIT = 24 * MIB
CANCELLED = 10
"""How many fetches are cancelled, each a little later than the one before."""


class FetchingRules(DataSourceCase):
    """What is in a workspace afterwards."""

    @source_test
    async def test_fetch_brings_every_item(self, source: Source, tmp_path: Path) -> None:
        """All items fit into one workspace: one file each, whole, with its size and digest."""
        folder = tmp_path / "made" / "for it"
        fetched = {name: await source.fetch(name, folder) for name in self.items}
        paths = {str(one.path).lower() for one in fetched.values()}
        assert len(paths) == len(self.items), "two items have the same file"
        for name, one in fetched.items():
            self.expect_fetched(one, name)
            assert one.path.parent == folder, f"{name!r} is not in the workspace: {one.path}"
            assert abs(datetime.now(UTC) - one.fetched_at) < timedelta(minutes=10)
        assert leftovers(folder) == sorted(one.path.name for one in fetched.values())

    @source_test
    async def test_every_kind_of_target_is_taken(self, source: Source, tmp_path: Path) -> None:
        """A workspace, a path and its text are the same target, and the file has one place."""
        name = next(iter(self.items))
        paths = {
            (await source.fetch(name, target)).path
            for target in (Workspace(tmp_path), tmp_path, str(tmp_path))
        }
        assert len(paths) == 1
        assert leftovers(tmp_path) == [paths.pop().name]

    @source_test
    async def test_a_second_fetch_replaces(self, source: Source, tmp_path: Path) -> None:
        """An item that is fetched again replaces its file, whatever became of it."""
        for name in self.items:
            first = await source.fetch(name, tmp_path)
            first.path.write_bytes(b"changed since" * 10_000)
            again = await source.fetch(name, tmp_path)
            assert again.path == first.path
            self.expect_fetched(again, name)
            first.path.unlink()
        assert leftovers(tmp_path) == []

    @source_test
    async def test_a_format_the_item_has_not_is_refused(
        self, source: Source, tmp_path: Path
    ) -> None:
        """Files are not converted: another format is an UnsupportedFormatError, nothing fetched."""
        for info in await infos(source):
            for wanted in ("csv", "parquet", "xlsx"):
                if (wanted == "xlsx" or info.kind in ("file", "blob")) and wanted != info.format:
                    call = source.fetch(info.name, tmp_path, format=cast("TableFormat", wanted))
                    error = await refusal(UnsupportedFormatError, f"fetch as {wanted}", call)
                    assert info.name in str(error) or wanted in str(error)
        assert leftovers(tmp_path) == []

    @source_test
    async def test_tables_can_be_had_as_parquet(self, source: Source, tmp_path: Path) -> None:
        """A table that is no file is also written as Parquet, with the same columns and rows."""
        found = [info for info in await infos(source) if info.kind in ("table", "view")]
        if not found:
            pytest.skip("the source has files only")
        parquet = pytest.importorskip("pyarrow.parquet")
        for info in found:
            fetched = await source.fetch(info.name, tmp_path, format="parquet")
            assert fetched.path.suffix == ".parquet"
            told = parquet.ParquetFile(fetched.path)
            with told:
                columns, *rows = cast("list[list[str]]", self.items.get(info.name) or [[]])
                if info.name in self.items:
                    assert told.schema_arrow.names == list(columns)
                    assert told.metadata.num_rows == len(rows)

    # -- what goes wrong -----------------------------------------------------------------

    @source_test
    async def test_a_workspace_that_cannot_be_written_is_told(
        self, source: Source, tmp_path: Path
    ) -> None:
        """Where no folder can be made: WorkspaceError, which names it; the source is well."""
        blocked = tmp_path / "a file"
        blocked.write_bytes(b"in the way")
        for name in self.items:
            for place in (blocked, blocked / "below"):
                error = await refusal(WorkspaceError, "fetch", source.fetch(name, place))
                assert str(blocked) in str(error)
            break
        assert blocked.read_bytes() == b"in the way"
        await source.check_health()

    @source_test
    async def test_a_cancelled_fetch_leaves_nothing(self, source: Source, tmp_path: Path) -> None:
        """A fetch that is cancelled at any moment leaves the whole file or nothing."""
        name = self.large or max(self.items, key=lambda name: len(self.items[name]))
        await source.initialize()
        for turn in range(CANCELLED):
            folder = tmp_path / str(turn)
            fetch = asyncio.create_task(source.fetch(name, folder))
            await _begun(fetch, folder)
            for _ in range(turn * turn):
                await asyncio.sleep(0)
            fetch.cancel()
            with suppress(asyncio.CancelledError):
                await fetch
            left = leftovers(folder)
            assert len(left) <= 1, f"left behind: {left}"
            if left:
                whole = await source.fetch(name, tmp_path / "whole")
                assert (folder / left[0]).name == whole.path.name, f"left behind: {left}"
                assert (folder / left[0]).read_bytes() == whole.path.read_bytes()
            await asyncio.sleep(0.005)  # nothing comes afterwards either
            assert leftovers(folder) == left

    @source_test
    async def test_a_cancelled_fetch_keeps_the_file_before(
        self, source: Source, tmp_path: Path
    ) -> None:
        """What was fetched before is whole until the new file is."""
        name = self.large or max(self.items, key=lambda name: len(self.items[name]))
        before = (await source.fetch(name, tmp_path)).path
        content = before.read_bytes()
        for _ in range(3):
            fetch = asyncio.create_task(source.fetch(name, tmp_path))
            await _begun(fetch, tmp_path)
            fetch.cancel()
            with suppress(asyncio.CancelledError):
                await fetch
            assert leftovers(tmp_path) == [before.name]
            assert before.read_bytes() == content

    @source_test
    async def test_fetches_at_the_same_time(self, source: Source, tmp_path: Path) -> None:
        """20 fetches at once, also of one item into one place: every file is whole."""
        wanted = (list(self.items) * 20)[:20]
        calls = [source.fetch(name, tmp_path / str(turn % 2)) for turn, name in enumerate(wanted)]
        calls += [source.fetch(wanted[0], tmp_path / "0") for _ in range(5)]
        fetched: list[FetchedItem] = await asyncio.gather(*calls)
        for one in fetched:
            self.expect_fetched(one, one.item)
        files = {str(one.path.relative_to(tmp_path)) for one in fetched}
        assert set(leftovers(tmp_path)) == files | {"0", "1"}

    @source_test
    async def test_fetch_needs_bounded_memory(self, source: Source, tmp_path: Path) -> None:
        """An item of 64 MiB or more is fetched in less than 24 MiB of memory."""
        if not self.large:
            pytest.skip("no `large` item is named")
        await source.fetch(next(iter(self.items)), tmp_path)  # connected, everything imported
        tracemalloc.start()
        try:
            fetched = await source.fetch(self.large, tmp_path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert fetched.size >= 64 * MIB, "`large` is too small for this to mean anything"
        assert peak < PYTHON_LIMIT, f"{peak / MIB:.0f} MiB in Python"


async def _begun(fetch: asyncio.Task[FetchedItem], folder: Path) -> None:
    """Wait until a fetch is done, or something in its folder is another than it was."""
    before = _state(folder)
    while not fetch.done() and _state(folder) == before:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0)


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    state: dict[str, tuple[int, int]] = {}
    for name in leftovers(folder):
        with suppress(FileNotFoundError):  # it was there a moment ago
            status = (folder / name).stat()
            state[name] = status.st_size, status.st_mtime_ns
    return state
