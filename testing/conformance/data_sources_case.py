"""What the tests of the data source kit share: how one runs, and what a source is made of."""

from __future__ import annotations

import asyncio
import csv
import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeAlias, TypeVar

import pytest
from pydantic import BaseModel

from ...providers.data_sources import DataSource, FetchedItem, ItemInfo
from ...providers.registry import guarded
from ...providers.registry.types import default_types
from .storage_case import PROVIDER_NAME, refusal, secrets_in

__all__ = [
    "FILES",
    "PROVIDER_NAME",
    "Content",
    "DataSourceCase",
    "Source",
    "infos",
    "leftovers",
    "names",
    "refusal",
    "secrets_in",
    "source_test",
]

Source = DataSource[Any]
Content: TypeAlias = "bytes | Sequence[Sequence[str]]"
"""A file's bytes; or a table as CSV has it, the names of the columns first, in any order."""
P = ParamSpec("P")
CaseT = TypeVar("CaseT", bound="DataSourceCase")

FILES: Mapping[str, bytes] = {
    "people.csv": b'id,name\n1,Ada\n2,"Lovelace, Ada"\n3,\xc3\xa9\xe2\x82\xac\n',
    "people-old.csv": b"id,name\n1,Ada\n",
    "people/2026.csv": b"id,name\n" + b"".join(b"%d,person %d\n" % (n, n) for n in range(100)),
    "People.csv": b"id,name\n7,upper case\n",
    "people_2026.csv": b"id\n8\n",
    "deep/er/and/deeper/table.tsv": b"a\tb\r\n1\t2\r\n",
    "deep.csv": b"a,b\n",
    "array.json": b'[{"a": 1, "b": [1, 2]}, {"a": 2, "b": null}]',
    "lines.jsonl": b'{"a": 1}\n{"a": 2}\n{"a": 3}\n',
    "note.txt": "first\nsecond ü\nthird".encode(),
    "empty.txt": b"",
    "picture.bin": bytes(range(256)) * 8192,
    "con.txt": b"a name some systems keep for themselves",
    "with space & \u00fcml\u00e4ut.csv": b"x\n1\n",
    "%2e%2e%2fescape.csv": b"x\n2\n",
    "a\\b.csv": b"x\n3\n",
    "no ending": b"?",
    f"{'long' * 50}.csv": b"x\n4\n",
}
"""What a source of files or blobs may be filled with; an author's own serves as well."""


class DataSourceCase:
    """What an author tells of the type under test and of what it finds in the source."""

    provider_class: ClassVar[type[DataSource[Any]]]
    """The class under test."""
    capabilities: ClassVar[frozenset[str]]
    """What the type declares. When not set: what the catalogue says of the class, or of the
    nearest of its bases that stands there."""
    items: ClassVar[Mapping[str, Content]] = FILES
    """All items of the source, by name: a file's bytes, or a table's rows. Needed are at least
    two, and one that can be previewed and has two rows."""
    large: ClassVar[str] = ""
    """The name of another item of at least 64 MiB, or of none: then memory is not measured."""
    queries: ClassVar[Mapping[str, Sequence[Sequence[Any]]]] = {}
    """With the capability ``query``: statements and the rows that answer them. One must have two
    rows or more."""
    refused_queries: ClassVar[Sequence[str]] = ()
    """With the capability ``query``: statements that are malformed, or that change something."""
    timeout: ClassVar[float] = 60.0
    """Seconds one test may take."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "provider_class" in vars(cls) and "capabilities" not in vars(cls):
            cls.capabilities = _declared_by(cls.provider_class)

    @pytest.fixture
    def source_config(self) -> BaseModel:
        """Return the settings of a source that has these items; nothing changes it."""
        raise NotImplementedError(
            f"{type(self).__name__} must define a fixture source_config that returns the settings "
            f"of a {self.provider_class.__name__} with the items named in `items`."
        )

    def make_source(self, config: Any) -> Source:
        """Return a guarded instance, as a registry would give it, named ``conformance``."""
        return guarded(self.provider_class(config), name=PROVIDER_NAME)

    def needs(self, capability: str) -> None:
        """Skip a test of a capability the type does not declare."""
        if capability not in self.capabilities:
            pytest.skip(f"{self.provider_class.__name__} does not declare {capability!r}")

    @property
    def expected_names(self) -> list[str]:
        """The names of all items, in order."""
        return sorted([*self.items, *filter(None, [self.large])], key=str.encode)

    def tables(self, at_least: int = 0) -> Iterator[tuple[str, list[list[str]]]]:
        """Yield the items whose rows are known: their names with the rows, the columns first."""
        found = False
        for name, content in self.items.items():
            if isinstance(content, bytes):
                if not name.endswith(".csv"):
                    continue
                rows = list(csv.reader(content.decode("utf-8-sig").splitlines(keepends=True)))
            else:
                rows = [list(row) for row in content]
            if len(rows) > at_least:
                found = True
                yield name, rows
        if not found:
            pytest.fail(f"`items` must have a CSV file or a table of at least {at_least} rows")

    def expect_fetched(self, fetched: FetchedItem, name: str) -> None:
        """See that what was fetched is the item, whole, and that what is told of it is true."""
        data = fetched.path.read_bytes()
        assert fetched.item == name
        assert fetched.size == len(data), f"{name!r}: told {fetched.size} bytes"
        assert fetched.sha256 == hashlib.sha256(data).hexdigest(), f"{name!r}: another digest"
        content = self.items.get(name)
        if isinstance(content, bytes):
            assert data == content, f"{name!r} came with another content"
        elif content is not None:
            columns, *rows = csv.reader(data.decode().splitlines(keepends=True))
            wanted_columns, *wanted = [list(row) for row in content]
            assert columns == wanted_columns, f"{name!r} has other columns"
            assert sorted(rows) == sorted(wanted), f"{name!r} has other rows"
            assert fetched.path.suffix == ".csv"
            assert fetched.rows in (None, len(wanted))


def _declared_by(provider_class: type) -> frozenset[str]:
    default_types.all("data_sources")  # reads the entry points
    for base in provider_class.__mro__:
        row = default_types.of_class("data_sources", base)
        if row is not None:
            return row.capabilities
    raise TypeError(
        f"{provider_class.__name__} is not in the catalogue of types: decorate it with "
        "@register_provider, or set capabilities in the test class."
    )


def source_test(
    function: Callable[Concatenate[CaseT, Source, P], Awaitable[None]],
) -> Callable[Concatenate[CaseT, BaseModel, P], None]:
    """
    Make a coroutine method that takes a source into a plain test that takes ``source_config``.

    It runs in an event loop of its own, whatever plugin there is, and disposes the source.
    """

    @functools.wraps(function)
    def test(self: CaseT, source_config: BaseModel, *args: P.args, **kwargs: P.kwargs) -> None:
        __tracebackhide__ = True

        async def run() -> None:
            __tracebackhide__ = True
            source = self.make_source(source_config)
            try:
                async with asyncio.timeout(self.timeout):
                    await function(self, source, *args, **kwargs)
            finally:
                await source.dispose()

        # With a factory the runner leaves the thread's current loop to whom it belongs.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(run())

    own, source, *fixtures = inspect.signature(function).parameters.values()
    config = source.replace(name="source_config", annotation=BaseModel)
    test.__signature__ = inspect.Signature([own, config, *fixtures])  # pyright: ignore[reportAttributeAccessIssue]
    del test.__wrapped__  # what pytest sees is a plain function
    return test


async def infos(source: Source, prefix: str = "") -> list[ItemInfo]:
    """Return what ``list_items`` yields."""
    return [info async for info in source.list_items(prefix)]


async def names(source: Source, prefix: str = "") -> list[str]:
    """Return the names that ``list_items`` yields."""
    return [info.name for info in await infos(source, prefix)]


def leftovers(folder: Path) -> list[str]:
    """Return the names of all that is below a folder, hidden or not."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
