"""Registrations that stay: added, changed, removed, and there again in the next process."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from purveyor.containers import ApplicationContainer
from purveyor.providers.catalogue import ConflictError, Entry
from purveyor.providers.catalogue.rows import Row, now, put
from purveyor.providers.registry import (
    MASK,
    UNCHANGED,
    AlreadyExistsError,
    InvalidConfigError,
    InvalidNameError,
    NotFoundError,
    Outcome,
    RegistryError,
)
from purveyor.settings import SettingsError, load_settings

from .conftest import Running

S3 = {"type": "s3", "bucket": "nightly", "access_key": "canary-access", "secret_key": "canary-key"}


def config(app: ApplicationContainer, name: str) -> dict[str, object]:
    found = app.storage.registry.config(name)
    assert found is not None
    return {
        key: value.get_secret_value() if isinstance(value, SecretStr) else value
        for key, value in found.model_dump().items()
    }


async def test_what_is_added_is_usable_at_once(app: ApplicationContainer, folder: Path) -> None:
    entry = await app.catalogue().add("storage", "docs", {"type": "filesystem", "root": "docs"})
    await app.storage("docs").put("a.txt", b"x")
    assert (folder / "docs" / "a.txt").read_bytes() == b"x"
    assert (entry.family, entry.name, entry.type) == ("storage", "docs", "filesystem")
    assert app.storage.registry.info("docs").source == "api"


@pytest.mark.requirement("S3.24")
async def test_it_is_there_again_in_the_next_process(url: str, running: Running) -> None:
    async with running() as first:
        await first.catalogue().add("storage", "docs", {**S3, "priority": 70})
    async with running() as second:
        info = second.storage.registry.info("docs")
        assert (info.type, info.priority, info.source) == ("s3", 70, "api")
        assert info.origin.startswith("catalogue ")
        assert config(second, "docs")["secret_key"] == "canary-key"


async def test_an_update_replaces_the_settings(app: ApplicationContainer) -> None:
    catalogue = app.catalogue()
    first = await catalogue.add("storage", "docs", {**S3, "prefix": "a/"})
    held = app.storage("docs")
    second = await catalogue.update("storage", "docs", {"bucket": "other"}, version=first.version)
    assert second.version > first.version
    assert second.updated_at >= first.updated_at
    assert (config(app, "docs")["bucket"], config(app, "docs")["prefix"]) == ("other", "")
    assert app.storage("docs") is held


@pytest.mark.parametrize("given", [{}, {"secret_key": UNCHANGED, "access_key": UNCHANGED}])
async def test_a_secret_left_out_or_unchanged_is_kept(
    app: ApplicationContainer, given: dict[str, object]
) -> None:
    catalogue = app.catalogue()
    entry = await catalogue.add("storage", "docs", S3)
    await catalogue.update("storage", "docs", {"bucket": "other", **given}, version=entry.version)
    assert config(app, "docs")["secret_key"] == "canary-key"


async def test_none_removes_a_secret(app: ApplicationContainer) -> None:
    catalogue = app.catalogue()
    entry = await catalogue.add("storage", "docs", {**S3, "session_token": "canary-token"})
    without = {"bucket": "other", "session_token": None}
    entry = await catalogue.update("storage", "docs", without, version=entry.version)
    assert config(app, "docs")["session_token"] is None
    assert set(entry.secrets) == {"access_key", "secret_key"}


async def test_a_mask_that_comes_back_is_refused(app: ApplicationContainer) -> None:
    catalogue = app.catalogue()
    entry = await catalogue.add("storage", "docs", S3)
    shown = entry.to_dict()["settings"]["options"]
    assert shown == {"bucket": "nightly", "access_key": MASK, "secret_key": MASK}
    with pytest.raises(InvalidConfigError, match=r"secret_key: is the mask, not the value"):
        await catalogue.update("storage", "docs", shown, version=entry.version)
    assert config(app, "docs")["secret_key"] == "canary-key"


async def test_unchanged_needs_something_stored(app: ApplicationContainer) -> None:
    with pytest.raises(InvalidConfigError, match="secret_key: is UNCHANGED, and no such secret"):
        await app.catalogue().add("storage", "docs", {**S3, "secret_key": UNCHANGED})


async def test_older_names_of_settings_are_stored_under_their_own(
    app: ApplicationContainer,
) -> None:
    entry = await app.catalogue().add("storage", "docs", {"type": "s3", "bucket_name": "nightly"})
    assert entry.config == {"options": {"bucket": "nightly"}}


async def test_secrets_may_be_given_typed(app: ApplicationContainer) -> None:
    entry = await app.catalogue().add(
        "storage", "docs", {**S3, "secret_key": SecretStr("canary-typed")}
    )
    assert config(app, "docs")["secret_key"] == "canary-typed"
    assert set(entry.secrets) == {"access_key", "secret_key"}


async def test_of_two_writers_the_second_learns_of_the_first(app: ApplicationContainer) -> None:
    catalogue = app.catalogue()
    seen = await catalogue.add("storage", "docs", S3)
    now = await catalogue.update("storage", "docs", {"bucket": "first"}, version=seen.version)
    with pytest.raises(ConflictError, match=f"changed it to version {now.version}") as raised:
        await catalogue.update("storage", "docs", {"bucket": "second"}, version=seen.version)
    assert raised.value.code == "CONFLICT"
    assert raised.value.context == {
        "family": "storage",
        "expected": seen.version,
        "version": now.version,
    }
    with pytest.raises(ConflictError):
        await catalogue.remove("storage", "docs", version=seen.version)
    assert config(app, "docs")["bucket"] == "first"


async def test_a_version_is_never_given_twice(app: ApplicationContainer) -> None:
    catalogue = app.catalogue()
    seen = await catalogue.add("storage", "docs", S3)
    await catalogue.remove("storage", "docs")
    await catalogue.add("storage", "docs", {**S3, "bucket": "other"})
    with pytest.raises(ConflictError):
        await catalogue.update("storage", "docs", S3, version=seen.version)


async def test_what_is_removed_is_gone(app: ApplicationContainer) -> None:
    catalogue = app.catalogue()
    entry = await catalogue.add("storage", "docs", S3)
    await catalogue.remove("storage", "docs", version=entry.version)
    assert await catalogue.get("storage", "docs") is None
    with pytest.raises(NotFoundError):
        app.storage("docs")
    with pytest.raises(NotFoundError, match=r"Of the storage providers the catalogue .* has none"):
        await catalogue.remove("storage", "docs")
    with pytest.raises(NotFoundError, match=r"Of the storage providers the catalogue .* has none"):
        await catalogue.update("storage", "docs", S3, version=1)


async def test_entries_are_listed_by_family_and_name(app: ApplicationContainer) -> None:
    catalogue = app.catalogue()
    for name in ("b", "a"):
        await catalogue.add("storage", name, S3)
    await catalogue.add("data_sources", "files", {"type": "local_file", "root": "."})
    found = await catalogue.entries()
    assert [(one.family, one.name) for one in found] == [
        ("data_sources", "files"),
        ("storage", "a"),
        ("storage", "b"),
    ]
    assert [one.name for one in await catalogue.entries("storage")] == ["a", "b"]


async def test_a_taken_name_is_refused_with_both_origins(
    url: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__DOCS__TYPE", "filesystem")
    async with running() as app:
        catalogue = app.catalogue()
        with pytest.raises(AlreadyExistsError, match=r"from environment, PURVEYOR_STORAGE__.*cat"):
            await catalogue.add("storage", "docs", S3)
        await app.storage.registry.register("hand", {"type": "filesystem", "root": "x"})
        with pytest.raises(AlreadyExistsError, match=r"from api, .*test_catalogue\.py"):
            await catalogue.add("storage", "hand", S3)
        first = await catalogue.add("storage", "mine", S3)
        with pytest.raises(AlreadyExistsError, match=rf"\(version {first.version}\)"):
            await catalogue.add("storage", "mine", S3)
        assert [one.name for one in await catalogue.entries()] == ["mine"]


async def test_a_built_in_name_may_be_taken_and_comes_back(app: ApplicationContainer) -> None:
    catalogue = app.catalogue()
    await catalogue.add("storage", "sqlite", {"path": "mine.db"})
    assert app.storage.registry.info("sqlite").source == "api"
    await catalogue.remove("storage", "sqlite")
    assert app.storage.registry.info("sqlite").source == "builtin"


async def test_an_entry_comes_before_settings_of_its_name_which_are_reported(
    url: str, running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as app:
        await app.catalogue().add("storage", "docs", {**S3, "bucket": "of-catalogue"})
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__DOCS", '{"type": "s3", "bucket": "of-env"}')
    async with running() as app:
        assert config(app, "docs")["bucket"] == "of-catalogue"
        (row,) = [row for row in app.discovery().report.skipped if row.name == "docs"]
        assert "shadowed by the one from api, catalogue " in row.reason
        await app.catalogue().remove("storage", "docs")
        assert config(app, "docs")["bucket"] == "of-env"


@pytest.mark.parametrize(
    ("family", "name", "given", "error"),
    [
        ("storage", "docs", {"type": "s3"}, InvalidConfigError),
        ("storage", "docs", {"type": "s3", "bucket": "docs", "colour": 1}, InvalidConfigError),
        ("storage", "docs", {"type": "s3", "bucket": "docs", "priority": 999}, InvalidConfigError),
        ("storage", "docs", {"type": "nothing"}, NotFoundError),
        ("storage", "docs", {"bucket": "docs"}, InvalidConfigError),
        ("storage", "../x", S3, InvalidNameError),
        ("storages", "docs", S3, NotFoundError),
        ("storage", "docs", {**S3, "prefix": b"\xff"}, InvalidConfigError),
    ],
)
async def test_what_its_type_refuses_is_not_stored(
    app: ApplicationContainer,
    family: str,
    name: str,
    given: dict[str, object],
    error: type[RegistryError],
) -> None:
    with pytest.raises(error) as raised:
        await app.catalogue().add(family, name, given)
    assert "canary" not in str(raised.value)
    assert await app.catalogue().entries() == []


async def test_a_row_of_an_unknown_type_is_readable_and_a_fault_row(
    url: str, running: Running
) -> None:
    async with running() as app:
        entry = await app.catalogue().add("storage", "docs", S3)
        await app.catalogue().add("storage", "other", S3)
        await change_row(app, entry, type="tape")
    async with running() as app:
        (row,) = app.discovery().report.failed
        assert (row.name, row.code) == ("docs", "NOT_FOUND")
        found = await app.catalogue().get("storage", "docs")
        assert found is not None
        assert found.type == "tape"
        assert found.key_ids == entry.key_ids
        assert found.to_dict()["settings"]["options"]["secret_key"] == MASK
        assert app.storage("other")


@pytest.mark.parametrize("config", [{"priority": "much"}, {"colour": 1, "options": 3}, []])
async def test_a_row_that_is_no_providers_settings_is_a_fault_row(
    url: str, running: Running, config: object
) -> None:
    async with running() as app:
        entry = await app.catalogue().add("storage", "docs", S3)
        await app.catalogue().add("storage", "other", S3)
        await change_row(app, entry, config=config)
    async with running() as app:
        (row,) = app.discovery().report.failed
        assert (row.name, row.code) == ("docs", "INVALID_CONFIG")
        found = await app.catalogue().entries()
        assert [(one.name, one.fault is None) for one in found] == [
            ("docs", False),
            ("other", True),
        ]
        assert found[0].to_dict()["fault"]["code"] == "INVALID_CONFIG"


async def change_row(app: ApplicationContainer, entry: Entry, **values: object) -> None:
    """Change a row behind the catalogue's back."""
    from sqlalchemy import update

    from purveyor.providers.catalogue.model import registrations

    where = registrations.c.name == entry.name
    async with app.catalogue()._opened().writing() as (connection, _):
        await connection.execute(update(registrations).where(where).values(**values))


async def test_an_entry_shows_no_secret(
    app: ApplicationContainer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    catalogue = app.catalogue()
    entry = await catalogue.add("storage", "docs", S3)
    found = await catalogue.entries()
    shown = [repr(entry), str(entry), repr(found), str(entry.to_dict()), repr(entry.settings)]
    shown += [entry.settings.model_dump_json(), str(entry.settings.model_dump()), caplog.text]
    assert [text for text in shown if "canary" in text] == []


async def test_fifty_writers_of_one_entry_lose_nothing(app: ApplicationContainer) -> None:
    catalogue = app.catalogue()
    entry = await catalogue.add("storage", "docs", {**S3, "metadata": {"count": 0}})

    async def count() -> None:
        while True:
            now = await catalogue.get("storage", "docs")
            assert now is not None
            more = {"bucket": "nightly", "metadata": {"count": now.settings.metadata["count"] + 1}}
            try:
                await catalogue.update("storage", "docs", more, version=now.version)
            except ConflictError:
                continue
            return

    async def five() -> None:
        for _ in range(5):
            await count()

    await asyncio.gather(*(five() for _ in range(10)))
    now = await catalogue.get("storage", "docs")
    assert now is not None
    assert now.settings.metadata == {"count": 50}
    assert app.storage.registry.info("docs").metadata == {"count": 50}
    assert now.version >= entry.version + 50


@pytest.mark.parametrize("many", [3, 501])
async def test_many_are_taken_in_together(app: ApplicationContainer, many: int) -> None:
    """Those that were announced in the meantime are found by their names, or among all."""
    catalogue = app.catalogue()
    for name in ("a", "b", "c"):
        await catalogue.add("storage", name, S3)
    keys = [("storage", name) for name in ("a", "b", *(f"none-{n}" for n in range(many - 2)))]
    found = await catalogue.find(keys)
    assert [one.name for one in found.candidates] == ["a", "b"]
    report = await app.discovery().take_in(keys)
    assert [row.outcome for row in report.rows] == [Outcome.UNCHANGED] * 2


async def test_a_container_without_a_lifespan_may_use_it(url: str, folder: Path) -> None:
    app = ApplicationContainer()
    catalogue = app.catalogue()
    try:
        await catalogue.add("storage", "docs", S3)
        assert config(app, "docs")["bucket"] == "nightly"
    finally:
        await catalogue.close()
    assert await catalogue.get("storage", "docs")
    await catalogue.close()


@pytest.mark.parametrize("url", ["mysql://u:canary@h/db", "catalogue.db", "sqlite:x.db"])
def test_another_address_is_refused(url: str, folder: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"must be sqlite:///path .* or postgresql://"
    ) as raised:
        load_settings(catalogue={"url": url})
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "postgresql://"])
def test_an_address_of_nothing_is_refused(url: str, folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"catalogue\.url"):
        load_settings(catalogue={"url": url})


async def test_what_starts_a_program_is_not_taken_from_where_others_write(
    app: ApplicationContainer,
) -> None:
    catalogue = app.catalogue()
    with pytest.raises(InvalidConfigError, match="starts a program, which only who runs this"):
        await catalogue.add("ai", "mine", {"type": "local", "command": ["server"]})
    assert await catalogue.entries() == []

    async with catalogue._writing() as (connection, number):  # by somebody with the database
        options = {"command": ["server"]}
        await put(connection, Row("ai", "mine", "local", {"options": options}, {}, number, now()))
    report = await app.discovery().refresh()
    (failed,) = [row for row in report.failed if row.name == "mine"]
    assert "not in the catalogue" in failed.reason
    with pytest.raises(InvalidConfigError):
        app.ai("mine")
