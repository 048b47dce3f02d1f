"""Guarded providers and their circuit breaker, as callers see the two together."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from purveyor.providers.registry import (
    BreakerState,
    CircuitBreakerClosed,
    CircuitBreakerHalfOpened,
    CircuitBreakerOpened,
    CircuitOpenError,
    ConnectionFailedError,
    HealthStatus,
    OperationTimeoutError,
    ProviderRegistry,
    ProviderTypes,
    RegistryError,
    register_provider,
)
from purveyor.providers.web.errors import (
    AuthenticationError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
)
from purveyor.settings import BreakerSettings, LifecycleSettings, RegistrySettings
from tests.providers.registry.samples import (
    Backend,
    BackendError,
    Gate,
    Sample,
    SampleConfig,
    in_threads,
    nothing,
    raising,
    turns,
)

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
DOWN = BackendError("down")
LIMITS = LifecycleSettings(init_timeout=5, dispose_timeout=5)


class Clock:
    """Seconds, which pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(types: ProviderTypes, tmp_path: Path, clock: Clock) -> Callable[..., Any]:
    """Make a registry whose breakers have the settings given."""

    def make(**settings: Any) -> ProviderRegistry[Any]:
        return ProviderRegistry(
            "storage",
            types=types,
            home=tmp_path,
            settings=RegistrySettings(
                circuit_breaker=BreakerSettings(**settings), lifecycle=LIMITS
            ),
            clock=clock,
        )

    return make


@pytest.fixture
def registry(make: Callable[..., Any]) -> ProviderRegistry[Any]:
    return make(failure_threshold=3)


@pytest.fixture
async def sample(registry: ProviderRegistry[Any], backend: Backend) -> AsyncIterator[Sample]:
    """A provider that is connected, and whose breaker opens after three failures."""
    handle = await registry.register("sample", {"type": "sample", "backend": backend})
    await handle.initialize()
    yield handle
    await registry.dispose_all()


def state(registry: ProviderRegistry[Any], name: str = "sample") -> BreakerState | None:
    return registry.health(name).breaker


def failures(registry: ProviderRegistry[Any], name: str = "sample") -> int:
    """Return how many failures have been counted of late."""
    breaker = registry._registrations[name].breaker
    assert breaker is not None
    return breaker.failures


async def down(_: Sample) -> None:
    raise BackendError("down")


async def hang(_: Sample) -> None:
    await asyncio.Event().wait()


async def fine(_: Sample) -> str:
    return "fine"


def refusing(error: Exception) -> Callable[[Sample], Awaitable[None]]:
    async def refuse(_: Sample) -> None:
        raise error

    return refuse


def plainly_down(_: Sample) -> None:
    raise ConnectionError("down")


async def one_failure(sample: Sample, kind: str = "coroutine") -> Exception:
    """Let an operation of a kind fail; return what the caller gets."""
    with pytest.raises(Exception) as caught:  # the tests look at it
        if kind == "coroutine":
            await sample.do(down)
        elif kind == "stream":
            async for _ in sample.items(before_each=lambda _: raising(BackendError("down"))()):
                pass
        else:
            sample.plain(plainly_down)
    assert isinstance(caught.value, Exception)
    return caught.value


async def trip(sample: Sample) -> None:
    for _ in range(3):
        await one_failure(sample)


KINDS = ["coroutine", "stream", "plain"]


class TestHolding:
    @pytest.mark.parametrize("kind", [RateLimitedError, QuotaExhaustedError])
    async def test_a_backend_that_asks_to_wait_is_asked_no_more_until_then(
        self,
        registry: ProviderRegistry[Any],
        sample: Sample,
        clock: Clock,
        kind: type[RateLimitedError],
    ) -> None:
        with pytest.raises(kind):
            await sample.do(refusing(kind("slower", retry_after=20)))
        with pytest.raises(CircuitOpenError, match="asked to wait after") as caught:
            await sample.echo()
        assert caught.value.retry_after == 20.0
        assert registry.info("sample").last_error is None  # it is no failure
        clock.now += 20.0
        assert await sample.echo("fine") == "fine"
        assert state(registry) is CLOSED

    @pytest.mark.parametrize(
        "error",
        [
            RateLimitedError("slower"),
            RateLimitedError("slower", retry_after=0),
            QuotaExhaustedError("spent"),
            AuthenticationError("who?"),
        ],
    )
    async def test_what_does_not_say_for_how_long_opens_nothing(
        self, registry: ProviderRegistry[Any], sample: Sample, error: RegistryError
    ) -> None:
        for _ in range(5):
            with pytest.raises(type(error)):
                await sample.do(refusing(error))
        assert (state(registry), failures(registry)) == (CLOSED, 0)

    async def test_an_overloaded_one_is_a_failure_whatever_it_asks(
        self, registry: ProviderRegistry[Any], sample: Sample
    ) -> None:
        with pytest.raises(OverloadedError):
            await sample.do(refusing(OverloadedError("busy", retry_after=20)))
        assert (state(registry), failures(registry)) == (CLOSED, 1)

    @pytest.mark.parametrize("error", [RateLimitedError("slower"), AuthenticationError("who?")])
    async def test_checks_that_find_no_failure_of_the_backend_open_nothing_either(
        self,
        registry: ProviderRegistry[Any],
        sample: Sample,
        backend: Backend,
        clock: Clock,
        error: RegistryError,
    ) -> None:
        backend.health = raising(error)
        for _ in range(5):
            result = await registry.get_provider_health("sample")
            assert result.status is HealthStatus.UNHEALTHY
        assert state(registry) is CLOSED
        await trip(sample)
        clock.now += 300.0
        await registry.get_provider_health("sample")  # no proof that it is well
        assert (state(registry), registry.health("sample").retry_after) == (OPEN, 0.0)

    async def test_a_probe_that_is_asked_to_wait_opens_it_anew_for_so_long(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock
    ) -> None:
        await trip(sample)
        clock.now += 300.0
        with pytest.raises(RateLimitedError):
            await sample.do(refusing(RateLimitedError("slower", retry_after=7.5)))
        assert registry.health("sample").retry_after == 7.5


class TestOpening:
    @pytest.mark.requirement("S4.37", "S4.48")
    @pytest.mark.parametrize("kind", KINDS)
    async def test_failures_of_every_kind_of_operation_open_it(
        self, registry: ProviderRegistry[Any], sample: Sample, kind: str
    ) -> None:
        for _ in range(2):
            await one_failure(sample, kind)
        assert state(registry) is CLOSED
        await one_failure(sample, kind)
        assert state(registry) is OPEN

    @pytest.mark.requirement("S4.48")
    async def test_open_it_refuses_every_kind_and_the_backend_is_left_alone(
        self, sample: Sample
    ) -> None:
        await trip(sample)
        used = sample.used
        for kind in KINDS:
            error = await one_failure(sample, kind)
            assert isinstance(error, CircuitOpenError)
        assert sample.used == used

    async def test_the_failures_of_all_kinds_are_counted_together(
        self, registry: ProviderRegistry[Any], sample: Sample
    ) -> None:
        for kind in KINDS:
            assert state(registry) is CLOSED
            await one_failure(sample, kind)
        assert state(registry) is OPEN

    @pytest.mark.requirement("S4.38")
    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_success_of_every_kind_clears_the_failures(
        self, registry: ProviderRegistry[Any], sample: Sample, kind: str
    ) -> None:
        await one_failure(sample)
        await one_failure(sample)
        if kind == "coroutine":
            await sample.echo()
        elif kind == "stream":
            assert [item async for item in sample.items()] == [0, 1, 2]
        else:
            sample.plain(lambda _: None)
        assert failures(registry) == 0

    async def test_a_stream_counts_when_it_ends_not_when_it_begins(
        self, registry: ProviderRegistry[Any], sample: Sample
    ) -> None:
        await one_failure(sample)
        async with aclosing(cast(Any, sample.items())) as items:
            await anext(items)
            assert failures(registry) == 1
            async for _ in items:
                pass
        assert failures(registry) == 0

    async def test_the_caller_whose_failure_trips_it_gets_its_own_error(
        self, sample: Sample
    ) -> None:
        for _ in range(3):
            error = await one_failure(sample)
            assert isinstance(error, ConnectionFailedError)
            assert isinstance(error.__cause__, BackendError)

    async def test_the_refused_get_a_fresh_error_with_state_wait_and_last_failure(
        self, sample: Sample, clock: Clock
    ) -> None:
        await trip(sample)
        clock.now += 100.0
        first, second = await one_failure(sample), await one_failure(sample)
        assert first is not second
        assert isinstance(first, CircuitOpenError)
        assert first.retry_after == 200.0
        assert first.provider_name == "sample"
        assert first.context == {
            "state": "open",
            "retry_after": 200.0,
            "last_error": "ConnectionFailedError",
        }

    async def test_a_refusal_is_no_failure_of_the_backend(
        self, registry: ProviderRegistry[Any], sample: Sample
    ) -> None:
        async def ask_another(_: Sample) -> None:
            raise CircuitOpenError("the other one's")

        for _ in range(5):
            with pytest.raises(CircuitOpenError):
                await sample.do(ask_another)
        assert (state(registry), failures(registry)) == (CLOSED, 0)

    @pytest.mark.requirement("S4.63", "S4.64")
    async def test_a_provider_may_differ_from_the_settings_for_all(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        config = {"type": "sample", "circuit_breaker": {"failure_threshold": 1}}
        sample = await registry.register("sample", config)
        await one_failure(sample)
        error = await one_failure(sample)
        assert isinstance(error, CircuitOpenError)
        assert error.retry_after == 300.0, "what it does not say, the settings for all do"

    async def test_a_disabled_breaker_never_opens(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        config = {"type": "sample", "circuit_breaker": {"enabled": False}}
        sample = await registry.register("sample", config)
        for _ in range(10):
            assert isinstance(await one_failure(sample), ConnectionFailedError)
        assert await sample.echo(1) == 1

    async def test_one_providers_breaker_is_not_anothers(
        self, registry: ProviderRegistry[Any], sample: Sample
    ) -> None:
        other = await registry.register("other", {"type": "sample"})
        await trip(sample)
        assert await other.echo(1) == 1
        await registry.dispose_all()


class TestWhatCounts:
    @pytest.mark.parametrize("end", ["cancelled", "interrupted", "closed"])
    async def test_cancellation_interrupt_and_an_abandoned_stream_count_nothing(
        self, registry: ProviderRegistry[Any], sample: Sample, end: str
    ) -> None:
        await one_failure(sample)
        for _ in range(5):
            await self.abandon(sample, end)
        assert (state(registry), failures(registry)) == (CLOSED, 1)

    @pytest.mark.parametrize("end", ["cancelled", "interrupted", "closed"])
    async def test_and_a_probe_that_ends_so_gives_its_slot_back(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock, end: str
    ) -> None:
        await trip(sample)
        clock.now += 300.0
        await self.abandon(sample, end)
        assert state(registry) is HALF_OPEN
        assert await sample.echo(1) == 1
        assert state(registry) is CLOSED

    async def abandon(self, sample: Sample, end: str) -> None:
        """Begin an operation that ends by no fault of the backend."""
        if end == "cancelled":
            call = asyncio.create_task(sample.do(hang))
            await turns()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        elif end == "interrupted":

            def interrupted(_: Sample) -> None:
                raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                sample.plain(interrupted)
        else:
            async with aclosing(cast(Any, sample.items())) as items:
                await anext(items)

    async def test_a_stream_that_was_dropped_gives_its_slot_back_once_collected(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock
    ) -> None:
        await trip(sample)
        clock.now += 300.0
        async for _ in sample.items():
            break
        gc.collect()
        await turns()
        assert await sample.echo(1) == 1
        assert state(registry) is CLOSED

    async def test_a_coroutine_that_was_closed_gives_its_slot_back(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock
    ) -> None:
        await trip(sample)
        clock.now += 300.0
        call: Any = sample.do(hang)
        call.send(None)
        assert state(registry) is HALF_OPEN
        call.close()
        assert await sample.echo(1) == 1

    @pytest.mark.parametrize("kind", ["coroutine", "stream"])
    async def test_the_operations_own_timeout_counts(
        self, registry: ProviderRegistry[Any], kind: str
    ) -> None:
        config = {"type": "sample", "timeout": 0.01, "circuit_breaker": {"failure_threshold": 1}}
        sample = await registry.register("sample", config)
        await sample.initialize()
        with pytest.raises(OperationTimeoutError):
            if kind == "coroutine":
                await sample.do(hang)
            else:
                async for _ in sample.items(before_each=lambda _: hang(sample)):
                    pass
        assert state(registry) is OPEN
        await registry.dispose_all()

    async def test_the_callers_timeout_around_it_does_not(
        self, registry: ProviderRegistry[Any], sample: Sample
    ) -> None:
        for _ in range(4):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await sample.do(hang)
        assert (state(registry), failures(registry)) == (CLOSED, 0)

    async def test_mistakes_of_the_caller_do_not(
        self, registry: ProviderRegistry[Any], sample: Sample
    ) -> None:
        async def mistaken(_: Sample) -> None:
            raise ValueError("no such key")

        for _ in range(5):
            with pytest.raises(ValueError, match="no such key"):
                await sample.do(mistaken)
        assert (state(registry), failures(registry)) == (CLOSED, 0)

    async def test_a_probe_that_finds_a_callers_mistake_gives_its_slot_back(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock
    ) -> None:
        await trip(sample)
        clock.now += 300.0

        async def mistaken(_: Sample) -> None:
            raise ValueError("no such key")

        with pytest.raises(ValueError, match="no such key"):
            await sample.do(mistaken)
        assert state(registry) is HALF_OPEN
        assert await sample.echo(1) == 1

    async def test_a_type_says_itself_what_counts(
        self, registry: ProviderRegistry[Any], types: ProviderTypes
    ) -> None:
        class Strict(Sample):
            def _is_failure(self, error: Exception) -> bool:
                return isinstance(error, ValueError)

        register_provider("strict", types=types)(Strict)
        sample = await registry.register("sample", {"type": "strict"})

        async def strange(_: Sample) -> None:
            raise ValueError("nonsense in the answer")

        for _ in range(5):
            await one_failure(sample)
        assert failures(registry) == 0
        for _ in range(3):
            with pytest.raises(ValueError, match="nonsense"):
                await sample.do(strange)
        assert state(registry) is OPEN
        await registry.dispose_all()


class TestConnecting:
    async def test_one_that_fails_counts_once_however_many_wait(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        gate = Gate()

        async def connect() -> None:
            await gate()
            raise BackendError("no route")

        backend.connect = connect
        sample = await registry.register("sample", {"type": "sample", "backend": backend})
        calls = [asyncio.create_task(sample.echo()) for _ in range(32)]
        await gate.reached.wait()
        gate.opened.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, ConnectionFailedError) for answer in answers)
        assert (backend.connects, failures(registry), state(registry)) == (1, 1, CLOSED)

    async def test_one_that_fails_often_enough_opens_it_and_is_tried_again_by_one_probe(
        self, registry: ProviderRegistry[Any], backend: Backend, clock: Clock
    ) -> None:
        backend.connect = raising(BackendError("no route"))
        sample = await registry.register("sample", {"type": "sample", "backend": backend})
        for _ in range(3):
            assert isinstance(await one_failure(sample), ConnectionFailedError)
        assert isinstance(await one_failure(sample), CircuitOpenError)
        assert backend.connects == 3
        clock.now += 300.0
        answers = await asyncio.gather(*(sample.echo() for _ in range(32)), return_exceptions=True)
        assert backend.connects == 4
        assert [type(answer) for answer in answers].count(ConnectionFailedError) == 1
        assert state(registry) is OPEN
        backend.connect = nothing
        clock.now += 300.0
        assert await sample.echo(1) == 1
        assert state(registry) is CLOSED
        await registry.dispose_all()


class TestProbing:
    @pytest.mark.requirement("S4.40", "S4.46")
    async def test_exactly_one_of_thirty_two_callers_probes(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock
    ) -> None:
        await trip(sample)
        clock.now += 300.0
        used, gate = sample.used, Gate()
        calls = [asyncio.create_task(sample.do(gate)) for _ in range(32)]
        await gate.reached.wait()
        await turns()
        assert sample.used == used + 1
        gate.opened.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, CircuitOpenError)]
        assert len(refused) == 31
        assert {error.context["state"] for error in refused} == {"half-open"}
        assert state(registry) is CLOSED

    @pytest.mark.requirement("S4.44", "S4.46", "S4.70")
    def test_exactly_one_of_thirty_two_callers_on_event_loops_of_eight_threads_probes(
        self, registry: ProviderRegistry[Any], clock: Clock
    ) -> None:
        registry.register_nowait("sample", {"type": "sample"})
        reached: list[int] = []

        async def fail_here() -> None:
            sample = registry.create("sample")
            await trip(sample)
            await sample.dispose()

        asyncio.run(fail_here())
        assert state(registry) is OPEN, "instances of their own share the provider's breaker"
        clock.now += 300.0

        async def ask(number: int) -> int:
            sample = registry.create("sample")

            async def work(_: Sample) -> None:
                reached.append(number)
                assert await asyncio.to_thread(all_refused.wait, 10)

            async def call() -> None:
                try:
                    await sample.do(work)
                except CircuitOpenError:
                    refused[number] += 1
                    if sum(refused) == 31:
                        all_refused.set()

            await asyncio.gather(*(call() for _ in range(4)))
            await sample.dispose()
            return refused[number]

        refused, all_refused = [0] * 8, threading.Event()
        answers = in_threads(8, lambda number: asyncio.run(ask(number)))
        assert len(reached) == 1
        assert sum(answers) == 31
        assert state(registry) is CLOSED

    async def test_a_probe_that_fails_opens_it_anew(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock
    ) -> None:
        await trip(sample)
        clock.now += 300.0
        assert isinstance(await one_failure(sample), ConnectionFailedError)
        error = await one_failure(sample)
        assert isinstance(error, CircuitOpenError)
        assert error.retry_after == 300.0

    async def test_a_call_from_before_it_opened_that_ends_well_does_not_close_it(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock
    ) -> None:
        gate = Gate()
        slow = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        await trip(sample)
        gate.opened.set()
        await slow
        assert state(registry) is OPEN

    @pytest.mark.parametrize("kind", KINDS)
    async def test_any_kind_of_operation_can_be_the_probe(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock, kind: str
    ) -> None:
        await trip(sample)
        clock.now += 300.0
        if kind == "coroutine":
            await sample.echo()
        elif kind == "stream":
            async for _ in sample.items():
                assert isinstance(await one_failure(sample), CircuitOpenError)
        else:
            sample.plain(lambda _: None)
        assert state(registry) is CLOSED


class TestTelling:
    @pytest.mark.requirement("S4.39", "S4.66")
    async def test_events_and_a_warning_with_the_count(
        self,
        registry: ProviderRegistry[Any],
        sample: Sample,
        clock: Clock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        heard: list[Any] = []
        for event in (CircuitBreakerOpened, CircuitBreakerHalfOpened, CircuitBreakerClosed):
            registry.on(event, heard.append)
        with caplog.at_level(logging.WARNING):
            await trip(sample)
        (record,) = [record for record in caplog.records if "opened" in record.message]
        assert record.levelname == "WARNING"
        assert record.message == (
            "The circuit breaker of storage provider sample opened: 3 failures within 60 s"
        )
        clock.now += 300.0
        await sample.echo()
        assert heard == [
            CircuitBreakerOpened("storage", "sample", "3 failures within 60 s", 3, 300.0),
            CircuitBreakerHalfOpened("storage", "sample", "the wait is over"),
            CircuitBreakerClosed("storage", "sample", "the backend answers again"),
        ]

    async def test_what_follows_is_logged_too(
        self, sample: Sample, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        await trip(sample)
        clock.now += 300.0
        await sample.echo()
        label = "The circuit breaker of storage provider sample"
        assert caplog.messages[-2:] == [
            f"{label} is half-open: the wait is over",
            f"{label} is closed: the backend answers again",
        ]

    async def test_a_listener_may_call_the_provider_of_which_it_is_told(
        self, registry: ProviderRegistry[Any], sample: Sample, clock: Clock
    ) -> None:
        answers: list[Any] = []

        async def ask(_: CircuitBreakerOpened) -> None:
            answers.append(await one_failure(sample))

        def read(_: CircuitBreakerOpened) -> None:
            answers.append(registry.health("sample").retry_after)

        registry.on(CircuitBreakerOpened, ask)
        registry.on(CircuitBreakerOpened, read)
        await trip(sample)
        await turns()
        assert answers[0] == 300.0
        assert isinstance(answers[1], CircuitOpenError)

    async def test_a_listener_that_raises_changes_nothing_for_the_caller(
        self, registry: ProviderRegistry[Any], sample: Sample, caplog: pytest.LogCaptureFixture
    ) -> None:
        def raise_it(_: CircuitBreakerOpened) -> None:
            raise ValueError("from the listener")

        registry.on(CircuitBreakerOpened, raise_it)
        for _ in range(3):
            assert isinstance(await one_failure(sample), ConnectionFailedError)
        assert "from the listener" in caplog.text


class TestNewSettings:
    async def test_new_settings_for_all_keep_the_state(
        self, registry: ProviderRegistry[Any], sample: Sample
    ) -> None:
        await one_failure(sample)
        registry.apply(RegistrySettings(circuit_breaker=BreakerSettings(failure_threshold=2)))
        await one_failure(sample)
        assert state(registry) is OPEN

    async def test_a_reload_with_settings_of_its_own_keeps_an_open_one_open(
        self, registry: ProviderRegistry[Any], backend: Backend
    ) -> None:
        sample = await registry.register("sample", SampleConfig(backend=backend))
        backend.connect = raising(BackendError("no route"))
        for _ in range(3):
            await one_failure(sample)
        assert state(registry) is OPEN
        config = {"type": "sample", "backend": backend, "circuit_breaker": {"probe_ttl": 5}}
        await registry.reload("sample", config)
        assert state(registry) is OPEN
