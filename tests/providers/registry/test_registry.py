"""Registering, unregistering, instances of the caller's own, hooks, and the default."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import tracemalloc
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from purveyor.providers.registry import (
    AlreadyExistsError,
    ConnectionFailedError,
    Declaration,
    Event,
    Events,
    HookFailedError,
    InUseError,
    InvalidConfigError,
    InvalidNameError,
    InvalidStateError,
    NotFoundError,
    ProviderRegistry,
    ProviderTypes,
    ProviderUnregistered,
    RegistrationFailedError,
    RegistryError,
    ShuttingDownError,
    Status,
    default_types,
    register_provider,
)
from purveyor.settings import LifecycleSettings, ProviderSettings
from tests.providers.registry.samples import (
    Backend,
    BackendError,
    Gate,
    Sample,
    SampleConfig,
    in_threads,
    loop_in_thread,
    raising,
    turns,
)

Registry = ProviderRegistry[Any]
DECLARATION = Declaration(ProviderSettings(type="sample"), "config", "a file:1")


class TestRegistering:
    @pytest.mark.requirement("S0.33", "S1.8", "S1.29", "S4.1", "S4.4", "S4.54")
    async def test_gives_a_provider_that_can_be_had_by_name(self, registry: Registry) -> None:
        sample = await registry.register("backups", {"type": "sample", "label": "x"})
        assert registry.require("backups") is sample
        assert sample.config.label == "x"

    @pytest.mark.requirement("S4.3", "S4.12", "S1.5", "S1.6", "S1.9", "S0.36")
    async def test_notes_what_is_known_of_it(self, registry: Registry) -> None:
        before = datetime.now(UTC)
        await registry.register("backups", {"type": "sample", "metadata": {"team": "blue"}})
        info = registry.info("backups")
        assert (info.name, info.type, info.family) == ("backups", "sample", "storage")
        assert info.display_name == "backups"
        assert info.description == "For tests"
        assert info.capabilities == {"search", "encryption"}
        assert (info.source, info.status) == ("api", Status.REGISTERED)
        assert info.registered_at is not None
        assert before <= info.registered_at <= before + timedelta(minutes=1)
        assert info.registered_at.tzinfo is UTC
        assert info.metadata["team"] == "blue"
        assert info.metadata["vendor"] == "none"
        assert __file__ in info.origin

    @pytest.mark.requirement("S1.11")
    async def test_begins_without_instances_of_others(self, registry: Registry) -> None:
        await registry.register("sample")
        assert registry.info("sample").instance_count == 0

    async def test_starts_nothing(self, registry: Registry, backend: Backend) -> None:
        await registry.register("sample", SampleConfig(backend=backend))
        assert backend.log == []

    @pytest.mark.requirement("S1.10", "S1.29", "S4.14", "S0.34", "S4.54")
    async def test_a_second_one_of_the_name_is_refused_with_both_origins(
        self, registry: Registry
    ) -> None:
        first = await registry.register("sample")
        with pytest.raises(AlreadyExistsError, match=r"^Provider already registered: sample") as e:
            await registry.register("sample", {"label": "other"})
        assert str(e.value).count(__file__) == 2
        assert registry.require("sample") is first
        assert first.config.label == ""
        assert (e.value.code, e.value.provider_name) == ("ALREADY_EXISTS", "sample")

    @pytest.mark.requirement("S4.13")
    @pytest.mark.parametrize("name", ["", None, 5])
    async def test_a_name_must_be_a_non_empty_string(self, registry: Registry, name: Any) -> None:
        with pytest.raises(InvalidNameError) as caught:
            await registry.register(name, {"type": "sample"})
        assert str(caught.value) == "Provider name must be a non-empty string."
        assert caught.value.code == "INVALID_NAME"

    @pytest.mark.parametrize("name", ["a b", "../a", "-a", "a" * 129, "a\n"])
    async def test_a_name_must_be_usable_everywhere(self, registry: Registry, name: str) -> None:
        with pytest.raises(InvalidNameError, match="is not usable"):
            await registry.register(name, {"type": "sample"})

    @pytest.mark.requirement("S4.16", "S4.17", "S2.19")
    async def test_success_and_failure_are_logged(
        self, registry: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        await registry.register("backups", {"type": "sample"})
        assert caplog.messages == ["Registered storage provider: backups (type sample)"]
        with pytest.raises(InvalidConfigError):
            await registry.register("other", {"type": "sample", "port": 0})
        assert caplog.messages[-1].startswith("Failed to register provider 'other': ")

    @pytest.mark.requirement("S1.15", "S4.50", "S4.54", "S1.34")
    async def test_faulty_settings_register_nothing_and_free_the_name(
        self, registry: Registry
    ) -> None:
        with pytest.raises(InvalidConfigError, match=r"^Configuration invalid: storage provider"):
            await registry.register("sample", {"port": "many"})
        assert registry.names() == []
        await registry.register("sample", {"port": 2})

    @pytest.mark.requirement("S4.15", "S1.3")
    async def test_start_ready_connects_before_it_returns(
        self, registry: Registry, backend: Backend
    ) -> None:
        await registry.register("sample", SampleConfig(backend=backend), start="ready")
        assert backend.log == ["connect"]
        assert registry.info("sample").status is Status.READY

    async def test_start_test_checks_health_too(self, registry: Registry, backend: Backend) -> None:
        backend.health = raising(BackendError("ill"))
        with pytest.raises(RegistrationFailedError, match="check_health: ill"):
            await registry.register("sample", SampleConfig(backend=backend), start="test")
        assert backend.log == ["connect", "close"]
        assert not registry.has("sample")
        backend.health = Backend().health
        await registry.register("sample", SampleConfig(backend=backend), start="test")

    @pytest.mark.requirement("S4.17", "S4.54", "S4.56")
    async def test_a_start_that_fails_leaves_nothing(
        self, registry: Registry, backend: Backend
    ) -> None:
        backend.connect = raising(BackendError("refused"))
        with pytest.raises(RegistrationFailedError) as caught:
            await registry.register("sample", SampleConfig(backend=backend), start="ready")
        assert str(caught.value) == "Failed to register provider 'sample': connect: refused"
        assert caught.value.code == "REGISTRATION_FAILED"
        assert caught.value.context == {"cause": "CONNECTION_FAILED"}
        assert isinstance(caught.value.__cause__, ConnectionFailedError)
        assert backend.log == ["connect", "close"]
        assert not registry.has("sample")
        await registry.register("sample")

    async def test_a_closing_that_fails_too_does_not_hide_why(
        self, registry: Registry, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend.health = raising(ZeroDivisionError("ill"))
        backend.close = raising(BackendError("second"))
        with pytest.raises(RegistrationFailedError, match="ill") as caught:
            await registry.register("sample", SampleConfig(backend=backend), start="test")
        assert caught.value.context == {}
        assert "Closing provider sample failed: second" in caplog.messages

    async def test_a_cancelled_start_leaves_nothing(
        self, registry: Registry, backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        task = asyncio.create_task(
            registry.register("sample", SampleConfig(backend=backend), start="ready")
        )
        await gate.reached.wait()
        with pytest.raises(AlreadyExistsError):
            registry.register_nowait("sample")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert backend.log == ["connect", "close"]
        registry.register_nowait("sample")

    async def test_a_registry_that_closes_meanwhile_takes_it_not_and_frees_what_was_made(
        self, registry: Registry, backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        task = asyncio.create_task(
            registry.register("sample", SampleConfig(backend=backend), start="ready")
        )
        await gate.reached.wait()
        registry.close()
        gate.opened.set()
        with pytest.raises(ShuttingDownError):
            await task
        assert backend.log == ["connect", "close"]

    async def test_a_closed_registry_takes_no_new_work(self, registry: Registry) -> None:
        await registry.register("sample")
        registry.close()
        with pytest.raises(ShuttingDownError):
            await registry.register("other", {"type": "sample"})
        with pytest.raises(ShuttingDownError):
            registry.create("sample")
        with pytest.raises(ShuttingDownError):
            await registry.initialize("sample")
        registry.reopen()
        await registry.register("other", {"type": "sample"})

    @pytest.mark.requirement("S4.5")
    async def test_an_object_that_exists_is_guarded_if_it_is_a_provider(
        self, registry: Registry, backend: Backend
    ) -> None:
        given = Sample(SampleConfig(backend=backend))
        sample = await registry.register_instance("mine", given, metadata={"team": "red"})
        assert sample is registry.require("mine")
        assert await sample.do(lambda own: asyncio.sleep(0, own)) is given
        info = registry.info("mine")
        assert (info.type, info.metadata["team"]) == ("sample", "red")
        assert info.capabilities == {"search", "encryption"}
        await registry.unregister("mine")
        assert backend.log == ["connect", "close"]

    async def test_any_other_object_is_handed_out_as_it_is(self, registry: Registry) -> None:
        thing = object()
        assert await registry.register_instance("thing", thing, capabilities={"odd"}) is thing
        assert registry.require("thing") is thing
        info = registry.info("thing")
        assert (info.type, info.status, info.lease_count) == (None, Status.READY, 0)
        assert info.capabilities == {"odd"}
        assert registry.config("thing") is None
        await registry.initialize("thing")
        await registry.dispose("thing")
        registry.close()
        registry.reopen()
        assert registry.guards() == []
        with registry.lease("thing") as leased:
            assert leased is thing
        with pytest.raises(InvalidConfigError, match="registered as an object"):
            registry.create("thing")
        await registry.unregister("thing", mode="drain")

    async def test_a_guarded_instance_keeps_its_guard(
        self, registry: Registry, backend: Backend
    ) -> None:
        registry.register_nowait("sample", SampleConfig(backend=backend))
        own = registry.create("sample")
        assert await registry.register_instance("again", own) is own

    async def test_without_a_loop_it_is_register_nowait(self, registry: Registry) -> None:
        sample = registry.register_nowait("backups", type="sample")
        assert registry.require("backups") is sample
        registry.add_init_hook(lambda _: None)
        with pytest.raises(InvalidStateError, match=r"await register\('other', \.\.\.\)"):
            registry.register_nowait("other", type="sample")


class TestForms:
    """What a provider's settings may look like."""

    @pytest.mark.requirement("S2.22")
    async def test_the_name_is_the_type_where_none_is_named(self, registry: Registry) -> None:
        assert (await registry.register("sample")).config.port == 1
        for family in ("storage", "store"):
            await registry.register("sample-" + family, {"type": "sample"})
            await registry.unregister("sample")
            await registry.register("sample", {"type": family})

    async def test_a_config_model_names_its_type(self, registry: Registry) -> None:
        await registry.register("backups", SampleConfig(label="x"))
        assert registry.info("backups").type == "sample"

    async def test_a_config_model_of_another_type_is_refused(self, registry: Registry) -> None:
        class Other(SampleConfig.__base__):  # type: ignore[name-defined,misc]
            pass

        with pytest.raises(InvalidConfigError, match="takes SampleConfig, not Other"):
            await registry.register("sample", Other())

    async def test_envelope_settings_are_taken_as_they_are(self, registry: Registry) -> None:
        settings = ProviderSettings.model_validate({"type": "sample", "label": "x", "priority": 9})
        await registry.register("backups", settings)
        assert registry.info("backups").priority == 9

    @pytest.mark.requirement("S2.16", "S2.17", "S2.30", "S2.4", "S2.29")
    async def test_the_envelope_is_not_passed_to_the_provider(self, registry: Registry) -> None:
        sample = await registry.register(
            "backups", {"type": "sample", "pipelines": ["nightly"], "label": "x", "port": 3}
        )
        assert sample.config.model_dump(exclude={"backend"}, exclude_defaults=True) == {
            "label": "x",
            "port": 3,
        }
        assert registry.info("backups").pipelines == ("nightly",)

    async def test_a_fault_of_the_envelope_is_told(self, registry: Registry) -> None:
        with pytest.raises(InvalidConfigError, match="priority") as caught:
            await registry.register("sample", {"priority": "high"})
        assert caught.value.context["problems"]

    async def test_two_types_are_one_too_many(self, registry: Registry) -> None:
        await registry.register("one", {"type": "sample"}, type="sample")
        with pytest.raises(InvalidConfigError, match="given the types 'other' and 'sample'"):
            await registry.register("two", {"type": "sample"}, type="other")

    @pytest.mark.requirement("S2.13", "S0.35")
    async def test_an_unknown_type_is_told_with_those_there_are(self, registry: Registry) -> None:
        with pytest.raises(NotFoundError, match=r"^Unknown storage provider: sampel") as caught:
            await registry.register("backups", {"type": "sampel"})
        assert isinstance(caught.value, ValueError)
        assert "sample" in str(caught.value)
        with pytest.raises(InvalidConfigError, match="names no type"):
            await registry.register("backups")

    @pytest.mark.requirement("S2.12")
    def test_an_unknown_family_is_told_with_those_there_are(self, types: ProviderTypes) -> None:
        with pytest.raises(ValueError, match=r"^Unknown provider type: pigeons\. .*storage"):
            ProviderRegistry("pigeons", types=types)


class TestUnregistering:
    @pytest.mark.requirement("S4.2", "S4.6", "S1.28", "S1.32")
    async def test_disposes_and_frees_the_name(self, registry: Registry, backend: Backend) -> None:
        sample = await registry.register("sample", SampleConfig(backend=backend))
        await sample.echo()
        await registry.unregister("sample")
        assert backend.log == ["connect", "close"]
        assert registry.get("sample") is None
        with pytest.raises(InvalidStateError):
            await sample.echo()
        assert await (await registry.register("sample")).echo(1) == 1

    @pytest.mark.requirement("S1.22")
    async def test_an_unknown_name_is_told(self, registry: Registry) -> None:
        with pytest.raises(NotFoundError, match=r"^Provider not found: nobody"):
            await registry.unregister("nobody")

    @pytest.mark.requirement("S1.21", "S1.28")
    async def test_is_refused_while_anybody_uses_it(self, registry: Registry) -> None:
        sample = await registry.register("sample")
        own = registry.create("sample", instance_id="mine")
        gate = Gate()
        call = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        with registry.lease("sample", holder="report"):
            with pytest.raises(InUseError, match=r"^Provider sample has 3 active instances") as e:
                await registry.unregister("sample")
            assert e.value.context["count"] == 3
            assert e.value.context["holders"] == ["report", "1 call in flight", "instance mine"]
        gate.opened.set()
        await call
        del own
        gc.collect()
        await registry.unregister("sample")

    async def test_a_refusal_leaves_it_as_it_was(self, registry: Registry) -> None:
        sample = await registry.register("sample")
        registry.set_default("sample")
        with registry.lease("sample"), pytest.raises(InUseError):
            await registry.unregister("sample")
        assert await registry.require().echo(1) == 1
        assert registry.require() is sample

    @pytest.mark.requirement("S1.21", "S1.17")
    async def test_instances_that_are_gone_do_not_keep_it(self, registry: Registry) -> None:
        await registry.register("sample")
        registry.create("sample", instance_id="one")
        registry.create("sample")
        gc.collect()
        await registry.unregister("sample")

    async def test_drain_waits_for_calls_and_lets_holders_of_leases_go_on(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await registry.register("sample", SampleConfig(backend=backend))
        await sample.echo()
        lease = registry.lease("sample")
        removing = asyncio.create_task(registry.unregister("sample", mode="drain"))
        await turns()
        assert await sample.echo(1) == 1
        assert registry.get("sample") is None
        with pytest.raises(AlreadyExistsError):
            await registry.register("sample")
        lease.release()
        lease.release()
        await removing
        assert backend.closes == 1
        with pytest.raises(InvalidStateError):
            await sample.echo()

    async def test_drain_refuses_new_leases(self, registry: Registry) -> None:
        await registry.register("sample")
        guard = registry.guards()[0]
        assert await guard.drain() is True
        with pytest.raises(InvalidStateError, match="is being removed"):
            registry.lease("sample")
        guard.resume()
        registry.lease("sample").release()

    async def test_drain_too_late_puts_it_back(self, registry: Registry) -> None:
        sample = await registry.register("sample")
        registry.set_default("sample")
        await sample.echo()
        async with registry.lease("sample", holder="somebody"):
            with pytest.raises(InUseError, match="somebody"):
                await registry.unregister("sample", mode="drain", timeout=0.01)
        assert registry.require() is sample
        assert await sample.echo(1) == 1
        await registry.unregister("sample", mode="drain", timeout=0.01)

    async def test_a_cancelled_drain_puts_it_back(self, registry: Registry) -> None:
        sample = await registry.register("sample")
        with registry.lease("sample"):
            removing = asyncio.create_task(registry.unregister("sample", mode="drain"))
            await turns()
            removing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await removing
        assert registry.require("sample") is sample
        assert await sample.echo(1) == 1
        await registry.unregister("sample")

    async def test_force_waits_for_nothing(self, registry: Registry, backend: Backend) -> None:
        sample = await registry.register("sample", SampleConfig(backend=backend))
        await sample.echo()
        with registry.lease("sample"):
            await registry.unregister("sample", mode="force")
        assert backend.closes == 1

    async def test_two_at_once_remove_it_once(self, registry: Registry, backend: Backend) -> None:
        await registry.register("sample", SampleConfig(backend=backend), start="ready")
        answers = await asyncio.gather(
            *(registry.unregister("sample") for _ in range(3)), return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in answers) == [
            "NoneType", "NotFoundError", "NotFoundError",
        ]  # fmt: skip
        assert backend.closes == 1

    async def test_while_one_is_being_removed_another_finds_it_gone(
        self, registry: Registry
    ) -> None:
        await registry.register("sample")
        registration = registry._find("sample")

        async def remove_first() -> bool:
            del registry._registrations["sample"], registry.handles["sample"]
            return True

        class Racing:
            def __getattr__(self, name: str) -> Any:
                return getattr(guard, name)

            close_to_new_work = staticmethod(remove_first)

        guard = registration.guard
        registration.guard = Racing()  # type: ignore[assignment]
        with pytest.raises(NotFoundError):
            await registry.unregister("sample")

    async def test_leaves_nothing_behind(self, registry: Registry, backend: Backend) -> None:
        sample = await registry.register("sample", SampleConfig(backend=backend))
        await sample.echo()
        seen = [weakref.ref(sample), weakref.ref(sample._guard.peek()), weakref.ref(sample.config)]
        await registry.unregister("sample")
        del sample
        gc.collect()
        assert [one() for one in seen] == [None, None, None]

    async def test_a_plain_object_goes_like_any_other(self, registry: Registry) -> None:
        await registry.register_instance("thing", object())
        await registry.unregister("thing")
        assert not registry.has("thing")

    async def test_one_that_settings_declare_is_gone_for_good(self, registry: Registry) -> None:
        await registry.declare("sample", DECLARATION)
        await registry.unregister("sample")
        assert not registry.has("sample")
        assert "sample" not in registry.declared()

    async def test_drain_too_late_leaves_what_settings_said_and_the_default(
        self, registry: Registry
    ) -> None:
        await registry.declare("sample", DECLARATION)
        await registry.register("another", {"type": "sample"})
        registry.set_default("sample")
        with registry.lease("sample"), pytest.raises(InUseError):
            await registry.unregister("sample", mode="drain", timeout=0)
        assert registry.default_name() == "sample"
        assert registry.declared() == ["sample"]

    async def test_one_that_is_renewed_meanwhile_is_removed_all_the_same(
        self, registry: Registry
    ) -> None:
        with loop_in_thread() as run:
            sample = run(registry.register("sample", start="ready"))
            removal = asyncio.create_task(registry.unregister("sample"))
            await asyncio.sleep(0)  # asks the loop of the thread, which answers while ...
            run(registry.reload("sample"))
            await removal
        assert not registry.has("sample")
        with pytest.raises(InvalidStateError):
            await sample.echo()

    async def test_one_that_becomes_of_another_type_meanwhile_too(
        self, registry: Registry, types: ProviderTypes
    ) -> None:
        class Other(Sample):
            pass

        register_provider("other", types=types)(Other)
        connected, asked = threading.Event(), threading.Event()

        async def health() -> None:
            connected.set()
            assert asked.wait(5)

        heard: list[Event] = []
        registry.on(ProviderUnregistered, heard.append)
        other = Backend(health=health)
        with loop_in_thread() as run:
            run(registry.register("sample", start="ready"))
            reload = asyncio.to_thread(
                run, registry.reload("sample", {"type": "other", "backend": other})
            )
            reloading = asyncio.create_task(reload)
            assert await asyncio.to_thread(connected.wait, 5)
            removal = asyncio.create_task(registry.unregister("sample"))
            await asyncio.sleep(0)  # asks the loop of the thread, which has no time yet
            asked.set()
            await asyncio.gather(reloading, removal)
        assert not registry.has("sample")
        assert other.log == ["connect", "close"]
        assert heard == [ProviderUnregistered("storage", "sample")]

    async def test_what_settings_say_of_the_default_outlives_a_second_removal(
        self, registry: Registry
    ) -> None:
        with loop_in_thread() as run:
            run(registry.register("sample", start="ready"))
            second = asyncio.create_task(registry.unregister("sample"))
            await asyncio.sleep(0)  # asks the loop of the thread, which answers while ...
            run(registry.unregister("sample", mode="force"))
            registry.declare_default("sample")
            with pytest.raises(NotFoundError, match="It is named as the default provider"):
                await second


class TestInstances:
    @pytest.mark.requirement("S1.13", "S1.16", "S0.23", "S0.24")
    async def test_create_gives_one_more_for_its_owner(
        self, registry: Registry, backend: Backend
    ) -> None:
        shared = await registry.register("sample", SampleConfig(backend=backend, label="a"))
        own = registry.create("sample")
        assert own is not shared
        assert isinstance(own, Sample)
        assert await own.echo(1) == 1
        assert own.config.label == "a"
        await own.dispose()
        assert await shared.echo(2) == 2
        assert backend.log == ["connect", "close", "connect"]

    @pytest.mark.requirement("S1.30", "S2.11")
    async def test_create_builds_the_type_of_that_name(
        self, registry: Registry, types: ProviderTypes
    ) -> None:
        register_provider("test", types=types)(Sample)
        registry.register_nowait("test")
        created = registry.create("test", {}, instance_id=None)
        assert isinstance(created, Sample)
        assert registry.info("test").type == "test"

    async def test_create_takes_other_settings(self, registry: Registry) -> None:
        await registry.register("sample", {"label": "a", "timeout": 3})
        assert registry.create("sample", {"label": "b"}).config.label == "b"
        assert registry.create("sample", SampleConfig(label="c")).config.label == "c"
        with pytest.raises(InvalidConfigError):
            registry.create("sample", {"port": 0})

    @pytest.mark.requirement("S1.14")
    def test_create_of_an_unknown_provider_is_told(self, registry: Registry) -> None:
        with pytest.raises(NotFoundError, match=r"^Provider not found: nobody"):
            registry.create("nobody")

    @pytest.mark.requirement("S1.17", "S1.5", "S1.19")
    async def test_they_are_tracked_weakly_with_or_without_an_id(self, registry: Registry) -> None:
        await registry.register("sample")
        first = registry.create("sample", instance_id="first")
        second = registry.create("sample")
        assert registry.info("sample").instance_count == 2
        seen = weakref.ref(first)
        del first
        gc.collect()
        assert seen() is None
        assert registry.info("sample").instance_count == 1
        await second.dispose()
        assert registry.info("sample").instance_count == 0

    async def test_an_id_is_free_again_when_its_instance_is_gone_or_disposed(
        self, registry: Registry
    ) -> None:
        await registry.register("sample")
        first = registry.create("sample", instance_id="mine")
        with pytest.raises(AlreadyExistsError, match="living instance 'mine'"):
            registry.create("sample", instance_id="mine")
        await first.dispose()
        second = registry.create("sample", instance_id="mine")
        assert registry.info("sample").instance_count == 1
        del first, second
        gc.collect()
        registry.create("sample", instance_id="mine")

    @pytest.mark.requirement("S4.45")
    def test_memory_grows_with_their_number_and_no_faster(self, registry: Registry) -> None:
        def growth(count: int, prefix: str) -> float:
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            for number in range(count):
                registry.register_nowait(f"{prefix}{number}", {"type": "sample"})
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / count

        registry.register_nowait("first", {"type": "sample"})
        tracemalloc.start()
        try:
            few, many = growth(250, "few"), growth(1000, "many")
        finally:
            tracemalloc.stop()
        assert many < 1.25 * few
        assert many < 8192

    async def test_thousands_cost_no_more_each_than_one(self, registry: Registry) -> None:
        await registry.register("sample")
        held = [registry.create("sample") for _ in range(5000)]
        assert registry.info("sample").instance_count == len(held)
        del held
        gc.collect()
        assert not registry._find("sample")._instances

    def test_a_lease_names_its_holder(self, registry: Registry) -> None:
        registry.register_nowait("sample")
        registry.set_default("sample")
        with registry.lease() as leased:
            assert leased is registry.require("sample")
            assert registry.info("sample").lease_count == 1
            (holder,) = registry._find("sample").holders()
            assert holder.startswith(f"{__file__}:")
        assert registry.info("sample").lease_count == 0


class TestHooks:
    @pytest.mark.requirement("S1.12", "S1.23", "S1.31", "S1.27")
    async def test_run_in_order_with_the_name_before_it_is_visible(
        self, registry: Registry
    ) -> None:
        heard: list[Any] = []

        async def first(name: str) -> None:
            await asyncio.sleep(0)
            heard.append(("first", name, registry.get(name)))

        registry.add_init_hook(first)
        registry.add_init_hook(lambda name: heard.append(("second", name)))
        await registry.register("sample")
        assert heard == [("first", "sample", None), ("second", "sample")]
        await registry.run_init_hooks("again")
        assert heard[-1] == ("second", "again")

    @pytest.mark.requirement("S1.12")
    async def test_one_that_raises_rolls_back(self, registry: Registry) -> None:
        heard: list[str] = []

        async def refuse(_: str) -> None:
            raise BackendError("not this one")

        registry.add_init_hook(refuse)
        registry.add_init_hook(heard.append)
        with pytest.raises(
            HookFailedError, match=r"refuse raised BackendError: not this"
        ) as caught:
            await registry.register("sample")
        assert isinstance(caught.value.__cause__, BackendError)
        assert caught.value.code == "HOOK_FAILED"
        assert (registry.has("sample"), heard) == (False, [])
        registry._hooks = ()
        await registry.register("sample")

    async def test_one_may_call_the_registry(self, registry: Registry) -> None:
        async def companion(name: str) -> None:
            if not name.startswith("companion"):
                await registry.register(f"companion-{name}", {"type": "sample"})

        registry.add_init_hook(companion)
        await registry.register("sample")
        assert registry.names() == ["companion-sample", "sample"]

    async def test_one_that_hangs_holds_only_its_own_name_and_can_be_cancelled(
        self, registry: Registry
    ) -> None:
        gate = Gate()

        async def hang(name: str) -> None:
            if name == "sample":
                await gate()

        registry.add_init_hook(hang)
        task = asyncio.create_task(registry.register("sample"))
        await gate.reached.wait()
        await registry.register("other", {"type": "sample"})
        with pytest.raises(AlreadyExistsError, match="test_registry"):
            await registry.register("sample")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        registry._hooks = ()
        await registry.register("sample")


class TestDefault:
    @pytest.mark.requirement("S1.4", "S1.27", "S1.31")
    async def test_is_what_was_set(self, registry: Registry) -> None:
        await registry.register("a", {"type": "sample"})
        b = await registry.register("b", {"type": "sample"})
        registry.set_default("b")
        assert registry.require() is b
        assert [one.name for one in registry.list() if one.is_default] == ["b"]
        registry.set_default(None)
        with pytest.raises(
            NotFoundError, match=r"no default among a, b\. .*PURVEYOR_STORAGE__DEFAULT"
        ):
            registry.require()
        assert [one.name for one in registry.list() if one.is_default] == []

    async def test_must_be_there(self, registry: Registry) -> None:
        with pytest.raises(NotFoundError):
            registry.set_default("nobody")

    async def test_is_the_only_one_there_is(self, registry: Registry) -> None:
        with pytest.raises(NotFoundError, match="has no provider yet"):
            registry.default_name()
        await registry.register("only", {"type": "sample"})
        assert registry.default_name() == "only"

    @pytest.mark.requirement("S1.18")
    async def test_is_filesystem_where_nothing_else_is_set(self, types: ProviderTypes) -> None:
        declared = {
            name: Declaration(ProviderSettings(type="sample"), "builtin", "built in")
            for name in ("filesystem", "sqlite")
        }
        registry = Registry("storage", types=types, declared=declared)
        assert registry.default_name() == "filesystem"
        default = registry.require()
        assert default is registry.require("filesystem")
        assert all(one is default for one in in_threads(8, lambda _: registry.require()))
        await registry.register("mine", {"type": "sample"})
        assert registry.default_name() == "mine"
        await registry.register("another", {"type": "sample"})
        with pytest.raises(NotFoundError, match="no default among another, mine"):
            registry.default_name()

    async def test_goes_with_its_provider(self, registry: Registry) -> None:
        for name in ("a", "b", "filesystem"):
            await registry.register(name, {"type": "sample"})
        registry.set_default("a")
        await registry.unregister("a")
        assert registry.default_name() == "filesystem"

    def test_the_default_settings_of_a_type_can_be_had(self, registry: Registry) -> None:
        config = registry.get_default_config("sample")
        assert isinstance(config, SampleConfig)
        assert config.port == 1


class TestThreads:
    @pytest.mark.requirement("S1.1", "S1.31", "S1.32", "S4.44", "S4.46")
    def test_a_hundred_register_at_once_while_others_read(self, registry: Registry) -> None:
        torn: list[str] = []
        done = False

        def work(number: int) -> Any:
            nonlocal done
            if number < 4:
                while not done:
                    torn.extend(
                        one.name for one in registry.list() if registry.get(one.name) is None
                    )
                    torn.extend(n for n, one in registry.providers().items() if one is None)
                    registry.find_by_capability("search")
                return None
            answer = asyncio.run(registry.register(f"p{number}", {"type": "sample"}))
            done = len(registry.handles) >= 100
            return answer

        answers = in_threads(104, work)
        assert [one for one in answers if isinstance(one, Exception)] == []
        assert len(registry.names()) == 100
        assert torn == []

    @pytest.mark.requirement("S1.10", "S4.46")
    def test_of_a_hundred_with_the_same_name_one_wins(self, registry: Registry) -> None:
        answers = in_threads(100, lambda _: registry.register_nowait("sample"))
        winners = [one for one in answers if not isinstance(one, Exception)]
        losers = [one.code for one in answers if isinstance(one, RegistryError)]
        assert (len(winners), losers) == (1, ["ALREADY_EXISTS"] * 99)
        assert registry.require("sample") is winners[0]

    @pytest.mark.requirement("S1.32", "S4.46")
    def test_a_storm_leaves_no_torn_state(self, registry: Registry) -> None:
        def work(number: int) -> None:
            name = f"p{number % 3}"
            for _ in range(25):
                try:
                    registry.register_nowait(name, {"type": "sample"})
                    found = registry.get(name)
                    assert found is None or isinstance(found, Sample)
                    registry.create(name)
                    asyncio.run(registry.unregister(name, mode="force"))
                except (AlreadyExistsError, NotFoundError):
                    continue

        answers = in_threads(8, work)
        assert answers == [None] * 8
        assert set(registry._registrations) == set(registry.handles)
        assert registry._reserved == {}


@pytest.mark.requirement("S1.33")
async def test_messages_begin_as_they_are_known(registry: Registry, types: ProviderTypes) -> None:
    class Failing(Sample):
        def __init__(self, config: SampleConfig) -> None:
            raise BackendError("no room")

    register_provider("failing", types=types)(Failing)
    sample = registry.register_nowait("sample")
    failing = registry.register_nowait("failing")
    lease = registry.lease("sample")

    async def message(attempt: Any) -> str:
        with pytest.raises(RegistryError) as caught:
            await attempt
        return str(caught.value)

    assert (await message(registry.register("sample"))).startswith(
        "Provider already registered: sample"
    )
    assert (await message(registry.unregister("x"))).startswith("Provider not found: x")
    assert (await message(registry.unregister("sample"))).startswith(
        "Provider sample has 1 active instances"
    )
    assert (await message(failing.echo())).startswith("Storage creation failed: ")
    assert (await message(registry.register("a", {"type": "sample", "port": 0}))).startswith(
        "Configuration invalid: "
    )
    lease.release()
    assert await sample.echo(1) == 1


def test_limits_and_home_have_defaults(types: ProviderTypes) -> None:
    registry = Registry(types.family("storage"), types=types)
    registry.register_nowait("sample")
    assert (
        registry.guards()[0].connection.blueprint.init_timeout == LifecycleSettings().init_timeout
    )


def test_the_types_and_the_events_may_be_given(types: ProviderTypes) -> None:
    import purveyor.providers.storage  # noqa: F401  # which adds the family to the default types

    events = Events()
    assert Registry("storage", types=types, events=events).events is events
    assert Registry("storage", types=types).types is types
    assert Registry("storage").types is default_types
