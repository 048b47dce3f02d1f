"""The rules for what goes wrong, and for the whole life: errors, queries, secrets, the end."""

from __future__ import annotations

import asyncio
import json
import pickle
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ...providers.data_sources import (
    InvalidItemError,
    InvalidQueryError,
    ItemNotFoundError,
    ResultTooLargeError,
)
from ...providers.registry import InvalidStateError, RegistryError, UnsupportedCapabilityError
from .data_sources_case import (
    PROVIDER_NAME,
    DataSourceCase,
    Source,
    infos,
    leftovers,
    names,
    refusal,
    secrets_in,
    source_test,
)

__all__ = ["RobustnessRules"]

NO_NAMES: tuple[Any, ...] = ("", None, b"item", 5)
ESCAPES = (
    *("..", ".", "/", "../escaped", "../../escaped.csv", "/escaped", "a/../../escaped", "a//b"),
    *("./escaped", "..\\escaped", "~/escaped", "escaped\0.csv", "escaped\n.csv", "e" * 5000),
    "\ud800escaped",
)
AT_ONCE = 20


class RobustnessRules(DataSourceCase):
    """What a caller may rely on when something goes wrong."""

    def calls_on(
        self, source: Source, item: Any, folder: Path
    ) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return every operation that takes an item, as calls."""
        return {
            "preview": lambda: source.preview(item),
            "get_metadata": lambda: source.get_metadata(item),
            "fetch": lambda: source.fetch(item, folder),
        }

    def test_capabilities_are_declared(self) -> None:
        """Capabilities are lower-case names, and say where the items are."""
        assert all(name == name.lower() and name for name in self.capabilities)
        assert self.capabilities & {"local-storage", "remote-storage"}, (
            f"{self.provider_class.__name__} declares neither local-storage nor remote-storage"
        )

    # -- names and errors ----------------------------------------------------------------

    @source_test
    async def test_a_missing_item_is_told_everywhere(self, source: Source, tmp_path: Path) -> None:
        """A missing item is an ItemNotFoundError that names it and the provider: LookupError."""
        for item in ("no_such_item", "no_such_folder/no_such_item.csv"):
            for name, call in self.calls_on(source, item, tmp_path / "workspace").items():
                error = await refusal(ItemNotFoundError, name, call())
                assert item in str(error), f"{name}: the message does not name the item: {error}"
                assert isinstance(error, LookupError)
                assert error.provider_name == PROVIDER_NAME
                assert not error.is_backend_failure
                told = json.loads(json.dumps(error.to_dict()))
                assert told["code"] == "ITEM_NOT_FOUND"
                assert told["provider_name"] == PROVIDER_NAME
        assert leftovers(tmp_path) in ([], ["workspace"])

    @source_test
    async def test_what_is_no_name_is_refused(self, source: Source, tmp_path: Path) -> None:
        """An item without a name is an InvalidItemError, a ValueError, for every operation."""
        for item in NO_NAMES:
            for name, call in self.calls_on(source, item, tmp_path / "workspace").items():
                error = await refusal(InvalidItemError, f"{name} of {item!r}", call())
                assert isinstance(error, ValueError)

    @source_test
    async def test_no_name_leads_out(self, source: Source, tmp_path: Path) -> None:
        """A name with a way out is refused, or unknown; nothing appears outside the workspace."""
        folder = tmp_path / "a" / "workspace"
        for item in ESCAPES:
            for name, call in self.calls_on(source, item, folder).items():
                try:
                    await call()
                except (InvalidItemError, ItemNotFoundError):
                    continue
                except Exception as error:
                    raise AssertionError(
                        f"{name} of {item!r:.40} must raise InvalidItemError or ItemNotFoundError, "
                        f"and raised {type(error).__name__}: {error}"
                    ) from error
                pytest.fail(f"{name} of {item!r:.40} must be refused, and was not")
            assert set(leftovers(tmp_path)) <= {"a", "a/workspace"}, f"{item!r:.40} led out"

    @source_test
    async def test_nothing_is_changed(self, source: Source, tmp_path: Path) -> None:
        """Whatever is done, and fails, the source's items are the same afterwards."""
        before = await infos(source)
        for item in [*self.items, "no_such_item"]:
            for call in self.calls_on(source, item, tmp_path).values():
                with suppress(Exception):  # whichever it is
                    await call()
        for statement in (*self.queries, *self.refused_queries):
            with suppress(Exception):
                await source.query(statement)
        await source.check_health()
        assert await infos(source) == before
        for name in self.items:
            self.expect_fetched(await source.fetch(name, tmp_path), name)

    # -- queries -------------------------------------------------------------------------

    @source_test
    async def test_queries_are_answered(self, source: Source, tmp_path: Path) -> None:
        """With `query`: an answer has its rows, no more than `limit`, and can be fetched."""
        self.needs("query")
        if not any(len(rows) > 1 for rows in self.queries.values()):
            pytest.fail("`queries` must have one with at least two rows")
        for statement, rows in self.queries.items():
            table = await source.query(statement)
            assert [tuple(row) for row in table.rows] == [tuple(row) for row in rows], statement
            assert not table.truncated
            for limit in {1, max(1, len(rows) - 1), len(rows) + 1}:
                table = await source.query(statement, limit=limit)
                assert len(table.rows) == min(limit, len(rows)), f"{statement} with limit={limit}"
                assert table.truncated is (limit < len(rows)), f"{statement} with limit={limit}"
            for name in ("answer", "../../answer", "a/b", "/answer"):
                fetched = await source.fetch_query(statement, tmp_path / "w", name=name)
                assert fetched.path.parent == tmp_path / "w", f"fetched as {name!r}"
                assert fetched.path.suffix == ".csv"
                assert fetched.rows in (None, len(rows))
        assert set(leftovers(tmp_path)) <= {"w", *(f"w/{n}" for n in leftovers(tmp_path / "w"))}
        assert len(leftovers(tmp_path / "w")) == 4

    @source_test
    async def test_refused_queries_are_refused(self, source: Source, tmp_path: Path) -> None:
        """With `query`: what is malformed or would change something is an InvalidQueryError."""
        self.needs("query")
        if not self.refused_queries:
            pytest.fail("`refused_queries` must have some that are malformed or change something")
        for statement in self.refused_queries:
            await refusal(InvalidQueryError, statement, source.query(statement))
            call = source.fetch_query(statement, tmp_path / "w")
            error = await refusal(InvalidQueryError, statement, call)
            assert not isinstance(error, ResultTooLargeError)
            assert not error.is_backend_failure
        assert leftovers(tmp_path) in ([], ["w"])

    @source_test
    async def test_undeclared_queries_are_refused(self, source: Source, tmp_path: Path) -> None:
        """Without `query`: UnsupportedCapabilityError that names it, and no file."""
        if "query" in self.capabilities:
            pytest.skip(f"{self.provider_class.__name__} declares 'query'")
        calls = {
            "query": lambda: source.query("SELECT 1"),
            "fetch_query": lambda: source.fetch_query("SELECT 1", tmp_path / "w"),
        }
        for name, call in calls.items():
            error = await refusal(UnsupportedCapabilityError, name, call())
            assert "query" in str(error)
        assert leftovers(tmp_path) == []

    # -- life ----------------------------------------------------------------------------

    @source_test
    async def test_connect_and_disconnect(self, source: Source) -> None:
        """Connect may be called again and changes nothing; the connection can be tested."""
        await source.connect()
        await source.connect()
        assert await source.test_connection() is True
        await source.check_health()
        await source.disconnect()
        other = self.make_source(source.config)
        try:
            assert await other.test_connection() is True
            assert set(await names(other)) == set(self.expected_names)
        finally:
            await other.disconnect()

    @source_test
    async def test_a_disposed_source_refuses_work(self, source: Source, tmp_path: Path) -> None:
        """Dispose may be called twice; every operation afterwards is an InvalidStateError."""
        item = next(iter(self.items))
        await source.get_metadata(item)
        await source.dispose()
        await source.dispose()
        calls = self.calls_on(source, item, tmp_path / "w")
        calls |= {"list_items": lambda: names(source), "query": lambda: source.query("SELECT 1")}
        for name, call in calls.items():
            await refusal(InvalidStateError, name, call())
        assert leftovers(tmp_path) == []

    @source_test
    async def test_an_unused_source_can_be_disposed(self, source: Source) -> None:
        """Dispose is fine without an operation before, and when connected only."""
        await source.dispose()
        connected = self.make_source(source.config)
        await connected.initialize()
        await connected.dispose()

    @source_test
    async def test_many_callers_at_once(self, source: Source) -> None:
        """20 callers that list, look and ask at the same time, the first of all, get it right."""
        tables = list(self.tables())

        async def use(number: int) -> None:
            name, (columns, *rows) = tables[number % len(tables)]
            table = await source.preview(name, rows=len(rows) + 1)
            assert [column.name for column in table.columns] == columns
            assert len(table.rows) == len(rows)
            assert set(await names(source)) == set(self.expected_names)
            assert (await source.get_metadata(name)).item.name == name

        await asyncio.gather(*map(use, range(AT_ONCE)))

    @source_test
    async def test_cancelled_calls_leave_the_source_usable(
        self, source: Source, tmp_path: Path
    ) -> None:
        """Callers that are cancelled at any moment take nothing with them."""
        await source.initialize()
        item, _ = next(self.tables())
        for turn in range(10):
            calls = [*self.calls_on(source, item, tmp_path).values(), lambda: names(source)]
            tasks = [asyncio.ensure_future(call()) for call in calls]
            for _ in range(turn):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert set(await names(source)) == set(self.expected_names)
        self.expect_fetched(await source.fetch(item, tmp_path), item)

    # -- secrets -------------------------------------------------------------------------

    @source_test
    async def test_secrets_are_shown_nowhere(self, source: Source, tmp_path: Path) -> None:
        """No secret of the settings stands in a repr, str, JSON, error, pickle or metadata."""
        config = source.config
        secrets = set(secrets_in(config))
        if not secrets:
            pytest.skip("the settings hold no secret")
        plain = self.provider_class(config)
        shown = {
            "repr of the settings": repr(config),
            "str of the settings": str(config),
            "JSON of the settings": config.model_dump_json(),
            "the settings as a dict": str(config.model_dump()),
            "repr of the source": repr(plain) + repr(source),
            "str of the source": str(plain) + str(source),
        }
        for name, call in self.calls_on(source, "no_such_item", tmp_path).items():
            try:
                await call()
            except Exception as error:  # whichever it is
                shown |= {
                    f"the error of {name}": str(error) + repr(error),
                    f"the traceback of {name}": "".join(traceback.format_exception(error)),
                    f"the pickled error of {name}": pickle.dumps(error).decode("latin-1"),
                }
                if isinstance(error, RegistryError):
                    shown[f"the JSON of the error of {name}"] = json.dumps(error.to_dict())
        item = next(iter(self.items))
        for name, call in self.calls_on(source, item, tmp_path).items():
            with suppress(RegistryError):
                shown[f"the answer of {name}"] = repr(await call())
        shown["the list"] = repr(await infos(source))
        with suppress(TypeError):  # better still
            shown["the pickled source"] = pickle.dumps(source).decode("latin-1")
        leaks = [where for where, text in shown.items() if any(one in text for one in secrets)]
        assert leaks == [], "a secret is shown by: " + ", ".join(leaks)
