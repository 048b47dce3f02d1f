"""Fetching from several sources: all of it, or nothing."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.data_sources import (
    DataSource,
    FetchedItem,
    ItemInfo,
    ItemNotFoundError,
    Target,
    Workspace,
)
from purveyor.providers.registry import NotFoundError, ProviderConfig, guarded
from purveyor.services.fetch import (
    MANIFEST,
    FetchError,
    ManifestItem,
    Query,
    Wanted,
    fetch,
    read_manifest,
)
from purveyor.settings import Settings


class MemoryConfig(ProviderConfig):
    items: dict[str, str]


class Memory(DataSource[MemoryConfig]):
    """Items in memory; those called ``slow`` and ``broken`` are so."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__(config)
        self.busy = 0
        self.most = 0
        self.fetched: list[str] = []
        self.began = asyncio.Event()
        self.go = asyncio.Event()

    async def list_items(self, prefix: str = "") -> AsyncIterator[ItemInfo]:
        for name in sorted(self.config.items):
            if name.startswith(prefix):
                yield ItemInfo(name, "file")

    async def fetch(self, item: str, target: Target, *, format: Any = None) -> FetchedItem:
        self.busy += 1
        self.most = max(self.most, self.busy)
        self.fetched.append(item)
        try:
            self.began.set()
            await asyncio.sleep(0.001)
            if "slow" in item:
                await self.go.wait()
            if "broken" in item or item not in self.config.items:
                raise ItemNotFoundError(f"There is no item {item!r}.")
            return await self._write(item, self.config.items[item], target)
        finally:
            self.busy -= 1

    async def fetch_query(
        self,
        statement: str,
        target: Target,
        parameters: Sequence[Any] = (),
        *,
        name: str = "query",
        format: Any = "csv",
    ) -> FetchedItem:
        text = f"{statement} {list(parameters)}"
        return await self._write(name, text, target, suffix=f".{format}")

    async def _write(
        self, item: str, text: str, target: Target, *, suffix: str = ""
    ) -> FetchedItem:
        async with Workspace.of(target).create(item, suffix=suffix) as draft:
            await draft.write(text.encode())
        now = datetime.now(UTC)
        return FetchedItem(item, draft.path, draft.size, draft.sha256, now, rows=1)


class Sources:
    """A container with two sources in memory."""

    def __init__(self) -> None:
        items = {"a.csv": "a", "b.csv": "b", "2024/jan.csv": "j", "2024/feb.csv": "f"}
        self.one = Memory(MemoryConfig(items=items))
        self.two = Memory(MemoryConfig(items={"a.csv": "other", "slow.csv": "s", "broken": ""}))
        self.container = ApplicationContainer(settings=Settings(data_sources={"default": "one"}))
        for name, source in (("one", self.one), ("two", self.two)):
            self.container.data_sources.override_provider(name, guarded(source, name=name))

    async def fetch(self, wanted: Sequence[Any], place: Path, **options: Any) -> Any:
        return await fetch(wanted, place, container=self.container, **options)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("PURVEYOR_HOME", str(tmp_path / "home"))
    return Sources()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "work" / "data"


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def linked(place: Path, *, to: Path) -> None:
    made(place.parent)
    place.symlink_to(to)


def moved_aside(place: Path) -> None:
    place.rename(place.parent / f".{place.name}.0123456789ab.old")


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_items_of_several_sources_come_into_one_workspace(
    sources: Sources, place: Path
) -> None:
    manifest = await sources.fetch(["one:a.csv", "two:a.csv", ":b.csv"], place)
    assert [(one.source, one.item, one.path, one.size, one.rows) for one in manifest.items] == [
        ("one", "a.csv", "one/a.csv", 1, 1),
        ("two", "a.csv", "two/a.csv", 5, 1),
        ("one", "b.csv", "one/b.csv", 1, 1),
    ]
    assert (place / "two" / "a.csv").read_text() == "other"
    assert names_below(place) == [MANIFEST, "one/a.csv", "one/b.csv", "two/a.csv"]
    assert entries(place.parent) == ["data"]


async def test_the_manifest_is_in_the_workspace(sources: Sources, place: Path) -> None:
    manifest = await sources.fetch(["one:a.csv"], place)
    assert read_manifest(place) == manifest
    import hashlib

    assert manifest.items[0].sha256 == hashlib.sha256(b"a").hexdigest()
    assert manifest.items[0].fetched_at.tzinfo is not None
    assert manifest.seconds > 0


async def test_a_pattern_fetches_what_it_means_once(sources: Sources, place: Path) -> None:
    manifest = await sources.fetch(["one:2024/*.csv", "one:**", "one:a.csv"], place)
    assert sorted(one.item for one in manifest.items) == [
        "2024/feb.csv",
        "2024/jan.csv",
        "a.csv",
        "b.csv",
    ]
    assert len(sources.one.fetched) == 4


async def test_the_answer_to_a_query_is_fetched(sources: Sources, place: Path) -> None:
    query = Query("one", "select $1", name="totals", parameters=["x"])
    manifest = await sources.fetch([query, "one:a.csv"], place)
    row = manifest.items[0]
    assert (row.item, row.path, row.query) == ("totals", "one/totals.csv", "select $1")
    assert (place / row.path).read_text() == "select $1 ['x']"


async def test_two_queries_of_one_name_are_refused(sources: Sources, place: Path) -> None:
    with pytest.raises(FetchError, match="give each query a name of its own"):
        await sources.fetch([Query("one", "a"), Query("one", "b")], place)
    assert entries(place) == []


async def test_one_failure_leaves_nothing_and_names_what_failed(
    sources: Sources, place: Path
) -> None:
    with pytest.raises(FetchError, match=r"two:broken: There is no item 'broken'\.") as caught:
        await sources.fetch(["one:a.csv", "two:broken"], place)
    assert caught.value.context["failures"] == [
        {"item": "two:broken", "code": "ITEM_NOT_FOUND", "reason": "There is no item 'broken'."}
    ]
    assert isinstance(caught.value.__cause__, ItemNotFoundError)
    assert entries(place.parent) == []
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.code, again.context) == (caught.value.code, caught.value.context)


async def test_a_failure_ends_what_is_under_way(sources: Sources, place: Path) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(FetchError):
            await sources.fetch(["two:slow.csv", "two:broken"], place)
    assert sources.two.busy == 0


async def test_a_pattern_that_means_nothing_fails(sources: Sources, place: Path) -> None:
    with pytest.raises(FetchError, match=r"one:\*\.xml: no item matches the pattern"):
        await sources.fetch(["one:*.xml", "one:a.csv"], place)
    assert sources.one.fetched == []


async def test_an_unknown_source_is_told_before_anything_is_done(
    sources: Sources, place: Path
) -> None:
    with pytest.raises(NotFoundError, match="Provider not found: three"):
        await sources.fetch(["one:a.csv", "three:a.csv"], place)
    assert not place.parent.exists()


@pytest.mark.parametrize(("wanted", "jobs"), [([], 1), (["one:a.csv"], 0)])
async def test_nothing_to_do_is_refused(
    sources: Sources, place: Path, wanted: list[str], jobs: int
) -> None:
    with pytest.raises(FetchError, match="name at least one item"):
        await sources.fetch(wanted, place, jobs=jobs)


async def test_cancelling_leaves_nothing(sources: Sources, place: Path) -> None:
    running = asyncio.create_task(sources.fetch(["one:a.csv", "two:slow.csv"], place))
    await sources.two.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert entries(place.parent) == []
    assert sources.two.busy == 0


async def test_an_earlier_workspace_is_replaced_as_a_whole(sources: Sources, place: Path) -> None:
    await sources.fetch(["one:a.csv"], place)
    await sources.fetch(["one:b.csv"], place)
    assert names_below(place) == [MANIFEST, "one/b.csv"]
    assert entries(place.parent) == ["data"]


async def test_an_earlier_workspace_survives_a_failure(sources: Sources, place: Path) -> None:
    await sources.fetch(["one:a.csv"], place)
    with pytest.raises(FetchError):
        await sources.fetch(["one:b.csv", "two:broken"], place)
    assert names_below(place) == [MANIFEST, "one/a.csv"]


async def test_a_folder_that_is_no_workspace_is_not_touched(sources: Sources, place: Path) -> None:
    (made(place) / "thesis.txt").write_text("years of work")
    with pytest.raises(FetchError, match="holds something that is no workspace"):
        await sources.fetch(["one:a.csv"], place)
    assert names_below(place) == ["thesis.txt"]


async def test_a_link_is_not_followed(sources: Sources, place: Path, tmp_path: Path) -> None:
    linked(place, to=made(tmp_path / "elsewhere"))
    with pytest.raises(FetchError, match="no workspace"):
        await sources.fetch(["one:a.csv"], place)


async def test_an_empty_folder_will_do(sources: Sources, place: Path) -> None:
    made(place)
    await sources.fetch(["one:a.csv"], place)
    assert names_below(place) == [MANIFEST, "one/a.csv"]


async def test_what_a_killed_process_moved_aside_is_moved_back(
    sources: Sources, place: Path
) -> None:
    await sources.fetch(["one:a.csv"], place)
    moved_aside(place)  # it was killed just here
    with pytest.raises(FetchError):
        await sources.fetch(["two:broken"], place)
    assert names_below(place) == [MANIFEST, "one/a.csv"]
    assert entries(place.parent) == ["data"]


async def test_a_place_below_a_file_is_told(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match="Cannot make the workspace"):
        await sources.fetch(["one:a.csv"], tmp_path / "file" / "data")


async def test_a_source_is_not_flooded(sources: Sources, place: Path) -> None:
    await sources.fetch(["one:**"], place, jobs_per_source=2)
    assert sources.one.most == 2


async def test_a_slow_source_does_not_hold_up_a_fetch_of_another(
    sources: Sources, place: Path
) -> None:
    slow = asyncio.create_task(sources.fetch(["two:slow.csv"], place))
    await sources.two.began.wait()
    async with asyncio.timeout(2):
        await sources.fetch(["one:**"], place.with_name("quick"))
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


async def test_who_wants_to_know_is_told_of_each_file(sources: Sources, place: Path) -> None:
    told: list[ManifestItem] = []
    manifest = await sources.fetch(["one:**"], place, observer=told.append)
    assert {one.item for one in told} == {one.item for one in manifest.items}


async def test_a_defect_is_not_hidden(sources: Sources, place: Path) -> None:
    def observer(_: ManifestItem) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await sources.fetch([Wanted("one", "a.csv")], place, observer=observer)
    assert entries(place.parent) == []


@pytest.mark.parametrize("text", [None, "", "{}", '{"version": 2}', "no json", "[1]"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(FetchError, match="manifest"):
        read_manifest(tmp_path)
