"""What files hold: formats by name, previews in bounded memory, and what is wrong with a file."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import sys
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from purveyor.providers.data_sources import (
    Column,
    DataSourceConnectionError,
    ItemInfo,
    MalformedDataError,
    Table,
    UnsupportedFormatError,
)
from purveyor.providers.data_sources.formats import (
    columns_of,
    format_of,
    metadata_of,
    preview_of,
    rows_of,
)
from purveyor.providers.registry import ImportFailedError

MIB = 1024 * 1024


class Endless(io.RawIOBase):
    """A file without an end: a beginning, then one piece again and again."""

    def __init__(self, begin: bytes, again: bytes) -> None:
        self._pieces: Iterable[bytes] = itertools.chain([begin], itertools.repeat(again))
        self._kept = b""
        self.given = 0

    def read(self, size: int = -1, /) -> bytes:
        while len(self._kept) < size:
            self._kept += next(iter(self._pieces))
        data, self._kept = self._kept[:size], self._kept[size:]
        self.given += len(data)
        return data


def look(data: bytes | str, format: str | None, rows: int = 20) -> Table:
    encoded = data.encode() if isinstance(data, str) else data
    return preview_of(io.BytesIO(encoded), format, rows, item="the/item")


def names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def fault(data: bytes | str, format: str) -> str:
    with pytest.raises(MalformedDataError) as caught:
        look(data, format)
    assert "'the/item'" in str(caught.value)
    return str(caught.value)


def parquet_of(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("a.csv", "csv"), ("A.CSV", "csv"), ("a/b.tsv", "tsv"), ("a.tab", "tsv")),
        *(("a.json", "json"), ("a.jsonl", "jsonl"), ("a.ndjson", "jsonl")),
        *(("a.parquet", "parquet"), ("a.txt", "text"), ("README.md", "text"), ("a.log", "text")),
        *(("a.csv.gz", "csv"), ("a.json.GZ", "json"), ("a.parquet.gz", None), ("a.gz", None)),
        *(("a", None), ("a.exe", None), (".csv", None), ("a.csv/b", None), ("", None)),
    ],
)
def test_the_format_is_in_the_name(name: str, expected: str | None) -> None:
    assert format_of(name) == expected


def test_what_has_no_known_format_is_refused() -> None:
    for unknown in (None, "xlsx"):
        with pytest.raises(UnsupportedFormatError, match=r"'the/item' is neither .*\.csv, .*fetch"):
            look(b"x", unknown)
    assert columns_of(io.BytesIO(b"x"), None) == ()
    assert rows_of(io.BytesIO(b"x"), None) is None


@pytest.mark.parametrize("format", ["csv", "tsv", "json", "jsonl", "text", "parquet"])
def test_no_rows_cannot_be_asked_for(format: str) -> None:
    with pytest.raises(ValueError, match="rows must be at least 1, not 0"):
        look(b"", format, 0)


class TestCSV:
    def test_a_table(self) -> None:
        table = look("id,name\n1,Ada\n2,Grace\n", "csv")
        assert table.columns == (Column("id"), Column("name"))
        assert table.rows == (("1", "Ada"), ("2", "Grace"))
        assert not table.truncated

    @pytest.mark.parametrize("rows", [1, 2, 3])
    def test_truncated_tells_whether_there_is_more(self, rows: int) -> None:
        table = look("id\n1\n2\n", "csv", rows)
        assert (len(table.rows), table.truncated) == (min(rows, 2), rows < 2)

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_line_ends_and_marks_do_not_matter(self, end: str) -> None:
        text = end.join(["id,name", '1,"two', 'lines"', "", "2,x"])
        table = look(b"\xef\xbb\xbf" + text.encode(), "csv")
        assert names(table) == ["id", "name"]
        assert table.rows == (("1", f"two{end}lines"), ("2", "x"))

    def test_line_ends_at_the_edge_of_what_is_read_at_a_time(self) -> None:
        for size in range(65_530, 65_540):
            table = look(f"a\r\n{'x' * size}\r\n2\r\n", "csv")
            assert table.rows == (("x" * size,), ("2",))
            assert look("a\n" + "é" * (size // 2), "csv").rows == (("é" * (size // 2),),)

    def test_only_line_ends_end_lines(self) -> None:
        assert look("a\nx\x0b\x0c\x1c\u2028\x85y\n", "csv").rows == (("x\x0b\x0c\x1c\u2028\x85y",),)

    def test_rows_may_be_shorter_or_longer(self) -> None:
        table = look("a,b\n1\n1,2,3\n,\n", "csv")
        assert names(table) == ["a", "b", "column_3"]
        assert table.rows == (("1", None, None), ("1", "2", "3"), ("", "", None))

    def test_columns_have_names_and_no_two_the_same(self) -> None:
        assert names(look("a,a,,a_2,a,\n", "csv")) == [
            "a",
            "a_3",
            "column_3",
            "a_2",
            "a_4",
            "column_6",
        ]
        many = names(look(",".join(["a"] * 16_000), "csv"))
        assert len(set(many)) == 16_000

    def test_nothing_at_all_is_an_empty_table(self) -> None:
        for data in (b"", b"\xef\xbb\xbf", b"\n\r\n"):
            assert look(data, "csv") == Table((), ())
        assert look("a,b", "csv") == Table((Column("a"), Column("b")), ())

    def test_tabs(self) -> None:
        assert look("a\tb\n1,5\t2\n", "tsv").rows == (("1,5", "2"),)

    def test_the_columns_alone(self) -> None:
        assert columns_of(io.BytesIO(b"a,b\n1,2\n"), "csv") == (Column("a"), Column("b"))

    def test_a_byte_that_is_not_utf_8_is_told_with_its_place(self) -> None:
        assert "byte 5 is 0xe9. Save it as UTF-8" in fault("a\n1\n2é".encode("latin-1"), "csv")
        late = b"a\n" + b"1\n" * 100_000 + b"\xff"
        with pytest.raises(MalformedDataError, match="byte 200,002 is 0xff"):
            look(late, "csv", 200_000)
        assert "byte 0 is 0xff" in fault("a\n".encode("utf-16"), "csv")
        assert "byte 3 is 0xc3" in fault(b"a\nb\xc3", "csv")

    def test_what_comes_after_the_rows_asked_for_is_no_fault(self) -> None:
        table = look("a\n1\n" + "x" * 2 * MIB, "csv", 1)
        assert (table.rows, table.truncated) == ((("1",),), True)

    def test_too_many_columns(self) -> None:
        assert "20,001 columns" in fault("," * 20_000, "csv")
        assert "20,001 columns" in fault("a\n" + "," * 20_000, "csv")


class TestJSON:
    def test_an_array_of_objects(self) -> None:
        table = look('[{"a": 1, "b": [1, {"c": null}]}, {"b": true, "d": "x"}]', "json")
        assert names(table) == ["a", "b", "d"]
        assert table.rows == ((1, [1, {"c": None}], None), (None, True, "x"))

    @pytest.mark.parametrize("rows", [1, 2, 3])
    def test_truncated_tells_whether_there_is_more(self, rows: int) -> None:
        for table in (look("[1, 2]", "json", rows), look("1\n2\n", "jsonl", rows)):
            assert (len(table.rows), table.truncated) == (min(rows, 2), rows < 2)

    def test_one_object_is_one_row(self) -> None:
        for data in ('{"a": 1}', b'\xef\xbb\xbf\n {"a": 1}\r\n\t'):
            assert look(data, "json") == Table((Column("a"),), ((1,),))

    @pytest.mark.parametrize(("text", "value"), [("1", 1), ("12345", 12345), ("null", None)])
    def test_what_is_no_object_is_a_value(self, text: str, value: Any) -> None:
        expected = Table((Column("value"),), ((value,),))
        assert look(text, "json") == look(f"[{text}]", "json") == look(text, "jsonl") == expected

    def test_no_rows(self) -> None:
        for data, kind in (("[]", "json"), (" [ ] ", "json"), ("", "jsonl"), ("\n\n", "jsonl")):
            assert look(data, kind) == Table((), ())

    def test_nan_is_taken_as_it_is(self) -> None:
        (row,) = look('[{"a": NaN, "b": -Infinity}]', "json").rows
        assert row[0] != row[0]
        assert row[1] == float("-inf")

    def test_values_at_the_edge_of_what_is_read_at_a_time(self) -> None:
        for size in range(65_524, 65_536):
            values = ["x" * size, 1234567, {"a": 1}]
            table = look(json.dumps(values), "json")
            assert [row[0] for row in table.rows][:2] == values[:2]
            assert len(table.rows) == 3

    def test_a_large_value_is_read(self) -> None:
        assert look(json.dumps([{"a": "x" * 900_000}]), "json").rows == (("x" * 900_000,),)

    def test_the_columns_are_those_of_the_first_rows(self) -> None:
        assert names(Table(columns_of(io.BytesIO(b'[{"a":1},{"b":2}]'), "json"), ())) == ["a", "b"]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "at character 0, it ends where the value should be"),
            ("[1, 2", "at character 5, it ends after row 2, and the array has no end"),
            ("[1,", "at character 3, it ends where row 2 should be"),
            ('[{"a": 1}, {"a"', "row 2 is not whole, or no JSON"),
            ("[1, x, 3]", "at character 4, row 2 is not whole, or no JSON: Expecting value"),
            ("[1 2]", "at character 3, after row 1 neither ',' nor ']' follows"),
            ('{"a": 1}\n{"a": 2}', r"character 9, something follows the end.*\.jsonl"),
            ("[1] x", "at character 4, something follows the end"),
            ("[" * 100_000, "at character 1, row 1 cannot be read"),
            ("[" + "9" * 5000 + "]", "row 1 cannot be read: Exceeds the limit"),
        ],
    )
    def test_faults_are_told_with_their_place(self, text: str, expected: str) -> None:
        with pytest.raises(MalformedDataError, match=expected):
            look(text, "json")

    @pytest.mark.parametrize("size", [3_000, 70_000, 500_000])
    def test_places_are_those_in_the_file(self, size: int) -> None:
        assert f"at character {size + 4:,}, row 2" in fault(f'["{"x" * size}",x]', "json")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{"a": 1}\n\n{"a"\n', "line 3: column 5: Expecting ':'"),
            ("1\n2 3\n", "line 2: column 3: Extra data"),
            ("[" * 100_000, "line 1: maximum recursion"),
        ],
    )
    def test_faults_of_lines_are_told_with_their_line(self, text: str, expected: str) -> None:
        assert expected in fault(text, "jsonl")

    def test_what_comes_after_the_rows_asked_for_is_no_fault(self) -> None:
        for data, kind in (("[1, x", "json"), ("1\nx", "jsonl")):
            assert look(data, kind, 1) == Table((Column("value"),), ((1,),), truncated=True)


class TestText:
    def test_each_line_is_a_row(self) -> None:
        table = look("one\r\n\nthree ü", "text")
        assert table == Table((Column("line"),), (("one",), ("",), ("three ü",)))
        assert look("one\ntwo", "text", 1).truncated
        assert look("", "text") == Table((Column("line"),), ())

    def test_compressed_by_gzip(self) -> None:
        assert look(gzip.compress(b"a\n1\n"), "csv").rows == (("1",),)
        assert look(gzip.compress(b"[1]"), "json").rows == ((1,),)
        damaged = gzip.compress(b"a\n1\n" * 100)
        for data in (damaged[:-9], damaged[:12] + b"\xff" * 8 + damaged[20:], damaged[:5]):
            assert "gzip and is damaged or incomplete" in fault(data, "csv")


class TestBounds:
    @pytest.mark.parametrize(
        ("begin", "again", "format"),
        [
            (b"a,b\n", b"x" * 65_536, "csv"),
            (b'a,b\n"', b"x\n" * 32_768, "csv"),
            (b"", b"a," * 32_768, "csv"),
            (b'[{"a": "', b"x" * 65_536, "json"),
            (b"[1", b" " * 65_536, "json"),
            (b'[{"a": [', b'"%s",' % (b"x" * 1000), "json"),
            (b'{"a": 1', b"x" * 65_536, "jsonl"),
            (b"", b"x" * 65_536, "text"),
        ],
    )
    def test_a_row_without_an_end_is_refused(self, begin: bytes, again: bytes, format: str) -> None:
        file = Endless(begin, again)
        tracemalloc.start()
        try:
            with pytest.raises(MalformedDataError, match=r"more than|field larger than"):
                preview_of(cast("BinaryIO", file), format, 20, item="the/item")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert file.given < 3 * MIB
        assert peak < 40 * MIB

    @pytest.mark.parametrize(
        ("begin", "again", "format"),
        [
            (b"a,b\n", b"1,2\n" * 1000, "csv"),
            (b"[0", b",{}" * 1000, "json"),
            (b"", b"{}\n" * 1000, "jsonl"),
            (b"", b"x\n" * 1000, "text"),
        ],
    )
    def test_no_more_is_read_than_is_shown(self, begin: bytes, again: bytes, format: str) -> None:
        file = Endless(begin, again)
        table = preview_of(cast("BinaryIO", file), format, 20)
        assert (len(table.rows), table.truncated) == (20, True)
        assert file.given <= 128 * 1024

    def test_what_was_compressed_well(self) -> None:
        packed = gzip.compress(bytes(64 * MIB), 9)
        tracemalloc.start()
        try:
            assert "line 1 has more than 1,048,576 characters" in fault(packed, "text")
            assert tracemalloc.get_traced_memory()[1] < 16 * MIB
        finally:
            tracemalloc.stop()


class TestParquet:
    TABLE = pa.table({"id": [1, 2, 3], "tags": [["a"], None, []]})

    def test_a_table(self) -> None:
        table = look(parquet_of(self.TABLE), "parquet", 2)
        assert [(column.name, column.type) for column in table.columns] == [
            ("id", "int64"),
            ("tags", "list<element: string>"),
        ]
        assert table.rows == ((1, ["a"]), (2, None))
        assert table.truncated

    def test_rows_of_several_groups(self) -> None:
        data = parquet_of(self.TABLE, row_group_size=1)
        assert [row[0] for row in look(data, "parquet", 3).rows] == [1, 2, 3]
        assert not look(data, "parquet", 3).truncated

    def test_what_is_known_without_reading(self) -> None:
        schema = pa.schema([pa.field("id", pa.int32(), nullable=False)])
        data = parquet_of(pa.table({"id": [1, 2]}, schema=schema))
        assert columns_of(io.BytesIO(data), "parquet") == (Column("id", "int32", nullable=False),)
        assert rows_of(io.BytesIO(data), "parquet") == 2
        assert rows_of(io.BytesIO(b"a\n1\n"), "csv") is None

    def test_no_rows_and_no_columns(self) -> None:
        empty = look(parquet_of(self.TABLE.slice(0, 0)), "parquet")
        assert (names(empty), empty.rows, empty.truncated) == (["id", "tags"], (), False)
        assert look(parquet_of(pa.table({})), "parquet") == Table((), ())

    def test_times_lose_their_nanoseconds(self) -> None:
        numbers = pa.array([1001, None], pa.int64())
        table = pa.table(
            {
                "at": numbers.cast(pa.timestamp("ns", "UTC")),
                "took": numbers.cast(pa.duration("ns")),
                "time": numbers.cast(pa.time64("ns")),
            }
        )
        first, second = look(parquet_of(table), "parquet").rows
        assert first[0] == datetime(1970, 1, 1, microsecond=1, tzinfo=UTC)
        assert first[1] == timedelta(microseconds=1)
        assert first[2].microsecond == 1
        assert second == (None, None, None)

    def test_a_damaged_file_is_told(self) -> None:
        whole = parquet_of(pa.table({"a": ["x" * 100] * 1000, "b": range(1000)}))
        faults = [b"", b"PAR1", b"no parquet at all", whole[:-10], whole[: len(whole) // 2]]
        faults += [whole[:4] + b"\xff" * 60 + whole[64:], whole[:-60] + b"\xff" * 40 + whole[-20:]]
        for data in faults:
            assert "is no Parquet file, or a damaged or incomplete one" in fault(data, "parquet")

    def test_what_the_file_itself_raises_is_not_taken_for_damage(self) -> None:
        class Broken(io.BytesIO):
            error: Exception = OSError(5, "Input/output error")

            def read(self, size: int | None = -1, /) -> bytes:
                raise self.error

        file = Broken(parquet_of(self.TABLE))
        with pytest.raises(OSError, match="Input/output error") as caught:
            preview_of(file, "parquet", 1)
        assert not isinstance(caught.value, MalformedDataError)
        file = Broken(parquet_of(self.TABLE))
        file.error = DataSourceConnectionError("The connection was lost.")
        with pytest.raises(DataSourceConnectionError):
            preview_of(file, "parquet", 1)

    def test_without_its_library_the_install_line_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
            monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportFailedError, match=r"purveyor\[parquet\]"):
            look(b"", "parquet")
        found = metadata_of(io.BytesIO(b""), ItemInfo("a.parquet", "file", format="parquet"))
        assert "purveyor[parquet]" in found.details["unreadable"]


class TestMetadata:
    def test_what_a_file_says_of_itself(self) -> None:
        data = parquet_of(pa.table({"id": [1, 2]}))
        info = ItemInfo("a.parquet", "file", len(data), format="parquet")
        found = metadata_of(io.BytesIO(data), info)
        assert (found.item, found.rows, found.rows_estimated) == (info, 2, False)
        assert found.columns == (Column("id", "int64"),)
        assert dict(found.details) == {}

    def test_what_cannot_be_read_is_a_detail(self) -> None:
        info = ItemInfo("a.csv", "file", format="csv")
        found = metadata_of(io.BytesIO(b"\xff"), info)
        assert found.columns == ()
        assert "'a.csv' is not UTF-8" in found.details["unreadable"]

    def test_what_has_no_format_has_no_columns(self) -> None:
        assert metadata_of(io.BytesIO(b"\xff"), ItemInfo("a", "file")).columns == ()
