"""Has a file changed? Every way in which editors, tools and orchestrators replace files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from purveyor.providers.registry import watcher as module
from purveyor.providers.registry.watcher import FileWatcher

HOUR = 3600 * 1_000_000_000
Look = Callable[[], list[str]]


class Clock:
    """The time of day; an hour from now nothing of the test is young any more."""

    def __init__(self) -> None:
        self.ahead = HOUR

    def __call__(self) -> int:
        return time.time_ns() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "purveyor.toml"
    path.write_text("one")
    return path


def looking(clock: Clock, *paths: Path) -> Look:
    """Return a look that tells names; the first one is done."""
    watcher = FileWatcher(clock=clock)
    watcher.look(paths)
    return lambda: [path.name for path in watcher.look(paths)]


def replaced(path: Path, text: str) -> None:
    beside = path.with_name("beside")
    beside.write_text(text)
    beside.replace(path)


# -- one file ----------------------------------------------------------------------------


def test_the_first_look_tells_all_there_is(file: Path, clock: Clock) -> None:
    watcher = FileWatcher(clock=clock)
    assert watcher.look([file, file.with_name("missing")]) == [file]
    assert watcher.look([file, file.with_name("missing")]) == []


@pytest.mark.requirement("S4.21")
def test_a_file_written_in_place_changed(file: Path, clock: Clock) -> None:
    look = looking(clock, file)
    file.write_text("other")
    assert look() == ["purveyor.toml"]
    assert look() == []


@pytest.mark.requirement("S4.21")
def test_every_atomic_replacement_is_seen(file: Path, clock: Clock) -> None:
    look = looking(clock, file)
    for text in ("two", "six", "two"):
        replaced(file, text)
        assert look() == ["purveyor.toml"]
        assert look() == []


def test_a_replacement_with_the_same_size_and_times_is_seen(file: Path, clock: Clock) -> None:
    look = looking(clock, file)
    times = file.stat()
    replaced(file, "two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert look() == ["purveyor.toml"]


def test_a_file_rewritten_in_place_with_its_old_times_is_seen(file: Path, clock: Clock) -> None:
    """As ``rsync --inplace --times`` does: only the time of the status change tells."""
    look = looking(clock, file)
    before = file.stat()
    while True:  # until the clock of the file system has moved on
        file.write_text("two")
        if file.stat().st_ctime_ns != before.st_ctime_ns:
            break
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    same = (after.st_ino, after.st_size, after.st_mtime_ns)
    assert same == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert look() == ["purveyor.toml"]


def test_a_change_within_the_grain_of_the_clock_is_seen_while_the_file_is_young(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes may bear one time: a young file is read again whatever ``stat`` says."""
    clock.ahead = 0
    look = looking(clock, file)
    state = file.stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: state)  # the clock stands still
    file.write_text("two")
    assert look() == ["purveyor.toml"]
    clock.ahead = HOUR
    assert look() == []


def test_a_file_that_is_not_young_is_not_read_again(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = looking(clock, file)
    monkeypatch.setattr(Path, "open", None)  # reading it would fail
    assert look() == []


@pytest.mark.parametrize("change", [Path.touch, lambda file: replaced(file, "one")])
def test_touched_or_replaced_by_its_like_is_no_change(
    file: Path, clock: Clock, change: Callable[[Path], None]
) -> None:
    look = looking(clock, file)
    change(file)
    assert look() == []


def test_a_file_gone_and_back_changed_twice(file: Path, clock: Clock) -> None:
    look = looking(clock, file)
    file.unlink()
    assert look() == ["purveyor.toml"]
    assert look() == []
    file.write_text("one")
    assert look() == ["purveyor.toml"]
    assert look() == []


def test_gone_and_back_between_two_looks_is_no_change(file: Path, clock: Clock) -> None:
    look = looking(clock, file)
    file.unlink()
    file.write_text("one")
    assert look() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_becomes_unreadable_changed(file: Path, clock: Clock) -> None:  # pragma: no cover
    look = looking(clock, file)
    file.chmod(0)
    assert look() == ["purveyor.toml"]
    assert look() == []
    file.chmod(0o600)
    assert look() == ["purveyor.toml"]


def test_what_cannot_be_read_changed_once(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = looking(clock, file)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        file.touch()
        assert look() == ["purveyor.toml"]
        assert look() == []
    file.touch()
    assert look() == ["purveyor.toml"]


def test_a_file_that_becomes_a_folder_changed(file: Path, clock: Clock) -> None:
    look = looking(clock, file)
    file.unlink()
    file.mkdir()
    assert look() == ["purveyor.toml"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_not_read(tmp_path: Path, clock: Clock) -> None:
    os.mkfifo(tmp_path / "pipe")
    look = looking(clock, tmp_path, tmp_path / "pipe")
    assert look() == []


# -- folders -----------------------------------------------------------------------------


def test_a_folder_changes_with_all_below_it(tmp_path: Path, clock: Clock) -> None:
    below = tmp_path / "secrets" / "storage" / "backups"
    below.mkdir(parents=True)
    (below / "secret_key").write_text("a")
    look = looking(clock, tmp_path / "secrets")
    (below / "secret_key").write_text("b")
    assert look() == ["secret_key"]
    (below / "access_key").write_text("a")
    assert look() == ["backups", "access_key"]
    (below / "access_key").unlink()
    assert look() == ["backups", "access_key"]
    assert look() == []


def test_a_folder_may_come_later(tmp_path: Path, clock: Clock) -> None:
    look = looking(clock, tmp_path / "secrets")
    (tmp_path / "secrets").mkdir()
    assert look() == ["secrets"]
    (tmp_path / "secrets" / "key").write_text("a")
    assert look() == ["secrets", "key"]


@pytest.mark.requirement("S4.21")
def test_every_swap_of_a_kubernetes_volume_is_seen(tmp_path: Path, clock: Clock) -> None:
    """A projected volume: every file is a link by way of ``..data``, which is what is replaced."""
    volume = tmp_path / "volume"

    def project(turn: str, **texts: str) -> None:
        data = volume / f"..{turn}"
        data.mkdir(parents=True)
        for name, text in texts.items():
            (data / name).write_text(text)
        (volume / "..tmp").symlink_to(data.name)
        (volume / "..tmp").replace(volume / "..data")

    project("1", key="a", same="s")
    for name in ("key", "same"):
        (volume / name).symlink_to(f"..data/{name}")
    single = looking(clock, volume / "key")
    look = looking(clock, volume)
    for turn in ("2", "3", "4"):
        project(turn, key=turn, same="s")
        assert "key" in look()
        assert look() == []
        assert single() == ["key"]
    project("5", key="4", same="s")
    assert single() == []


def test_a_broken_link_is_nothing_until_it_leads_somewhere(tmp_path: Path, clock: Clock) -> None:
    link = tmp_path / "link"
    link.symlink_to("target")
    look = looking(clock, link)
    assert look() == []
    (tmp_path / "target").write_text("a")
    assert look() == ["link"]
    (tmp_path / "target").unlink()
    assert look() == ["link"]


def test_links_that_go_round_in_circles_are_followed_once(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "up").symlink_to("..")
    (folder / "here").symlink_to(".")
    (folder / "again").symlink_to("here")
    (folder / "self").symlink_to("self")
    (folder / "key").write_text("a")
    watcher = FileWatcher(clock=clock)
    assert len(watcher.look([folder])) < 12
    (folder / "key").write_text("b")
    assert folder / "key" in watcher.look([folder])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_as_good_as_gone(  # pragma: no cover
    tmp_path: Path, clock: Clock
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "key").write_text("a")
    look = looking(clock, folder)
    folder.chmod(0)
    try:
        assert look() == ["folder", "key"]
    finally:
        folder.chmod(0o700)
    assert look() == ["folder", "key"]


def test_a_folder_of_many_files_is_watched_in_little_time(tmp_path: Path, clock: Clock) -> None:
    for number in range(1000):
        (tmp_path / f"{number:04}").write_text("a")
    look = looking(clock, tmp_path)
    (tmp_path / "0500").write_text("b")
    started = time.perf_counter()
    assert look() == ["0500"]
    assert time.perf_counter() - started < 1


def test_too_many_files_are_told_once_and_what_is_named_comes_first(
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_MAX_FILES", 20)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number:02}").write_text("a")
    named = tmp_path / "purveyor.toml"
    named.write_text("a")
    look = looking(clock, folder, named)
    (folder / "05").write_text("b")
    (folder / "40").write_text("b")
    named.write_text("b")
    assert look() == ["05", "purveyor.toml"]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"Only 20 files and folders are watched for changes: not {folder / '18'}, nor any after it"
    )
