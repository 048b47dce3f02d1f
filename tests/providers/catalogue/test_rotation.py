"""From an old key to a new one: in batches, begun again after a kill, and never losing a secret."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.catalogue import Rotation, key_status, rotate
from purveyor.providers.registry import CredentialManager, Outcome
from purveyor.settings import Settings, load_settings

from .conftest import WORKER, Running
from .test_secrets import store, stored

S3 = {"type": "s3", "bucket": "nightly", "access_key": "canary-a", "secret_key": "canary-s"}


@pytest.fixture
async def rotating(
    url: str, key: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """Twenty-five providers with two secrets each under an old key; a new one is in force."""
    async with running(monitoring=False) as app:
        for number in range(25):
            await app.catalogue().add("storage", f"s{number:02}", S3)
        await app.catalogue().add("storage", "files", {"type": "filesystem", "root": "x"})
        old = app.catalogue().credentials.key_ids[0]
    new = CredentialManager.generate_key()
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", f"{new},{key}")
    return CredentialManager([new]).key_ids[0], old


async def test_a_rotation_changes_nothing_but_the_key(
    rotating: tuple[str, str], running: Running
) -> None:
    new, old = rotating
    async with running() as app:
        catalogue = app.catalogue()
        before = await key_status(catalogue)
        assert (before.keys, before.values, before.waiting) == ((new, old), {old: 50}, 50)
        versions = {entry.name: entry.version for entry in await catalogue.entries()}
        done = await rotate(catalogue, batch_size=10)
        assert done == Rotation(rotated=50)
        after = await key_status(catalogue)
        assert (after.values, after.waiting, after.total, after.missing) == ({new: 50}, 0, 50, [])
        assert {entry.name: entry.version for entry in await catalogue.entries()} == versions
        report = await app.discovery().refresh()
        assert {row.outcome for row in report.rows} == {Outcome.UNCHANGED}
        assert await rotate(catalogue) == Rotation(unchanged=50)
    only, _ = each_key(app)
    async with running(settings=only) as app:
        config: Any = app.storage.registry.config("s00")
        assert config.secret_key.get_secret_value() == "canary-s"


def each_key(app: ApplicationContainer) -> tuple[Settings, Settings]:
    """Return settings with the first key only, and with the second only."""
    first, second = app.settings().credentials.keys
    return (
        load_settings(credentials={"keys": [first]}),
        load_settings(credentials={"keys": [second]}),
    )


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    rotating: tuple[str, str], running: Running
) -> None:
    _, old = rotating
    async with running() as app:
        assert await rotate(app.catalogue(), dry_run=True) == Rotation(rotated=50)
        assert (await key_status(app.catalogue())).values == {old: 50}


async def test_those_that_cannot_be_decrypted_stay_and_are_told(
    rotating: tuple[str, str], running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, _ = rotating
    async with running() as app:
        await store(app, "s03", {**await stored(app, "s03"), "secret_key": "damaged"})
        done = await rotate(app.catalogue(), batch_size=7)
        assert (done.rotated, done.failed) == (49, 1)
        assert "'secret_key' of storage provider 's03'" in done.errors[0].message
        status = await key_status(app.catalogue())
        assert (status.values, status.damaged, status.waiting) == ({new: 49}, 1, 0)


async def test_without_the_old_key_nothing_is_lost(
    rotating: tuple[str, str], running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, old = rotating
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", CredentialManager.generate_key())
    async with running() as app:
        status = await key_status(app.catalogue())
        assert (status.missing, status.waiting) == ([old], 50)
        done = await rotate(app.catalogue())
        assert (done.rotated, done.failed, len(done.errors)) == (0, 50, 20)
        assert (await key_status(app.catalogue())).values == {old: 50}


async def test_what_is_changed_meanwhile_is_kept(
    rotating: tuple[str, str], running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody with the old key writes between the reading of a batch and its writing."""
    new, _ = rotating
    async with running() as app:
        _, of_old = each_key(app)
        async with running(settings=of_old, monitoring=False) as other:
            reseal = app.catalogue().reseal
            monkeypatch.setattr(app.catalogue(), "reseal", interrupted := Interrupted(other))
            interrupted.then = reseal
            done = await rotate(app.catalogue(), batch_size=5)
        assert interrupted.times == 7
        assert (done.rotated, done.unchanged) == (50, 0)
        assert (await key_status(app.catalogue())).values == {new: 50}
        entry = await app.catalogue().get("storage", "s02")
        assert entry is not None
        assert entry.settings.options.get_secret_value()["secret_key"] == "newer"


class Interrupted:
    """Changes an entry before the first batch is written."""

    def __init__(self, other: ApplicationContainer) -> None:
        self.other = other
        self.times = 0

    async def __call__(self, changed: object) -> object:
        self.times += 1
        if self.times == 1:
            entry = await self.other.catalogue().get("storage", "s02")
            assert entry is not None
            await self.other.catalogue().update(
                "storage", "s02", {"bucket": "other", "secret_key": "newer"}, version=entry.version
            )
        return await self.then(changed)


async def test_a_killed_rotation_goes_on_where_it_was(
    rotating: tuple[str, str], running: Running
) -> None:
    new, old = rotating
    worker = await asyncio.create_subprocess_exec(*WORKER, "rotate", stdout=subprocess.PIPE)
    assert worker.stdout is not None
    async with asyncio.timeout(60):
        assert (await worker.stdout.readline()).strip() == b"18"  # beside one without secrets
    worker.send_signal(signal.SIGKILL)
    await worker.communicate()
    async with running() as app:
        status = await key_status(app.catalogue())
        assert status.total == 50
        assert status.values[new] >= 18
        for entry in await app.catalogue().entries():
            options = entry.settings.options.get_secret_value()
            assert options.get("secret_key", "canary-s") == "canary-s"
        done = await rotate(app.catalogue())
        assert done.rotated == status.values[old]
        assert (await key_status(app.catalogue())).values == {new: 50}


async def test_nothing_is_there_to_rotate(folder: object, key: str, running: Running) -> None:
    async with running() as app:
        assert await rotate(app.catalogue()) == Rotation()
        assert (await key_status(app.catalogue())).total == 0
