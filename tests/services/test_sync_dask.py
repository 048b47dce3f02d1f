"""A sync whose copying is done by Dask workers: real processes, on this machine."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from distributed import Client, LocalCluster

from purveyor.containers import ApplicationContainer
from purveyor.services.sync import (
    CopyJob,
    LocalPlace,
    ObjectFinished,
    StoragePlace,
    SyncError,
    SyncEvent,
    SyncOptions,
    parse_place,
    sync,
)
from purveyor.services.sync_dask import Cluster, DaskCopier, RangeTask, sync_on_dask
from purveyor.services.sync_dask import copier as copier_module
from purveyor.services.sync_dask import ranges as ranges_module
from purveyor.services.sync_dask.ranges import cut, settings_digest
from purveyor.services.sync_dask.worker import _running, copy_range
from purveyor.settings import Settings
from purveyor.testing.servers import SeaweedFS

from .conftest import objects, tree

MANY = 600
SECRET = "a-secret-that-no-task-carries"


@dataclass
class Workers:
    """Two worker processes, the environment they began with, and a client for the tests."""

    cluster: LocalCluster
    client: Client
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return self.cluster.scheduler_address

    def pids(self) -> list[int]:
        return list(self.client.run(os.getpid).values())


@pytest.fixture(scope="module")
def workers(seaweedfs: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    cloud = {"bucket": seaweedfs.create_bucket(), **seaweedfs.login}
    environment = {
        "PURVEYOR_HOME": str(tmp_path_factory.mktemp("home")),
        "PURVEYOR_STORAGE__DEFAULT": "filesystem",
        "PURVEYOR_STORAGE__PROVIDERS__CLOUD__TYPE": "s3",
        **{
            f"PURVEYOR_STORAGE__PROVIDERS__CLOUD__{name.upper()}": str(value)
            for name, value in cloud.items()
        },
        "PURVEYOR_STORAGE__PROVIDERS__LOCKED__TYPE": "s3",
        "PURVEYOR_STORAGE__PROVIDERS__LOCKED__BUCKET": "nothing",
        "PURVEYOR_STORAGE__PROVIDERS__LOCKED__ACCESS_KEY": "AK",
        "PURVEYOR_STORAGE__PROVIDERS__LOCKED__SECRET_KEY": SECRET,
        "PURVEYOR_STORAGE__PROVIDERS__LOCKED__ENDPOINT_URL": str(seaweedfs.login["endpoint_url"]),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        options: dict[str, Any] = {"dashboard_address": None}
        options["scheduler_kwargs"] = {"dashboard_address": "127.0.0.1:0"}
        options["preload"] = ["purveyor.services.sync_dask.worker"]
        cluster = LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, host="127.0.0.1", **options
        )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield Workers(cluster, client, environment)


@pytest.fixture
async def container(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ApplicationContainer]:
    """A container of the settings that the workers have; its storages are empty."""
    for name, value in workers.environment.items():
        monkeypatch.setenv(name, value)
    container = ApplicationContainer(monitoring=False)
    async with container.lifespan():
        for name in ("filesystem", "sqlite", "cloud"):
            storage = container.storage(name)
            await asyncio.gather(*[storage.delete(info.key) async for info in storage.list()])
        yield container


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MANY):
        path = folder / f"{number:04}.txt"
        path.write_bytes(b"%d" % number * 50)
        os.utime(path, (1_700_000_000, 1_700_000_000))  # S3 has whole seconds
    return folder


NOW = datetime.now(UTC)


class TestCutting:
    async def test_ranges_end_at_a_number_of_objects_or_of_bytes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ranges_module, "RANGE_OBJECTS", 16)
        monkeypatch.setattr(ranges_module, "RANGE_BYTES", 1000)

        async def jobs(sizes: list[int]) -> AsyncIterator[CopyJob]:
            for number, size in enumerate(sizes):
                yield CopyJob(f"{number:03}", f"{number:03}", size, NOW, NOW)

        async def lengths(sizes: list[int]) -> list[int]:
            return [len(some) async for some in cut(jobs(sizes))]

        assert await lengths([]) == []
        assert await lengths([1]) == [1]
        assert await lengths([1] * 30) == [2, 4, 6, 8, 10]
        assert (await lengths([1] * 1000))[10:20] == [16] * 10
        assert await lengths([2000] * 3) == [1, 1, 1]
        found = [job.key async for some in cut(jobs([7] * 500)) for job in some]
        assert found == sorted(found)
        assert len(found) == 500


class TestSync:
    @pytest.mark.parametrize("target", ["filesystem", "sqlite", "cloud"])
    async def test_it_copies_what_a_sync_in_one_process_does(
        self, workers: Workers, container: ApplicationContainer, docs: Path, target: str
    ) -> None:
        expected = await sync(docs, f"{target}:alone", container=container)
        events: list[SyncEvent] = []
        result = await sync_on_dask(
            docs,
            f"{target}:together",
            container=container,
            scheduler=workers.address,
            observer=events.append,
        )
        storage = container.storage(target)
        alone, together = await objects(storage, "alone/"), await objects(storage, "together/")
        assert {key.removeprefix("together/") for key in together} == {
            key.removeprefix("alone/") for key in alone
        }
        assert sorted(together.values()) == sorted(alone.values())
        same = ("success", "dry_run", "files", "bytes", "skipped", "ignored", "verified", "error")
        left, right = result.to_dict(), expected.to_dict()
        assert {name: left[name] for name in same} == {name: right[name] for name in same}
        assert [one.key for one in result.failed] == [one.key for one in expected.failed]
        finished = [event.key for event in events if isinstance(event, ObjectFinished)]
        assert len(finished) == len({*finished}) == result.files

    async def test_from_a_storage_to_a_folder_and_a_second_time(
        self, workers: Workers, container: ApplicationContainer, many: Path, tmp_path: Path
    ) -> None:
        where = {"container": container, "scheduler": workers.address}
        there = await sync_on_dask(many, "sqlite:many", **where)
        back = await sync_on_dask("sqlite:many", tmp_path / "back", **where)
        assert there.success
        assert back.success
        assert (there.files, back.files) == (MANY, MANY)
        assert tree(tmp_path / "back") == tree(many)
        again = await sync_on_dask(many, "sqlite:many", **where)
        assert (again.files, again.skipped) == (0, MANY)

    async def test_the_default_provider_and_one_object(
        self, workers: Workers, container: ApplicationContainer, tmp_path: Path
    ) -> None:
        await container.storage().put("a/one.txt", b"one")
        result = await sync_on_dask(
            ":a/one.txt", tmp_path / "two.txt", container=container, scheduler=workers.address
        )
        assert result.files == 1
        assert (tmp_path / "two.txt").read_bytes() == b"one"

    async def test_where_nothing_is_to_be_copied_no_cluster_is_needed(
        self, container: ApplicationContainer, many: Path
    ) -> None:
        nowhere = {"container": container, "scheduler": "tcp://127.0.0.1:1"}
        dry = await sync_on_dask(
            many, "filesystem:many", options=SyncOptions(dry_run=True), **nowhere
        )
        assert (dry.files, dry.success) == (MANY, True)
        assert [info async for info in container.storage("filesystem").list()] == []
        await sync(many, "filesystem:many", container=container)
        assert (await sync_on_dask(many, "filesystem:many", **nowhere)).skipped == MANY

    async def test_without_an_address_workers_are_started_on_this_machine(
        self, container: ApplicationContainer, docs: Path
    ) -> None:
        cluster = Cluster(workers=1)
        target = StoragePlace("filesystem", "docs")
        copier = DaskCopier(cluster, LocalPlace(docs), target, container, SyncOptions())
        addresses: list[str] = []

        async def jobs() -> AsyncIterator[CopyJob]:
            status = (docs / "readme.md").stat()
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
            yield CopyJob("readme.md", "docs/readme.md", status.st_size, modified, modified)

        await copier.copy(jobs(), lambda done: addresses.append(cluster.client.scheduler.address))
        # Whoever reaches a scheduler without TLS can run code in its workers.
        assert addresses[0].startswith("tls://127.0.0.1:")
        assert await container.storage("filesystem").get("docs/readme.md") == b"# Hello\n"

    @pytest.mark.parametrize(
        "options",
        [
            SyncOptions(compare="checksum"),
            SyncOptions(bytes_per_second=1e6),
            SyncOptions(requests_per_second=10),
        ],
    )
    async def test_what_needs_one_process_is_refused(
        self, container: ApplicationContainer, docs: Path, options: SyncOptions
    ) -> None:
        with pytest.raises(SyncError, match="A sync on Dask cannot"):
            await sync_on_dask(docs, "filesystem:docs", container=container, options=options)

    async def test_times_and_deletion_are_those_of_any_sync(
        self, workers: Workers, container: ApplicationContainer, many: Path, tmp_path: Path
    ) -> None:
        where = {"container": container, "scheduler": workers.address}
        await container.storage("cloud").put("many/beyond", b"x")
        there = await sync_on_dask(many, "cloud:many", options=SyncOptions(delete=True), **where)
        assert (there.files, there.deleted, there.success) == (MANY, 1, True)
        again = await sync(many, "cloud:many", container=container)
        assert (again.files, again.skipped) == (0, MANY)
        back = await sync_on_dask("cloud:many", tmp_path / "back", **where)
        assert back.success
        times = {path.stat().st_mtime for path in (tmp_path / "back").iterdir()}
        assert times == {1_700_000_000}


class TestFaults:
    async def test_an_object_that_fails_is_told_and_the_others_arrive(
        self, workers: Workers, container: ApplicationContainer, many: Path
    ) -> None:
        # An object where a folder is needed.
        await container.storage("filesystem").put("many/sub", b"in the way")
        (many / "sub").mkdir()
        (many / "sub" / "file").write_bytes(b"x")
        result = await sync_on_dask(
            many, "filesystem:many", container=container, scheduler=workers.address
        )
        assert [(one.key, one.code) for one in result.failed] == [("sub/file", "KEY_CONFLICT")]
        assert (result.files, result.success) == (MANY, False)

    async def test_a_worker_that_is_killed_costs_its_ranges_only(
        self, workers: Workers, container: ApplicationContainer, many: Path
    ) -> None:
        before = workers.pids()
        killed: list[int] = []

        def kill(event: SyncEvent) -> None:
            if isinstance(event, ObjectFinished) and not killed:
                killed.append(before[0])
                os.kill(before[0], signal.SIGKILL)

        events: list[SyncEvent] = []
        result = await sync_on_dask(
            many,
            "cloud:many",
            container=container,
            scheduler=workers.address,
            observer=lambda event: (events.append(event), kill(event))[0],
        )
        assert killed
        assert result.to_dict()["failed"] == []
        assert (result.files, result.success) == (MANY, True)
        finished = [event.key for event in events if isinstance(event, ObjectFinished)]
        assert len(finished) == len({*finished}) == MANY
        found = await objects(container.storage("cloud"), "many/")
        assert sorted(found.values()) == sorted(tree(many).values())
        await asyncio.to_thread(workers.client.wait_for_workers, 2, timeout=30)
        assert before[0] not in workers.pids()

    async def test_a_range_that_no_worker_survives_is_failed_objects(
        self, workers: Workers, container: ApplicationContainer, many: Path
    ) -> None:
        def allow(count: int) -> int:
            def change(dask_scheduler: Any) -> int:
                was, dask_scheduler.allowed_failures = dask_scheduler.allowed_failures, count
                return was

            return cast(int, workers.client.run_on_scheduler(change))

        await asyncio.to_thread(workers.client.wait_for_workers, 2, timeout=30)
        victim, killed = workers.pids()[0], list[int]()

        def kill(event: SyncEvent) -> None:
            if isinstance(event, ObjectFinished) and not killed:
                killed.append(victim)
                os.kill(victim, signal.SIGKILL)

        allowed = allow(0)
        try:
            result = await sync_on_dask(
                many,
                "cloud:many",
                container=container,
                scheduler=workers.address,
                observer=kill,
            )
        finally:
            allow(allowed)
        await asyncio.to_thread(workers.client.wait_for_workers, 2, timeout=30)
        assert result.error is None
        assert {one.code for one in result.failed} == {"WORKER_LOST"}
        assert result.files + len(result.failed) == MANY

    async def test_cancellation_reaches_the_workers_and_nothing_is_half_written(
        self, workers: Workers, container: ApplicationContainer, many: Path
    ) -> None:
        first = asyncio.Event()

        async def copy() -> None:
            await sync_on_dask(
                many,
                "cloud:many",
                container=container,
                scheduler=workers.address,
                observer=lambda event: first.set() if isinstance(event, ObjectFinished) else None,
            )

        task = asyncio.create_task(copy())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        how_many = lambda: len(_running)  # noqa: E731 - a worker cannot import this module
        while any((await asyncio.to_thread(workers.client.run, how_many)).values()):
            pass
        found = await objects(container.storage("cloud"), "many/")
        assert 0 < len(found) < MANY
        expected = {f"many/{name}": digest for name, digest in tree(many).items()}
        assert found.items() <= expected.items()
        again = await sync_on_dask(
            many, "cloud:many", container=container, scheduler=workers.address
        )
        assert (again.files, again.skipped) == (MANY - len(found), len(found))

    async def test_a_target_that_takes_nothing_ends_the_whole(
        self, workers: Workers, container: ApplicationContainer, many: Path
    ) -> None:
        result = await sync_on_dask(
            many, "locked:many", container=container, scheduler=workers.address
        )
        assert not result.success
        assert result.error is not None
        assert result.files == 0

    async def test_workers_with_other_settings_are_refused(
        self, workers: Workers, many: Path, tmp_path: Path
    ) -> None:
        providers = {
            "filesystem": {"root": str(tmp_path / "elsewhere")},
            "unknown": {"type": "filesystem", "root": str(tmp_path / "unknown")},
        }
        settings = Settings.model_validate({"storage": {"providers": providers}})
        container = ApplicationContainer(settings=settings, monitoring=False)
        async with container.lifespan():
            for name in providers:
                result = await sync_on_dask(
                    many, f"{name}:many", container=container, scheduler=workers.address
                )
                assert result.error is not None
                assert result.error.code == "WORKER_SETTINGS"
                assert name in result.error.message
                assert [info async for info in container.storage(name).list()] == []

    async def test_workers_that_cannot_run_a_range_end_the_whole(
        self,
        workers: Workers,
        container: ApplicationContainer,
        many: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def older(task: RangeTask) -> None:
            raise TypeError("RangeTask() got an unexpected argument")

        monkeypatch.setattr(copier_module, "copy_range", older)
        result = await sync_on_dask(
            many, "cloud:many", container=container, scheduler=workers.address
        )
        assert result.error is not None
        assert result.error.code == "WORKER_FAILED"
        assert "unexpected argument" in result.error.message

    async def test_cancelled_while_it_starts_no_worker_is_left(self) -> None:
        async def start() -> None:
            async with Cluster(workers=1):
                pass

        def others() -> set[psutil.Process]:
            found = psutil.Process().children(recursive=True)
            return {one for one in found if "spawn_main" in " ".join(one.cmdline())}

        before = others()
        task = asyncio.create_task(start())
        while not await asyncio.to_thread(others) - before:
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert others() <= before

    async def test_ctrl_c_in_a_terminal_does_not_end_the_workers_before_their_task(
        self, workers: Workers
    ) -> None:
        def ignored() -> bool:
            return signal.getsignal(signal.SIGINT) is signal.SIG_IGN

        found = await asyncio.to_thread(workers.client.run, ignored)
        assert {*cast("dict[str, bool]", found).values()} == {True}

    async def test_no_cluster_is_told_with_what_to_do(self) -> None:
        with pytest.raises(SyncError, match="dask scheduler") as caught:
            async with Cluster("tcp://127.0.0.1:1", timeout=0.5):
                pass
        assert caught.value.code == "NO_CLUSTER"

    async def test_a_path_is_refused_where_workers_are_on_other_machines(
        self, workers: Workers, container: ApplicationContainer, many: Path
    ) -> None:
        class Elsewhere(Cluster):
            async def __aenter__(self) -> Any:
                cluster = await super().__aenter__()
                cluster.is_local = False
                return cluster

        places = parse_place(os.fspath(many)), StoragePlace("filesystem", "many")
        copier = DaskCopier(Elsewhere(workers.address), *places, container, SyncOptions())

        async def jobs() -> AsyncIterator[CopyJob]:
            yield CopyJob("0000.txt", "many/0000.txt", 50, NOW, NOW)

        with pytest.raises(SyncError, match="path of this machine"):
            await copier.copy(jobs(), lambda done: None)


class TestSecrets:
    async def test_no_secret_is_in_a_task_or_in_the_scheduler(
        self, workers: Workers, container: ApplicationContainer, many: Path
    ) -> None:
        secret = workers.environment["PURVEYOR_STORAGE__PROVIDERS__CLOUD__SECRET_KEY"]
        seen: list[bytes] = []
        looks: list[asyncio.Task[None]] = []

        async def look() -> None:
            run: Any = workers.client.run_on_scheduler
            seen.append(await asyncio.to_thread(run, _state))

        def observer(event: SyncEvent) -> None:
            if isinstance(event, ObjectFinished) and not looks:
                looks.append(asyncio.create_task(look()))

        result = await sync_on_dask(
            many,
            "cloud:many",
            container=container,
            scheduler=workers.address,
            observer=observer,
        )
        await asyncio.gather(*looks)
        assert result.success
        assert b"purveyor-sync-" in seen[0]
        assert b"0123.txt" in seen[0] or b"copy_range" in seen[0]
        assert secret.encode() not in seen[0]

    async def test_a_task_is_places_and_keys(self, container: ApplicationContainer) -> None:
        place = StoragePlace("locked", "many/")
        digest = settings_digest(container, "locked")
        jobs = (CopyJob("a", "many/a", 1, NOW, NOW),)
        task = RangeTask(
            "run", 0, LocalPlace(Path("/")), place, jobs, SyncOptions(), (("locked", digest),)
        )
        pickled = pickle.dumps((copy_range, task))
        assert SECRET.encode() not in pickled
        assert len(pickled) < 1000

    async def test_the_digest_of_settings_follows_them_but_not_the_secrets(
        self, container: ApplicationContainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def digest(**changes: str) -> str:
            with monkeypatch.context() as patch:
                for name, value in changes.items():
                    patch.setenv(f"PURVEYOR_STORAGE__PROVIDERS__LOCKED__{name}", value)
                return settings_digest(ApplicationContainer(monitoring=False), "locked")

        assert digest() == settings_digest(container, "locked")
        assert digest(SECRET_KEY="another") == digest()
        assert digest(BUCKET="another") != digest()


def _state(dask_scheduler: Any) -> bytes:
    """Return all that the scheduler knows of its tasks and workers."""
    tasks = {key: task.run_spec for key, task in dask_scheduler.tasks.items()}
    return pickle.dumps((tasks, dask_scheduler.identity(), dask_scheduler.get_events()))
