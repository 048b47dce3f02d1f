"""The container of a process whose code cannot be handed one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from purveyor.containers import ApplicationContainer, process
from purveyor.containers.process import process_container
from purveyor.settings import SettingsError


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PURVEYOR_HOME", str(tmp_path))
    monkeypatch.setattr(process, "_started", None)
    yield
    if process._started is not None:
        process._started.result().blocking.close()


def test_all_threads_have_the_same_one() -> None:
    ready = threading.Barrier(8)

    def ask() -> int:
        ready.wait()
        return id(process_container())

    with ThreadPoolExecutor(8) as pool:
        assert len({future.result() for future in [pool.submit(ask) for _ in range(8)]}) == 1


def test_it_is_of_the_environment_and_works_without_a_loop(tmp_path: Path) -> None:
    process_container().blocking.storage("filesystem").put("a.txt", b"x")
    assert (tmp_path / "storage" / "filesystem" / "a.txt").read_bytes() == b"x"


def test_it_can_be_asked_for_in_an_event_loop() -> None:
    async def ask() -> ApplicationContainer:
        return process_container()

    assert asyncio.run(ask()) is process_container()


def test_it_is_tried_anew_after_its_settings_were_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__CHECK_INTERVAL", "often")
    with pytest.raises(SettingsError):
        process_container()
    monkeypatch.delenv("PURVEYOR_REGISTRY__HEALTH__CHECK_INTERVAL")
    assert process_container().blocking.storage("sqlite").exists("a") is False


def test_a_coroutine_runs_on_the_loop_of_the_blocking_calls() -> None:
    blocking = process_container().blocking

    async def put() -> asyncio.AbstractEventLoop:
        await process_container().storage("sqlite").put("a", b"x")
        return asyncio.get_running_loop()

    assert blocking.run(put()) is blocking.loop
    assert blocking.storage("sqlite").get("a") == b"x"
