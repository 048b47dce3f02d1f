"""What every operation of a provider from a registry passes on its way in and out."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import pickle
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from purveyor.providers.registry import (
    Call,
    ConnectionFailedError,
    CreationFailedError,
    InUseError,
    InvalidStateError,
    OperationTimeoutError,
    Provider,
    ProviderRegistry,
    Status,
    UnsupportedCapabilityError,
    guarded,
    operation,
    register_provider,
)
from purveyor.providers.registry.connection import Blueprint
from purveyor.providers.registry.guard import Guard
from purveyor.providers.registry.guarded import Guarded
from purveyor.settings import LifecycleSettings, RegistrySettings
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


@pytest.fixture
def sample(backend: Backend) -> Sample:
    """A guarded sample, without a registry."""
    return guarded(Sample(SampleConfig(backend=backend)), name="sample")


class TestConnecting:
    @pytest.mark.requirement("S1.16")
    async def test_the_first_operation_connects(self, sample: Sample, backend: Backend) -> None:
        assert backend.connects == 0
        assert await sample.echo(1) == 1
        assert await sample.echo(2) == 2
        assert backend.connects == 1

    async def test_initialize_connects_on_purpose_and_only_once(
        self, sample: Sample, backend: Backend
    ) -> None:
        await sample.initialize()
        await sample.initialize()
        await sample.echo()
        assert backend.connects == 1

    @pytest.mark.requirement("S4.46")
    async def test_fifty_first_calls_at_once_connect_once(
        self, sample: Sample, backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        calls = [asyncio.create_task(sample.echo(number)) for number in range(50)]
        await gate.reached.wait()
        gate.opened.set()
        assert await asyncio.gather(*calls) == list(range(50))
        assert backend.connects == 1

    async def test_a_cancelled_first_caller_does_not_fail_the_others(
        self, sample: Sample, backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        first, *others = [asyncio.create_task(sample.echo(number)) for number in range(3)]
        await gate.reached.wait()
        first.cancel()
        await turns()
        gate.opened.set()
        assert await asyncio.gather(*others) == [1, 2]
        assert first.cancelled()
        assert backend.log == ["connect"]

    async def test_a_connection_nobody_waits_for_any_more_serves_the_next_call(
        self, sample: Sample, backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        only = asyncio.create_task(sample.echo())
        await gate.reached.wait()
        only.cancel()
        await turns()
        gate.opened.set()
        assert await sample.echo("next") == "next"
        assert backend.connects == 1

    @pytest.mark.requirement("S4.56")
    async def test_a_failure_closes_what_it_made_and_the_next_call_tries_again(
        self, sample: Sample, backend: Backend
    ) -> None:
        cause = BackendError("refused")
        backend.connect = raising(cause)
        with pytest.raises(ConnectionFailedError, match="connect: refused") as caught:
            await sample.echo()
        assert caught.value.__cause__ is cause
        assert caught.value.provider_name == "sample"
        assert backend.log == ["connect", "close"]
        assert repr(sample) == "<Sample 'sample' error>"
        backend.connect = Backend().connect
        assert await sample.echo(1) == 1

    async def test_all_who_wait_hear_of_the_failure(self, sample: Sample, backend: Backend) -> None:
        backend.connect = raising(OSError("no route"))
        answers = await asyncio.gather(*(sample.echo() for _ in range(5)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {ConnectionFailedError}
        assert backend.log == ["connect", "close"]
        assert "Cannot connect provider 'sample': OSError: no route" in str(answers[0])

    async def test_a_failure_while_closing_does_not_hide_the_first_one(
        self, sample: Sample, backend: Backend
    ) -> None:
        backend.connect = raising(BackendError("refused"))
        backend.close = raising(RuntimeError("close failed too"))
        with pytest.raises(ConnectionFailedError, match="refused"):
            await sample.echo()

    async def test_a_defect_of_the_providers_own_translation_leaves_nobody_waiting(
        self, backend: Backend
    ) -> None:
        class Defective(Sample):
            def _translate(self, error: Exception, call: Call) -> Exception | None:
                raise KeyError("defect")

        backend.connect = raising(OSError("no route"))
        sample = guarded(Defective(SampleConfig(backend=backend)), name="defective")
        async with asyncio.timeout(5):
            with pytest.raises(KeyError, match="defect"):
                await sample.echo()
        assert backend.log == ["connect", "close"]

    async def test_has_a_deadline_of_its_own(self, types: Any, backend: Backend) -> None:
        registry = ProviderRegistry[Any](
            "storage",
            types=types,
            settings=RegistrySettings(lifecycle=LifecycleSettings(init_timeout=0.02)),
        )
        backend.connect = Gate()
        sample = registry.register_nowait("slow", SampleConfig(backend=backend))
        with pytest.raises(OperationTimeoutError, match=r"no connection within 0\.02 s") as caught:
            await sample.echo()
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.code == "TIMEOUT"
        assert backend.log == ["connect", "close"]

    async def test_a_waiting_call_is_a_use(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        call = asyncio.create_task(sample.echo(1))
        await gate.reached.wait()
        with pytest.raises(InUseError, match="1 call in flight"):
            await registry.unregister("sample")
        gate.opened.set()
        assert await call == 1
        await registry.unregister("sample")

    async def test_a_call_that_waits_in_vain_is_no_use_any_more(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        call = asyncio.create_task(sample.echo())
        await gate.reached.wait()
        drained = asyncio.create_task(registry.unregister("sample", mode="drain"))
        await turns()
        assert not drained.done()
        call.cancel()
        await drained
        assert backend.log == ["connect", "close"]

    async def test_draining_waits_for_the_calls_that_wait_for_the_connection(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        begun = Gate()
        call = asyncio.create_task(sample.do(begun))
        preparing = asyncio.create_task(sample.initialize())
        await gate.reached.wait()
        drained = asyncio.create_task(registry.unregister("sample", mode="drain"))
        await turns()
        gate.opened.set()
        await begun.reached.wait()
        await turns()
        assert preparing.done()
        assert (drained.done(), backend.closes) == (False, 0)
        begun.opened.set()
        await asyncio.gather(call, drained)
        assert backend.closes == 1

    async def test_building_that_fails_is_told_with_its_cause(self, types: Any) -> None:
        class Picky(Sample):
            def __init__(self, config: SampleConfig) -> None:
                raise ValueError("no room")

        registry = ProviderRegistry[Any]("storage", types=types)
        register_provider("picky", types=types)(Picky)
        sample = registry.register_nowait("picky")
        with pytest.raises(
            CreationFailedError, match=r"^Storage creation failed: provider 'picky'"
        ) as e:
            await sample.echo()
        assert isinstance(e.value.__cause__, ValueError)

    async def test_building_that_is_refused_says_so_itself(self) -> None:
        class Refusing(Sample):
            def __init__(self, _: SampleConfig) -> None:
                raise UnsupportedCapabilityError("not on this system")

        guard = Guard(Blueprint("refusing", "storage", Refusing, SampleConfig()))
        with pytest.raises(UnsupportedCapabilityError):
            guard.peek()


class TestDisposing:
    @pytest.mark.requirement("S4.56")
    async def test_closes_once_and_refuses_further_calls(
        self, sample: Sample, backend: Backend
    ) -> None:
        await sample.echo()
        await sample.dispose()
        await sample.dispose()
        assert backend.closes == 1
        with pytest.raises(InvalidStateError, match="is disposed and takes no more calls"):
            await sample.echo()
        with pytest.raises(InvalidStateError):
            sample.plain(lambda _: 1)
        with pytest.raises(InvalidStateError):
            await anext(sample.items())
        with pytest.raises(InvalidStateError):
            await sample.check_health()
        assert backend.connects == 1

    async def test_what_never_connected_needs_no_closing(
        self, sample: Sample, backend: Backend
    ) -> None:
        await sample.dispose()
        assert backend.log == []

    async def test_an_async_with_block_connects_and_disposes(
        self, sample: Sample, backend: Backend
    ) -> None:
        async with sample as entered:
            assert entered is sample
        assert backend.log == ["connect", "close"]

    async def test_while_connecting_ends_the_attempt_and_frees_what_it_made(
        self, sample: Sample, backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        call = asyncio.create_task(sample.echo())
        await gate.reached.wait()
        await sample.dispose()
        assert backend.log == ["connect", "close"]
        with pytest.raises(InvalidStateError, match="is disposed"):
            await call

    async def test_from_another_thread_while_connecting(
        self, sample: Sample, backend: Backend
    ) -> None:
        with loop_in_thread() as run:

            async def begin() -> asyncio.Task[Any]:
                backend.connect = gate = Gate()
                call = asyncio.create_task(sample.echo())
                await gate.reached.wait()
                return call

            call = await asyncio.to_thread(run, begin())
            await sample.dispose()
            assert backend.log == ["connect", "close"]
            with pytest.raises(InvalidStateError):
                await asyncio.to_thread(run, asyncio.wait_for(call, 5))

    async def test_between_connecting_and_the_waiting_call_refuses_the_call(
        self, sample: Sample, backend: Backend
    ) -> None:
        disposing: list[asyncio.Task[None]] = []

        async def connect() -> None:
            # Runs after the connection is made and before those who wait for it go on.
            asyncio.get_running_loop().call_soon(
                lambda: disposing.append(asyncio.create_task(sample.dispose()))
            )

        backend.connect = connect
        with pytest.raises(InvalidStateError):
            await sample.echo()
        await disposing[0]
        assert backend.log == ["connect", "close"]

    async def test_a_connection_that_does_not_heed_its_end_is_closed_when_it_is_made(
        self, types: Any, backend: Backend
    ) -> None:
        gate = Gate()

        async def stubborn() -> None:
            while not gate.opened.is_set():
                try:
                    await gate()
                except asyncio.CancelledError:
                    continue

        backend.connect = stubborn
        registry = ProviderRegistry[Any](
            "storage",
            types=types,
            settings=RegistrySettings(lifecycle=LifecycleSettings(dispose_timeout=0.02)),
        )
        sample = registry.register_nowait("stubborn", SampleConfig(backend=backend))
        call = asyncio.create_task(sample.echo())
        await gate.reached.wait()
        try:
            with pytest.raises(TimeoutError):
                await registry.dispose("stubborn")
            assert backend.closes == 0
        finally:
            gate.opened.set()
        with pytest.raises(InvalidStateError):
            await call
        await turns()
        assert backend.closes == 1

    async def test_while_a_call_is_in_flight_lets_it_end_by_itself(
        self, sample: Sample, backend: Backend
    ) -> None:
        gate = Gate()
        call = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        await sample.dispose()
        assert backend.closes == 1
        gate.opened.set()
        assert await call is None

    async def test_a_closing_that_fails_is_told_and_counts_all_the_same(
        self, sample: Sample, backend: Backend
    ) -> None:
        await sample.echo()
        backend.close = raising(BackendError("lost"))
        with pytest.raises(BackendError):
            await sample.dispose()
        await sample.dispose()
        assert backend.closes == 1

    async def test_a_closing_that_hangs_is_cut_off(self, types: Any, backend: Backend) -> None:
        registry = ProviderRegistry[Any](
            "storage",
            types=types,
            settings=RegistrySettings(lifecycle=LifecycleSettings(dispose_timeout=0.02)),
        )
        backend.close = Gate()
        sample = registry.register_nowait("hanging", SampleConfig(backend=backend))
        await sample.echo()
        with pytest.raises(TimeoutError):
            await sample.dispose()

    async def test_a_disposed_provider_connects_anew_when_asked(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        await sample.echo()
        await registry.dispose("sample")
        await registry.initialize("sample")
        assert await sample.echo(1) == 1
        assert backend.log == ["connect", "close", "connect"]


class TestEventLoops:
    async def test_an_instance_belongs_to_the_loop_that_first_used_it(self, sample: Sample) -> None:
        await sample.echo()
        with loop_in_thread() as run, pytest.raises(InvalidStateError) as caught:
            await asyncio.to_thread(run, sample.echo())
        message = str(caught.value)
        for remedy in ("container.blocking", "one event loop", "registry.create('sample')"):
            assert remedy in message
        assert await sample.echo(1) == 1

    def test_a_loop_that_is_gone_is_followed_by_a_new_start(
        self, sample: Sample, backend: Backend
    ) -> None:
        assert asyncio.run(sample.echo(1)) == 1
        assert asyncio.run(sample.echo(2)) == 2
        assert backend.connects == 2

    def test_calls_lost_with_their_loop_keep_nobody_waiting(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        first = asyncio.new_event_loop()
        gate: list[Gate] = []

        async def hang() -> asyncio.Task[Any]:
            gate.append(Gate())
            task = asyncio.create_task(sample.do(gate[0]))
            await gate[0].reached.wait()
            return task

        lost = first.run_until_complete(hang())
        first.close()

        async def go_on() -> None:
            assert await sample.echo(1) == 1
            lost.get_coro().close()  # the collector's part, on purpose at this moment
            assert registry.info("sample").lease_count == 0
            await registry.unregister("sample")

        asyncio.run(go_on())
        lost._log_destroy_pending = False  # it never ends, which is what this test is about
        assert backend.closes == 1

    def test_disposing_what_belongs_to_a_loop_that_is_gone_closes_nothing(
        self, sample: Sample, backend: Backend
    ) -> None:
        asyncio.run(sample.echo())
        asyncio.run(sample.dispose())
        assert backend.log == ["connect"]

    def test_disposing_what_belongs_to_a_loop_that_stands_still_closes_nothing(
        self, sample: Sample, backend: Backend
    ) -> None:
        still = asyncio.new_event_loop()
        still.run_until_complete(sample.echo())
        asyncio.run(sample.dispose())
        still.close()
        assert backend.log == ["connect"]

    async def test_disposing_from_another_loop_closes_on_the_owners(
        self, sample: Sample, backend: Backend
    ) -> None:
        closed_in: list[threading.Thread] = []

        async def close() -> None:
            closed_in.append(threading.current_thread())

        backend.close = close
        await sample.echo()
        with loop_in_thread() as run:
            await asyncio.to_thread(run, sample.dispose())
        assert closed_in == [threading.current_thread()]

    @pytest.mark.requirement("S1.32", "S4.44")
    async def test_a_provider_is_never_disposed_under_a_call_by_another_thread(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        state = {"closed": False, "bad": 0, "calls": 0}

        async def close() -> None:
            state["closed"] = True

        async def look(_: Sample) -> None:
            state["bad"] += state["closed"]
            await asyncio.sleep(0)
            state["bad"] += state["closed"]
            state["calls"] += 1

        backend.close = close

        async def calls() -> None:
            while True:
                try:
                    await sample.do(look)
                except InvalidStateError:
                    return
                if state["calls"] % 5 == 0:
                    await asyncio.sleep(0.0005)

        async def remover() -> None:
            while True:
                try:
                    return await registry.unregister("sample")
                except InUseError:
                    await asyncio.sleep(0)

        for _ in range(10):
            state["closed"] = False
            sample = registry.register_nowait("sample", SampleConfig(backend=backend))
            await sample.echo()
            with loop_in_thread() as run:
                removing = asyncio.to_thread(run, remover())
                await asyncio.gather(removing, calls())
        assert state["bad"] == 0
        assert state["calls"] > 0

    def test_two_threads_build_one_instance(self, backend: Backend) -> None:
        built: list[Sample] = []

        class Slow(Sample):
            def __init__(self, config: SampleConfig) -> None:
                super().__init__(config)
                barrier.wait()
                built.append(self)

        barrier = threading.Barrier(2)
        guard = Guard(Blueprint("slow", "storage", Slow, SampleConfig()))
        first, second = in_threads(2, lambda _: guard.peek())
        assert first is second
        assert len(built) == 2


class TestStreams:
    async def test_connects_and_gives_every_item(self, sample: Sample, backend: Backend) -> None:
        assert [item async for item in sample.items()] == [0, 1, 2]
        assert backend.log == ["connect", "stream ended"]

    @pytest.mark.requirement("S1.28")
    async def test_is_a_use_until_exhausted(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        stream = sample.items()
        assert registry.info("sample").lease_count == 0
        await anext(stream)
        with pytest.raises(InUseError):
            await registry.unregister("sample")
        assert [item async for item in stream] == [1, 2]
        await registry.unregister("sample")

    async def test_is_a_use_until_closed(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        stream: Any = sample.items()
        await anext(stream)
        await stream.aclose()
        assert backend.log[-1] == "stream ended"
        await registry.unregister("sample")

    async def test_is_no_use_any_more_when_abandoned_by_a_break(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        async for _ in sample.items():
            break
        await turns()
        assert backend.log[-1] == "stream ended"
        assert registry.info("sample").lease_count == 0
        await registry.unregister("sample")

    async def test_the_claim_itself_sees_a_use(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        registry.register_nowait("sample", SampleConfig(backend=backend))
        (guard,) = registry.guards()
        with registry.lease("sample"):
            assert await guard.close_to_new_work() is False
        assert await guard.close_to_new_work() is True

    async def test_draining_waits_for_a_stream(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        stream = sample.items()
        await anext(stream)
        drained = asyncio.create_task(registry.unregister("sample", mode="drain"))
        await turns()
        assert not drained.done()
        assert [item async for item in stream] == [1, 2]
        await drained
        assert backend.closes == 1

    async def test_its_errors_are_mapped(self, sample: Sample) -> None:
        async def fail(number: int) -> None:
            if number:
                raise BackendError("lost")

        stream = sample.items(before_each=fail)
        assert await anext(stream) == 0
        with pytest.raises(ConnectionFailedError, match="items: lost") as caught:
            await anext(stream)
        assert caught.value.provider_name == "sample"
        assert isinstance(caught.value.__cause__, BackendError)

    async def test_a_timeout_bounds_each_step_and_not_the_consumer(self, backend: Backend) -> None:
        stuck = Gate()

        async def slow_in_the_end(number: int) -> None:
            if number == 2:
                await stuck()

        sample = guarded(Sample(SampleConfig(backend=backend)), name="sample", timeout=0.05)
        stream = sample.items(before_each=slow_in_the_end)
        assert await anext(stream) == 0
        await asyncio.sleep(0.06)
        assert await anext(stream) == 1
        with pytest.raises(OperationTimeoutError, match=r"no answer within 0\.05 s"):
            await anext(stream)
        assert [item async for item in sample.items()] == [0, 1, 2]

    async def test_an_iterator_that_cannot_be_closed_will_do(self, backend: Backend) -> None:
        class Countdown:
            def __init__(self) -> None:
                self.left = 2

            def __aiter__(self) -> Countdown:
                return self

            async def __anext__(self) -> int:
                if not self.left:
                    raise StopAsyncIteration
                self.left -= 1
                return self.left

        class Counting(Sample):
            @operation
            def countdown(self) -> AsyncIterator[int]:
                return Countdown()

        for timeout in (None, 5.0):
            sample = guarded(
                Counting(SampleConfig(backend=backend)), name="sample", timeout=timeout
            )
            assert [item async for item in sample.countdown()] == [1, 0]


class TestErrors:
    async def test_are_mapped_with_cause_name_and_operation(self, sample: Sample) -> None:
        cause = BackendError("lost")
        with pytest.raises(ConnectionFailedError, match="do: lost") as caught:
            await sample.do(lambda _: raising(cause)())
        assert caught.value.__cause__ is cause
        assert caught.value.provider_name == "sample"

    async def test_what_the_provider_does_not_translate_passes_as_it_is(
        self, sample: Sample
    ) -> None:
        error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError) as caught:
            await sample.do(lambda _: raising(error)())
        assert caught.value is error

    async def test_registry_errors_of_the_provider_pass_unchanged(self, sample: Sample) -> None:
        error = UnsupportedCapabilityError("no such thing", "inner", {"a": 1})
        with pytest.raises(UnsupportedCapabilityError) as caught:
            await sample.do(lambda _: raising(error)())
        assert caught.value is error
        assert (error.provider_name, error.__cause__) == ("inner", None)

    @pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
    async def test_what_ends_the_program_or_the_task_is_neither_mapped_nor_counted(
        self, kind: type[BaseException], backend: Backend
    ) -> None:
        class Own(Sample):
            @operation
            async def stop(self) -> None:
                raise kind

        sample: Any = guarded(Own(SampleConfig(backend=backend)), name="sample")
        await sample.initialize()
        with pytest.raises(kind):
            await sample.stop()
        assert (sample._guard.failures, sample._guard.in_flight) == (0, 0)

    def test_an_interrupt_while_connecting_is_not_counted_and_frees_what_was_made(
        self, backend: Backend
    ) -> None:
        sample: Any = guarded(Sample(SampleConfig(backend=backend)), name="sample")
        backend.connect = raising(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(sample.echo())
        assert backend.log == ["connect", "close"]
        assert sample._guard.failures == 0
        backend.connect = Backend().connect
        assert asyncio.run(sample.echo(1)) == 1

    async def test_only_the_backends_failures_are_counted(self, sample: Any) -> None:
        for error in (BackendError("lost"), ValueError("caller"), InvalidStateError("own")):
            with pytest.raises(Exception):  # noqa: B017  # which, other tests say
                await sample.do(lambda _, error=error: raising(error)())
        assert sample._guard.failures == 1
        assert sample._guard.calls == 3

    async def test_a_timeout_is_the_familys_or_the_engines_error_and_counts(
        self, backend: Backend
    ) -> None:
        sample: Any = guarded(Sample(SampleConfig(backend=backend)), name="sample", timeout=0.02)
        with pytest.raises(OperationTimeoutError, match=r"no answer within 0\.02 s") as caught:
            await sample.do(Gate())
        assert caught.value.provider_name == "sample"
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert sample._guard.failures == 1
        assert sample._guard.in_flight == 0

    async def test_an_outer_cancellation_is_no_timeout(self, backend: Backend) -> None:
        sample: Any = guarded(Sample(SampleConfig(backend=backend)), name="sample", timeout=5)
        gate = Gate()
        call = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert sample._guard.failures == 0

    async def test_a_failed_call_leaves_nothing_for_the_collector(self, sample: Sample) -> None:
        class Payload(list[int]):
            pass

        async def lose(_: Sample, _payload: Payload) -> None:
            raise BackendError("lost")

        async def fail(payload: Payload) -> None:
            with contextlib.suppress(ConnectionFailedError):
                await sample.do(functools.partial(lose, _payload=payload))

        await sample.initialize()
        payload = Payload()
        seen = weakref.ref(payload)
        gc.collect()
        gc.disable()
        try:
            await fail(payload)
            del payload
            assert seen() is None
        finally:
            gc.enable()


class TestOutside:
    def test_is_an_instance_of_the_providers_class(self, sample: Sample) -> None:
        assert isinstance(sample, Sample)
        assert type(sample).__name__ == "Sample"
        assert repr(sample) == "<Sample 'sample' registered>"
        assert sample._guard.status is Status.REGISTERED  # type: ignore[attr-defined]

    async def test_what_is_no_operation_is_the_instances_own(self, sample: Sample) -> None:
        assert sample.used == 0
        await sample.do(lambda own: turns(1))
        assert sample.used == 1
        sample.used = 7
        assert await sample.do(lambda own: answer(own.used)) == 8
        assert type(sample).used == 0
        assert sample.config.label == ""
        with pytest.raises(AttributeError, match="nowhere"):
            _ = sample.nowhere  # type: ignore[attr-defined]

    def test_an_attribute_is_deleted_where_it_is(self, sample: Any) -> None:
        sample.note = 1
        assert sample._guard.peek().note == 1
        del sample.note
        assert not hasattr(sample._guard.peek(), "note")

    def test_the_guard_is_no_attribute_before_it_is_there(self) -> None:
        with pytest.raises(AttributeError, match="_guard"):
            _ = Guarded.__new__(Guarded)._guard

    def test_slots_and_extra_constructor_work_are_the_instances_own(self) -> None:
        class Slotted(Sample):
            __slots__ = ("made",)

            def __init__(self, config: SampleConfig) -> None:
                super().__init__(config)
                self.made = [config.label]

        sample = guarded(Slotted(SampleConfig(label="x")), name="slotted")
        assert sample.made == ["x"]
        sample.made = ["y"]
        assert sample.plain(lambda own: own.made) == ["y"]  # type: ignore[attr-defined]

    async def test_a_method_made_of_operations_passes_the_guard(
        self, sample: Sample, backend: Backend
    ) -> None:
        assert await sample.helper(3) == 3
        assert backend.connects == 1

    async def test_operations_of_an_operation_are_not_guarded_twice(self, sample: Any) -> None:
        assert await sample.do(lambda own: own.echo(1)) == 1
        assert sample._guard.calls == 1

    async def test_an_override_without_the_mark_is_an_operation_too(self, backend: Backend) -> None:
        class Louder(Sample):
            async def echo(self, value: Any = None) -> Any:
                return await super().echo(f"{value}!")

        sample: Any = guarded(Louder(SampleConfig(backend=backend)), name="louder")
        assert await sample.echo("hey") == "hey!"
        assert (backend.connects, sample._guard.calls) == (1, 1)

    async def test_what_the_family_says_of_an_operation_holds_for_every_type(
        self, backend: Backend
    ) -> None:
        class Delegating(Sample):
            def echo(self, value: Any = None) -> Any:  # a plain function with an awaitable answer
                return super().echo(value)

        sample = guarded(Delegating(SampleConfig(backend=backend)), name="delegating")
        assert await sample.echo(1) == 1
        assert backend.connects == 1

    async def test_a_plain_operation_works_without_a_connection(
        self, sample: Sample, backend: Backend
    ) -> None:
        assert sample.plain(lambda own: own.config.port) == 1
        assert backend.connects == 0

        def fail(_: Sample) -> None:
            raise BackendError("odd")

        with pytest.raises(ConnectionFailedError, match="plain: odd"):
            sample.plain(fail)

    @pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_cannot_be_copied(self, sample: Sample, how: Any) -> None:
        with pytest.raises(TypeError, match="holds connections and credentials"):
            how(sample)

    async def test_by_hand_there_is_no_guard(self, backend: Backend) -> None:
        async with Sample(SampleConfig(backend=backend)) as sample:
            assert repr(sample) == "<Sample>"
            with pytest.raises(BackendError):
                await sample.do(lambda _: raising(BackendError("raw"))())
        assert backend.log == ["connect", "close"]

    async def test_by_hand_a_failed_connection_is_closed(self, backend: Backend) -> None:
        backend.connect = raising(BackendError("refused"))
        with pytest.raises(BackendError):
            await Sample(SampleConfig(backend=backend)).initialize()
        assert backend.log == ["connect", "close"]

    async def test_the_base_alone_does_nothing_and_is_well(self) -> None:
        class Bare(Provider[SampleConfig]):
            family = "storage"

            @operation
            async def fail(self) -> None:
                raise BackendError("raw")

        bare = guarded(Bare(SampleConfig()), name="bare")
        await bare.check_health()
        with pytest.raises(BackendError):
            await bare.fail()
        await bare.dispose()


async def answer(value: int) -> int:
    return value
