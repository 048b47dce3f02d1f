"""What is special to PostgreSQL; what all sources share is the conformance kit's."""

from __future__ import annotations

import asyncio
import csv
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pyarrow import parquet

from purveyor.providers.data_sources import (
    DataSourcePermissionError,
    InvalidQueryError,
    ItemNotFoundError,
    MalformedDataError,
    ResultTooLargeError,
    UnsupportedFormatError,
)
from purveyor.providers.data_sources.postgresql import PostgreSQLConfig, PostgreSQLSource
from purveyor.providers.registry import guarded
from purveyor.testing.servers import PostgreSQL

pytestmark = pytest.mark.server("postgresql")

SAMPLES = """
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN positive AS numeric(8, 3) CHECK (value > 0);
    CREATE TABLE samples (
        i2 smallint, i4 int NOT NULL, i8 bigint, f4 real, f8 float8, n numeric(10, 2), free numeric,
        big numeric(60, 5), t text, v varchar(9), c char(4), b boolean, raw bytea, d date, tm time,
        ts timestamp, tz timestamptz, iv interval, u uuid, j json, jb jsonb, ints int[],
        texts text[], m mood, p positive, ip inet, r int4range, bits bit(3), pt point
    );
    INSERT INTO samples VALUES (
        1, 2, 3, 1.5, 2.25, 1234.50, 0.1234567890123456789, 12345678901234567890.12345, 'té"xt,',
        'v', 'c', true, '\\x00ff', '2026-11-21', '12:34:56.789', '2026-01-02 03:04:05.000006',
        '2026-01-02 03:04:05+02', '1 mon 2 days', '6ba7b810-9dad-11d1-80b4-00c04fd430c8',
        '{"a":  1}', '{"a": 1}', '{1,NULL,3}', '{"a b",c}', 'ok', 1.5, '10.0.0.1', '[1,5)',
        b'101', '(1,2)'
    );
    INSERT INTO samples (i4) VALUES (0);
"""
PARQUET_TYPES = {
    "i2": "int16",
    "i4": "int32",
    "i8": "int64",
    "f4": "float",
    "f8": "double",
    "n": "decimal128(10, 2)",
    "big": "decimal256(60, 5)",
    "b": "bool",
    "raw": "binary",
    "d": "date32[day]",
    "tm": "time64[us]",
    "ts": "timestamp[us]",
    "tz": "timestamp[us, tz=UTC]",
    "ints": "list<element: int32>",
    "texts": "list<element: string>",
}
"""Arrow's types of the samples' columns; the others become text."""


@pytest.fixture
def database(postgresql: PostgreSQL) -> str:
    return postgresql.create_database()


def source_of(dsn: str, **settings: Any) -> PostgreSQLSource:
    config = PostgreSQLConfig.model_validate({"dsn": dsn, **settings})
    return guarded(PostgreSQLSource(config), name="warehouse")


@pytest.fixture
async def source(postgresql: PostgreSQL, database: str) -> AsyncIterator[PostgreSQLSource]:
    async with source_of(postgresql.dsn(database)) as source:
        yield source


async def listed(source: PostgreSQLSource, prefix: str = "") -> list[tuple[str, str]]:
    return [(item.name, item.kind) async for item in source.list_items(prefix)]


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


# -- items -------------------------------------------------------------------------------


async def test_every_kind_of_table_and_view_is_an_item(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str
):
    postgresql.execute(
        """
        CREATE TABLE plain (x int); CREATE INDEX ON plain (x); CREATE SEQUENCE numbers;
        CREATE VIEW seen AS TABLE plain; CREATE MATERIALIZED VIEW kept AS TABLE plain;
        CREATE TABLE parted (x int) PARTITION BY LIST (x);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
        CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER afar FOREIGN DATA WRAPPER nothing;
        CREATE FOREIGN TABLE distant (x int) SERVER afar
        """,
        database,
    )
    assert await listed(source) == [
        ("public.distant", "table"),
        ("public.kept", "view"),
        ("public.parted", "table"),
        ("public.parted_1", "table"),
        ("public.plain", "table"),
        ("public.seen", "view"),
    ]


ODD_NAMES = ("Upper", "with space", 'q"uote', "d.ot", "ünï€", "select", "..", "%", "a/b", "x" * 63)


async def test_names_that_sql_quotes_lead_back_to_their_tables(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str, tmp_path: Path
):
    for name in ODD_NAMES:
        table = name.replace('"', '""')
        postgresql.execute(
            f'CREATE SCHEMA "s{table:.60}"; CREATE TABLE "s{table:.60}"."{table}" AS '
            f"SELECT '{name}' AS x",
            database,
        )
    names = [name for name, _ in await listed(source)]
    assert len(names) == len(ODD_NAMES)
    assert names == sorted(names, key=str.encode)
    found = {rows_of((await source.fetch(name, tmp_path)).path)[1][0] for name in names}
    assert found == set(ODD_NAMES)


async def test_schemas_say_whose_tables_are_items(postgresql: PostgreSQL, database: str):
    postgresql.execute("CREATE SCHEMA a; CREATE TABLE a.t (x int); CREATE TABLE t ()", database)
    async with source_of(postgresql.dsn(database), schemas=["a"]) as source:
        assert await listed(source) == [("a.t", "table")]
        with pytest.raises(ItemNotFoundError, match=r"public\.t"):
            await source.preview("public.t")


async def test_only_what_the_user_may_read_is_listed(
    postgresql: PostgreSQL, database: str, tmp_path: Path
):
    role = f"reader_{database}"
    postgresql.execute(
        f"""
        CREATE ROLE {role} LOGIN PASSWORD 'reader-word'; CREATE SCHEMA hidden;
        CREATE TABLE hidden.t (x int); GRANT SELECT ON hidden.t TO {role};
        CREATE TABLE secret (x int); CREATE TABLE shown (x int); CREATE TABLE part (x int, y int);
        INSERT INTO part VALUES (1, 2);
        GRANT SELECT ON shown TO {role}; GRANT SELECT (y) ON part TO {role}
        """,
        database,
    )
    dsn = f"postgresql://{role}:reader-word@127.0.0.1:{postgresql.port}/{database}"
    async with source_of(dsn) as source:
        assert await listed(source) == [("public.part", "table"), ("public.shown", "table")]
        assert rows_of((await source.fetch("public.part", tmp_path)).path) == [["y"], ["2"]]
        with pytest.raises(DataSourcePermissionError, match="Grant it SELECT"):
            await source.fetch("public.secret", tmp_path)
        with pytest.raises(DataSourcePermissionError, match="permission denied") as caught:
            await source.query("SELECT * FROM secret")
        assert caught.value.context["sqlstate"] == "42501"


async def test_a_search_path_deceives_nobody(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str, tmp_path: Path
):
    postgresql.execute(
        f"""
        CREATE SCHEMA evil; CREATE TABLE evil.pg_class (x int); CREATE TABLE public.counted (x int);
        CREATE FUNCTION evil.format_type(oid, int) RETURNS text LANGUAGE sql
            RETURN 'deceived'::text;
        CREATE FUNCTION public.helper() RETURNS int LANGUAGE plpgsql
            AS 'BEGIN RETURN (SELECT count(*) FROM counted); END';
        CREATE VIEW calling AS SELECT helper() AS x;
        ALTER DATABASE {database} SET search_path = evil, public, pg_catalog
        """,
        database,
    )
    async with source_of(postgresql.dsn(database)) as source:
        assert [name for name, _ in await listed(source, "public.")] == [
            "public.calling",
            "public.counted",
        ]
        assert (await source.get_metadata("public.counted")).columns[0].type == "integer"
        # What a view's functions name is found as its owner meant it.
        assert rows_of((await source.fetch("public.calling", tmp_path)).path) == [["x"], ["0"]]


async def test_metadata_tells_size_comment_and_an_estimate_of_the_rows(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str
):
    postgresql.execute(
        "CREATE TABLE t (id int NOT NULL, price numeric(8, 2)); COMMENT ON TABLE t IS 'prices';"
        "INSERT INTO t SELECT g, g FROM generate_series(1, 1000) AS g",
        database,
    )
    unknown = await source.get_metadata("public.t")
    assert (unknown.rows, unknown.rows_estimated) == (None, False)
    postgresql.execute("ANALYZE t", database)
    known = await source.get_metadata("public.t")
    assert (known.rows, known.rows_estimated) == (1000, True)
    assert [(c.name, c.type, c.nullable) for c in known.columns] == [
        ("id", "integer", False),
        ("price", "numeric(8,2)", True),
    ]
    assert known.details["comment"] == "prices"
    assert int(known.details["disk_bytes"]) > 8192


async def test_a_list_holds_no_connection(
    postgresql: PostgreSQL, database: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("purveyor.providers.data_sources.postgresql.PAGE", 2)
    for name in "abcde":
        postgresql.execute(f"CREATE TABLE {name} (x int)", database)
    async with source_of(postgresql.dsn(database), pool_size=1) as source:
        seen = [
            item.name
            async for item in source.list_items()
            if (await source.get_metadata(item.name)).columns
        ]
    assert seen == [f"public.{name}" for name in "abcde"]


async def test_a_table_that_changes_is_seen_as_it_is_now(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str
):
    postgresql.execute("CREATE TABLE t AS SELECT 1 AS a", database)
    assert (await source.query("SELECT * FROM t")).rows == ((1,),)
    postgresql.execute("ALTER TABLE t ADD b text DEFAULT 'new'", database)
    assert (await source.query("SELECT * FROM t")).rows == ((1, "new"),)
    assert (await source.preview("public.t")).rows == ((1, "new"),)


# -- files -------------------------------------------------------------------------------


async def test_csv_of_a_query_with_parameters_is_what_copy_writes(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str, tmp_path: Path
):
    postgresql.execute(SAMPLES, database)
    odd = (
        r"""SELECT *, '\.' AS dot, '' AS nothing, NULL AS none, ROW(NULL, 1) AS row FROM samples"""
    )
    whole = await source.fetch_query(odd, tmp_path, name="whole")
    parts = await source.fetch_query(f"{odd} WHERE i4 < $1", tmp_path, (9,), name="parts")
    assert parts.path.read_bytes() == whole.path.read_bytes()
    assert (parts.rows, parts.sha256) == (2, whole.sha256)
    alone = [
        (await source.fetch_query(text, tmp_path, values, name="alone")).path.read_bytes()
        for text, values in ((r"SELECT '\.' AS x", ()), ("SELECT $1 AS x", (r"\.",)))
    ]
    assert alone[0] == alone[1]


async def test_csv_looks_the_same_whatever_the_role_prefers(
    postgresql: PostgreSQL, database: str, tmp_path: Path
):
    postgresql.execute(
        f"ALTER DATABASE {database} SET datestyle = 'German';"
        f"ALTER DATABASE {database} SET timezone = 'Asia/Tokyo'",
        database,
    )
    async with source_of(postgresql.dsn(database)) as source:
        fetched = await source.fetch_query(
            "SELECT timestamptz '2026-01-02 03:04:05Z' AS at, date '2026-01-02' AS on", tmp_path
        )
        assert rows_of(fetched.path)[1] == ["2026-01-02 03:04:05+00", "2026-01-02"]


async def test_parquet_has_a_proper_schema(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str, tmp_path: Path
):
    postgresql.execute(SAMPLES, database)
    fetched = await source.fetch("public.samples", tmp_path, format="parquet")
    table: Any = parquet.read_table(fetched.path)
    types = {field.name: str(field.type) for field in table.schema}
    for name, kind in PARQUET_TYPES.items():
        assert types.pop(name) == kind, name
    assert set(types.values()) == {"string"}
    first, second = table.to_pylist()
    assert first["n"] == Decimal("1234.50")
    assert first["free"] == "0.1234567890123456789"
    assert first["tz"] == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert (first["d"], first["iv"]) == (date(2026, 11, 21), "1 mon 2 days")
    assert (first["ints"], first["texts"]) == ([1, None, 3], ["a b", "c"])
    assert (first["m"], first["r"], first["pt"]) == ("ok", "[1,5)", "(1,2)")
    assert set(second.values()) == {None, 0}
    assert fetched.rows == 2
    assert fetched.size == fetched.path.stat().st_size


async def test_what_parquet_cannot_hold_is_told_with_its_column(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str, tmp_path: Path
):
    postgresql.execute("CREATE TABLE t AS SELECT 'NaN'::numeric(5, 2) AS price", database)
    with pytest.raises(MalformedDataError, match="'price'"):
        await source.fetch("public.t", tmp_path, format="parquet")
    with pytest.raises(MalformedDataError, match="before the year 1"):
        await source.fetch_query("SELECT date '0044-03-15 BC'", tmp_path, format="parquet")
    assert leftovers(tmp_path) == []
    await source.fetch("public.t", tmp_path)


async def test_parquet_of_a_query_keeps_its_order(source: PostgreSQLSource, tmp_path: Path):
    fetched = await source.fetch_query(
        "SELECT g AS n, g AS n FROM generate_series(1, $1) AS g ORDER BY g DESC",
        tmp_path,
        (30_000,),
        format="parquet",
    )
    table: Any = parquet.ParquetFile(fetched.path).read()
    assert table.column_names == ["n", "n"]
    assert table.column(1).to_pylist() == list(range(30_000, 0, -1))
    assert fetched.rows == 30_000


async def test_a_table_without_columns_or_rows_is_fetched_too(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str, tmp_path: Path
):
    postgresql.execute("CREATE TABLE bare (); CREATE TABLE empty (x int)", database)
    fetched = await source.fetch("public.empty", tmp_path)
    assert (fetched.path.read_text(), fetched.rows) == ("x\n", 0)
    assert (await source.fetch("public.bare", tmp_path)).rows == 0
    assert (await source.fetch("public.empty", tmp_path, format="parquet")).rows == 0
    with pytest.raises(UnsupportedFormatError, match="no columns"):
        await source.fetch("public.bare", tmp_path, format="parquet")


async def test_a_view_that_fails_is_told(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str, tmp_path: Path
):
    postgresql.execute("CREATE VIEW v AS SELECT 1 / (g - 5000) FROM generate_series(1, 9999) AS g",
                       database)  # fmt: skip
    with pytest.raises(MalformedDataError, match="division by zero"):
        await source.fetch("public.v", tmp_path)
    assert leftovers(tmp_path) == []


async def test_other_formats_are_refused(source: PostgreSQLSource, tmp_path: Path):
    with pytest.raises(UnsupportedFormatError, match="'csv' or 'parquet'"):
        await source.fetch_query("SELECT 1", tmp_path, format="xlsx")  # type: ignore[arg-type]


# -- queries -----------------------------------------------------------------------------


async def test_parameters_are_values(source: PostgreSQLSource):
    nasty = "'; DROP TABLE x --"
    table = await source.query("SELECT $1 AS text, $2::int + 1 AS number", (nasty, 41))
    assert table.rows == ((nasty, 42),)
    assert [(c.name, c.type) for c in table.columns] == [("text", "text"), ("number", "integer")]


async def test_values_are_those_of_python(source: PostgreSQLSource):
    table = await source.query(
        "SELECT uuid '6ba7b810-9dad-11d1-80b4-00c04fd430c8', int4range(1, 5), b'101', "
        "ARRAY[ARRAY[1, 2]], interval '1 day', ROW(1, int4range(2, 3)), 1.50, NULL"
    )
    row = table.rows[0]
    assert row == (
        uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), "[1,5)", "101", [[1, 2]],
        timedelta(days=1), (1, "[2,3)"), Decimal("1.50"), None,
    )  # fmt: skip
    assert type(row[0]) is uuid.UUID


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ((), "has 1 parameters"),
        ((1, 2), "2 were given"),
        (("canary",), r"Parameter \$1 does not fit"),
        ((2**40,), r"Parameter \$1 does not fit"),
    ],
)
async def test_parameters_that_do_not_fit_are_told_and_not_shown(
    source: PostgreSQLSource, tmp_path: Path, parameters: tuple[Any, ...], fault: str
):
    for call in (
        source.query("SELECT $1::int", parameters),
        source.fetch_query("SELECT $1::int", tmp_path, parameters),
        source.fetch_query("SELECT $1::int", tmp_path, parameters, format="parquet"),
    ):
        with pytest.raises(InvalidQueryError, match=fault) as caught:
            await call
        assert "canary" not in str(caught.value)
    assert leftovers(tmp_path) == []


async def test_a_malformed_query_tells_where(source: PostgreSQLSource):
    with pytest.raises(InvalidQueryError, match="at character 8") as caught:
        await source.query("SELECT nonsense")
    assert caught.value.context["position"] == 8


async def test_an_answer_that_is_too_large_is_refused_unless_a_limit_is_given(
    postgresql: PostgreSQL, database: str
):
    async with source_of(postgresql.dsn(database), max_result_rows=10) as source:
        rows = "SELECT generate_series(1, 11)"
        with pytest.raises(ResultTooLargeError, match=r"10 rows \(max_result_rows\).*fetch_query"):
            await source.query(rows)
        for limit, count in ((5, 5), (10, 10), (99, 10)):  # the setting is the most there is
            table = await source.query(rows, limit=limit)
            assert (len(table.rows), table.truncated) == (count, True)
        assert len((await source.query("SELECT generate_series(1, 10)")).rows) == 10


async def test_a_query_that_writes_is_refused_as_read_only(
    source: PostgreSQLSource, postgresql: PostgreSQL, database: str
):
    postgresql.execute("CREATE TABLE t (x int); CREATE SEQUENCE s", database)
    for statement in (
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1) RETURNING x",
        "SELECT nextval('s')",
        "SELECT * FROM t FOR UPDATE",
        "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
    ):
        with pytest.raises(InvalidQueryError, match="read-only"):
            await source.query(statement)
    assert postgresql.execute("SELECT count(*) FROM t", database) == "0"


async def test_writing_can_be_allowed_for_query_alone(
    postgresql: PostgreSQL, database: str, tmp_path: Path
):
    postgresql.execute("CREATE TABLE t (x int)", database)
    async with source_of(postgresql.dsn(database), read_only=False) as source:
        assert (await source.query("INSERT INTO t VALUES ($1) RETURNING x", (1,))).rows == ((1,),)
        assert (await source.query("INSERT INTO t VALUES (2)")).columns == ()
        with pytest.raises(InvalidQueryError, match="read-only"):
            await source.fetch_query("DELETE FROM t RETURNING x", tmp_path)
        assert (await source.query("SELECT sum(x) FROM t")).rows == ((3,),)
    assert postgresql.execute("SELECT count(*) FROM t", database) == "2"


async def test_a_query_leaves_nothing_behind_in_its_session(postgresql: PostgreSQL, database: str):
    async with source_of(postgresql.dsn(database), pool_size=1) as source:
        await source.query("SELECT set_config('work_mem', '65kB', false), pg_advisory_lock(1)")
        await source.query("SELECT set_config('search_path', 'nowhere', false)")
        (pid,) = (await source.query("SELECT pg_backend_pid()")).rows[0]
        shown = await source.query("SELECT current_setting('work_mem')")
        assert shown.rows[0][0] != "65kB"
    locks = postgresql.execute(f"SELECT count(*) FROM pg_locks WHERE pid = {pid}", database)
    assert locks == "0"


async def test_an_odd_password_gets_in(postgresql: PostgreSQL, database: str):
    odd, role = "p@ss:w/rd%25#?'[ü]", f"odd_{database}"
    word = odd.replace("'", "''")
    postgresql.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{word}'", database)
    where = {"host": "127.0.0.1", "port": postgresql.port, "database": database}
    dsn = f"postgresql://{role}:{quote(odd, safe='')}@127.0.0.1:{postgresql.port}/{database}"
    for settings in ({"dsn": dsn}, {**where, "user": role, "password": odd}):
        source = guarded(
            PostgreSQLSource(PostgreSQLConfig.model_validate(settings)), name="warehouse"
        )
        async with source:
            assert (await source.query("SELECT current_user")).rows == ((role,),)


@pytest.mark.requirement("S3.26")
async def test_many_more_callers_than_connections(postgresql: PostgreSQL, database: str):
    async with source_of(postgresql.dsn(database), pool_size=2) as source:
        answers = await asyncio.gather(
            *(source.query("SELECT $1::int FROM pg_sleep(0.01)", (n,)) for n in range(40))
        )
    assert [table.rows[0][0] for table in answers] == list(range(40))
