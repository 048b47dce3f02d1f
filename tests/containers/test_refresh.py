"""Changes without a restart: what is found anew, by hand and by itself, under callers."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import (
    CircuitOpenError,
    DiscoveryFailed,
    InvalidStateError,
    LoadReport,
    NotFoundError,
    Outcome,
    ProviderConfig,
    ProviderError,
    ProviderTypes,
    operation,
    register_provider,
)
from purveyor.providers.registry.plugins import PluginLoader
from purveyor.providers.storage import ObjectInfo, StorageProvider
from purveyor.settings import Settings, load_settings, read_providers
from tests.providers.registry.plugin_samples import copy_example

SECRET = "s3cr3t-token"
Hook = Callable[[], Awaitable[None]]


class LiveConfig(ProviderConfig):
    label: str = ""
    token: SecretStr | None = None


class Live(StorageProvider[LiveConfig]):
    """A storage that tells what it was made with; the test says how its backend is."""

    living: list[Live] = []  # noqa: RUF012 - emptied by a fixture
    hooks: dict[str, Hook] = {}  # noqa: RUF012 - as above

    async def _do(self, what: str) -> None:
        hook = self.hooks.get(f"{what} {self.config.label}")
        if hook is not None:
            await hook()

    async def _connect(self) -> None:
        await self._do("connect")
        self.living.append(self)

    async def _close(self) -> None:
        self.living.remove(self)
        await self._do("close")

    async def check_health(self) -> None:
        await self._do("check")

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        await self._do("get")
        if key == "token":
            return self.config.token.get_secret_value().encode() if self.config.token else b""
        return self.config.label.encode()

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        raise ConnectionResetError("gone")
        yield


@pytest.fixture(autouse=True)
def _no_live() -> Iterator[None]:
    Live.living.clear()
    Live.hooks.clear()
    yield
    assert Live.living == []  # nothing that was opened is left open


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


Write = Callable[..., None]


@pytest.fixture
def write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Replace the configuration file: lines of registry, and the providers ``name=settings``."""
    monkeypatch.setenv("PURVEYOR_CONFIG_FILE", "purveyor.yaml")

    def write(top: str = "", *, default: str = "", **providers: str) -> None:
        lines = [top, "storage:", f"  default: {default or 'null'}"]
        lines += ["  providers:" if providers else "  providers: {}"]
        lines += [f"    {name}: {{type: live, {text}}}" for name, text in providers.items()]
        replace(folder / "purveyor.yaml", "\n".join(lines) + "\n")

    return write


def replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.replace(path)


@pytest.fixture
def make(types: ProviderTypes) -> Callable[..., Any]:
    register_provider("live", types=types)(Live)
    return lambda **values: ApplicationContainer(settings=load_settings(**values), types=types)


Make = Callable[..., Any]


def rows(report: LoadReport) -> dict[str, str]:
    """Return what became of each provider, without those that are built in."""
    embedded = ("filesystem", "sqlite")
    return {row.name: row.outcome.value for row in report.rows if row.name not in embedded}


async def closed() -> None:
    """Wait for the end of instances that were replaced."""
    closing = [task for task in asyncio.all_tasks() if task.get_name().startswith("close ")]
    await asyncio.gather(*closing)


def labels() -> list[str]:
    return [one.config.label for one in Live.living]


class Gate:
    """Something to wait at, that tells when somebody has come."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()


async def fail() -> None:
    raise OSError("no route to host")


# -- new, changed, gone ------------------------------------------------------------------


@pytest.mark.requirement("S4.19", "S4.61")
async def test_new_changed_and_gone(make: Make, write: Write) -> None:
    write(a="label: one", b="label: b")
    container = make()
    told: list[tuple[str, str]] = []
    for event in ("provider-registered", "provider-reloaded", "provider-unregistered"):
        container.events().on(event, lambda one: told.append((one.event_name, one.name)))
    async with container.lifespan():
        discovery = container.discovery()
        assert rows(discovery.report) == {"a": "registered", "b": "registered"}
        a, b = container.storage("a"), container.storage("b")
        assert (await a.get("k"), await b.get("k")) == (b"one", b"b")
        told.clear()

        assert rows(await discovery.refresh()) == {"a": "unchanged", "b": "unchanged"}
        assert told == []

        write(a="label: two", c="label: c")
        report = await discovery.refresh()
        assert rows(report) == {"c": "registered", "a": "reloaded", "b": "removed"}
        assert report is discovery.report
        assert told == [
            ("provider-registered", "c"),
            ("provider-reloaded", "a"),
            ("provider-unregistered", "b"),
        ]
        assert await a.get("k") == b"two"  # what callers hold stays good
        assert container.storage("a") is a
        assert await container.storage("c").get("k") == b"c"
        with pytest.raises(InvalidStateError):
            await b.get("k")
        with pytest.raises(NotFoundError):
            container.storage("b")


@pytest.mark.requirement("S4.61")
async def test_a_hot_swap_fails_no_call_and_leaves_no_instance(make: Make, write: Write) -> None:
    write(a="label: '0'")
    container = make()
    async with container.lifespan(), asyncio.timeout(20):
        storage, discovery = container.storage("a"), container.discovery()
        answers: set[bytes] = set()
        done = asyncio.Event()

        async def call() -> None:
            while not done.is_set():
                answers.add(await storage.get("k"))
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(call())
            for number in range(1, 11):
                write(a=f"label: '{number}'")
                assert rows(await discovery.refresh()) == {"a": "reloaded"}
                assert await storage.get("k") == str(number).encode()
            done.set()
        await closed()
        assert answers | {b"10"} == {str(number).encode() for number in range(11)}
        assert labels() == ["10"]


async def test_calls_under_way_end_on_the_old_instance(make: Make, write: Write) -> None:
    write(a="label: one")
    container = make()
    async with container.lifespan(), asyncio.timeout(10):
        Live.hooks["get one"] = gate = Gate()
        call = asyncio.create_task(container.storage("a").get("k"))
        await gate.reached.wait()
        write(a="label: two")
        assert rows(await container.discovery().refresh()) == {"a": "reloaded"}
        assert labels() == ["one", "two"]
        assert await container.storage("a").get("k") == b"two"
        gate.opened.set()
        assert await call == b"one"


@pytest.mark.requirement("S1.38")
async def test_what_is_leased_stays_until_the_lease_ends(make: Make, write: Write) -> None:
    limits = "registry: {lifecycle: {graceful_shutdown_timeout: 0.05}}"
    write(limits, a="label: one")
    container = make()
    async with container.lifespan():
        discovery, registry = container.discovery(), container.storage.registry
        with registry.lease("a", holder="a sync") as storage:
            write(limits)
            for _ in range(2):
                report = await discovery.refresh()
                assert rows(report) == {"a": "failed"}
                assert report.failed[0].code == "IN_USE"
                assert "a sync" in report.failed[0].reason
                assert await storage.get("k") == b"one"
        assert rows(await discovery.refresh()) == {"a": "removed"}
        assert Live.living == []
        assert "a" not in registry.names()


async def test_what_comes_back_while_it_is_leased_is_as_if_it_never_went(
    make: Make, write: Write
) -> None:
    limits = "registry: {lifecycle: {graceful_shutdown_timeout: 0.05}}"
    write(limits, a="label: one")
    container = make()
    async with container.lifespan():
        with container.storage.registry.lease("a"):
            write(limits)
            await container.discovery().refresh()
            write(limits, a="label: one")
            assert rows(await container.discovery().refresh()) == {"a": "unchanged"}
        write(limits, a="label: two")
        assert rows(await container.discovery().refresh()) == {"a": "reloaded"}
        assert await container.storage("a").get("k") == b"two"


@pytest.mark.requirement("S4.22")
async def test_disabled_and_enabled_again(make: Make, write: Write) -> None:
    write(a="label: one")
    container = make()
    async with container.lifespan():
        discovery = container.discovery()
        assert await container.storage("a").get("k") == b"one"
        write(a="label: one, enabled: false")
        report = await discovery.refresh()
        assert rows(report) == {"a": "removed"}
        assert [row.reason for row in report.rows if row.name == "a"] == ["enabled is false"]
        assert Live.living == []
        with pytest.raises(NotFoundError, match="a is disabled"):
            container.storage("a")
        write(a="label: two, enabled: false")
        assert rows(await discovery.refresh()) == {"a": "skipped"}
        write(a="label: two")
        assert rows(await discovery.refresh()) == {"a": "registered"}
        assert await container.storage("a").get("k") == b"two"
        write()
        assert rows(await discovery.refresh()) == {"a": "removed"}


async def test_another_type_takes_over(make: Make, write: Write, folder: Path) -> None:
    write(a="label: one")
    container = make()
    async with container.lifespan():
        storage = container.storage("a")
        assert await storage.get("k") == b"one"
        text = "storage: {providers: {a: {type: memory, label: memory}}}"
        replace(folder / "purveyor.yaml", text)
        assert rows(await container.discovery().refresh()) == {"a": "reloaded"}
        assert await storage.get("k") == b"memory"
        await closed()
        assert Live.living == []


async def test_another_default(make: Make, write: Write) -> None:
    write(default="a", a="label: a", b="label: b")
    container = make()
    async with container.lifespan():
        discovery = container.discovery()
        assert await container.storage().get("k") == b"a"
        write(default="b", a="label: a", b="label: b")
        await discovery.refresh()
        assert await container.storage().get("k") == b"b"
        write(default="b", a="label: a")
        await discovery.refresh()
        with pytest.raises(NotFoundError, match="named as the default"):
            container.storage()
        write(default="b", a="label: a", b="label: back")
        await discovery.refresh()
        assert await container.storage().get("k") == b"back"
        container.storage.registry.set_default("a")
        await discovery.refresh()
        assert await container.storage().get("k") == b"a"  # set by hand, and the settings are as
        write(a="label: a")
        await discovery.refresh()
        assert container.storage.registry.default_name() == "a"  # the only one


# -- what holds for all ------------------------------------------------------------------


@pytest.mark.requirement("S4.64")
async def test_a_breaker_takes_new_settings_and_keeps_its_state(make: Make, write: Write) -> None:
    write("registry: {circuit_breaker: {failure_threshold: 9}}", a="label: one", b="label: b")
    container = make()
    async with container.lifespan():
        storage, discovery = container.storage("a"), container.discovery()
        registry = container.storage.registry
        await storage.initialize()
        for _ in range(2):
            with pytest.raises(ProviderError):
                [one async for one in storage.list()]
        write(
            "registry: {circuit_breaker: {failure_threshold: 4}}",
            a="label: one, circuit_breaker: {failure_threshold: 3}",
            b="label: b",
        )
        assert rows(await discovery.refresh()) == {"a": "reloaded", "b": "unchanged"}
        assert storage._guard.breaker.settings.failure_threshold == 3
        assert container.storage("b")._guard.breaker.settings.failure_threshold == 4
        assert len(Live.living) == 1  # it was not connected anew for that
        with pytest.raises(ProviderError):
            [one async for one in storage.list()]  # the third
        with pytest.raises(CircuitOpenError):
            await storage.get("k")
        write(a="label: one, priority: 60, circuit_breaker: {recovery_timeout: 77}", b="label: b")
        Live.hooks["connect one"] = fail  # nobody asks it
        assert rows(await discovery.refresh()) == {"a": "reloaded", "b": "unchanged"}
        with pytest.raises(CircuitOpenError):
            await storage.get("k")
        assert storage._guard.breaker.settings.recovery_timeout == 77
        assert registry.info("a").priority == 60


@pytest.mark.requirement("S4.21", "S4.61")
async def test_health_is_checked_as_the_settings_say_now(make: Make, write: Write) -> None:
    write("registry: {health: {check_interval: 3600, jitter: 0}}", a="label: one")
    container = make()
    checked = asyncio.Event()

    async def check() -> None:
        checked.set()

    async with container.lifespan(), asyncio.timeout(10):
        await container.storage("a").initialize()
        Live.hooks["check one"] = check
        write("registry: {health: {check_interval: 0.02, jitter: 0}}", a="label: one")
        assert rows(await container.discovery().refresh()) == {"a": "unchanged"}
        await checked.wait()
        write(
            "registry: {health: {check_interval: 3600, jitter: 0}}",
            a="label: one, health: {check_interval: 0.03}",
        )
        assert rows(await container.discovery().refresh()) == {"a": "reloaded"}
        checked.clear()
        await checked.wait()


# -- mistakes ----------------------------------------------------------------------------


@pytest.mark.requirement("S4.57", "S4.61")
@pytest.mark.parametrize(
    ("nonsense", "location", "reason"),
    [
        ("storage: [", "purveyor.yaml", "is no valid YAML"),
        ("- a", "purveyor.yaml", "must hold a table"),
        ("storge: {}", "purveyor.yaml: storge", "unknown setting; did you mean 'storage'?"),
        (
            f"storage: {{providers: {{a: {{type: live, priority: {SECRET}}}}}}}",
            "purveyor.yaml: storage.providers.a.priority",
            "must be a whole number",
        ),
        (None, "purveyor.yaml", "cannot be read: No such file or directory"),
    ],
)
async def test_nonsense_leaves_the_last_good_settings_in_force(
    make: Make,
    write: Write,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    nonsense: str | None,
    location: str,
    reason: str,
) -> None:
    write(a="label: one")
    container = make()
    events: list[DiscoveryFailed] = []
    container.events().on("discovery-failed", events.append)
    async with container.lifespan():
        discovery = container.discovery()
        before = discovery.settings
        assert await container.storage("a").get("k") == b"one"
        if nonsense is None:
            (folder / "purveyor.yaml").unlink()
        else:
            replace(folder / "purveyor.yaml", nonsense)
        report = await discovery.refresh()
        (row,) = report.rows
        assert (row.outcome, row.code, row.origin) == ("failed", "INVALID_CONFIG", location)
        assert row.reason.startswith(reason)
        assert [(one.source, one.reason) for one in events] == [(location, row.reason)]
        assert f"Discovery: {location}: {row.reason}" in caplog.messages
        assert discovery.settings is before
        assert await container.storage("a").get("k") == b"one"
        assert len(Live.living) == 1
        assert SECRET not in caplog.text + repr((report, events))

        write(a="label: two")
        assert rows(await discovery.refresh()) == {"a": "reloaded"}
        assert await container.storage("a").get("k") == b"two"


@pytest.mark.requirement("S4.22", "S4.57")
@pytest.mark.parametrize("nonsense", ["storage: [", "storage: 3", "storage: {providers: 3}", None])
async def test_nonsense_in_the_file_of_providers_removes_nothing(
    make: Make, folder: Path, nonsense: str | None
) -> None:
    good = "storage: {providers: {a: {type: live, label: one}, b: {type: live}}}"
    path = folder / "providers.yaml"
    path.write_text(good)
    container = make(registry={"discovery": {"config_path": path}})
    async with container.lifespan():
        discovery = container.discovery()
        assert rows(discovery.report) == {"a": "registered", "b": "registered"}
        await container.storage("a").initialize()
        if nonsense is None:
            path.unlink()
        else:
            replace(path, nonsense)
        for _ in range(2):
            report = await discovery.refresh()
            assert rows(report) == {"": "failed", "a": "unchanged", "b": "unchanged"}
            assert report.failed[0].origin.startswith(str(path))
        assert await container.storage("a").get("k") == b"one"
        replace(path, "storage: {providers: {a: {type: live, label: two}}}")
        assert rows(await discovery.refresh()) == {"a": "reloaded", "b": "removed"}


@pytest.mark.requirement("S4.22")
async def test_an_entry_at_fault_stays_as_it_was(make: Make, write: Write) -> None:
    write(a="label: one", b="label: b")
    container = make()
    async with container.lifespan():
        discovery = container.discovery()
        assert await container.storage("a").get("k") == b"one"
        write(a="lable: two", b="label: new", c="lable: c")
        for b in ("reloaded", "unchanged"):
            assert rows(await discovery.refresh()) == {"a": "failed", "b": b, "c": "failed"}
        assert await container.storage("a").get("k") == b"one"
        write(a="label: two", c="label: c")
        expected = {"a": "reloaded", "b": "removed", "c": "registered"}
        assert rows(await discovery.refresh()) == expected


@pytest.mark.parametrize("what", ["connect", "check"])
async def test_settings_of_a_backend_that_is_not_well_are_not_taken(
    make: Make, write: Write, what: str
) -> None:
    write(a="label: one", b="label: b")
    container = make()
    async with container.lifespan():
        discovery = container.discovery()
        await container.storage("a").initialize()
        Live.hooks[f"{what} two"] = fail
        write(a="label: two", b="label: new")
        report = await discovery.refresh()
        assert rows(report) == {"a": "failed", "b": "reloaded"}
        assert "no route to host" in report.failed[0].reason
        assert await container.storage("a").get("k") == b"one"
        assert labels() == ["one"]
        Live.hooks.clear()
        assert rows(await discovery.refresh()) == {"a": "reloaded", "b": "unchanged"}


async def test_closing_that_fails_ends_nothing_else(make: Make, write: Write) -> None:
    write(a="label: one", b="label: b")
    container = make()
    async with container.lifespan():
        await container.storage("a").initialize()
        Live.hooks["close one"] = fail
        write()
        report = await container.discovery().refresh()
        assert rows(report) == {"a": "failed", "b": "removed"}
        assert report.failed[0].reason == "Provider 'a' failed: OSError: no route to host"
        assert rows(await container.discovery().refresh()) == {}


# -- credentials -------------------------------------------------------------------------


@pytest.mark.requirement("S4.61")
async def test_rotated_credentials_in_the_secrets_directory_are_taken(
    make: Make, write: Write, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As Kubernetes mounts them: every file a link by way of ``..data``."""
    write(a="label: one")
    volume = folder / "secrets"

    def project(turn: int) -> None:
        data = volume / f"..{turn}"
        data.mkdir(parents=True)
        (data / "storage__providers__a__token").write_text(f"{SECRET}-{turn}\n")
        (volume / "..tmp").symlink_to(data.name)
        (volume / "..tmp").replace(volume / "..data")

    project(1)
    name = "storage__providers__a__token"
    (volume / name).symlink_to(f"..data/{name}")
    container = make(secrets_dir=volume)
    reloaded = asyncio.Event()
    container.events().on("provider-reloaded", lambda _: reloaded.set())
    async with container.lifespan(), asyncio.timeout(10):
        storage = container.storage("a")
        assert await storage.get("token") == f"{SECRET}-1".encode()
        container.discovery().start_auto_refresh(0.01)
        project(2)
        await reloaded.wait()
        assert await storage.get("token") == f"{SECRET}-2".encode()
        await closed()
        assert [one.config.token for one in Live.living] == [SecretStr(f"{SECRET}-2")]
    assert SECRET not in caplog.text + repr(container.discovery().report)


# -- at the same time --------------------------------------------------------------------


async def test_two_refreshes_at_once_are_one_after_the_other(make: Make, write: Write) -> None:
    write(a="label: one")
    container = make()
    async with container.lifespan(), asyncio.timeout(10):
        discovery = container.discovery()
        await container.storage("a").initialize()
        write(a="label: two", b="label: b")
        reports = await asyncio.gather(*(discovery.refresh() for _ in range(3)))
        assert [rows(report)["a"] for report in reports] == ["reloaded", "unchanged", "unchanged"]
        assert [rows(report)["b"] for report in reports] == ["registered", "unchanged", "unchanged"]
        await closed()
        assert labels() == ["two"]


@pytest.mark.requirement("S4.61")
async def test_shutdown_during_a_refresh_leaves_nothing_open(make: Make, write: Write) -> None:
    write(a="label: one", b="label: b", c="label: c")
    container = make()
    async with asyncio.timeout(10):
        async with container.lifespan():
            await container.storage("a").initialize()
            Live.hooks["check two"] = gate = Gate()
            write(a="label: two", b="label: new", d="label: d")
            refreshing = asyncio.create_task(container.discovery().refresh())
            await gate.reached.wait()
        gate.opened.set()
        report = await refreshing
        assert rows(report)["a"] == "failed"
        assert Live.living == []


@pytest.mark.parametrize("kind", ["live", "memory"])
async def test_a_refresh_after_the_end_opens_nothing(
    make: Make, write: Write, folder: Path, kind: str
) -> None:
    write(a="label: one")
    container = make()
    async with container.lifespan():
        await container.storage("a").initialize()
    text = f"storage: {{providers: {{a: {{type: {kind}, label: two}}, b: {{type: live}}}}}}"
    replace(folder / "purveyor.yaml", text)
    report = await container.discovery().refresh()
    assert rows(report)["b"] == "failed"
    assert {row.code for row in report.failed} == {"SHUTTING_DOWN"}
    assert Live.living == []


async def test_shutdown_ends_a_refresh_that_looks_by_itself(make: Make, write: Write) -> None:
    write(a="label: one")
    container = make()
    async with asyncio.timeout(10):
        async with container.lifespan():
            await container.storage("a").initialize()
            Live.hooks["connect two"] = gate = Gate()
            container.discovery().start_auto_refresh(0.01)
            write(a="label: two")
            await gate.reached.wait()
        assert Live.living == []
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.requirement("S4.61")
async def test_shutdown_keeps_its_deadline_though_a_refresh_heeds_no_cancellation(
    make: Make, write: Write
) -> None:
    limits = (
        "registry: {lifecycle: {graceful_shutdown_timeout: 0.3, dispose_timeout: 0.6, "
        "init_timeout: 9}}"
    )
    write(limits, a="label: one")
    container = make()
    under_way, let_go = asyncio.Event(), asyncio.Event()

    async def deaf() -> None:
        under_way.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        raise OSError("at last")

    async with asyncio.timeout(10):
        loop = asyncio.get_running_loop()
        async with container.lifespan():
            await container.storage("a").initialize()
            Live.hooks["connect two"] = deaf
            container.discovery().start_auto_refresh(0.01)
            write(limits, a="label: two")
            await under_way.wait()
            started = loop.time()
        assert loop.time() - started < 1.3
        assert Live.living == []
        let_go.set()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})


# -- by itself ---------------------------------------------------------------------------


class Looks:
    """The reports of the refreshes that come by themselves, one after the other."""

    def __init__(self, container: Any) -> None:
        self._queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        for name in ("provider-registered", "provider-reloaded", "provider-unregistered"):
            container.events().on(name, self._put)
        container.events().on("discovery-failed", self._put)

    def _put(self, event: Any) -> None:
        self._queue.put_nowait((event.event_name, event.name))

    async def next(self) -> tuple[str, str]:
        return await self._queue.get()

    @property
    def is_empty(self) -> bool:
        return self._queue.empty()


@pytest.mark.requirement("S4.21", "S4.61", "S4.62")
async def test_changes_of_files_are_taken_by_themselves(make: Make, write: Write) -> None:
    quick = "registry: {discovery: {auto_refresh_interval: 0.01}}"
    write(quick, a="label: one")
    container = make()
    async with container.lifespan(), asyncio.timeout(10):
        looks = Looks(container)
        storage = container.storage("a")
        assert await storage.get("k") == b"one"
        write(quick, a="label: two")
        assert await looks.next() == ("provider-reloaded", "a")
        assert await storage.get("k") == b"two"
        write(quick, b="label: b")
        assert await looks.next() == ("provider-registered", "b")
        assert await looks.next() == ("provider-unregistered", "a")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_changed_before_the_first_look_is_taken_too(make: Make, write: Write) -> None:
    write(a="label: one")
    container = make()
    write(a="label: two")  # the settings have been read
    async with container.lifespan(), asyncio.timeout(10):
        looks = Looks(container)
        container.discovery().start_auto_refresh(3600)
        assert await looks.next() == ("provider-reloaded", "a")


@pytest.mark.requirement("S4.21")
async def test_starting_again_changes_the_interval(make: Make, write: Write) -> None:
    write(a="label: one")
    container = make()
    async with container.lifespan(), asyncio.timeout(10):
        discovery, looks = container.discovery(), Looks(container)
        discovery.start_auto_refresh(3600)
        discovery.start_auto_refresh(1800)
        discovery.start_auto_refresh(0.01)
        write(a="label: two")
        assert await looks.next() == ("provider-reloaded", "a")
        await discovery.stop_auto_refresh()
        tasks = {task.get_name() for task in asyncio.all_tasks()}
        assert "discovery" not in tasks
        await discovery.stop_auto_refresh()
        write(a="label: three")
        assert rows(await discovery.refresh()) == {"a": "reloaded"}  # nobody else was faster


@pytest.mark.parametrize("interval", [None, 0, -1.0])
async def test_an_interval_is_needed(make: Make, interval: float | None) -> None:
    discovery = make().discovery()
    with pytest.raises(InvalidStateError, match="AUTO_REFRESH_INTERVAL"):
        discovery.start_auto_refresh(interval)


@pytest.mark.requirement("S4.21")
async def test_a_fault_is_told_once_and_tried_again_at_every_look(
    make: Make, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write(a="label: one")
    container = make()
    async with container.lifespan(), asyncio.timeout(10):
        looks = Looks(container)
        await container.storage("a").initialize()
        tries: asyncio.Queue[None] = asyncio.Queue()

        async def refuse() -> None:
            tries.put_nowait(None)
            await fail()

        Live.hooks["connect two"] = refuse
        write(a="label: two")
        container.discovery().start_auto_refresh(0.01)
        for _ in range(3):
            await tries.get()
        assert await looks.next() == ("discovery-failed", "a")
        assert looks.is_empty
        assert await container.storage("a").get("k") == b"one"
        del Live.hooks["connect two"]
        assert await looks.next() == ("provider-reloaded", "a")
        told = [one for one in caplog.messages if one.startswith("Failed to create storage")]
        assert len(told) == 1


async def test_a_lease_that_ends_lets_its_provider_go_by_itself(make: Make, write: Write) -> None:
    limits = "registry: {lifecycle: {graceful_shutdown_timeout: 0.02}}"
    write(limits, a="label: one")
    container = make()
    async with container.lifespan(), asyncio.timeout(10):
        looks = Looks(container)
        with container.storage.registry.lease("a"):
            write(limits)
            container.discovery().start_auto_refresh(0.01)
            assert await looks.next() == ("discovery-failed", "a")
        assert await looks.next() == ("provider-unregistered", "a")


async def test_what_the_new_settings_name_is_watched_from_then_on(
    make: Make, write: Write, folder: Path
) -> None:
    write()
    (folder / "more.yaml").write_text("storage: {providers: {b: {type: live, label: one}}}")
    container = make()
    async with container.lifespan(), asyncio.timeout(10):
        looks = Looks(container)
        container.discovery().start_auto_refresh(0.01)
        write("registry: {discovery: {config_path: more.yaml}}")
        assert await looks.next() == ("provider-registered", "b")
        replace(folder / "more.yaml", "storage: {providers: {b: {type: live, label: two}}}")
        assert await looks.next() == ("provider-reloaded", "b")


@pytest.mark.requirement("S4.21")
async def test_ten_restarts_leave_no_task(make: Make, write: Write) -> None:
    write(a="label: one")
    container = make()
    async with container.lifespan(), asyncio.timeout(10):
        discovery = container.discovery()
        before = asyncio.all_tasks()
        for _ in range(10):
            discovery.start_auto_refresh(0.001)
            await asyncio.sleep(0)
            await discovery.stop_auto_refresh()
        assert asyncio.all_tasks() == before


# -- plugins -----------------------------------------------------------------------------

PROVIDER = """
[[providers]]
name = "scratch"
family = "storage"
type = "memory-plugin"
settings = { max_objects = 5 }
"""


@pytest.mark.requirement("S4.25", "S4.61")
async def test_a_changed_plugin_is_taken_once_it_is_pinned(make: Make, folder: Path) -> None:
    plugins = folder / "plugins"
    manifest = copy_example(plugins) / "plugin.toml"
    manifest.write_text(manifest.read_text() + PROVIDER)
    container = make(
        registry={"discovery": {"plugin_path": plugins}, "plugins": {"allowed": "memory"}},
        storage={"providers": {"mine": {"type": "memory-plugin"}}},
    )
    loader = PluginLoader(plugins, container.settings().registry.plugins)
    loader.pin([loader.pinnable("memory")])
    async with container.lifespan(), asyncio.timeout(30):
        discovery = container.discovery()
        assert rows(discovery.report) == {"mine": "registered", "scratch": "registered"}
        storage = container.storage("mine")
        await storage.put("k", b"v")
        assert rows(await discovery.refresh()) == {"mine": "unchanged", "scratch": "unchanged"}
        assert await storage.get("k") == b"v"  # it was not started anew

        code = plugins / "memory" / "memory_storage.py"
        code.write_text(code.read_text().replace("StorageStats(", "StorageStats(*(), "))
        for _ in range(2):
            report = await discovery.refresh()
            expected = {"memory": "failed", "mine": "unchanged", "scratch": "unchanged"}
            assert rows(report) == expected
            assert report.failed[0].code == "PLUGIN_REJECTED"
        assert await storage.get("k") == b"v"  # the verified bytes go on

        manifest.write_text(manifest.read_text().replace('"1.0"', '"2.0"'))
        loader.pin([loader.pinnable("memory")])
        assert rows(await discovery.refresh()) == {"mine": "reloaded", "scratch": "reloaded"}
        assert container.storage.registry.info("mine").metadata["plugin_version"] == "2.0"
        assert [one async for one in storage.list()] == []
        await storage.put("k", b"w")

        shutil.rmtree(plugins / "memory")
        assert rows(await discovery.refresh()) == {"mine": "failed", "scratch": "removed"}


# -- again -------------------------------------------------------------------------------


async def test_a_container_may_live_twice(make: Make, write: Write) -> None:
    quick = "registry: {discovery: {auto_refresh_interval: 0.01}}"
    write(quick, a="label: one")
    container = make()
    for label in ("two", "three"):
        async with container.lifespan(), asyncio.timeout(10):
            assert container.discovery().report.clean
            looks = Looks(container)
            await container.storage("a").initialize()
            write(quick, a=f"label: {label}")
            assert await looks.next() == ("provider-reloaded", "a")
            assert await container.storage("a").get("k") == label.encode()
        assert Live.living == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- docs/discovery.md -------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "discovery.md"


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for kind, block in found if kind == language]


def test_the_pages_report_is_what_is_printed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "providers.yaml").write_text(blocks("yaml")[1])
    monkeypatch.setenv("PURVEYOR_REGISTRY__DISCOVERY__CONFIG_PATH", "providers.yaml")
    program = [sys.executable, "-c", blocks("python")[-1]]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60)
    printed, logged = blocks("")
    assert done.stdout == printed
    assert done.stderr == logged


def test_the_pages_file_of_providers_is_a_good_one(folder: Path) -> None:
    (folder / "providers.yaml").write_text(blocks("yaml")[0])
    file = read_providers(Path("providers.yaml"), frozenset({"storage"}))
    assert file.problems == ()
    backups, scratch = (one.settings for one in file.providers)
    assert backups is not None
    assert backups.options.get_secret_value() == {"root": "/srv/backups"}
    assert scratch is not None
    assert not scratch.enabled


def test_the_page_names_settings_that_exist_and_every_outcome() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in set(re.findall(r"PURVEYOR_([A-Z_]+)", text)):
        model: Any = Settings
        for key in name.lower().split("__"):
            model = model.model_fields[key].annotation
    told = re.findall(r"^\| `(\w+)` \|", text.partition("| outcome |")[2], flags=re.MULTILINE)
    assert told == [outcome.value for outcome in Outcome]
