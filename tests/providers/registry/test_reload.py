"""New settings, or a new instance, under the hands of those who use a provider."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import ConfigDict, Field

from purveyor.providers.registry import (
    BreakerState,
    CircuitOpenError,
    ConnectionFailedError,
    CreationFailedError,
    HealthStatus,
    InUseError,
    InvalidConfigError,
    InvalidStateError,
    NotFoundError,
    OperationTimeoutError,
    ProviderConfig,
    ProviderRegistry,
    ProviderReloaded,
    ProviderTypes,
    RegistryError,
    ShuttingDownError,
    Status,
    operation,
    register_provider,
)
from purveyor.settings import LifecycleSettings
from tests.providers.registry.samples import (
    Backend,
    BackendError,
    Gate,
    Sample,
    SampleConfig,
    deaf,
    loop_in_thread,
    raising,
    turns,
)

Registry = ProviderRegistry[Any]


class OtherConfig(ProviderConfig):
    """Settings of another type."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    backend: Backend = Field(default_factory=Backend)
    label: str = ""


class Other(Sample):
    """Another type of the same family."""

    config_class = OtherConfig

    @operation
    async def echo(self, value: Any = None) -> Any:
        return f"other {value}"


@pytest.fixture
def types(types: ProviderTypes) -> ProviderTypes:
    register_provider("other", types=types)(Other)
    return types


@pytest.fixture
def limits() -> LifecycleSettings:
    return LifecycleSettings(init_timeout=5, dispose_timeout=5, graceful_shutdown_timeout=5)


def sample_of(backend: Backend, **settings: Any) -> dict[str, Any]:
    return {"type": "sample", "backend": backend, **settings}


def other_of(backend: Backend, **settings: Any) -> dict[str, Any]:
    return {"type": "other", "backend": backend, **settings}


async def started(registry: Registry, backend: Backend, **settings: Any) -> Any:
    return await registry.register("sample", sample_of(backend, **settings), start="ready")


async def label_of(own: Sample) -> str:
    return own.config.label


async def tripped(registry: Registry, sample: Any) -> None:
    """Let the backend fail until its circuit opens."""
    for _ in range(5):
        with pytest.raises(ConnectionFailedError):
            await sample.do(lambda _: raising(BackendError("lost"))())
    with pytest.raises(CircuitOpenError):
        await sample.echo()


class TestSettings:
    @pytest.mark.requirement("S4.57")
    async def test_the_same_settings_give_a_new_instance(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend, label="one")
        sample.used = 5
        await registry.reload("sample")
        assert await sample.echo(1) == 1
        assert (sample.used, sample.config.label) == (0, "one")
        await turns()
        assert backend.log == ["connect", "connect", "close"]

    async def test_changed_settings_are_in_force_for_what_callers_hold(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend, label="one")
        new = Backend()
        await registry.reload("sample", sample_of(new, label="two"))
        assert registry.require("sample") is sample
        assert await sample.do(lambda own: label_of(own)) == "two"
        await turns()
        assert (backend.log, new.log) == (["connect", "close"], ["connect"])

    async def test_a_breaker_forced_open_stays_so(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await registry.register("sample", {"type": "sample", "backend": backend})
        await sample.initialize()
        sample._guard.breaker.force_open("for repairs")
        await registry.reload("sample")
        assert sample._guard.breaker.state is BreakerState.OPEN
        with pytest.raises(CircuitOpenError):
            await sample.echo(1)

    async def test_the_type_need_not_be_said_again(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        await registry.reload("sample", {"backend": backend, "label": "two"})
        assert sample.config.label == "two"
        await registry.reload("sample", SampleConfig(backend=backend, label="three"))
        assert sample.config.label == "three"

    async def test_the_envelope_is_in_force_too(self, registry: Registry, backend: Backend) -> None:
        sample = await started(registry, backend)
        breaker = sample._guard.breaker
        await registry.reload(
            "sample",
            sample_of(
                backend,
                timeout=0.02,
                priority=7,
                required=True,
                metadata={"owner": "me"},
                circuit_breaker={"failure_threshold": 2},
            ),
        )
        info = registry.info("sample")
        assert (info.priority, info.required, info.metadata["owner"]) == (7, True, "me")
        assert sample._guard.breaker is breaker
        assert breaker.settings.failure_threshold == 2
        with pytest.raises(OperationTimeoutError):
            await sample.do(Gate())

    async def test_record_of_who_registered_it_and_when_stays(
        self, registry: Registry, backend: Backend
    ) -> None:
        await started(registry, backend)
        registry.set_default("sample")
        await registry.get_provider_health("sample")
        before = registry.info("sample")
        await registry.reload("sample", sample_of(backend, label="two"))
        assert registry.info("sample") == before
        assert before.health is HealthStatus.HEALTHY

    @pytest.mark.parametrize(
        ("config", "error"),
        [
            ({"label": 3, "port": 0}, InvalidConfigError),
            ({"type": "nowhere"}, NotFoundError),
            ({"nonsense": True}, InvalidConfigError),
            ({"timeout": -1}, InvalidConfigError),
            ({"depends_on": "sample"}, InvalidConfigError),
            (OtherConfig(), InvalidConfigError),
        ],
    )
    async def test_faulty_settings_change_nothing(
        self, registry: Registry, backend: Backend, config: Any, error: type[RegistryError]
    ) -> None:
        sample = await started(registry, backend, label="one")
        before = registry.info("sample")
        with pytest.raises(error):
            await registry.reload("sample", config)
        assert registry.info("sample") == before
        assert await sample.do(lambda own: label_of(own)) == "one"
        assert backend.log == ["connect"]

    async def test_there_must_be_one_of_that_name(self, registry: Registry) -> None:
        with pytest.raises(NotFoundError, match="nowhere"):
            await registry.reload("nowhere")

    async def test_an_object_has_no_settings_to_build_from(self, registry: Registry) -> None:
        await registry.register_instance("thing", object())
        with pytest.raises(InvalidConfigError, match="Unregister it and register another"):
            await registry.reload("thing")

    async def test_nor_has_a_provider_that_was_registered_as_one(
        self, registry: Registry, backend: Backend
    ) -> None:
        class Unknown(Sample):
            pass

        for cls, config in (Sample, None), (Unknown, sample_of(backend)):
            own = await registry.register_instance("sample", cls(SampleConfig(label="its own")))
            with pytest.raises(InvalidConfigError, match="registered as an object"):
                await registry.reload("sample", config)
            assert own.config.label == "its own"
            await registry.unregister("sample")

    async def test_settings_can_take_the_place_of_an_object_that_is_of_a_known_type(
        self, registry: Registry, backend: Backend
    ) -> None:
        own = await registry.register_instance("sample", Sample(SampleConfig(label="its own")))
        await registry.reload("sample", sample_of(backend, label="set"))
        assert own.config.label == "set"


class TestNewInstance:
    @pytest.mark.parametrize("type_name", ["sample", "other"])
    @pytest.mark.parametrize("fault", ["connect", "health"])
    async def test_one_that_does_not_work_is_closed_and_the_old_one_stays(
        self, registry: Registry, backend: Backend, type_name: str, fault: str
    ) -> None:
        sample = await started(registry, backend, label="one")
        await registry.get_provider_health("sample")
        before = registry.info("sample")
        refused: dict[str, Any] = {fault: raising(BackendError("refused"))}
        new = Backend(**refused)
        with pytest.raises(ConnectionFailedError, match="refused"):
            await registry.reload("sample", {"type": type_name, "backend": new})
        assert registry.info("sample") == before
        assert await sample.do(lambda own: label_of(own)) == "one"
        await turns()
        assert (backend.log, new.log) == (["connect"], ["connect", "close"])

    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_one_that_is_not_well_for_no_typed_reason_says_so(
        self, registry: Registry, backend: Backend, type_name: str
    ) -> None:
        await started(registry, backend)
        new = Backend(health=raising(ZeroDivisionError("odd")))
        with pytest.raises(CreationFailedError, match="not well: ZeroDivisionError: odd"):
            await registry.reload("sample", {"type": type_name, "backend": new})

    @pytest.mark.parametrize("limits", [LifecycleSettings(init_timeout=0.02)])
    @pytest.mark.parametrize("type_name", ["sample", "other"])
    @pytest.mark.parametrize("fault", ["connect", "health"])
    async def test_one_that_does_not_answer_is_given_up(
        self, registry: Registry, backend: Backend, type_name: str, fault: str
    ) -> None:
        sample = await started(registry, backend)
        silent: dict[str, Any] = {fault: Gate()}
        new = Backend(**silent)
        with pytest.raises(RegistryError, match=r"within 0\.02 s"):
            await registry.reload("sample", {"type": type_name, "backend": new})
        assert new.log == ["connect", "close"]
        assert await sample.echo(1) == 1

    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_cancelled_nothing_has_changed(
        self, registry: Registry, backend: Backend, type_name: str
    ) -> None:
        sample = await started(registry, backend)
        gate = Gate()
        new = Backend(health=gate)
        reload = asyncio.create_task(registry.reload("sample", {"type": type_name, "backend": new}))
        await gate.reached.wait()
        reload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reload
        assert await sample.echo(1) == 1
        assert (backend.log, new.log) == (["connect"], ["connect", "close"])
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_what_was_never_connected_is_not_connected_by_it(
        self, registry: Registry, backend: Backend, type_name: str
    ) -> None:
        sample = await registry.register("sample", sample_of(backend))
        new = Backend(health=raising(AssertionError("asked")))
        await registry.reload("sample", {"type": type_name, "backend": new})
        assert (backend.log, new.log) == ([], [])
        await sample.echo()
        assert (backend.log, new.log) == ([], ["connect"])

    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_what_was_stopped_stays_so(
        self, registry: Registry, backend: Backend, type_name: str
    ) -> None:
        sample = await started(registry, backend)
        await registry.stop("sample")
        new = Backend()
        await registry.reload("sample", {"type": type_name, "backend": new})
        assert registry.info("sample").status is Status.DISPOSED
        for held in (sample, registry.require("sample")):
            with pytest.raises(InvalidStateError, match="takes no more calls"):
                await held.echo()
        await registry.start("sample")
        await sample.echo()
        assert (backend.log, new.log) == (["connect", "close"], ["connect"])

    async def test_what_failed_to_connect_takes_them_without_io(
        self, registry: Registry, backend: Backend
    ) -> None:
        backend.connect = raising(BackendError("refused"))
        sample = await registry.register("sample", sample_of(backend))
        with pytest.raises(ConnectionFailedError):
            await sample.echo()
        new = Backend()
        await registry.reload("sample", sample_of(new))
        assert new.log == []
        assert await sample.echo(1) == 1

    async def test_a_closing_that_fails_is_logged_and_no_error_of_the_reload(
        self, registry: Registry, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend.close = raising(BackendError("lost"))
        await started(registry, backend)
        await registry.reload("sample", sample_of(Backend()))
        await turns()
        assert caplog.messages == [
            "Closing the replaced instance of provider sample failed: BackendError: lost"
        ]


class TestUnderCalls:
    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_a_stream_ends_on_the_old_instance_which_is_closed_after_it(
        self, registry: Registry, backend: Backend, type_name: str
    ) -> None:
        sample = await started(registry, backend)
        new = Backend()
        async with aclosing(sample.items(3)) as stream:
            assert await anext(stream) == 0
            await registry.reload("sample", {"type": type_name, "backend": new})
            await sample.echo()
            assert backend.log == ["connect"]
            assert [number async for number in stream] == [1, 2]
        await turns()
        assert backend.log == ["connect", "stream ended", "close"]
        assert new.log == ["connect"]

    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_a_call_on_the_old_instance_keeps_the_provider_from_being_removed(
        self, registry: Registry, backend: Backend, type_name: str
    ) -> None:
        sample = await started(registry, backend)
        gate = Gate()
        call = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        await registry.reload("sample", {"type": type_name, "backend": Backend()})
        with pytest.raises(InUseError, match="1 call in flight"):
            await registry.unregister("sample")
        removal = asyncio.create_task(registry.unregister("sample", mode="drain"))
        await turns()
        assert not removal.done()
        gate.opened.set()
        await removal
        await call
        assert backend.log == ["connect", "close"]

    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_shutdown_closes_an_old_instance_that_is_still_in_use(
        self, registry: Registry, backend: Backend, type_name: str
    ) -> None:
        sample = await started(registry, backend)
        gate = Gate()
        call = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        await registry.reload("sample", {"type": type_name, "backend": Backend()})
        assert (await registry.dispose_all(timeout=0.06)).clean
        assert backend.log == ["connect", "close"]
        gate.opened.set()
        await call

    async def test_several_reloads_under_one_stream_leave_the_last_instance(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        between = [Backend(), Backend()]
        async with aclosing(sample.items(2)) as stream:
            await anext(stream)
            for new in (*between, Backend()):
                await registry.reload("sample", sample_of(new))
            await turns()
            assert [new.log for new in between] == [["connect", "close"]] * 2
            assert backend.log == ["connect"]
        await turns()
        assert backend.closes == 1

    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_while_it_connects_those_who_wait_end_on_the_old_one(
        self, registry: Registry, backend: Backend, type_name: str
    ) -> None:
        backend.connect = gate = Gate()
        sample = await registry.register("sample", sample_of(backend))
        first = asyncio.create_task(sample.do(lambda own: label_of(own)))
        await gate.reached.wait()
        new = Backend()
        await registry.reload("sample", {"type": type_name, "backend": new, "label": "new"})
        assert await sample.do(lambda own: label_of(own)) == "new"
        gate.opened.set()
        assert await first == ""
        await turns()
        assert (backend.log, new.log) == (["connect", "close"], ["connect"])

    async def test_while_nobody_waits_for_the_connection_it_is_given_up(
        self, registry: Registry, backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        sample = await registry.register("sample", sample_of(backend))
        first = asyncio.create_task(sample.echo())
        await gate.reached.wait()
        first.cancel()
        await registry.reload("sample", sample_of(Backend()))
        await turns()
        assert backend.log == ["connect", "close"]
        assert await sample.echo(1) == 1

    @pytest.mark.parametrize("limits", [LifecycleSettings(dispose_timeout=0.05)])
    async def test_an_old_instance_that_closes_for_ever_holds_nobody(
        self, registry: Registry, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        gate = Gate()
        backend.close = deaf(gate)
        sample = await started(registry, backend)
        await registry.reload("sample", sample_of(Backend()))
        assert await sample.echo(1) == 1
        await gate.reached.wait()
        assert (await registry.dispose_all(timeout=1)).clean
        assert "replaced instance of provider sample failed" in caplog.text
        gate.opened.set()
        await turns()

    async def test_two_at_once_the_last_one_asked_for_is_in_force(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        gate = Gate()
        slow, fast = Backend(health=gate), Backend()
        first = asyncio.create_task(registry.reload("sample", sample_of(slow, label="slow")))
        await gate.reached.wait()
        second = asyncio.create_task(registry.reload("sample", sample_of(fast, label="fast")))
        await turns()
        gate.opened.set()
        await asyncio.gather(first, second)
        await turns()
        assert await sample.do(lambda own: label_of(own)) == "fast"
        assert sample.config.label == registry.config("sample").label == "fast"  # type: ignore[union-attr]
        assert (backend.closes, slow.closes, fast.closes) == (1, 1, 0)

    async def test_two_at_once_that_change_the_type_are_both_told_and_the_last_is_in_force(
        self, registry: Registry, backend: Backend
    ) -> None:
        told: list[tuple[str | None, int]] = []
        registry.on(
            ProviderReloaded,
            lambda event: told.append((event.provider.type, event.provider.priority)),
        )
        sample = await started(registry, backend)
        gate = Gate()
        first = asyncio.create_task(registry.reload("sample", other_of(Backend(health=gate))))
        await gate.reached.wait()
        last = other_of(Backend(), label="last", priority=7)
        second = asyncio.create_task(registry.reload("sample", last))
        await turns()
        gate.opened.set()
        await asyncio.gather(first, second)
        assert told == [("other", 50), ("other", 7)]
        assert sample.config.label == "last"

    async def test_of_two_at_once_the_second_finds_an_object_where_the_first_changed_the_type(
        self, registry: Registry, backend: Backend
    ) -> None:
        changed, asked = threading.Event(), threading.Event()

        async def health() -> None:
            changed.set()
            assert asked.wait(5)

        with loop_in_thread() as run:
            run(started(registry, backend))
            other = other_of(Backend(health=health))
            first = asyncio.create_task(asyncio.to_thread(run, registry.reload("sample", other)))
            assert await asyncio.to_thread(changed.wait, 5)
            second = asyncio.create_task(registry.reload("sample", other_of(Backend())))
            await asyncio.sleep(0)  # waits for the first one, in the loop of the thread
            asked.set()
            run(turns())
            run(registry.unregister("sample", mode="force"))
            run(registry.register_instance("sample", object()))
            await first
            with pytest.raises(NotFoundError):
                await second

    async def test_what_was_registered_anew_meanwhile_is_not_replaced(
        self, registry: Registry, backend: Backend
    ) -> None:
        await started(registry, backend)
        gate = Gate()
        first = asyncio.create_task(registry.reload("sample", sample_of(Backend(health=gate))))
        await gate.reached.wait()
        second = asyncio.create_task(registry.reload("sample", sample_of(Backend(), label="late")))
        await turns()
        await registry.unregister("sample", mode="force")
        anew = await started(registry, Backend(), label="new")
        gate.opened.set()
        answers = await asyncio.gather(first, second, return_exceptions=True)
        assert [isinstance(one, RegistryError) for one in answers] == [True, True]
        assert registry.info("sample").status is Status.READY
        assert registry.require("sample") is anew
        assert registry.config("sample").label == "new"  # type: ignore[union-attr]

    async def test_a_registry_that_closes_meanwhile_keeps_the_old_one(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        gate = Gate()
        new = Backend(connect=gate)
        reload = asyncio.create_task(registry.reload("sample", sample_of(new)))
        await gate.reached.wait()
        registry.close()
        gate.opened.set()
        with pytest.raises(ShuttingDownError):
            await reload
        assert new.log == ["connect", "close"]
        assert backend.log == ["connect"]
        assert await sample.echo(1) == 1

    @pytest.mark.parametrize("kinds", [("other", "sample"), ("sample", "other"), ("other",) * 2])
    async def test_two_at_once_of_which_one_changes_the_type_lose_nothing(
        self, registry: Registry, backend: Backend, kinds: tuple[str, ...]
    ) -> None:
        sample = await started(registry, backend)
        gates = [Gate(), Gate()]
        backends = [Backend(health=gate) for gate in gates]
        reloads = [
            asyncio.create_task(registry.reload("sample", {"type": kind, "backend": one}))
            for kind, one in zip(kinds, backends, strict=True)
        ]
        for gate in reversed(gates):  # the second one is ready first
            await turns()
            gate.opened.set()
        await asyncio.gather(*reloads)
        await turns()
        config: Any = registry.config("sample")
        assert await sample.do(lambda own: backend_of(own)) is config.backend
        assert registry.require("sample").config is config
        assert (await registry.dispose_all()).clean
        assert [one.closes for one in (backend, *backends)] == [
            one.connects for one in (backend, *backends)
        ]

    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_asked_for_in_another_thread_it_is_done_where_the_instance_lives(
        self, registry: Registry, backend: Backend, type_name: str
    ) -> None:
        sample = await started(registry, backend)
        new = Backend()
        reload = registry.reload("sample", {"type": type_name, "backend": new, "label": "new"})
        with loop_in_thread() as run:
            await asyncio.to_thread(run, reload)
        assert await sample.do(lambda own: label_of(own)) == "new"
        await turns()
        assert (backend.log, new.log) == (["connect", "close"], ["connect"])

    @pytest.mark.parametrize("type_name", ["sample", "other"])
    @pytest.mark.parametrize("end", ["dispose", "unregister", "shutdown"])
    async def test_what_ends_meanwhile_ends_the_new_instance_too(
        self, registry: Registry, backend: Backend, type_name: str, end: str
    ) -> None:
        sample = await started(registry, backend)
        gate = Gate()
        new = Backend(connect=gate)
        reload = asyncio.create_task(registry.reload("sample", {"type": type_name, "backend": new}))
        await gate.reached.wait()
        if end == "dispose":
            await registry.dispose("sample")
        elif end == "unregister":
            await registry.unregister("sample")
        else:
            assert (await registry.graceful_shutdown()).clean
        gate.opened.set()
        with pytest.raises((InvalidStateError, NotFoundError, ShuttingDownError)):
            await reload
        with pytest.raises(InvalidStateError):
            await sample.echo()
        assert (backend.log, new.log) == (["connect", "close"], ["connect", "close"])
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_removal_that_waits_removes_the_new_instance(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        held, gate = Gate(), Gate()
        call = asyncio.create_task(sample.do(held))
        await held.reached.wait()
        new = Backend(connect=gate)
        reload = asyncio.create_task(registry.reload("sample", sample_of(new)))
        await gate.reached.wait()
        removal = asyncio.create_task(registry.unregister("sample", mode="drain"))
        await turns()
        gate.opened.set()
        with pytest.raises(NotFoundError):
            await reload
        held.opened.set()
        await asyncio.gather(call, removal)
        assert (backend.log, new.log) == (["connect", "close"], ["connect", "close"])

    async def test_a_removal_given_up_leaves_the_settings_that_are_in_force(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend, label="one")
        held = Gate()
        call = asyncio.create_task(sample.do(held))
        await held.reached.wait()
        gate = Gate()
        new = Backend(connect=gate)
        reload = asyncio.create_task(registry.reload("sample", sample_of(new, label="two")))
        await gate.reached.wait()
        removal = asyncio.create_task(registry.unregister("sample", mode="drain", timeout=0.03))
        await turns()
        gate.opened.set()
        with pytest.raises(NotFoundError):
            await reload
        with pytest.raises(InUseError):
            await removal
        assert sample.config is registry.config("sample")
        held.opened.set()
        await call


async def backend_of(own: Sample) -> Backend:
    return own.config.backend


class TestOtherType:
    async def test_what_callers_hold_goes_forward(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend, label="one")
        new = Backend()
        await registry.reload("sample", other_of(new, label="two"))
        assert registry.info("sample").type == "other"
        assert await sample.echo(1) == "other 1"
        assert await sample.helper(1) == "other 1"
        assert [number async for number in sample.items(2)] == [0, 1]
        assert sample.plain(lambda own: own.config.label) == "two"
        assert sample.config.label == "two"
        sample.used = 9
        assert registry.require("sample").used == 9
        await sample.initialize()
        await sample.check_health()
        await sample.dispose()
        assert new.log == ["connect", "stream ended", "close"]

    async def test_twice_and_back_again(self, registry: Registry, backend: Backend) -> None:
        sample = await started(registry, backend)
        await registry.reload("sample", other_of(Backend()))
        held = registry.require("sample")
        await turns()
        await registry.reload("sample", sample_of(backend))
        assert await sample.echo(1) == await held.echo(1) == 1
        await turns()
        assert backend.log == ["connect", "close", "connect"]

    async def test_leases_move(self, registry: Registry, backend: Backend) -> None:
        await started(registry, backend)
        with registry.lease("sample", holder="report") as leased:
            await registry.reload("sample", other_of(Backend()))
            assert await leased.echo(1) == "other 1"
            assert registry.info("sample").lease_count == 1
            with pytest.raises(InUseError, match="report"):
                await registry.unregister("sample")
        await registry.unregister("sample")

    async def test_instances_of_callers_own_still_count_and_are_closed_in_the_end(
        self, registry: Registry, backend: Backend
    ) -> None:
        await started(registry, backend)
        mine = Backend()
        own = registry.create("sample", {"backend": mine})
        await own.echo()
        await registry.reload("sample", other_of(Backend()))
        assert registry.info("sample").instance_count == 1
        with pytest.raises(InUseError, match="instance"):
            await registry.unregister("sample")
        assert (await registry.dispose_all()).clean
        assert mine.log == ["connect", "close"]

    async def test_an_open_circuit_is_left_behind_with_its_backend(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        await tripped(registry, sample)
        await registry.reload("sample", other_of(Backend()))
        assert await sample.echo(1) == "other 1"

    async def test_however_often_what_was_held_first_goes_straight_to_the_last(
        self, registry: Registry, backend: Backend
    ) -> None:
        first = await registry.register("sample", sample_of(backend))
        between = []
        for number in range(1500):
            config = sample_of if number % 2 else other_of
            await registry.reload("sample", config(backend, label=str(number)))
            between.append(weakref.ref(registry.require("sample")))
        assert first.config.label == "1499"
        assert await first.echo(1) == 1
        gc.collect()
        assert [one for one in between[:-1] if one() is not None] == []
        assert backend.log == ["connect"]

    async def test_a_plain_operation_of_what_was_never_connected_goes_forward(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await registry.register("sample", sample_of(backend))
        await registry.reload("sample", other_of(Backend(), label="two"))
        assert sample.plain(lambda own: own.config.label) == "two"


class TestBreaker:
    async def test_a_renewed_instance_closes_it(self, registry: Registry, backend: Backend) -> None:
        sample = await started(registry, backend)
        await tripped(registry, sample)
        await registry.reload("sample", sample_of(Backend()))
        assert sample._guard.breaker.state is BreakerState.CLOSED
        assert await sample.echo(1) == 1

    async def test_a_failed_reload_leaves_it_open(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        await tripped(registry, sample)
        with pytest.raises(ConnectionFailedError):
            await registry.reload(
                "sample", sample_of(Backend(connect=raising(BackendError("still lost"))))
            )
        with pytest.raises(CircuitOpenError):
            await sample.echo()

    async def test_failures_of_the_new_instance_count_nothing(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        bad = sample_of(Backend(connect=raising(BackendError("refused"))))
        for _ in range(7):
            with pytest.raises(ConnectionFailedError):
                await registry.reload("sample", bad)
        assert sample._guard.breaker.state is BreakerState.CLOSED
        assert registry.info("sample").last_error is None

    async def test_of_a_provider_that_is_not_connected_its_state_stays(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        await tripped(registry, sample)
        await registry.stop("sample")
        await registry.reload("sample", sample_of(Backend(), circuit_breaker={"enabled": True}))
        assert sample._guard.breaker.state is BreakerState.OPEN

    async def test_switched_off_it_lets_all_calls_pass(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, backend)
        off = {"enabled": False}
        await registry.reload("sample", sample_of(backend, circuit_breaker=off))
        for _ in range(7):
            with pytest.raises(ConnectionFailedError):
                await sample.do(lambda _: raising(BackendError("lost"))())


class TestTold:
    @pytest.mark.parametrize("type_name", ["sample", "other"])
    async def test_once_with_the_new_record_when_it_is_in_force(
        self,
        registry: Registry,
        backend: Backend,
        type_name: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        heard: list[ProviderReloaded] = []
        registry.on("provider-reloaded", heard.append)
        await started(registry, backend)
        with pytest.raises(InvalidConfigError):
            await registry.reload("sample", {"port": 0})
        with pytest.raises(ConnectionFailedError):
            await registry.reload("sample", sample_of(Backend(connect=raising(BackendError("no")))))
        assert heard == []
        await registry.reload("sample", {"type": type_name, "backend": Backend(), "priority": 3})
        (event,) = heard
        assert (event.family, event.name) == ("storage", "sample")
        assert (event.provider.priority, event.provider.type) == (3, type_name)
        assert caplog.messages[-1] == "Reloaded storage provider: sample"

    async def test_a_listener_may_reload_again(self, registry: Registry, backend: Backend) -> None:
        sample = await started(registry, backend)

        async def once_more(event: ProviderReloaded) -> None:
            if event.provider.priority == 1:
                await registry.reload("sample", sample_of(backend, label="again"))

        registry.on(ProviderReloaded, once_more)
        await registry.reload("sample", sample_of(backend, priority=1))
        await registry.events.settle()
        assert sample.config.label == "again"


def proper(registry: Registry) -> Sample:
    """Return the instance behind the guard."""
    return registry.require("sample")._guard.connection.instance


class TestMany:
    @pytest.mark.requirement("S4.69")
    async def test_a_hundred_under_sixty_four_callers_fail_no_call_and_leave_nothing(
        self, registry: Registry
    ) -> None:
        living: list[weakref.ref[Sample]] = []
        backends: list[Backend] = [Backend()]
        sample = await started(registry, backends[0])
        calls, done = 0, asyncio.Event()

        async def note(own: Sample) -> None:
            await asyncio.sleep(0)
            assert own.config.backend.closes == 0

        async def call(number: int) -> None:
            nonlocal calls
            while not done.is_set():
                if number % 4 == 0:
                    assert [item async for item in sample.items(5, before_each=pause)] == [
                        *range(5)
                    ]
                else:
                    await sample.do(note)
                calls += 1

        async with asyncio.TaskGroup() as group:
            for number in range(64):
                group.create_task(call(number))
            for number in range(100):
                living.append(weakref.ref(proper(registry)))
                backends.append(Backend())
                config = sample_of if number % 10 else other_of
                await registry.reload("sample", config(backends[-1]))
                sample = registry.require("sample") if number == 50 else sample
                await turns(3)
            done.set()
        await turns()
        assert calls > 64 * 10
        assert [one.closes for one in backends] == [1] * 100 + [0]
        assert [one.connects for one in backends] == [1] * 101
        assert asyncio.all_tasks() == {asyncio.current_task()}
        gc.collect()
        assert [one for one in living if one() is not None] == []


async def pause(_: int) -> None:
    await asyncio.sleep(0)
