"""Workspaces: names that cannot collide or escape, files that are whole or not there."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.providers.data_sources import (
    DataSourcePermissionError,
    Draft,
    InvalidItemError,
    Workspace,
    WorkspaceError,
    check_item,
)

ROOT = Path("/workspace")
PLAIN = Workspace(ROOT)


def name_of(item: str, suffix: str = "") -> str:
    return PLAIN.path_of(item, suffix=suffix).name


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class TestNames:
    @pytest.mark.parametrize("item", ["report.csv", "2026-01.tar.gz", "a", "a-b_c.d.e", "0"])
    def test_a_plain_name_is_kept(self, item: str) -> None:
        assert name_of(item) == item

    @pytest.mark.parametrize(
        "item",
        [
            *("a/b.csv", "A.csv", "a b.csv", "ü.csv", ".hidden", "a.", "-a", "con", "nul.txt"),
            *("..", ".", "/", "", "../../etc/passwd", "a\0b", "a\nb", "\ud800", "x" * 101, "~"),
        ],
    )
    def test_any_other_gets_a_mark(self, item: str) -> None:
        digest = hashlib.sha256(item.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        assert f"-{digest}" in name_of(item)

    def test_a_marked_name_is_readable_and_keeps_its_ending(self) -> None:
        assert name_of("sales/2026 north.csv").startswith("sales_2026_north-")
        assert name_of("sales/2026 north.csv").endswith(".csv")
        assert name_of("public.Orders", ".parquet").endswith(".parquet")

    def test_a_suffix_is_part_of_the_name(self) -> None:
        assert name_of("orders", ".csv") == "orders.csv" == name_of("orders.csv")
        assert name_of("orders", ".csv") != name_of("orders", ".parquet")

    @pytest.mark.parametrize("item", ["a/b.csv", "a/b.c_d", "a/b.c-d", "a/b", "A.CSV", "é", "/.x"])
    def test_no_item_can_take_the_name_of_a_marked_one(self, item: str) -> None:
        taken = name_of(item)
        for thief in (taken, taken.lower(), taken.upper(), f"x/{taken}", name_of(taken)):
            assert name_of(thief).lower() != taken.lower(), thief

    @given(st.text(max_size=300), st.text(max_size=300))
    def test_two_items_have_two_files_within_the_folder(self, one: str, other: str) -> None:
        names = name_of(one), name_of(other)
        assert (names[0].lower() == names[1].lower()) is (one == other)
        for name in names:
            assert PLAIN.path_of(one).parent == ROOT
            assert name.isascii()
            assert name.isprintable()
            assert not {"/", "\\", ":", " "} & set(name)
            assert name[0] not in ".-"
            assert 0 < len(name) < 200

    def test_a_workspace_stays_itself_and_a_folder_becomes_one(self, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path)
        assert Workspace.of(workspace) is workspace
        assert Workspace.of(str(tmp_path)).root == Workspace.of(tmp_path).root == tmp_path
        assert str(tmp_path) in repr(workspace)


class TestFiles:
    async def test_a_file_appears_when_it_is_whole(self, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path / "made" / "for it")
        async with workspace.create("a.csv") as draft:
            await draft.write(b"one,")
            draft.write_now(memoryview(b"two"))
            assert not draft.path.exists()
            assert draft.part.name.startswith(".")
            assert draft.part.parent == draft.path.parent
        assert draft.path == workspace.root / "a.csv"
        assert draft.path.read_bytes() == b"one,two"
        assert (draft.size, draft.sha256) == (7, hashlib.sha256(b"one,two").hexdigest())
        assert names_in(workspace.root) == ["a.csv"]

    async def test_an_empty_file_is_a_file(self, tmp_path: Path) -> None:
        async with Workspace(tmp_path).create("a") as draft:
            pass
        assert draft.path.read_bytes() == b""
        assert (draft.size, draft.sha256) == (0, hashlib.sha256(b"").hexdigest())

    async def test_a_library_may_write_it(self, tmp_path: Path) -> None:
        async with Workspace(tmp_path).create("a") as draft:
            draft.part.write_bytes(b"by a library")
        assert draft.path.read_bytes() == b"by a library"
        assert (draft.size, draft.sha256) == (12, hashlib.sha256(b"by a library").hexdigest())

    @pytest.mark.parametrize(
        "error", [ZeroDivisionError("no"), asyncio.CancelledError(), OSError(errno.EIO, "disk")]
    )
    async def test_what_fails_leaves_what_was_there(
        self, tmp_path: Path, error: BaseException
    ) -> None:
        (tmp_path / "a").write_bytes(b"before")
        for item in ("a", "b"):
            with pytest.raises(type(error)) as caught:
                async with Workspace(tmp_path).create(item) as draft:
                    await draft.write(b"half")
                    raise error
            assert caught.value is error
        assert names_in(tmp_path) == ["a"]
        assert (tmp_path / "a").read_bytes() == b"before"

    async def test_the_sources_own_errors_are_not_blamed_on_the_workspace(
        self, tmp_path: Path
    ) -> None:
        denied = DataSourcePermissionError("The source refuses access.")
        assert isinstance(denied, OSError)
        for error in (denied, TimeoutError(), ConnectionResetError("gone"), FileNotFoundError("x")):
            with pytest.raises(type(error)) as caught:
                async with Workspace(tmp_path).create("a"):
                    raise error
            assert caught.value is error

    async def test_many_writers_of_one_item_do_not_mix(self, tmp_path: Path) -> None:
        async def write(letter: bytes) -> None:
            async with Workspace(tmp_path).create("a") as draft:
                for _ in range(5):
                    await draft.write(letter * 1000)

        await asyncio.gather(*(write(bytes([65 + number])) for number in range(8)))
        content = (tmp_path / "a").read_bytes()
        assert content == content[:1] * 5000
        assert names_in(tmp_path) == ["a"]


class TestFaults:
    async def test_a_file_in_the_way_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for root in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(WorkspaceError, match="A file is where a folder must be") as caught:
                async with Workspace(root).create("a.csv"):
                    pass
            assert str(root) in str(caught.value)
            assert not caught.value.is_backend_failure

    async def test_a_folder_in_the_way_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").mkdir()
        with pytest.raises(WorkspaceError, match="A folder is where the file must be"):
            async with Workspace(tmp_path).create("a.csv") as draft:
                await draft.write(b"x")
        assert names_in(tmp_path) == ["a.csv"]

    async def test_a_folder_that_is_removed_meanwhile(self, tmp_path: Path) -> None:
        with pytest.raises(WorkspaceError, match=r"Cannot write a\.csv"):
            async with Workspace(tmp_path / "w").create("a.csv") as draft:
                draft.part.unlink()
                draft.part.parent.rmdir()

    async def test_a_library_that_finds_the_disk_full(self, tmp_path: Path) -> None:
        with pytest.raises(WorkspaceError, match="Free space"):
            async with Workspace(tmp_path).create("a.csv"):
                raise OSError(errno.ENOSPC, "No space left on device")
        assert names_in(tmp_path) == []

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full (Linux)")
    @pytest.mark.parametrize("size", [10, 1_000_000], ids=["found at the end", "found at once"])
    def test_a_full_disk_is_told_and_nothing_kept(self, tmp_path: Path, size: int) -> None:
        part = tmp_path / ".part"
        part.touch()
        full = Path("/dev/full").open("wb")  # noqa: SIM115 - the draft closes it
        draft = Draft(tmp_path / "a.csv", part, full)
        with pytest.raises(WorkspaceError, match="Free space"):
            draft.write_now(bytes(size))
            draft.finish()
        draft.discard()
        assert names_in(tmp_path) == []


async def test_only_the_user_can_read_what_was_fetched(tmp_path: Path) -> None:
    async with Workspace(tmp_path).create("a.csv") as draft:
        assert draft.part.stat().st_mode & 0o777 == 0o600
    assert draft.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("item", ["\ud800x", "a/\udfff"])
def test_a_name_that_is_no_utf8_is_refused(item: str) -> None:
    with pytest.raises(InvalidItemError, match="half a character"):
        check_item(item)
