"""Local files: confined to the root, listed in order, fetched as one version."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from purveyor.providers.data_sources import (
    DataSourceConnectionError,
    DataSourceError,
    DataSourcePermissionError,
    Draft,
    InvalidItemError,
    ItemNotFoundError,
    Workspace,
)
from purveyor.providers.data_sources.local_file import LocalFileConfig, LocalFileSource
from purveyor.providers.registry import guarded
from purveyor.providers.registry.provider import Call
from purveyor.testing.conformance import DataSourceConformance

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the kit's files, and a large one."""
    root = tmp_path_factory.mktemp("root")
    for name, content in DataSourceConformance.items.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(content, bytes)
        path.write_bytes(content)
    with (root / "large.bin").open("wb") as file:
        file.truncate(64 * MIB)
    return root


@pytest.mark.requirement("S3.2", "S3.3", "S3.32", "S3.33")
class TestConformance(DataSourceConformance):
    provider_class = LocalFileSource
    large = "large.bin"

    @pytest.fixture
    def source_config(self, filled: Path) -> LocalFileConfig:
        return LocalFileConfig(root=filled)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def source_of(root: Path, **settings: Any) -> LocalFileSource:
    return guarded(LocalFileSource(LocalFileConfig(root=root, **settings)), name="files")


async def names(source: LocalFileSource, prefix: str = "") -> list[str]:
    return [info.name async for info in source.list_items(prefix)]


class TestSettings:
    async def test_the_default_root_is_made(self, tmp_path: Path) -> None:
        config = LocalFileConfig.model_validate({}, context={"home": tmp_path / "home"})
        assert config.root == tmp_path / "home" / "data"
        async with guarded(LocalFileSource(config), name="files") as source:
            assert await names(source) == []
        assert config.root.is_dir()

    @pytest.mark.parametrize("kind", ["missing", "a file", "below a file"])
    async def test_a_root_that_is_named_must_be_there(self, tmp_path: Path, kind: str) -> None:
        root = tmp_path / "root"
        if kind != "missing":
            root.touch()
        wanted = root / "below" if kind == "below a file" else root
        source = source_of(wanted)
        with pytest.raises(DataSourceConnectionError) as caught:
            await source.initialize()
        assert f"The folder {str(wanted)!r} is not there" in str(caught.value)
        assert "set root to another one" in str(caught.value)
        assert root.exists() is (kind != "missing")

    def test_a_relative_root_is_taken_from_the_current_folder(self) -> None:
        assert LocalFileConfig(root=Path("data")).root == Path.cwd() / "data"
        assert LocalFileConfig.model_validate({"directory": "~"}).root == Path.home()

    @pytest.mark.parametrize("root", ["", "~no-such-account/data"])
    def test_a_root_that_is_none_is_refused(self, root: str) -> None:
        with pytest.raises(ValidationError):
            LocalFileConfig.model_validate({"root": root})

    @pytest.mark.parametrize("patterns", ["", [], "/etc/*", "../*", "a//b", "./a", [""]])
    def test_patterns_that_match_nothing_are_refused(self, patterns: Any) -> None:
        with pytest.raises(ValidationError, match="patterns"):
            LocalFileConfig.model_validate({"patterns": patterns})

    def test_patterns_may_be_one_text(self) -> None:
        config = LocalFileConfig.model_validate({"patterns": "*.csv, **/**/*.json"})
        assert config.patterns == ("*.csv", "**/*.json")


class TestPatterns:
    @pytest.mark.parametrize(
        ("patterns", "expected"),
        [
            ("**", ["a.csv", "b/c.csv", "b/d.json", "b/e/f.csv"]),
            ("*.csv", ["a.csv"]),
            ("**/*.csv", ["a.csv", "b/c.csv", "b/e/f.csv"]),
            ("b/**", ["b/c.csv", "b/d.json", "b/e/f.csv"]),
            ("b/*", ["b/c.csv", "b/d.json"]),
            ("*/*/*", ["b/e/f.csv"]),
            ("**/e/*", ["b/e/f.csv"]),
            ("?.[ab-d]sv,b/d*", ["a.csv", "b/d.json"]),
            ("*.CSV", []),
        ],
    )
    async def test_only_what_matches_is_there(
        self, root: Path, patterns: str, expected: list[str]
    ) -> None:
        everything = ["a.csv", "b/c.csv", "b/d.json", "b/e/f.csv"]
        (root / "b" / "e").mkdir(parents=True)
        for name in everything:
            (root / name).write_text("[]")
        async with source_of(root, patterns=patterns) as source:
            assert await names(source) == expected
            for name in everything:
                if name in expected:
                    await source.get_metadata(name)
                else:
                    with pytest.raises(ItemNotFoundError, match="patterns"):
                        await source.get_metadata(name)

    async def test_what_is_hidden_is_not_there(self, root: Path) -> None:
        (root / ".git").mkdir()
        for name in (".env", ".git/config.txt", "shown.txt"):
            (root / name).write_text("x")
        async with source_of(root, patterns=["**", ".git/*", ".*"]) as source:
            assert await names(source) == ["shown.txt"]
            for prefix in (".", ".git/", ".git/c"):
                assert await names(source, prefix) == []
            for name in (".env", ".git/config.txt"):
                with pytest.raises(ItemNotFoundError, match="hidden"):
                    await source.preview(name)


class TestList:
    async def test_folders_are_sorted_as_part_of_names(self, root: Path) -> None:
        expected = ["a-b/x", "a.b/x", "a/b", "a0", "a_", "b/c/d", "b/c0", "é/x"]
        for name in reversed(expected):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        async with source_of(root) as source:
            assert await names(source) == expected == sorted(expected, key=str.encode)

    async def test_more_than_a_page(self, root: Path) -> None:
        expected = [f"{f}/{n:03}" for f, size in ((0, 10), (1, 700), (2, 10)) for n in range(size)]
        for name in expected:
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).touch()
        async with source_of(root) as source:
            assert await names(source) == expected
            assert await names(source, "1/59") == [f"1/59{n}" for n in range(10)]

    async def test_what_goes_while_it_is_listed_is_left_out(self, root: Path) -> None:
        for number in range(700):
            (root / f"{number:04}").touch()
        (root / "folder").mkdir()
        (root / "folder" / "file").touch()
        async with source_of(root) as source:
            listing = cast("AsyncGenerator[Any, None]", source.list_items())
            async with aclosing(listing) as items:
                found = [(await anext(items)).name]
                (root / "0699").unlink()
                shutil.rmtree(root / "folder")
                found += [info.name async for info in items]
        assert found == [f"{number:04}" for number in range(699)]

    @pytest.mark.parametrize(
        "prefix", ["a\0/", "\ud800/", "//", "a//", "x" * 300 + "/", "../root/"]
    )
    async def test_a_prefix_of_no_name_finds_nothing(self, root: Path, prefix: str) -> None:
        (root / "a").mkdir()
        (root / "a" / "b").touch()
        async with source_of(root) as source:
            assert await names(source, prefix) == []

    async def test_names_that_are_no_text_are_left_out_and_told(
        self, root: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        odd = os.fsdecode(b"caf\xe9.csv")
        for name in (odd, "line\nbreak.csv", "whole.csv"):
            (root / name).touch()
        async with source_of(root) as source:
            with caplog.at_level(logging.WARNING, "purveyor.providers.data_sources"):
                assert await names(source) == ["whole.csv"]
            for name in (odd, "line\nbreak.csv"):
                with pytest.raises((ItemNotFoundError, InvalidItemError)):
                    await source.get_metadata(name)
        (record,) = caplog.records
        assert "2 in all" in record.getMessage()


class TestLinks:
    """A link to a file that stays below the root is followed; nothing else is."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        folder = tmp_path / "outside"
        folder.mkdir()
        (folder / "secret.csv").write_text("secret")
        return folder

    async def test_links_that_stay_below_are_followed(self, root: Path) -> None:
        # As Kubernetes mounts a ConfigMap.
        (root / "..2026").mkdir()
        (root / "..2026" / "a.csv").write_text("id\n1\n")
        (root / "..data").symlink_to("..2026")
        (root / "a.csv").symlink_to("..data/a.csv")
        (root / "sub").mkdir()
        (root / "sub" / "up.csv").symlink_to("../a.csv")
        (root / "absolute.csv").symlink_to(root / "sub" / "up.csv")
        async with source_of(root) as source:
            assert await names(source) == ["a.csv", "absolute.csv", "sub/up.csv"]
            for name in ("a.csv", "absolute.csv", "sub/up.csv"):
                assert (await source.preview(name)).rows == (("1",),)
                assert (await source.get_metadata(name)).item.size == 5

    async def test_a_root_that_is_a_link_is_its_target(self, root: Path, tmp_path: Path) -> None:
        (root / "a.csv").write_text("id\n1\n")
        (root / "b.csv").symlink_to(root / "a.csv")
        (tmp_path / "link").symlink_to(root)
        async with source_of(tmp_path / "link") as source:
            assert await names(source) == ["a.csv", "b.csv"]
            assert (await source.preview("b.csv")).rows == (("1",),)

    @pytest.mark.parametrize(
        "target",
        [
            *("{outside}/secret.csv", "../outside/secret.csv", "sub/../../outside/secret.csv"),
            *("/", "..", "{root}/../outside/secret.csv", "hop"),
        ],
    )
    async def test_links_that_lead_out_are_refused(
        self, root: Path, outside: Path, tmp_path: Path, target: str
    ) -> None:
        (root / "sub").mkdir()
        (root / "hop").symlink_to(outside / "secret.csv")
        (root / "link.csv").symlink_to(target.format(outside=outside, root=root))
        async with source_of(root) as source:
            assert await names(source) == []
            for call in (source.preview, source.get_metadata):
                with pytest.raises(DataSourcePermissionError, match=r"'link\.csv' is behind"):
                    await call("link.csv")
            with pytest.raises(DataSourcePermissionError, match="leads out of the root"):
                await source.fetch("link.csv", tmp_path / "workspace")
        assert list((tmp_path / "workspace").iterdir()) == []

    async def test_links_to_folders_are_not_followed(self, root: Path, outside: Path) -> None:
        (root / "real").mkdir()
        (root / "real" / "a.csv").write_text("id\n")
        (root / "inner").symlink_to("real")
        (root / "outer").symlink_to(outside)
        async with source_of(root) as source:
            assert await names(source) == ["real/a.csv"]
            for prefix in ("inner/", "outer/", "outer/s"):
                assert await names(source, prefix) == []
            for name in ("inner/a.csv", "outer/secret.csv"):
                with pytest.raises(DataSourcePermissionError, match="not followed"):
                    await source.preview(name)
            with pytest.raises(ItemNotFoundError):
                await source.preview("inner")

    async def test_links_to_nothing_are_nothing(self, root: Path) -> None:
        (root / "dangling.csv").symlink_to("nowhere.csv")
        (root / "self.csv").symlink_to("self.csv")
        (root / "through.csv").symlink_to("file/../file")
        (root / "file").touch()
        async with source_of(root) as source:
            assert await names(source) == ["file"]
            for name in ("dangling.csv", "through.csv"):
                with pytest.raises(ItemNotFoundError):
                    await source.preview(name)
            with pytest.raises(DataSourcePermissionError, match="of itself"):
                await source.preview("self.csv")

    async def test_what_is_no_regular_file_is_no_item(self, root: Path) -> None:
        os.mkfifo(root / "pipe.csv")
        (root / "folder.csv").mkdir()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(root / "s.csv"))
            async with source_of(root) as source:
                assert await names(source) == []
                for name in ("pipe.csv", "folder.csv", "s.csv", "folder.csv/x"):
                    with pytest.raises(ItemNotFoundError):
                        await source.preview(name)


class Meddling(Workspace):
    """A workspace that lets something happen in the midst of a fetch, so many times."""

    def __init__(self, root: Path, happens: Callable[[], object], times: int) -> None:
        super().__init__(root)
        self.happens = happens
        self.times = times

    @asynccontextmanager
    async def create(self, item: str, *, suffix: str = "") -> AsyncGenerator[Draft, None]:
        async with super().create(item, suffix=suffix) as draft:
            write = draft.write_now

            def write_now(data: bytes | bytearray | memoryview) -> None:
                write(data)
                if self.times:
                    self.times -= 1
                    self.happens()

            draft.write_now = write_now
            yield draft


class TestFetch:
    @pytest.fixture
    def item(self, root: Path) -> Path:
        path = root / "a.csv"
        path.write_bytes(b"x" * 3 * MIB)
        return path

    async def test_a_file_that_is_written_meanwhile_is_fetched_anew(
        self, root: Path, item: Path, tmp_path: Path
    ) -> None:
        def grow() -> None:
            with item.open("ab") as file:
                file.write(b"more")

        async with source_of(root) as source:
            fetched = await source.fetch("a.csv", Meddling(tmp_path / "w", grow, 1))
        assert fetched.path.read_bytes() == b"x" * 3 * MIB + b"more"

    @pytest.mark.parametrize("change", ["grows", "shrinks", "is written over"])
    async def test_a_file_that_goes_on_changing_is_given_up(
        self, root: Path, item: Path, tmp_path: Path, change: str
    ) -> None:
        turns = iter(range(1, 100))

        def happens() -> None:
            turn = next(turns)
            if change == "is written over":
                with item.open("r+b") as file:
                    file.write(b"other")
                os.utime(item, ns=(0, turn))
            else:
                os.truncate(item, 3 * MIB + (turn if change == "grows" else -turn))

        async with source_of(root) as source:
            with pytest.raises(DataSourceError, match=r"'a\.csv' was written while it was fetched"):
                await source.fetch("a.csv", Meddling(tmp_path / "w", happens, 100))
        assert list((tmp_path / "w").iterdir()) == []

    async def test_a_file_that_is_replaced_meanwhile_is_fetched_as_it_was(
        self, root: Path, item: Path, tmp_path: Path
    ) -> None:
        def replace() -> None:
            (root / ".new").write_bytes(b"new")
            (root / ".new").replace(item)

        async with source_of(root) as source:
            fetched = await source.fetch("a.csv", Meddling(tmp_path / "w", replace, 100))
        assert fetched.path.read_bytes() == b"x" * 3 * MIB

    async def test_a_file_that_vanishes_before_it_is_fetched(
        self, root: Path, item: Path, tmp_path: Path
    ) -> None:
        async with source_of(root) as source:
            (found,) = await names(source)
            (root / "a.csv").unlink()
            with pytest.raises(ItemNotFoundError, match=r"no item 'a\.csv'"):
                await source.fetch(found, tmp_path / "w")


class TestLooking:
    async def test_parquet(self, root: Path) -> None:
        pq.write_table(pa.table({"id": [1, 2, 3]}), root / "a.parquet")
        async with source_of(root) as source:
            found = await source.get_metadata("a.parquet")
            assert (found.rows, found.columns[0].type) == (3, "int64")
            assert found.details["path"] == str(root / "a.parquet")
            assert (await source.preview("a.parquet", rows=2)).rows == ((1,), (2,))

    async def test_what_is_malformed_has_metadata_that_says_so(self, root: Path) -> None:
        (root / "a.json").write_text("[1, ")
        async with source_of(root) as source:
            found = await source.get_metadata("a.json")
        assert found.item.size == 4
        assert "'a.json' is not JSON" in found.details["unreadable"]


class TestFaults:
    async def test_a_root_that_goes_and_comes_back(self, root: Path, tmp_path: Path) -> None:
        (root / "a.csv").write_text("id\n1\n")
        async with source_of(root) as source:
            await source.check_health()
            shutil.move(root, tmp_path / "elsewhere")
            for call in (source.check_health(), names(source), source.preview("a.csv")):
                with pytest.raises(DataSourceConnectionError, match="is not there"):
                    await call
            shutil.move(tmp_path / "elsewhere", root)
            await source.check_health()
            assert await names(source) == ["a.csv"]

    @pytest.mark.parametrize(
        ("number", "expected", "remedy"),
        [
            (errno.EACCES, DataSourcePermissionError, "Give the account that runs this process"),
            (errno.EPERM, DataSourcePermissionError, "Give the account that runs this process"),
            (errno.EIO, DataSourceConnectionError, "Check the disk or the mount"),
            (errno.ESTALE, DataSourceConnectionError, "Check the disk or the mount"),
            (errno.EMFILE, DataSourceError, "ulimit -n"),
            (errno.EFAULT, DataSourceError, "preview of 'a.csv' failed"),
        ],
    )
    def test_errors_of_the_system_are_told_with_the_remedy(
        self, root: Path, number: int, expected: type[Exception], remedy: str
    ) -> None:
        source = LocalFileSource(LocalFileConfig(root=root))
        call = Call("preview", ("a.csv",), {}, "files")
        error = source._translate(OSError(number, os.strerror(number)), call)
        assert type(error) is expected
        assert remedy in str(error)
        assert repr(str(root)) in str(error)

    def test_other_errors_pass(self, root: Path) -> None:
        source = LocalFileSource(LocalFileConfig(root=root))
        call = Call("list_items", (), {}, "files")
        for error in (ZeroDivisionError(), DataSourceConnectionError("gone")):
            assert source._translate(error, call) is None
