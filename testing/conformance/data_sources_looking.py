"""The rules of looking: what listing, previews and metadata tell."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Any, cast

from ...providers.data_sources import ItemNotFoundError, UnsupportedFormatError
from .data_sources_case import DataSourceCase, Source, infos, names, refusal, source_test

__all__ = ["LookingRules"]


class LookingRules(DataSourceCase):
    """What is told of items without fetching them."""

    # -- list_items ----------------------------------------------------------------------

    @source_test
    async def test_list_has_each_item_once_in_order(self, source: Source) -> None:
        """List yields all items, each once, ordered by the UTF-8 of their names."""
        assert await names(source) == self.expected_names

    @source_test
    async def test_list_compares_the_prefix_as_text(self, source: Source) -> None:
        """A prefix is any beginning of a name, whether or not it ends at a separator."""
        everything = self.expected_names
        for name in self.items:
            ends = {1, len(name) // 2, name.find("/") + 1, name.rfind(".") + 1, len(name)} - {0}
            for prefix in [*(name[:end] for end in ends), f"{name}/"]:
                expected = {other for other in everything if other.startswith(prefix)}
                assert set(await names(source, prefix)) == expected, f"prefix {prefix!r}"
        for prefix in ("no such", "/", "../", ".", "%", "_", "*", "n" * 300 + "/"):
            expected = {other for other in everything if other.startswith(prefix)}
            assert set(await names(source, prefix)) == expected, f"prefix {prefix!r}"

    @source_test
    async def test_list_tells_what_is_known(self, source: Source) -> None:
        """Each item has a kind; sizes are those in bytes, times are in UTC."""
        for info in await infos(source):
            assert info.kind in ("file", "blob", "table", "view"), info
            content = self.items.get(info.name)
            if isinstance(content, bytes):
                assert info.size == len(content), info
            assert info.modified is None or info.modified.utcoffset() == timedelta(0), info
            if info.name.endswith(".csv") and isinstance(content, bytes):
                assert info.format == "csv", info

    @source_test
    async def test_a_list_may_be_left(self, source: Source) -> None:
        """Leaving a list half way closes it; the source goes on."""
        listing = cast("AsyncGenerator[Any]", source.list_items())
        async with aclosing(listing) as items:
            await anext(items)
        assert set(await names(source)) == set(self.expected_names)

    # -- preview -------------------------------------------------------------------------

    @source_test
    async def test_preview_shows_the_first_rows(self, source: Source) -> None:
        """A preview has the item's columns and rows, and says that there are no more."""
        for name, (columns, *rows) in self.tables():
            table = await source.preview(name, rows=len(rows) + 1)
            assert [column.name for column in table.columns] == columns, name
            assert len(table.rows) == len(rows), name
            assert not table.truncated, f"{name!r} is told to have more than all of its rows"
            if isinstance(self.items[name], bytes):
                assert [list(row) for row in table.rows] == rows, name
            assert all(len(row) == len(columns) for row in table.rows), name

    @source_test
    async def test_preview_is_bounded(self, source: Source) -> None:
        """No more rows than asked for, and truncated tells whether there are more."""
        for name, (_, *rows) in self.tables(at_least=2):
            for count in {1, len(rows) - 1, len(rows)}:
                table = await source.preview(name, rows=count)
                assert len(table.rows) == count, f"{name!r} with rows={count}"
                assert table.truncated is (count < len(rows)), f"{name!r} with rows={count}"
            if len(rows) > 20:
                assert len((await source.preview(name)).rows) <= 20, "20 rows are the default"

    @source_test
    async def test_preview_of_no_rows_is_refused(self, source: Source) -> None:
        """Rows must be at least 1: ValueError."""
        name, _ = next(self.tables())
        for count in (0, -1):
            await refusal(
                ValueError, f"preview with rows={count}", source.preview(name, rows=count)
            )

    @source_test
    async def test_preview_of_what_is_no_table_is_refused(self, source: Source) -> None:
        """Of an item without a known format there is no preview: UnsupportedFormatError."""
        for info in await infos(source):
            if info.kind in ("file", "blob") and info.format is None:
                error = await refusal(UnsupportedFormatError, "preview", source.preview(info.name))
                assert repr(info.name) in str(error)

    # -- get_metadata --------------------------------------------------------------------

    @source_test
    async def test_metadata_agrees_with_list_and_preview(self, source: Source) -> None:
        """Metadata tells of an item what list and preview do; rows that are no estimate are so."""
        known = dict(self.tables())
        for info in await infos(source):
            found = await source.get_metadata(info.name)
            assert (found.item.name, found.item.kind) == (info.name, info.kind)
            assert (found.item.format, found.item.size) == (info.format, info.size), info.name
            if info.name in known:
                columns, *rows = known[info.name]
                assert [column.name for column in found.columns] == columns, info.name
                if found.rows is not None and not found.rows_estimated:
                    assert found.rows == len(rows), info.name

    # -- what is not there ---------------------------------------------------------------

    @source_test
    async def test_a_name_is_the_whole_name(self, source: Source) -> None:
        """A beginning of a name, a folder, or a name in another case is no item."""
        for name in self.items:
            for other in (
                name[:-1],
                f"{name}x",
                f"{name}/x",
                name.rpartition("/")[0],
                name.upper(),
            ):
                if other and other not in self.items:
                    await refusal(ItemNotFoundError, f"of {other!r}", source.get_metadata(other))
