"""PostgreSQL keeps the rules of the conformance kit."""

from __future__ import annotations

import pytest

from purveyor.providers.data_sources.postgresql import PostgreSQLConfig, PostgreSQLSource
from purveyor.testing.conformance import DataSourceConformance
from purveyor.testing.servers import PostgreSQL

LARGE = "public.large"
SCHEMA = '''
    CREATE TABLE people (id int, name text);
    INSERT INTO people VALUES (1, 'Ada'), (2, 'Lovelace, Ada'), (3, 'é€');
    CREATE VIEW adults AS SELECT * FROM people WHERE id > 1;
    CREATE SCHEMA "Odd ""schema""";
    CREATE TABLE "Odd ""schema"""."my.table/../x" ("a ""b""" text);
    INSERT INTO "Odd ""schema"""."my.table/../x" VALUES ('one'), (E'two\\nlines'), ('');
    CREATE TABLE "Überlänge" (x int);
    CREATE TABLE large AS SELECT g AS id, repeat('x', 680) AS filling
                            FROM generate_series(1, 100000) AS g
'''
ITEMS = {
    "public.people": [["id", "name"], ["1", "Ada"], ["2", "Lovelace, Ada"], ["3", "é€"]],
    "public.adults": [["id", "name"], ["2", "Lovelace, Ada"], ["3", "é€"]],
    '"Odd ""schema"""."my.table/../x"': [['a "b"'], ["one"], ["two\nlines"], [""]],
    'public."Überlänge"': [["x"]],
}
QUERIES = {
    "SELECT id, name FROM people ORDER BY id": [(1, "Ada"), (2, "Lovelace, Ada"), (3, "é€")],
    "VALUES (1), (2);": [(1,), (2,)],
    "SELECT count(*) FROM people -- all of them": [(3,)],
}


@pytest.fixture(scope="module")
def filled(postgresql: PostgreSQL) -> str:
    database = postgresql.create_database()
    postgresql.execute(SCHEMA, database)
    return database


@pytest.mark.requirement("S3.36")
@pytest.mark.server("postgresql")
class TestPostgreSQLSource(DataSourceConformance):
    provider_class = PostgreSQLSource
    items = ITEMS
    large = LARGE
    queries = QUERIES
    refused_queries = (
        "SELEC 1",
        "",
        "SELECT 1; SELECT 2",
        "SELECT nonsense FROM people",
        "SELECT * FROM no_such_table",
        "DELETE FROM people",
        "DELETE FROM people RETURNING *",
        "WITH gone AS (DELETE FROM people RETURNING *) SELECT * FROM gone",
        "UPDATE people SET name = ''",
        "TRUNCATE people",
        "DROP TABLE people",
        "CREATE TABLE other (x int)",
        "SELECT 1 AS x INTO other",
        "SELECT * FROM people FOR UPDATE",
        "COPY people TO STDOUT",
        "COPY people TO PROGRAM 'true'",
        "SELECT 1) TO PROGRAM 'true' --",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SET TRANSACTION READ WRITE",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "COMMIT",
        "ROLLBACK AND CHAIN",
        "DO $$ BEGIN COMMIT; DELETE FROM people; END $$",
        "NOTIFY somebody",
        "LOCK TABLE people",
        "SELECT '\0'",
    )

    @pytest.fixture
    def source_config(self, postgresql: PostgreSQL, filled: str) -> PostgreSQLConfig:
        return PostgreSQLConfig.model_validate({"connection_string": postgresql.dsn(filled)})
