from __future__ import annotations

from pathlib import Path

import pytest

from purveyor.services.sync import LocalPlace, StoragePlace, SyncError, parse_place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("backups:docs/a.txt", StoragePlace("backups", "docs/a.txt")),
        ("backups:", StoragePlace("backups", "")),
        (":docs", StoragePlace(None, "docs")),
        (":", StoragePlace(None, "")),
        (":a:b", StoragePlace(None, "a:b")),
        ("a:b/c:d", StoragePlace("a", "b/c:d")),
        ("eu-west.1:x", StoragePlace("eu-west.1", "x")),
        ("docs", LocalPlace(Path("docs"))),
        ("docs/", LocalPlace(Path("docs"), is_folder=True)),
        ("./a:b", LocalPlace(Path("a:b"))),
        ("/srv/a:b", LocalPlace(Path("/srv/a:b"))),
        ("with space:x", LocalPlace(Path("with space:x"))),
        (Path("backups:x"), LocalPlace(Path("backups:x"))),
    ],
)
def test_a_place_is_a_key_in_a_provider_or_a_path(text: str, place: object) -> None:
    assert parse_place(text, windows=False) == place


@pytest.mark.parametrize("text", ["C:\\docs", "C:docs", "c:/docs"])
def test_on_windows_a_drive_letter_is_no_provider(text: str) -> None:
    assert isinstance(parse_place(text, windows=True), LocalPlace)
    assert isinstance(parse_place(text, windows=False), StoragePlace)


def test_an_empty_place_is_refused() -> None:
    with pytest.raises(SyncError, match="cannot be empty"):
        parse_place("")


@pytest.mark.parametrize("text", ["backups:docs/a.txt", ":docs", "docs"])
def test_a_place_is_shown_as_it_is_written(text: str) -> None:
    assert str(parse_place(text)) == text
