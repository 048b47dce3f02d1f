"""``purveyor://NAME/key`` as an fsspec file system."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem

from purveyor.containers import ApplicationContainer
from purveyor.containers.process import process_container
from purveyor.integrations.fsspec import PurveyorFileSystem
from purveyor.providers.registry import InvalidConfigError
from purveyor.providers.storage import KeyConflictError
from purveyor.providers.storage.s3 import S3Config
from purveyor.settings import Settings

MIB = 1024 * 1024
TREE = {
    "top.txt": b"top",
    "docs/a.txt": b"alpha",
    "docs/b.csv": b"1,2",
    "docs/2026/c.txt": b"gamma",
    "docs/2026/11/d.txt": b"delta!",
    "docs.txt": b"beside",
    "logs/x.log": b"",
}

services = ApplicationContainer()


@pytest.fixture
def fs() -> PurveyorFileSystem:
    return fsspec.filesystem("purveyor")


@pytest.fixture
def local(tmp_path: Path) -> tuple[LocalFileSystem, str]:
    """The same tree in a folder, where fsspec's own file system says what is expected."""
    for name, content in TREE.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return LocalFileSystem(), str(tmp_path / "tree")


@pytest.fixture
def tree(fs: PurveyorFileSystem) -> PurveyorFileSystem:
    fs.pipe({f"sqlite/{name}": content for name, content in TREE.items()})
    return fs


class TestPaths:
    def test_the_protocol_is_known_to_fsspec_without_an_import(self) -> None:
        assert fsspec.get_filesystem_class("purveyor").__name__ == "PurveyorFileSystem"

    def test_a_url_names_provider_and_key(self, fs: PurveyorFileSystem) -> None:
        with fsspec.open("purveyor://sqlite/a/b.txt", "w") as file:
            file.write("hello")
        assert process_container().blocking.storage("sqlite").get("a/b.txt") == b"hello"

    def test_without_a_name_it_is_the_default_provider(self, fs: PurveyorFileSystem) -> None:
        fs.pipe_file("purveyor:///a/b.txt", b"hello")
        assert process_container().blocking.storage().get("a/b.txt") == b"hello"
        assert fs.ls("purveyor:///a", detail=False) == ["/a/b.txt"]
        assert fs.glob("purveyor:///*/*.txt") == ["/a/b.txt"]
        assert fs.unstrip_protocol("/a/b.txt") == "purveyor:///a/b.txt"
        fs.rm("purveyor:///a", recursive=True)
        assert fs.find("/") == []

    def test_the_root_lists_the_providers(self, fs: PurveyorFileSystem) -> None:
        assert fs.ls("purveyor://", detail=False) == ["filesystem", "sqlite"]
        assert fs.isdir("purveyor://sqlite")
        assert fs.find("", maxdepth=1, withdirs=True) == ["filesystem", "sqlite"]

    def test_an_unknown_provider_is_not_found_and_the_message_names_those_there_are(
        self, fs: PurveyorFileSystem
    ) -> None:
        with pytest.raises(FileNotFoundError, match=r"sqlit\b.*sqlite"):
            fs.cat_file("purveyor://sqlit/a")
        assert not fs.exists("purveyor://sqlit/a")


class TestLooking:
    @pytest.mark.parametrize(
        "ask",
        [
            lambda fs, at: fs.find(at()),
            lambda fs, at: fs.find(at("docs")),
            lambda fs, at: fs.find(at("docs"), maxdepth=1),
            lambda fs, at: fs.find(at("docs"), maxdepth=2, withdirs=True),
            lambda fs, at: fs.find(at("top.txt")),
            lambda fs, at: fs.find(at("none")),
            lambda fs, at: fs.glob(at("docs/*")),
            lambda fs, at: fs.glob(at("do*")),
            lambda fs, at: fs.glob(at("**/*.txt")),
            lambda fs, at: fs.glob(at("docs/**")),
            lambda fs, at: fs.glob(at("*/2026/")),
            lambda fs, at: fs.glob(at("docs/[ab].*")),
            lambda fs, at: sorted(fs.ls(at("docs"), detail=False)),
            lambda fs, at: fs.ls(at("docs/a.txt"), detail=False),
            lambda fs, at: [fs.exists(at(one)) for one in ("docs", "docs/a.txt", "doc", "docs/x")],
            lambda fs, at: [fs.isfile(at(one)) for one in ("docs", "docs/a.txt", "doc")],
            lambda fs, at: [fs.isdir(at(one)) for one in ("docs", "docs/a.txt", "doc")],
            lambda fs, at: fs.cat(at("docs/*.txt")),
            lambda fs, at: fs.du(at("docs")),
            lambda fs, at: fs.du(at("docs"), total=False),
        ],
    )
    def test_it_finds_what_a_folder_would_have(
        self, tree: PurveyorFileSystem, local: tuple[LocalFileSystem, str], ask: Any
    ) -> None:
        folder, root = local
        expected = ask(folder, lambda key="": f"{root}/{key}".rstrip("/") + "/" * key.endswith("/"))
        found = ask(tree, lambda key="": f"sqlite/{key}".rstrip("/") + "/" * key.endswith("/"))
        assert _relative(found, "sqlite") == _relative(expected, root)

    def test_it_walks_as_a_folder_does(
        self, tree: PurveyorFileSystem, local: tuple[LocalFileSystem, str]
    ) -> None:
        folder, root = local

        def walked(fs: Any, at: str) -> list[Any]:
            return sorted(
                (path.removeprefix(at), sorted(folders), sorted(files))
                for path, folders, files in fs.walk(at)
            )

        assert walked(tree, "sqlite") == walked(folder, root)

    def test_info_has_size_time_and_a_checksum_that_follows_the_content(
        self, fs: PurveyorFileSystem
    ) -> None:
        fs.pipe_file("sqlite/a", b"one")
        info = fs.info("sqlite/a")
        assert (info["name"], info["type"], info["size"]) == ("sqlite/a", "file", 3)
        assert abs(fs.modified("sqlite/a") - datetime.now(UTC)) < timedelta(minutes=1)
        before = fs.checksum("sqlite/a"), fs.ukey("sqlite/a")
        assert (fs.checksum("sqlite/a"), fs.ukey("sqlite/a")) == before
        fs.pipe_file("sqlite/a", b"two")
        assert fs.checksum("sqlite/a") != before[0]
        assert fs.ukey("sqlite/a") != before[1]
        with pytest.raises(NotImplementedError, match="modified"):
            fs.created("sqlite/a")

    def test_a_key_beside_keys_below_it_is_both_an_object_and_a_folder(
        self, fs: PurveyorFileSystem
    ) -> None:
        fs.pipe({"sqlite/a": b"1", "sqlite/a/b": b"22"})
        assert fs.find("sqlite") == ["sqlite/a", "sqlite/a/b"]
        assert fs.cat_file("sqlite/a") == b"1"
        assert fs.ls("sqlite/a", detail=False) == ["sqlite/a/b"]
        assert sorted(one["type"] for one in fs.ls("sqlite")) == ["directory", "file"]

    @pytest.mark.parametrize("call", ["info", "cat_file", "ls", "rm_file", "rm", "size", "open"])
    @pytest.mark.parametrize("path", ["sqlite/none", "sqlite/no//key", "none/a"])
    def test_what_is_not_there_is_not_found(
        self, fs: PurveyorFileSystem, call: str, path: str
    ) -> None:
        with pytest.raises(FileNotFoundError):
            getattr(fs, call)(path)


class TestReading:
    @pytest.mark.parametrize("start", [None, 0, 3, 9, 10, 11, -1, -4, -20])
    @pytest.mark.parametrize("end", [None, 0, 2, 10, 50, -1, -3])
    def test_ranges_are_those_of_a_slice(
        self, fs: PurveyorFileSystem, start: int | None, end: int | None
    ) -> None:
        fs.pipe_file("sqlite/digits", b"0123456789")
        assert fs.cat_file("sqlite/digits", start=start, end=end) == b"0123456789"[start:end]

    def test_a_file_is_read_in_blocks(self, fs: PurveyorFileSystem) -> None:
        content = bytes(range(256)) * 4096
        fs.pipe_file("filesystem/big", content)
        with fs.open("filesystem/big", "rb", block_size=64 * 1024, cache_type="bytes") as file:
            file.seek(500_000)
            assert file.read(10) == content[500_000:500_010]
            assert file.cache.total_requested_bytes < 256 * 1024
            file.seek(-3, 2)
            assert file.read() == content[-3:]
        with fs.open("filesystem/big", "rb", block_size=100_000) as file:
            assert file.read() == content

    def test_lines_of_text(self, fs: PurveyorFileSystem) -> None:
        fs.write_text("sqlite/lines", "één\ntwee\n", encoding="utf-8")
        with fs.open("sqlite/lines", "r", encoding="utf-8") as file:
            assert list(file) == ["één\n", "twee\n"]

    def test_get_replaces_a_file_whole_or_not_at_all(
        self, fs: PurveyorFileSystem, tmp_path: Path
    ) -> None:
        target = tmp_path / "copy"
        target.write_bytes(b"before")
        with pytest.raises(FileNotFoundError):
            fs.get_file("sqlite/none", str(target))
        assert target.read_bytes() == b"before"
        fs.pipe_file("sqlite/a", b"x" * (3 * MIB))
        told: Any = Callback()
        fs.get_file("sqlite/a", str(target), callback=told)
        assert target.read_bytes() == b"x" * (3 * MIB)
        assert (told.size, told.value) == (3 * MIB, 3 * MIB)
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["copy"]


class TestWriting:
    def test_an_object_appears_when_the_file_is_closed(self, fs: PurveyorFileSystem) -> None:
        with fs.open("filesystem/a", "wb", block_size=MIB) as file:
            for _ in range(5):
                file.write(b"x" * MIB)
            assert not fs.exists("filesystem/a")
        assert fs.size("filesystem/a") == 5 * MIB

    @pytest.mark.parametrize("mode", ["wb", "w"])
    @pytest.mark.parametrize("size", [10, 3 * MIB])
    def test_an_error_in_the_block_leaves_what_was_there(
        self, fs: PurveyorFileSystem, mode: str, size: int
    ) -> None:
        fs.pipe_file("filesystem/a", b"before")
        with (
            pytest.raises(ZeroDivisionError),
            fs.open("filesystem/a", mode, block_size=MIB) as file,
        ):
            file.write("x" * size if mode == "w" else b"x" * size)
            _ = 1 / 0
        assert fs.cat_file("filesystem/a") == b"before"
        assert process_container().blocking.storage("filesystem").stats().object_count == 1

    def test_memory_is_bounded(self, fs: PurveyorFileSystem) -> None:
        piece = b"x" * MIB
        with fs.open("filesystem/warm", "wb") as file:
            file.write(piece)
        tracemalloc.start()
        try:
            with fs.open("filesystem/big", "wb", block_size=2 * MIB) as file:
                for _ in range(64):
                    file.write(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert fs.size("filesystem/big") == 64 * MIB
        assert peak < 20 * MIB

    def test_an_empty_file_is_an_empty_object(self, fs: PurveyorFileSystem) -> None:
        with fs.open("sqlite/empty", "wb"):
            pass
        fs.touch("sqlite/touched")
        assert fs.cat(["sqlite/empty", "sqlite/touched"]) == {
            "sqlite/empty": b"",
            "sqlite/touched": b"",
        }

    def test_exclusive_creation_refuses_a_key_taken_meanwhile(self, fs: PurveyorFileSystem) -> None:
        for size in (1, 3 * MIB):
            with pytest.raises(FileExistsError):  # noqa: SIM117
                with fs.open(f"filesystem/{size}", "xb", block_size=MIB) as file:
                    file.write(b"x" * size)
                    fs.pipe_file(f"filesystem/{size}", b"first")
            assert fs.cat_file(f"filesystem/{size}") == b"first"

    @pytest.mark.parametrize("mode", ["ab", "r+b", "w+"])
    def test_modes_that_an_object_cannot_have_are_refused(
        self, fs: PurveyorFileSystem, mode: str
    ) -> None:
        with pytest.raises(NotImplementedError):
            fs.open("sqlite/a", mode)

    def test_what_the_storage_refuses_is_raised_by_the_file(self, fs: PurveyorFileSystem) -> None:
        fs.pipe_file("filesystem/a", b"an object, so no folder")
        with (
            pytest.raises(KeyConflictError),
            fs.open("filesystem/a/b", "wb", block_size=MIB) as file,
        ):
            for _ in range(5):
                file.write(b"x" * MIB)
        assert fs.find("filesystem") == ["filesystem/a"]

    def test_a_transaction_makes_its_files_appear_together_or_not_at_all(
        self, fs: PurveyorFileSystem
    ) -> None:
        with fs.transaction:
            for name in ("a", "b"):
                with fs.open(f"sqlite/{name}", "wb") as file:
                    file.write(b"x")
            assert fs.find("sqlite") == []
        assert fs.find("sqlite") == ["sqlite/a", "sqlite/b"]
        with pytest.raises(ZeroDivisionError), fs.transaction:
            with fs.open("sqlite/c", "wb") as file:
                file.write(b"x")
            _ = 1 / 0
        assert fs.find("sqlite") == ["sqlite/a", "sqlite/b"]

    def test_a_file_that_is_never_closed_is_no_object(self, fs: PurveyorFileSystem) -> None:
        file = fs.open("sqlite/lost", "wb", block_size=MIB)
        file.write(b"x" * (2 * MIB))
        with pytest.warns(ResourceWarning, match="sqlite/lost was never closed"):
            del file
        assert not fs.exists("sqlite/lost")

    def test_put_refuses_a_taken_key_where_it_must_be_new(
        self, fs: PurveyorFileSystem, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"x" * (2 * MIB))
        told: Any = Callback()
        fs.put_file(str(source), "filesystem/a", mode="create", callback=told)
        assert (told.size, told.value) == (2 * MIB, 2 * MIB)
        with pytest.raises(FileExistsError):
            fs.put_file(str(source), "filesystem/a", mode="create")

    def test_copies_and_moves_cross_providers(self, tree: PurveyorFileSystem) -> None:
        tree.copy("sqlite/docs", "filesystem/copy", recursive=True)
        assert tree.find("filesystem") == [
            "filesystem/copy/2026/11/d.txt",
            "filesystem/copy/2026/c.txt",
            "filesystem/copy/a.txt",
            "filesystem/copy/b.csv",
        ]
        tree.mv("sqlite/top.txt", "filesystem/moved.txt")
        assert tree.cat_file("filesystem/moved.txt") == b"top"
        assert not tree.exists("sqlite/top.txt")

    def test_rm_removes_a_folder_only_when_told_so(self, tree: PurveyorFileSystem) -> None:
        with pytest.raises(IsADirectoryError):
            tree.rm("sqlite/docs")
        tree.rm("sqlite/docs", recursive=True)
        assert tree.find("sqlite") == ["sqlite/docs.txt", "sqlite/logs/x.log", "sqlite/top.txt"]
        tree.rm(["sqlite/docs.txt", "sqlite/top.txt"])
        tree.rm("sqlite/*/*.log")
        assert tree.find("sqlite") == []


class TestLoops:
    async def test_a_container_is_used_on_the_loop_it_is_given_on(self, tmp_path: Path) -> None:
        container = ApplicationContainer()
        async with container.lifespan():
            await container.storage("sqlite").put("a", b"here")
            fs = PurveyorFileSystem(container=container, asynchronous=True)
            assert await fs._cat_file("sqlite/a") == b"here"
            assert await asyncio.to_thread(fs.cat_file, "sqlite/a") == b"here"
            with pytest.raises(NotImplementedError, match="running loop"):
                fs.cat_file("sqlite/a")

    def test_a_container_without_a_loop_is_used_on_that_of_its_blocking_calls(self) -> None:
        container = ApplicationContainer()
        with container.blocking as blocking:
            fs = PurveyorFileSystem(container=container)
            fs.pipe_file("sqlite/a", b"x")
            assert blocking.storage("sqlite").get("a") == b"x"
            with container.storage.override_provider("sqlite", container.storage("filesystem")):
                assert not fs.exists("sqlite/a")

    def test_any_loop_and_any_thread_may_ask(self, fs: PurveyorFileSystem) -> None:
        fs.pipe_file("sqlite/a", b"x")
        for _ in range(2):
            assert asyncio.run(fs._cat_file("sqlite/a")) == b"x"
        found: list[bytes] = []
        threads = [
            threading.Thread(
                target=lambda: found.append(fsspec.filesystem("purveyor").cat_file("sqlite/a"))
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [b"x"] * 8

    def test_a_forked_process_and_the_end_of_the_process_are_quiet(self, tmp_path: Path) -> None:
        script = """
import os, sys, fsspec
fs = fsspec.filesystem("purveyor")
fs.pipe_file("sqlite/a", b"hello")
fs.pipe_file("filesystem/a", b"hello")
child = os.fork()
if not child:
    assert fs.cat_file("sqlite/a") == b"hello"
    assert fsspec.filesystem("purveyor").cat_file("filesystem/a") == b"hello"
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
file = fs.open("sqlite/unfinished", "wb", block_size=1000)
file.write(bytes(2000))
sys.exit(5)
"""
        ended = subprocess.run(
            [sys.executable, "-W", "default", "-c", script],
            capture_output=True, text=True, timeout=25, check=False,
        )  # fmt: skip
        assert ended.returncode == 5, ended.stderr
        assert ended.stderr.count("ResourceWarning: ") == 1, ended.stderr
        assert "sqlite/unfinished was never closed" in ended.stderr


class TestSecretsAndPickles:
    def test_instances_are_not_kept(self, fs: PurveyorFileSystem) -> None:
        assert fsspec.filesystem("purveyor") is not fs
        assert fsspec.filesystem("purveyor") == fs

    def test_a_file_system_of_the_environment_can_be_pickled_and_holds_no_secret(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__CLOUD__TYPE", "s3")
        monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__CLOUD__BUCKET", "b")
        monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__CLOUD__ACCESS_KEY", "AK")
        monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__CLOUD__SECRET_KEY", "hush-hush-hush")
        fs = fsspec.filesystem("purveyor")
        assert "cloud" in fs.ls("", detail=False)
        fs.pipe_file("sqlite/a", b"x")
        pickled = pickle.dumps(fs)
        assert b"hush" not in pickled
        assert "hush" not in fs.to_json()
        assert pickle.loads(pickled).cat_file("sqlite/a") == b"x"
        assert fsspec.AbstractFileSystem.from_json(fs.to_json()).cat_file("sqlite/a") == b"x"

    def test_a_container_by_its_dotted_path_can_be_pickled(self) -> None:
        fs = PurveyorFileSystem(container=f"{__name__}.services")
        with services.blocking:
            fs.pipe_file("sqlite/a", b"x")
            again = pickle.loads(pickle.dumps(fs))
            assert again.container is services
            assert again.cat_file("sqlite/a") == b"x"
            assert json.loads(fs.to_json())["container"] == f"{__name__}.services"

    def test_a_container_object_cannot_and_the_error_says_what_to_do(self) -> None:
        fs = PurveyorFileSystem(container=services)
        with pytest.raises(pickle.PicklingError, match="dotted path"):
            pickle.dumps(fs)
        with pytest.raises(pickle.PicklingError, match="connections and secrets"):
            fs.to_json()

    @pytest.mark.parametrize("path", ["nothing", "json.nothing", "no.such.module", "json.dumps"])
    def test_a_path_that_names_no_container_is_refused(self, path: str) -> None:
        with pytest.raises(InvalidConfigError, match=path):
            PurveyorFileSystem(container=path)


class TestS3:
    def test_large_objects_and_given_up_ones(self, s3_config: S3Config) -> None:
        settings = Settings.model_validate(
            {
                "storage": {
                    "providers": {
                        "cloud": {
                            "type": "s3",
                            **s3_config.model_dump(exclude_unset=True),
                        }
                    }
                }
            }
        )
        container = ApplicationContainer(settings=settings)
        with container.blocking:
            fs = PurveyorFileSystem(container=container)
            with fs.open("cloud/big.bin", "wb") as file:
                for number in range(12):
                    file.write(bytes([number]) * MIB)
            assert fs.size("cloud/big.bin") == 12 * MIB
            assert fs.cat_file("cloud/big.bin", start=5 * MIB - 1, end=5 * MIB + 1) == b"\x04\x05"
            with pytest.raises(ZeroDivisionError), fs.open("cloud/none.bin", "wb") as file:
                file.write(b"x" * (12 * MIB))
                _ = 1 / 0
            assert fs.find("cloud") == ["cloud/big.bin"]
            fs.cp_file("cloud/big.bin", "cloud/copy.bin")
            fs.rm("cloud/*.bin")
            assert fs.ls("cloud") == []


class TestLibraries:
    def test_pyarrow(self, fs: PurveyorFileSystem) -> None:
        pa = pytest.importorskip("pyarrow")
        dataset = pytest.importorskip("pyarrow.dataset")
        parquet = pytest.importorskip("pyarrow.parquet")
        table = pa.table({"year": [2025, 2026, 2026], "n": [1, 2, 3]})
        parquet.write_table(table, "sqlite/t.parquet", filesystem=fs)
        assert parquet.read_table("sqlite/t.parquet", filesystem=fs) == table
        dataset.write_dataset(
            table, "sqlite/set", format="parquet", partitioning=["year"], filesystem=fs
        )
        found = dataset.dataset("sqlite/set", partitioning=["year"], filesystem=fs)
        assert found.to_table(filter=dataset.field("year") == 2026)["n"].to_pylist() == [2, 3]

    def test_pandas(self) -> None:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
        frame.to_csv("purveyor://sqlite/t.csv", index=False)
        assert pandas.read_csv("purveyor://sqlite/t.csv").equals(frame)
        frame.to_parquet("purveyor:///t.parquet")
        assert pandas.read_parquet("purveyor:///t.parquet").equals(frame)

    def test_polars(self) -> None:
        polars = pytest.importorskip("polars")
        frame = polars.DataFrame({"a": [1, 2]})
        with fsspec.open("purveyor://sqlite/t.parquet", "wb") as file:
            frame.write_parquet(file)
        with fsspec.open("purveyor://sqlite/t.parquet") as file:
            assert polars.read_parquet(file).equals(frame)

    def test_duckdb(self, fs: PurveyorFileSystem) -> None:
        duckdb = pytest.importorskip("duckdb")
        fs.pipe_file("sqlite/t.csv", b"a,b\n1,2\n3,4\n")
        with duckdb.connect() as connection:
            connection.register_filesystem(fs)
            found = connection.sql("select sum(b) from 'purveyor://sqlite/t.csv'").fetchall()
        assert found == [(6,)]


def _relative(found: Any, root: str) -> Any:
    """Return the same answer with paths below ``root``."""
    if isinstance(found, str):
        return found.removeprefix(root).lstrip("/")
    if isinstance(found, list):
        return [_relative(one, root) for one in found]
    if isinstance(found, dict):
        return {_relative(one, root): value for one, value in found.items()}
    return found
