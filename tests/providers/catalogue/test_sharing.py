"""Several processes on one catalogue: each sees what the others change, and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.catalogue import Catalogue
from purveyor.providers.catalogue.announce import Follower
from purveyor.providers.registry import NotFoundError, Outcome
from purveyor.testing.servers import PostgreSQL

from ...servers import FaultyProxy
from .conftest import WORKER, Running

FILES = {"type": "filesystem", "root": "files"}
server = pytest.mark.server("postgresql")


@contextlib.asynccontextmanager
async def worker(*arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *WORKER, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().split()


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what other processes do is no event here
            await asyncio.sleep(0.01)


@server
async def test_a_change_is_used_by_other_processes_within_a_second(
    server_url: str, running: Running
) -> None:
    async with worker("watch", "docs") as one, worker("watch", "docs") as two, running() as app:
        for process in (one, two):
            assert await line(process) == ["ready"]
        begun = time.time()
        entry = await app.catalogue().add("storage", "docs", {**FILES, "root": "first"})
        for process in (one, two):
            root, _, used = await line(process)
            assert root.endswith("/first")
            assert float(used) - begun < 1
        begun = time.time()
        await app.catalogue().update("storage", "docs", {"root": "next"}, version=entry.version)
        for process in (one, two):
            root, _, used = await line(process)
            assert root.endswith("/next")
            assert float(used) - begun < 1


@server
async def test_a_removal_is_seen_by_others(server_url: str, running: Running) -> None:
    async with running() as one, running() as two:
        await one.catalogue().add("storage", "docs", FILES)
        await until(lambda: "docs" in two.storage.registry)
        await two.catalogue().remove("storage", "docs")
        await until(lambda: "docs" not in one.storage.registry)


async def test_two_hundred_writers_in_several_processes_lose_nothing(
    url: str, running: Running
) -> None:
    async with running() as app:
        for number in range(20):
            nothing = {**FILES, "metadata": {"count": 0}}
            await app.catalogue().add("storage", f"docs{number}", nothing)
        async with (
            worker("count", "docs", "67") as one,
            worker("count", "docs", "67") as two,
            worker("count", "docs", "66") as three,
        ):
            for process in (one, two, three):
                async with asyncio.timeout(90):
                    assert await process.wait() == 0
        entries = await app.catalogue().entries()
        assert sum(entry.settings.metadata["count"] for entry in entries) == 200


@server
async def test_a_lost_connection_is_replaced_and_followed_by_a_full_comparison(
    server_url: str, running: Running, postgresql: PostgreSQL
) -> None:
    other = ApplicationContainer()
    async with running() as app:
        await until(lambda: listeners(postgresql, server_url))
        await other.catalogue().add("storage", "kept", FILES)
        await until(lambda: "kept" in app.storage.registry)
        # Rather than announced, what changes meanwhile is there when it listens again.
        async with silent(other.catalogue()):
            await other.catalogue().add("storage", "docs", FILES)
        assert "docs" not in app.storage.registry
        postgresql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'purveyor' AND datname = current_database()",
            server_url.rpartition("/")[2],
        )
        await until(lambda: "docs" in app.storage.registry)
    await other.catalogue().close()


def listeners(postgresql: PostgreSQL, url: str) -> int:
    """Return how many connections listen."""
    return int(
        postgresql.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND query ILIKE 'LISTEN%'",
            url.rpartition("/")[2],
        )
    )


@contextlib.asynccontextmanager
async def silent(catalogue: Catalogue) -> AsyncGenerator[None]:
    """Have changes announced to nobody."""
    store = catalogue._opened()
    store._is_server = False
    try:
        yield
    finally:
        store._is_server = True


@server
async def test_a_connection_that_is_silently_dead_is_noticed(
    server_url: str,
    running: Running,
    postgresql: PostgreSQL,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Follower, "heartbeat", 0.5)
    direct = ApplicationContainer()
    async with FaultyProxy(postgresql.port) as proxy:
        through = server_url.replace(f":{postgresql.port}/", f":{proxy.port}/")
        async with running(settings=_with_url(through)) as app:
            await direct.catalogue().add("storage", "first", FILES)
            await until(lambda: "first" in app.storage.registry)
            proxy.flowing.clear()
            await direct.catalogue().add("storage", "second", FILES)
            await until(lambda: "Lost the catalogue postgresql://" in caplog.text)
            assert "second" not in app.storage.registry
            proxy.flowing.set()
            await until(lambda: "second" in app.storage.registry)
    await direct.catalogue().close()


def _with_url(url: str) -> object:
    from purveyor.settings import load_settings

    return load_settings(catalogue={"url": url})


@server
async def test_a_server_that_ends_and_comes_back(
    folder: object, key: str, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with PostgreSQL() as postgresql:
        url = postgresql.dsn(postgresql.create_database())
        async with running(settings=_with_url(url)) as app:
            catalogue = app.catalogue()
            await catalogue.add("storage", "docs", FILES)
            await until(lambda: listeners(postgresql, url))
            await asyncio.to_thread(postgresql.halt)
            await until(lambda: "Lost the catalogue postgresql://" in caplog.text)
            # What is known stays in force; a change is refused, and says why.
            await app.storage("docs").put("a", b"x")
            with pytest.raises(ConnectionError, match="cannot be used at the moment") as raised:
                await catalogue.add("storage", "more", FILES)
            assert postgresql.password not in f"{raised.value!r}{caplog.text}"
            report = await app.discovery().refresh()
            assert [row.code for row in report.failed] == ["CATALOGUE_UNAVAILABLE"]
            assert app.storage("docs")
            await asyncio.to_thread(postgresql.resume)
            await until(lambda: "answers again" in caplog.text)
            await catalogue.add("storage", "more", FILES)
            assert (await app.discovery().refresh()).clean


@server
async def test_an_application_starts_without_its_catalogue(
    folder: object, key: str, running: Running
) -> None:
    url = "postgresql://user:canary-password@127.0.0.1:1/none"
    async with running(settings=_with_url(url)) as app:
        (row,) = app.discovery().report.failed
        assert row.code == "CATALOGUE_UNAVAILABLE"
        assert "127.0.0.1:1/none" in row.reason
        assert "canary" not in row.reason
        assert app.storage("filesystem")


async def test_an_announcement_of_somebody_else_leads_to_a_comparison() -> None:
    follower = Follower.__new__(Follower)
    follower._heard, follower._everything, follower._news = set(), False, asyncio.Event()
    follower._hear(None, 0, "", json.dumps(["storage", "docs"]))
    assert (follower._heard, follower._everything) == ({("storage", "docs")}, False)
    follower._hear(None, 0, "", "nothing of ours")
    assert follower._everything


async def test_processes_on_one_file_see_changes_at_the_next_look(
    folder: object, key: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__DISCOVERY__AUTO_REFRESH_INTERVAL", "0.05")
    async with running() as one, running() as two:
        entry = await one.catalogue().add("storage", "docs", FILES)
        await until(lambda: "docs" in two.storage.registry)
        await one.catalogue().update("storage", "docs", {"root": "b"}, version=entry.version)
        registry: Any = two.storage.registry
        await until(lambda: registry.config("docs").root.name == "b")
        await two.catalogue().remove("storage", "docs")
        await until(lambda: "docs" not in one.storage.registry)


async def test_a_refresh_takes_in_what_another_process_changed(
    url: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monitoring=False) as one, running(monitoring=False) as two:
        await one.catalogue().add("storage", "docs", FILES)
        with pytest.raises(NotFoundError):
            two.storage("docs")
        report = await two.discovery().refresh()
        assert [row.name for row in report.of(Outcome.REGISTERED)] == ["docs"]
        await one.catalogue().remove("storage", "docs")
        report = await two.discovery().refresh()
        assert [row.name for row in report.of(Outcome.REMOVED)] == ["docs"]
