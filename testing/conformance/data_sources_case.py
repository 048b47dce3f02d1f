"""What the tests of the data source kit share: how one runs, and what a source is made of."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
from pydantic import BaseModel

from ...providers.data_sources import DataSource, FetchedItem, ItemInfo
from .case import PROVIDER_NAME, Case, provider_test, refusal, secrets_in

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


class DataSourceCase(Case):
    """What an author tells of the type under test and of what it finds in the source."""

    provider_class: ClassVar[type[DataSource[Any]]]
    """The class under test."""
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

    @pytest.fixture
    def source_config(self) -> BaseModel:
        """Return the settings of a source that has these items; nothing changes it."""
        raise NotImplementedError(
            f"{type(self).__name__} must define a fixture source_config that returns the settings "
            f"of a {self.provider_class.__name__} with the items named in `items`."
        )

    def make_source(self, config: Any) -> Source:
        """Return a guarded instance, as a registry would give it, named ``conformance``."""
        return self.guarded(config)

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


source_test = provider_test("source_config", "make_source")
"""Make a coroutine method that takes a source into a plain test that takes ``source_config``."""


async def infos(source: Source, prefix: str = "") -> list[ItemInfo]:
    """Return what ``list_items`` yields."""
    return [info async for info in source.list_items(prefix)]


async def names(source: Source, prefix: str = "") -> list[str]:
    """Return the names that ``list_items`` yields."""
    return [info.name for info in await infos(source, prefix)]


def leftovers(folder: Path) -> list[str]:
    """Return the names of all that is below a folder, hidden or not."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
