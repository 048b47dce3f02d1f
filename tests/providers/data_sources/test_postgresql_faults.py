"""What a PostgreSQL source does when the server, or the way to it, fails."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import time
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.data_sources import (
    DataSourceConnectionError,
    DataSourceError,
    DataSourcePermissionError,
    DataSourceTimeoutError,
    ItemNotFoundError,
    WorkspaceError,
)
from purveyor.providers.data_sources.postgresql import PostgreSQLConfig, PostgreSQLSource
from purveyor.providers.registry import RegistryError, guarded
from purveyor.testing.servers import PostgreSQL
from tests.servers import FaultyProxy

pytestmark = pytest.mark.server("postgresql")

ENDLESS = "SELECT generate_series(1, 1000000000) AS g, repeat('x', 1000) AS filling"
"""Rows for as long as anybody reads them."""


@pytest.fixture
def database(postgresql: PostgreSQL) -> str:
    return postgresql.create_database()


@pytest.fixture
async def proxy(postgresql: PostgreSQL) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(postgresql.port) as proxy:
        yield proxy


def source_of(dsn: str, **settings: Any) -> PostgreSQLSource:
    config = PostgreSQLConfig.model_validate({"dsn": dsn, **settings})
    return guarded(PostgreSQLSource(config), name="warehouse")


def behind(proxy: FaultyProxy, server: PostgreSQL, database: str, **settings: Any) -> Any:
    dsn = server.dsn(database).replace(f":{server.port}/", f":{proxy.port}/")
    return source_of(f"{dsn}?sslmode=disable", **settings)


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def until(holds: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for what nobody tells of."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


def running(server: PostgreSQL, database: str) -> list[int]:
    """Return the process ids of the statements that run in a database."""
    found = server.execute(
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND state <> 'idle'"
    )
    return list(map(int, found.split()))


# -- connecting --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "remedy"),
    [
        ({"password": "wrong-canary"}, DataSourcePermissionError, "Correct user and password"),
        ({"user": "nobody-canary"}, DataSourcePermissionError, "Correct user and password"),
        ({"database": "nowhere"}, DataSourceConnectionError, "Correct the setting database"),
        ({"host": "nowhere.invalid"}, DataSourceConnectionError, "host and port are right"),
        ({"port": 1}, DataSourceConnectionError, "host and port are right"),
        ({"sslmode": "require"}, DataSourceConnectionError, "sslmode|host and port"),
        ({"sslmode": "verify-full"}, DataSourceConnectionError, "root"),
    ],
)
async def test_what_is_wrong_is_told_with_a_remedy_and_without_a_secret(
    postgresql: PostgreSQL, database: str, change: dict[str, Any], kind: type, remedy: str
):
    settings = {
        "host": "127.0.0.1",
        "port": postgresql.port,
        "database": database,
        "user": postgresql.superuser,
        "password": postgresql.password,
        **change,
    }
    source = guarded(PostgreSQLSource(PostgreSQLConfig.model_validate(settings)), name="warehouse")
    with pytest.raises(kind, match=remedy) as caught:
        await source.connect()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.to_dict())
    shown += pickle.dumps(caught.value).decode("latin-1")
    assert settings["password"] not in shown
    await source.dispose()


@pytest.mark.requirement("S3.30")
async def test_no_secret_is_logged(
    postgresql: PostgreSQL, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    async with source_of(postgresql.dsn(database)) as source:
        await source.fetch_query("SELECT 1", tmp_path)
        with pytest.raises(RegistryError):
            await source.query("SELECT nonsense")
    with pytest.raises(RegistryError):
        await source_of(postgresql.dsn("nowhere")).connect()
    assert postgresql.password not in caplog.text


async def test_a_silent_server_is_given_up(
    proxy: FaultyProxy, postgresql: PostgreSQL, database: str
):
    proxy.silent = True
    source = behind(proxy, postgresql, database, connect_timeout=0.3)
    with pytest.raises(DataSourceTimeoutError, match="connect_timeout"):
        await source.connect()
    await source.dispose()


async def test_too_many_connections_are_told(postgresql: PostgreSQL, database: str):
    role = f"single_{database}"
    postgresql.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'single-word' CONNECTION LIMIT 1")
    dsn = f"postgresql://{role}:single-word@127.0.0.1:{postgresql.port}/{database}"
    async with source_of(dsn) as source:
        calls = [source.query("SELECT pg_sleep(0.5)") for _ in range(2)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        (error,) = [one for one in answers if isinstance(one, Exception)]
        assert isinstance(error, DataSourceConnectionError)
        assert "Lower pool_size" in str(error)
        await source.check_health()


# -- connections that break --------------------------------------------------------------


async def test_a_connection_that_died_while_idle_is_replaced_unseen(
    postgresql: PostgreSQL, database: str
):
    async with source_of(postgresql.dsn(database)) as source:
        await asyncio.gather(*(source.query("SELECT pg_sleep(0.1)") for _ in range(3)))
        kill = (
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        )
        postgresql.execute(kill)  # within this thread: the event loop has not heard of it
        assert (await source.query("SELECT 1")).rows == ((1,),)
        postgresql.execute(kill)
        await source.check_health()


@pytest.mark.requirement("S3.23")
async def test_a_server_that_was_started_anew_is_found_again(tmp_path: Path):
    with PostgreSQL() as server:
        async with source_of(server.dsn()) as source:
            await source.check_health()
            await asyncio.to_thread(server.halt)
            with pytest.raises(DataSourceConnectionError, match="Check that the server is running"):
                await source.fetch_query("SELECT 1", tmp_path)
            await asyncio.to_thread(server.resume)
            assert (await source.query("SELECT 1")).rows == ((1,),)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("format", ["csv", "parquet"])
async def test_a_fetch_whose_connection_is_ended_leaves_nothing(
    postgresql: PostgreSQL, database: str, tmp_path: Path, format: Any
):
    async with source_of(postgresql.dsn(database)) as source:
        fetch = asyncio.ensure_future(source.fetch_query(ENDLESS, tmp_path, format=format))
        await until(lambda: any(path.stat().st_size for path in leftovers(tmp_path)))
        for pid in running(postgresql, database):
            postgresql.execute(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(DataSourceConnectionError, match=r"[Nn]othing was kept"):
            await fetch
        assert leftovers(tmp_path) == []
        assert (await source.query("SELECT 1")).rows == ((1,),)


async def test_a_fetch_that_breaks_on_the_way_leaves_nothing(
    proxy: FaultyProxy, postgresql: PostgreSQL, database: str, tmp_path: Path
):
    async with behind(proxy, postgresql, database) as source:
        proxy.cut_downstream_after = 3_000_000
        with pytest.raises(DataSourceConnectionError):
            await source.fetch_query(ENDLESS, tmp_path)
        assert leftovers(tmp_path) == []
        proxy.cut_downstream_after = None
        await source.check_health()


@pytest.mark.parametrize("format", ["csv", "parquet"])
async def test_a_cancelled_fetch_ends_on_the_server_too(
    postgresql: PostgreSQL, database: str, tmp_path: Path, format: Any
):
    async with source_of(postgresql.dsn(database)) as source:
        fetch = asyncio.ensure_future(source.fetch_query(ENDLESS, tmp_path, format=format))
        await until(lambda: any(path.stat().st_size for path in leftovers(tmp_path)))
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        assert leftovers(tmp_path) == []
        await until(lambda: not running(postgresql, database))
        assert (await source.query("SELECT 1")).rows == ((1,),)


async def test_a_cancelled_query_ends_on_the_server_too(postgresql: PostgreSQL, database: str):
    async with source_of(postgresql.dsn(database)) as source:
        query = asyncio.ensure_future(source.query("SELECT pg_sleep(30)"))
        await until(lambda: bool(running(postgresql, database)))
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        await until(lambda: not running(postgresql, database))
        assert (await source.query("SELECT 1")).rows == ((1,),)


async def test_a_fetch_ends_on_the_server_when_its_client_is_gone(
    proxy: FaultyProxy, postgresql: PostgreSQL, database: str, tmp_path: Path
):
    async with behind(proxy, postgresql, database) as source:
        fetch = asyncio.ensure_future(source.fetch_query("SELECT pg_sleep(60)", tmp_path))
        await until(lambda: bool(running(postgresql, database)))
        await proxy.stop()
        with pytest.raises(DataSourceConnectionError):
            await fetch
        await until(lambda: not running(postgresql, database))


async def test_a_table_that_vanishes_before_it_is_read_is_not_found(
    postgresql: PostgreSQL, database: str, tmp_path: Path
):
    postgresql.execute("CREATE TABLE t (x int)", database)
    async with source_of(postgresql.dsn(database)) as source:
        plain = source._guard.peek()  # type: ignore[attr-defined]
        transaction = plain._sessions.transaction

        def dropped(**how: Any) -> Any:
            if how.get("streaming"):
                postgresql.execute("DROP TABLE IF EXISTS t", database)
            return transaction(**how)

        plain._sessions.transaction = dropped
        with pytest.raises(ItemNotFoundError, match="vanished"):
            await source.fetch("public.t", tmp_path)
    assert leftovers(tmp_path) == []


# -- servers that stand still ------------------------------------------------------------


async def test_a_query_that_takes_too_long_is_ended_by_the_server(
    postgresql: PostgreSQL, database: str
):
    async with source_of(postgresql.dsn(database), query_timeout=0.2) as source:
        with pytest.raises(DataSourceTimeoutError, match="raise query_timeout") as caught:
            await source.query("SELECT pg_sleep(30)")
        assert caught.value.context["sqlstate"] == "57014"
        assert not source._guard.peek()._is_failure(caught.value)  # type: ignore[attr-defined]
        assert running(postgresql, database) == []


async def test_a_fetch_may_take_longer_than_a_query_as_long_as_it_moves(
    postgresql: PostgreSQL, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("purveyor.providers.data_sources.postgresql_session.GRACE", 0.3)
    slowly = "SELECT repeat('x', 9000), pg_sleep(0.1) FROM generate_series(1, $1)"
    async with source_of(postgresql.dsn(database), query_timeout=0.2) as source:
        text = slowly.replace("$1", "12")
        assert (await source.fetch_query(text, tmp_path)).rows == 12
        with pytest.raises(DataSourceTimeoutError, match="query_timeout"):
            await source.fetch_query("SELECT pg_sleep(30)", tmp_path, name="other")
        await until(lambda: not running(postgresql, database))
    assert len(leftovers(tmp_path)) == 1


@pytest.mark.parametrize("operation", ["query", "fetch_query"])
async def test_a_frozen_server_is_given_up(
    postgresql: PostgreSQL,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
):
    monkeypatch.setattr("purveyor.providers.data_sources.postgresql_session.GRACE", 0.2)
    monkeypatch.setattr("purveyor.providers.data_sources.postgresql_session.GIVE_BACK_TIMEOUT", 0.3)
    async with source_of(postgresql.dsn(database), query_timeout=0.5, pool_size=2) as source:
        call = source.query("SELECT pg_sleep(30)")
        if operation == "fetch_query":
            call.close()
            call = source.fetch_query("SELECT pg_sleep(30)", tmp_path)
        pending = asyncio.ensure_future(call)
        await until(lambda: bool(running(postgresql, database)))
        (pid,) = running(postgresql, database)
        os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(DataSourceTimeoutError, match="query_timeout"):
                await pending
            assert time.monotonic() - started < 5
            assert (await source.query("SELECT 1")).rows == ((1,),)  # by another connection
        finally:
            os.kill(pid, signal.SIGCONT)
    assert leftovers(tmp_path) == []


async def test_a_full_pool_of_frozen_connections_ends_with_the_source(
    proxy: FaultyProxy, postgresql: PostgreSQL, database: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("purveyor.providers.data_sources.postgresql_session.GIVE_BACK_TIMEOUT", 0.2)
    source = behind(proxy, postgresql, database, pool_size=1)
    await source.connect()
    query = asyncio.ensure_future(source.query("SELECT pg_sleep(30)"))
    await until(lambda: bool(running(postgresql, database)))
    started = time.monotonic()
    await source.dispose()
    assert time.monotonic() - started < 5
    with pytest.raises(DataSourceError):
        await query


# -- the folder --------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["csv", "parquet"])
async def test_a_full_disk_is_told_and_ends_the_statement(
    postgresql: PostgreSQL, database: str, tmp_path: Path, format: Any
):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with source_of(postgresql.dsn(database)) as source:
        await source.check_health()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        try:
            with pytest.raises(WorkspaceError, match="Cannot write"):
                await source.fetch_query(ENDLESS, tmp_path, format=format)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert leftovers(tmp_path) == []
        await until(lambda: not running(postgresql, database))
        assert (await source.query("SELECT 1")).rows == ((1,),)
