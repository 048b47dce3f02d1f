"""Secrets in the catalogue: encrypted, bound to their owner, and never in the clear anywhere."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select, update

from purveyor.containers import ApplicationContainer
from purveyor.providers.catalogue.model import registrations
from purveyor.providers.registry import (
    CredentialError,
    CredentialManager,
    HealthStatus,
    InvalidConfigError,
    is_sealed,
)
from purveyor.settings import load_settings
from purveyor.testing.servers import PostgreSQL

from .conftest import Running

CANARY = "canary-7f3a"
S3 = {"type": "s3", "bucket": "nightly", "access_key": CANARY, "secret_key": f"{CANARY}-secret"}
SFTP = {"type": "sftp", "host": "db", "username": "me", "password": CANARY}
server = pytest.mark.server("postgresql")


async def stored(app: ApplicationContainer, name: str) -> dict[str, str]:
    async with app.catalogue()._opened().reading() as connection:
        where = registrations.c.name == name
        found = await connection.scalar(select(registrations.c.secrets).where(where))
    assert found is not None
    return found


async def store(app: ApplicationContainer, name: str, secrets: dict[str, str]) -> None:
    async with app.catalogue()._opened().writing() as (connection, _):
        where = registrations.c.name == name
        await connection.execute(update(registrations).where(where).values(secrets=secrets))


@pytest.mark.requirement("S3.4", "S3.27")
async def test_no_secret_is_in_the_file_nor_its_log_nor_in_logs(
    folder: Path, key: str, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running() as app:
        entry = await app.catalogue().add("storage", "docs", S3)
        await app.catalogue().update("storage", "docs", {"bucket": "other"}, version=entry.version)
        files = sorted((folder / ".purveyor").iterdir())
        names = {"catalogue.db", "catalogue.db-shm", "catalogue.db-wal"}
        assert {file.name for file in files} == names
        # Read by another process: closing a file here would drop the locks SQLite has on it.
        found = await asyncio.create_subprocess_exec(
            "cat", *map(str, files), stdout=asyncio.subprocess.PIPE
        )
        content, _ = await found.communicate()
        assert b"nightly" in content
        assert CANARY.encode() not in content
        assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}
    assert CANARY not in caplog.text
    assert CANARY.encode() not in (folder / ".purveyor" / "catalogue.db").read_bytes()


@pytest.mark.requirement("S3.27")
async def test_each_secret_is_encrypted_by_itself(url: str, running: Running) -> None:
    async with running() as app:
        entry = await app.catalogue().add("storage", "docs", S3)
        secrets = await stored(app, "docs")
        assert set(secrets) == {"access_key", "secret_key"}
        assert all(is_sealed(token) for token in secrets.values())
        assert entry.key_ids == {app.catalogue().credentials.key_ids[0]}


@pytest.mark.requirement("S3.29")
async def test_listing_decrypts_nothing(
    url: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as app:
        await app.catalogue().add("storage", "docs", S3)
        decrypted: list[str] = []
        monkeypatch.setattr(CredentialManager, "decrypt", lambda *_: decrypted.append("one"))
        for entry in await app.catalogue().entries():
            entry.to_dict()
            repr(entry)
        assert decrypted == []


@server
async def test_a_server_without_a_key_is_refused_at_the_start(
    server_url: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PURVEYOR_CREDENTIALS__KEYS")
    with pytest.raises(CredentialError, match="PURVEYOR_CREDENTIALS__KEYS"):
        async with running():
            pass
    with pytest.raises(CredentialError, match="PURVEYOR_CREDENTIALS__KEYS"):
        await ApplicationContainer().catalogue().add("storage", "docs", S3)


async def test_a_file_without_a_key_gets_a_key_file_elsewhere(
    folder: Path, running: Running
) -> None:
    async with running() as app:
        await app.catalogue().add("storage", "docs", S3)
    assert (folder / "keys" / "purveyor" / "credentials.key").stat().st_mode & 0o777 == 0o600
    async with running() as app:
        assert app.storage("docs")


async def test_with_a_wrong_key_only_those_with_secrets_fail(
    url: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as app:
        await app.catalogue().add("storage", "docs", S3)
        await app.catalogue().add("storage", "files", {"type": "filesystem", "root": "x"})
        right = app.catalogue().credentials.key_ids[0]
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", CredentialManager.generate_key())
    async with running() as app:
        assert app.storage("files")
        (row,) = app.discovery().report.failed
        assert (row.name, row.code) == ("docs", "CREDENTIAL_ERROR")
        assert f"was encrypted with key {right}, which is not among the keys" in row.reason
        assert "of storage provider 'docs'" in row.reason
        entry = await app.catalogue().get("storage", "docs")
        assert entry is not None
        assert entry.key_ids == {right}
        with pytest.raises(CredentialError):  # what is kept cannot be validated
            await app.catalogue().update(
                "storage", "docs", {"bucket": "other"}, version=entry.version
            )
        new = {key: S3[key] for key in ("bucket", "access_key", "secret_key")}
        await app.catalogue().update("storage", "docs", new, version=entry.version)
        assert app.storage("docs")


async def test_a_secret_moved_to_another_provider_is_refused(url: str, running: Running) -> None:
    async with running() as app:
        await app.catalogue().add("storage", "mine", S3)
        await app.catalogue().add("storage", "yours", {**S3, "secret_key": "other"})
        await store(app, "yours", await stored(app, "mine"))
    async with running() as app:
        (row,) = app.discovery().report.failed
        assert (row.name, row.code) == ("yours", "CREDENTIAL_ERROR")
        assert "of storage provider 'mine': it was moved or copied there" in row.reason
        assert app.storage("mine")


@pytest.mark.parametrize("damage", ["", "gAAAA", "v1:00000000:gAAA", "v9:abc:def"])
async def test_a_damaged_secret_concerns_nobody_else(
    url: str, running: Running, damage: str
) -> None:
    async with running() as app:
        await app.catalogue().add("storage", "docs", S3)
        await app.catalogue().add("storage", "other", S3)
        await store(app, "docs", {**await stored(app, "docs"), "secret_key": damage})
    async with running() as app:
        (row,) = app.discovery().report.failed
        assert (row.name, row.code) == ("docs", "CREDENTIAL_ERROR")
        assert "'secret_key' of storage provider 'docs'" in row.reason
        assert app.storage("other")


async def test_two_catalogues_may_have_one_key(folder: Path, key: str, running: Running) -> None:
    urls = [f"sqlite:///{folder / name}.db" for name in ("one", "two")]
    for url in urls:
        async with running(settings=load_settings(catalogue={"url": url})) as app:
            assert await app.catalogue().entries() == []
            await app.catalogue().add("storage", "docs", {**S3, "bucket": url[-6:-3]})
    for url in urls:
        async with running(settings=load_settings(catalogue={"url": url})) as app:
            config: Any = app.storage.registry.config("docs")
            assert config.bucket == url[-6:-3]


@server
@pytest.mark.parametrize(
    "password", ["p@ss/w:rd?#%[x]", "100%", "ü & ' \" ;", "%41b", "a b+c", "x@y@z"]
)
@pytest.mark.parametrize("quoted", [True, False])
async def test_an_odd_password_works(
    folder: Path,
    key: str,
    running: Running,
    postgresql: PostgreSQL,
    password: str,
    quoted: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if password == "%41b" and not quoted:
        pytest.skip("what is quoted cannot be told from what is not")
    caplog.set_level(logging.DEBUG)
    database = postgresql.create_database()
    role = database.replace("test", "role")
    literal = password.replace("'", "''")
    postgresql.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{literal}'")
    given = quote(password, safe="") if quoted else password
    url = f"postgresql://{role}:{given}@127.0.0.1:{postgresql.port}/{database}"
    async with running(settings=load_settings(catalogue={"url": url})) as app:
        await app.catalogue().add("storage", "docs", S3)
        assert await app.catalogue().get("storage", "docs")
        assert app.discovery().report.clean
        assert password not in repr(app.settings().catalogue)
    assert password not in caplog.text


@server
async def test_a_wrong_password_is_told_without_it(
    folder: Path, key: str, running: Running, postgresql: PostgreSQL
) -> None:
    url = f"postgresql://postgres:{CANARY}@127.0.0.1:{postgresql.port}/postgres?sslmode=disable"
    async with running(settings=load_settings(catalogue={"url": url})) as app:
        (row,) = app.discovery().report.failed
        assert row.code == "CATALOGUE_UNAVAILABLE"
        assert "password authentication failed" in row.reason
        assert CANARY not in row.reason


@pytest.mark.parametrize(
    ("family", "before", "after"),
    [
        ("storage", S3, {"bucket": "nightly", "endpoint_url": "https://s3.example.org"}),
        (
            "data_sources",
            {"type": "postgresql", "host": "db", "database": "d", "password": CANARY},
            {"host": "elsewhere", "database": "d"},
        ),
        (
            "data_sources",
            {"type": "postgresql", "dsn": "postgresql://me@db/d", "password": CANARY},
            {"dsn": "postgresql://me@elsewhere/d"},
        ),
        (
            "data_sources",
            {"type": "postgresql", "host": "db", "sslmode": "verify-full", "password": CANARY},
            {"host": "db", "sslmode": "disable"},
        ),
        ("storage", SFTP, {"host": "db", "username": "me", "host_key_checking": False}),
        ("storage", SFTP, {"host": "db", "username": "me", "known_hosts": "/tmp/known"}),
    ],
)
async def test_stored_secrets_are_not_shown_to_another_server(
    app: ApplicationContainer, family: str, before: dict[str, str], after: dict[str, str]
) -> None:
    catalogue = app.catalogue()
    entry = await catalogue.add(family, "docs", before)
    with pytest.raises(InvalidConfigError, match="is to be reached elsewhere") as caught:
        await catalogue.update(family, "docs", after, version=entry.version)
    assert CANARY not in str(caught.value)
    anew = {key: value for key, value in before.items() if CANARY in value}
    changed = await catalogue.update(family, "docs", {**after, **anew}, version=entry.version)
    assert changed.version > entry.version


async def test_settings_are_tried_with_stored_secrets_where_they_were_given_for(
    folder: Path, key: str, running: Running
) -> None:
    there = "http://127.0.0.1:8"
    moved = {"type": "s3", "bucket": "nightly", "endpoint_url": "http://127.0.0.1:9"}
    async with running() as app:
        catalogue = app.catalogue()
        entry = await catalogue.add("storage", "one", {**S3, "endpoint_url": there})
        with pytest.raises(InvalidConfigError, match="endpoint_url changed"):
            await catalogue.try_out("storage", "one", moved)
        tried = await catalogue.try_out(
            "storage", "one", {"bucket": "weekly", "endpoint_url": there}
        )
        assert tried.status is HealthStatus.UNHEALTHY  # nobody listens there
        assert await catalogue.get("storage", "one") == entry


async def test_an_entry_tells_whether_it_holds_some_settings(
    folder: Path, key: str, running: Running
) -> None:
    async with running() as app:
        catalogue = app.catalogue()
        entry = await catalogue.add("storage", "one", S3)
        assert catalogue.holds(entry, S3)
        assert catalogue.holds(entry, {"bucket": "nightly"})  # secrets left out stay
        assert not catalogue.holds(entry, {**S3, "secret_key": "another"})
        assert not catalogue.holds(entry, {**S3, "access_key": None, "secret_key": None})
        assert not catalogue.holds(entry, {**S3, "bucket": "weekly"})
        assert not catalogue.holds(entry, {**S3, "priority": 51})
        with pytest.raises(InvalidConfigError):
            catalogue.holds(entry, {**S3, "secret_key": "**********"})
