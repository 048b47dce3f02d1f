"""Opening a catalogue: nothing before it is needed, migrations once, and what cannot be opened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from purveyor.containers import ApplicationContainer
from purveyor.providers.catalogue import Catalogue, CatalogueError, CatalogueUnavailableError
from purveyor.providers.catalogue import migrations as forms
from purveyor.providers.registry import InvalidStateError
from purveyor.settings import load_settings

from .conftest import WORKER, Running

FILES = {"type": "filesystem", "root": "files"}
LAZY = """
import asyncio, sys
from purveyor.containers import ApplicationContainer

async def main():
    app = ApplicationContainer()
    async with app.lifespan():
        app.storage()
        await app.catalogue().entries()
        assert await app.catalogue().get("storage", "x") is None

asyncio.run(main())
heavy = ("sqlalchemy", "alembic", "aiosqlite", "asyncpg", "cryptography")
print([name for name in sys.modules if name.startswith(heavy)])
"""


def test_nothing_is_imported_or_made_before_there_is_a_catalogue(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert list(folder.iterdir()) == []


def test_the_last_migration_is_the_one_that_opening_asks_for() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(forms.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == forms.HEAD


async def test_the_migrations_make_the_tables_of_the_model(url: str, running: Running) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from purveyor.providers.catalogue.model import metadata

    def differences(connection: object) -> object:
        options = {"version_table": forms.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)  # type: ignore[arg-type]
        return compare_metadata(context, metadata)

    async with running() as app:
        await app.catalogue().add("storage", "docs", FILES)
        async with app.catalogue()._opened().reading() as connection:
            assert await connection.run_sync(differences) == []


async def test_those_who_open_it_at_once_all_succeed(url: str, folder: Path) -> None:
    apps = [ApplicationContainer() for _ in range(8)]
    try:
        await asyncio.gather(
            *(
                app.catalogue().add("storage", f"docs{number}", FILES)
                for number, app in enumerate(apps)
            )
        )
        assert len(await apps[0].catalogue().entries()) == 8
    finally:
        for app in apps:
            await app.catalogue().close()


async def test_a_new_file_that_another_is_writing_is_waited_for(folder: Path, key: str) -> None:
    path = folder / "new.db"
    catalogue = ApplicationContainer(settings=load_settings(catalogue={"url": f"sqlite:///{path}"}))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (number)")
        other.execute("BEGIN IMMEDIATE")
        entries = asyncio.create_task(catalogue.catalogue().entries())
        await asyncio.wait([entries], timeout=0.2)
        other.execute("ROLLBACK")
        assert list(await entries) == []
    await catalogue.catalogue().close()


async def test_who_reads_a_file_does_not_wait_for_who_writes(folder: Path) -> None:
    path = folder / "shared.db"
    settings = load_settings(catalogue={"url": f"sqlite:///{path}"})
    async with ApplicationContainer(settings=settings).lifespan() as app:
        catalogue = app.catalogue()
        await catalogue.add("storage", "one", FILES)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            adding = asyncio.create_task(catalogue.add("storage", "two", FILES))
            await asyncio.wait([adding], timeout=0.2)
            async with asyncio.timeout(5):
                assert [entry.name for entry in await catalogue.entries()] == ["one"]
            assert not adding.done()
            other.execute("ROLLBACK")
        await adding
        assert [entry.name for entry in await catalogue.entries()] == ["one", "two"]


async def test_processes_that_open_it_at_once_all_succeed(url: str, running: Running) -> None:
    workers = [
        await asyncio.create_subprocess_exec(*WORKER, "add", f"p{n}x", stdout=subprocess.PIPE)
        for n in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        async with asyncio.timeout(60):
            assert await worker.stdout.readline()
    for worker in workers:
        worker.kill()
        await worker.communicate()


async def test_a_process_killed_while_it_registers_loses_nothing(
    url: str, running: Running
) -> None:
    worker = await asyncio.create_subprocess_exec(*WORKER, "add", "p", stdout=subprocess.PIPE)
    assert worker.stdout is not None
    async with asyncio.timeout(60):
        said = [(await worker.stdout.readline()).decode().strip() for _ in range(20)]
    worker.send_signal(signal.SIGKILL)
    rest, _ = await worker.communicate()
    said += rest.decode().split()
    async with running() as app:
        names = {entry.name for entry in await app.catalogue().entries()}
        assert names >= set(said)
        assert len(names) <= len(said) + 1  # one may have been stored and not told
        assert app.discovery().report.clean
        await app.catalogue().add("storage", "after", FILES)


async def test_a_newer_form_is_refused(url: str, running: Running) -> None:
    async with running() as app:
        await app.catalogue().add("storage", "docs", FILES)
        async with app.catalogue()._opened().writing() as (connection, _):
            await connection.execute(text(f"UPDATE {forms.VERSION_TABLE} SET version_num = '9999'"))
    async with running() as app:
        (row,) = app.discovery().report.failed
        assert row.code == "CATALOGUE_UNUSABLE"
        assert "'9999', which this release does not know" in row.reason
        with pytest.raises(CatalogueError, match="a newer one has written it"):
            await app.catalogue().add("storage", "more", FILES)
        assert app.storage("filesystem")


async def test_a_file_that_is_no_database(folder: Path, key: str, running: Running) -> None:
    path = folder / ".purveyor" / "catalogue.db"
    path.parent.mkdir()
    path.write_bytes(b"not a database, and long enough to look at" * 50)
    async with running() as app:
        (row,) = app.discovery().report.failed
        assert row.code == "CATALOGUE_UNUSABLE"
        assert f"{path.relative_to(folder)} cannot be used: file is not a database" in row.reason
        with pytest.raises(CatalogueError):
            await app.catalogue().entries()
    assert path.read_bytes().startswith(b"not a database")


async def test_a_database_of_somebody_else_keeps_its_tables(
    folder: Path, key: str, running: Running
) -> None:
    with contextlib.closing(sqlite3.connect(folder / "app.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('theirs')")
        connection.commit()
    settings = load_settings(catalogue={"url": f"sqlite:///{folder / 'app.db'}"})
    async with running(settings=settings) as app:
        await app.catalogue().add("storage", "docs", FILES)
    with contextlib.closing(sqlite3.connect(folder / "app.db")) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("theirs",)]


async def test_a_folder_that_cannot_be_made(folder: Path, key: str, running: Running) -> None:
    (folder / "file").write_text("")
    settings = load_settings(catalogue={"url": f"sqlite:///{folder}/file/catalogue.db"})
    async with running(settings=settings) as app:
        assert app.discovery().report.clean
        with pytest.raises(CatalogueUnavailableError, match="cannot be used at the moment"):
            await app.catalogue().add("storage", "docs", FILES)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder nobody may write to")
async def test_a_folder_that_may_not_be_written(folder: Path, key: str, running: Running) -> None:
    settings = load_settings(catalogue={"url": "sqlite:////sys/kernel/catalogue.db"})
    async with running(settings=settings) as app:
        assert app.discovery().report.clean
        with pytest.raises(CatalogueUnavailableError, match="may be reached and written"):
            await app.catalogue().add("storage", "docs", FILES)


async def test_something_else_in_the_place_of_the_file(
    folder: Path, key: str, running: Running
) -> None:
    (folder / ".purveyor" / "catalogue.db").mkdir(parents=True)
    async with running() as app:
        (row,) = app.discovery().report.failed
        assert row.code == "CATALOGUE_UNAVAILABLE"
        assert "unable to open database file" in row.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
@pytest.mark.parametrize(("mode", "reason"), [(0o000, "unable to open"), (0o400, "readonly")])
async def test_a_file_that_may_not_be_read_or_written(
    folder: Path, key: str, running: Running, mode: int, reason: str
) -> None:
    async with running() as app:
        await app.catalogue().add("storage", "docs", FILES)
    (folder / ".purveyor" / "catalogue.db").chmod(mode)
    (folder / ".purveyor").chmod(0o500)
    try:
        async with running() as app:
            with pytest.raises(CatalogueUnavailableError, match=reason):
                await app.catalogue().add("storage", "more", FILES)
    finally:
        (folder / ".purveyor").chmod(0o700)


async def test_on_another_event_loop_it_says_what_to_do(url: str, running: Running) -> None:
    def elsewhere(catalogue: Catalogue) -> None:
        asyncio.run(catalogue.entries())

    async with running() as app:
        await app.catalogue().add("storage", "docs", FILES)
        with pytest.raises(InvalidStateError, match="is open on another event loop"):
            await asyncio.to_thread(elsewhere, app.catalogue())


def test_after_its_event_loop_has_ended_it_opens_anew(folder: Path, key: str) -> None:
    catalogue = ApplicationContainer().catalogue()

    async def add() -> None:
        await catalogue.add("storage", "docs", FILES)
        await catalogue.close()

    async def look() -> int:
        try:
            return len(await catalogue.entries())
        finally:
            await catalogue.close()

    asyncio.run(add())
    assert asyncio.run(look()) == 1
