"""Records of changes; that all of one is kept, in a catalogue of each kind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from purveyor.containers import ApplicationContainer
from purveyor.providers.catalogue import AuditLog, Catalogue, CatalogueUnavailableError
from purveyor.providers.registry import NotFoundError, PermissionDeniedError
from purveyor.providers.registry.redaction import remember


@pytest.fixture
async def catalogue(
    folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Catalogue]:
    """A catalogue in a file, which is not there yet."""
    monkeypatch.setenv("PURVEYOR_CATALOGUE__URL", f"sqlite:///{folder / 'shared.db'}")
    catalogue = ApplicationContainer().catalogue()
    yield catalogue
    await catalogue.close()


@pytest.fixture
def audit(catalogue: Catalogue) -> AuditLog:
    return AuditLog(catalogue)


class Login(BaseModel):
    password: SecretStr


@pytest.fixture
def login() -> Login:
    """A password that is known to be one, as long as this lives."""
    login = Login(password=SecretStr("canary-Pa55word"))
    remember(login)
    return login


@pytest.mark.requirement("S4.53")
async def test_who_what_when_and_with_what_result(app: ApplicationContainer) -> None:
    audit = AuditLog(app.catalogue())
    before = datetime.now(UTC)
    await audit.write("ci", "register", "storage/docs")
    await audit.write("anonymous", "stop", "storage/none", NotFoundError("There is none."))
    later, first = await audit.entries()
    assert before <= first.at <= later.at <= datetime.now(UTC)
    assert (first.caller, first.action, first.target) == ("ci", "register", "storage/docs")
    assert (first.outcome, first.detail) == ("ok", "")
    assert (later.outcome, later.detail) == ("NOT_FOUND", "There is none.")
    assert later.to_dict()["at"] == later.at.isoformat()


async def test_the_latest_come_first_in_pages(audit: AuditLog) -> None:
    for number in range(5):
        await audit.write("ci", "start", f"storage/{number}")
    page = await audit.entries(limit=2)
    rest = await audit.entries(before=page[-1].id)
    assert [one.target for one in (*page, *rest)] == [f"storage/{n}" for n in (4, 3, 2, 1, 0)]


async def test_no_secret_reaches_a_record_or_the_log(
    audit: AuditLog, login: Login, caplog: pytest.LogCaptureFixture
) -> None:
    canary = login.password.get_secret_value()
    caplog.set_level(logging.INFO, "purveyor.audit")
    await audit.write("ci", "register", f"storage/{canary}", ConnectionError(f"not with {canary}"))
    (record,) = await audit.entries()
    assert record.outcome == "ConnectionError"
    assert canary not in f"{record}{caplog.text}"


async def test_what_a_caller_names_can_forge_no_line_and_fill_no_disk(
    audit: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "purveyor.audit")
    name = "x\n2026-01-01 admin unregister all: ok \x1b[2J\x00\ud800 " + "y" * 1_000_000
    await audit.write("ci", "register", name, ValueError(name))
    (record,) = await audit.entries()
    assert record.target.startswith("x 2026-01-01 admin unregister all: ok \ufffd[2J\ufffd\ufffd")
    assert len(caplog.messages) == 1
    assert "\n" not in caplog.messages[0]
    assert len(caplog.messages[0]) < 3000


async def test_a_cancelled_change_leaves_its_record_too(audit: AuditLog) -> None:
    await audit.write("ci", "stop", "storage/slow", asyncio.CancelledError())
    assert (await audit.entries())[0].outcome == "CancelledError"


async def test_records_end_with_their_days(catalogue: Catalogue, audit: AuditLog) -> None:
    await audit.write("ci", "start", "storage/old")
    async with catalogue.store().writing_aside() as connection:
        from purveyor.providers.catalogue.model import audit as table

        at = datetime.now(UTC) - timedelta(days=31)
        await connection.execute(table.update().values(at=at))
    assert len(await audit.entries()) == 1
    await AuditLog(catalogue, days=30).write("ci", "start", "storage/new")
    assert [one.target for one in await audit.entries()] == ["storage/new"]


async def test_without_the_database_the_log_has_the_record_and_the_change_stands(
    audit: AuditLog, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "purveyor.audit")
    (folder / "shared.db").write_bytes(b"this is no database" * 100)
    await audit.write("ci", "stop", "storage/docs", PermissionDeniedError("No."))
    assert "ci stop storage/docs: PERMISSION_DENIED No." in caplog.text
    assert "is in this log alone" in caplog.text


async def test_a_database_that_was_away_a_moment_ago_is_not_waited_for_again(
    audit: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    await audit.write("ci", "stop", "storage/docs")
    caplog.set_level(logging.INFO, "purveyor.audit")
    await audit.write("ci", "register", "storage/docs", CatalogueUnavailableError("It is locked."))
    assert "is in this log alone: It is locked." in caplog.text
    assert [record.action for record in await audit.entries()] == ["stop"]


async def test_reading_makes_no_database(audit: AuditLog, folder: Path) -> None:
    assert await audit.entries() == []
    assert not (folder / "shared.db").exists()
