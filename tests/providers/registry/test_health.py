"""Is a provider well? One cheap question to its backend, answered in bounded time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from purveyor.providers.registry import (
    BreakerState,
    ConnectionFailedError,
    CredentialError,
    HealthResult,
    HealthStatus,
    InvalidStateError,
    NotFoundError,
    ProviderRegistry,
    Status,
)
from purveyor.providers.registry.health import HealthRecord, HealthReport, HealthSummary, check
from purveyor.settings import HealthSettings
from tests.providers.registry.samples import Backend, BackendError, Gate, SampleConfig, raising
from tests.providers.registry.virtual_time import now, on_virtual_time

HEALTHY, DEGRADED = HealthStatus.HEALTHY, HealthStatus.DEGRADED
UNHEALTHY, UNKNOWN = HealthStatus.UNHEALTHY, HealthStatus.UNKNOWN

Registry = ProviderRegistry[Any]


@pytest.fixture
def sample(registry: Registry, backend: Backend) -> Any:
    return registry.register_nowait("sample", SampleConfig(backend=backend))


@pytest.mark.requirement("S4.10")
@pytest.mark.usefixtures("sample")
async def test_a_well_one_is_healthy_and_was_connected(
    registry: Registry, backend: Backend
) -> None:
    result = await registry.get_provider_health("sample")
    assert (result.name, result.status, result.code) == ("sample", HealthStatus.HEALTHY, None)
    assert result.latency >= 0
    assert result.checked_at.tzinfo is UTC
    assert backend.connects == 1
    assert json.loads(json.dumps(result.to_dict()))["status"] == "healthy"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BackendError("lost"), "CONNECTION_FAILED", "check_health: lost"),
        (TimeoutError("too long"), "TIMEOUT", "too long"),
        (ZeroDivisionError("defect"), None, "ZeroDivisionError: defect"),
    ],
)
@pytest.mark.usefixtures("sample")
@on_virtual_time
async def test_an_ill_one_is_told_and_never_raised(
    registry: Registry, backend: Backend, error: Exception, code: str | None, message: str
) -> None:
    backend.health = raising(error)
    result = await registry.get_provider_health("sample")
    assert (result.status, result.code) == (HealthStatus.UNHEALTHY, code)
    assert result.message == message


@pytest.mark.usefixtures("sample")
@on_virtual_time
async def test_one_that_cannot_be_reached_is_unhealthy(
    registry: Registry, backend: Backend
) -> None:
    backend.connect = raising(BackendError("refused"))
    result = await registry.get_provider_health("sample")
    assert (result.status, result.message) == (HealthStatus.UNHEALTHY, "connect: refused")


@pytest.mark.usefixtures("sample")
async def test_one_that_does_not_answer_is_unhealthy_in_time(
    registry: Registry, backend: Backend
) -> None:
    backend.health = Gate()
    result = await registry.get_provider_health("sample", timeout=0.02)
    assert (result.code, result.message) == ("TIMEOUT", "no answer within 0.02 s")


@pytest.mark.usefixtures("sample")
async def test_a_cancelled_check_is_cancelled(registry: Registry, backend: Backend) -> None:
    backend.health = gate = Gate()
    check = asyncio.create_task(registry.get_provider_health("sample"))
    await gate.reached.wait()
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check


async def test_the_providers_own_call_raises_what_went_wrong(sample: Any, backend: Backend) -> None:
    await sample.check_health()
    backend.health = raising(BackendError("lost"))
    with pytest.raises(Exception, match="check_health: lost"):
        await sample.check_health()


async def test_of_a_plain_object_nothing_is_known(registry: Registry) -> None:
    await registry.register_instance("thing", object())
    assert (await registry.get_provider_health("thing")).status is HealthStatus.UNKNOWN
    with pytest.raises(NotFoundError):
        await registry.get_provider_health("nobody")


class Asked:
    """A backend that gives the answers it is given in turn, the last one for ever."""

    def __init__(self, *answers: Exception | HealthStatus | None) -> None:
        self.answers = list(answers)
        self.times: list[float] = []

    async def __call__(self) -> HealthStatus | None:
        self.times.append(now())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class TestAttempts:
    @pytest.mark.requirement("S4.47", "S4.63")
    @on_virtual_time
    async def test_a_failure_that_passes_is_none(self) -> None:
        ask = Asked(ConnectionResetError(), ConnectionFailedError("lost"), None)
        result, error = await check("p", ask, timeout=10, retries=2)
        assert (result.status, error) == (HEALTHY, None)
        assert ask.times[-1] - ask.times[0] < 5

    @on_virtual_time
    async def test_there_are_no_more_than_allowed(self) -> None:
        failures = [ConnectionFailedError(text) for text in ("first", "second", "third", "fourth")]
        ask = Asked(*failures)
        result, error = await check("p", ask, timeout=10, retries=2)
        assert (result.status, result.message, error) == (UNHEALTHY, "third", failures[2])
        assert len(ask.times) == 3

    @on_virtual_time
    async def test_all_of_them_have_one_timeout(self) -> None:
        begun, asked = now(), list[float]()

        async def ask() -> None:
            asked.append(now())
            await asyncio.sleep(4)
            raise ConnectionFailedError("slow to fail")

        result, error = await check("p", ask, timeout=10, retries=5)
        assert (result.code, result.message) == ("TIMEOUT", "no answer within 10 s")
        assert isinstance(error, TimeoutError)
        assert now() - begun == pytest.approx(10)
        assert len(asked) == 3

    @pytest.mark.parametrize("error", [CredentialError("refused"), ZeroDivisionError("defect")])
    @on_virtual_time
    async def test_what_another_attempt_cannot_cure_is_told_at_once(self, error: Exception) -> None:
        ask = Asked(error)
        assert (await check("p", ask, timeout=10, retries=5))[0].status is UNHEALTHY
        assert len(ask.times) == 1

    @on_virtual_time
    async def test_a_cancellation_that_nobody_asked_for_is_a_defect_of_the_provider(self) -> None:
        async def ask() -> None:
            raise asyncio.CancelledError

        found, error = await check("p", ask, timeout=10, retries=3)
        assert (found.status, found.code) == (UNHEALTHY, None)
        assert isinstance(error, RuntimeError)

    @on_virtual_time
    async def test_a_backend_may_call_itself_degraded(self) -> None:
        result, error = await check("p", Asked(DEGRADED), timeout=10)
        assert (result.status, error) == (DEGRADED, None)

    @on_virtual_time
    async def test_of_a_backend_that_was_not_asked_nothing_is_known(self) -> None:
        refusal = InvalidStateError("is disposed")
        result, error = await check("p", Asked(refusal), timeout=10, retries=3)
        assert (result.status, result.code, error) == (UNKNOWN, "INVALID_STATE", refusal)


class Clock:
    """Seconds that the test moves."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def result(status: HealthStatus) -> HealthResult:
    return HealthResult("p", status, 0.01, datetime.now(UTC))


class TestRecord:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def record(self, clock: Clock) -> HealthRecord:
        return HealthRecord(clock)

    def test_before_the_first_result_nothing_is_known(self, record: HealthRecord) -> None:
        assert (record.status, record.age, record.last) == (UNKNOWN, None, None)

    @pytest.mark.requirement("S4.47")
    @pytest.mark.parametrize(
        ("unhealthy", "healthy", "results", "statuses"),
        [
            (1, 1, "-+-+", "-+-+"),
            (2, 1, "+--+", "+~-+"),
            (3, 1, "--+--+---", "~~+~~+~~-"),
            (2, 3, "--++++", "~-~~++"),
            (2, 3, "--++-+++", "~-~~-~~+"),
            (2, 1, "~+~", "~+~"),
            (2, 2, "--~~+", "~-~~+"),
            (2, 1, "-~-", "~~~"),
        ],
    )
    def test_it_takes_some_in_a_row_to_change_its_mind(
        self, record: HealthRecord, unhealthy: int, healthy: int, results: str, statuses: str
    ) -> None:
        settings = HealthSettings(unhealthy_threshold=unhealthy, healthy_threshold=healthy)
        signs = {"+": HEALTHY, "-": UNHEALTHY, "~": DEGRADED}
        seen: list[HealthStatus] = []
        before = UNKNOWN
        for sign in results:
            changed = record.add(result(signs[sign]), settings)
            assert changed == (before, record.status)
            before = record.status
            seen.append(before)
        assert seen == [signs[sign] for sign in statuses]

    def test_it_counts_how_many_in_a_row(self, record: HealthRecord) -> None:
        for status in (UNHEALTHY, UNHEALTHY, HEALTHY, HEALTHY, HEALTHY):
            record.add(result(status), HealthSettings())
        assert (record.failures, record.successes) == (0, 3)
        record.add(result(UNHEALTHY), HealthSettings())
        assert (record.failures, record.successes) == (1, 0)

    def test_a_result_that_is_too_old_says_nothing(
        self, record: HealthRecord, clock: Clock
    ) -> None:
        settings = HealthSettings(check_interval=30, stale_after=3)
        record.add(result(HEALTHY), settings)
        clock.now += 90
        assert (record.status, record.age) == (HEALTHY, 90)
        clock.now += 0.1
        assert record.status is UNKNOWN
        assert record.add(result(HEALTHY), settings) == (UNKNOWN, HEALTHY)

    def test_the_interval_it_is_checked_at_counts(self, record: HealthRecord, clock: Clock) -> None:
        record.add(result(HEALTHY), HealthSettings(check_interval=30), 600)
        clock.now += 1_800
        assert record.status is HEALTHY

    def test_after_that_it_starts_afresh(self, record: HealthRecord, clock: Clock) -> None:
        settings = HealthSettings(check_interval=1, unhealthy_threshold=2, healthy_threshold=2)
        for _ in range(2):
            record.add(result(UNHEALTHY), settings)
        clock.now += 60
        assert record.add(result(HEALTHY), settings) == (UNKNOWN, HEALTHY)
        clock.now += 60
        assert record.add(result(UNHEALTHY), settings) == (UNKNOWN, DEGRADED)

    def test_a_clock_that_jumps_back_makes_no_result_younger_than_now(
        self, record: HealthRecord, clock: Clock
    ) -> None:
        record.add(result(HEALTHY), HealthSettings(check_interval=30))
        clock.now -= 10_000
        assert record.age == 0
        clock.now += 100
        assert (record.age, record.status) == (100, UNKNOWN)

    def test_it_keeps_the_last_results_and_no_more(self, record: HealthRecord) -> None:
        for number in range(50):
            latest = replace(result(HEALTHY), message=str(number))
            record.add(latest, HealthSettings(history=5 if number < 40 else 3))
        assert [one.message for one in record.history] == ["47", "48", "49"]
        assert record.last is record.history[-1]


def report(**changes: Any) -> HealthReport:
    usual = HealthReport("storage", "p", HEALTHY, True, ("*",), Status.READY, True)
    return replace(usual, **changes)


class TestReadiness:
    @pytest.mark.parametrize(
        ("changes", "usable"),
        [
            ({}, True),
            ({"status": DEGRADED}, True),
            ({"status": UNHEALTHY}, False),
            ({"status": UNKNOWN}, True),
            ({"status": UNKNOWN, "state": Status.REGISTERED}, False),
            ({"status": UNKNOWN, "state": Status.ERROR}, False),
            ({"breaker": BreakerState.OPEN, "retry_after": 12.0}, False),
            ({"breaker": BreakerState.OPEN, "retry_after": None}, False),
            ({"breaker": BreakerState.OPEN, "retry_after": 0.0}, True),  # a call may try
        ],
    )
    def test_what_can_be_worked_with(self, changes: dict[str, Any], usable: bool) -> None:
        assert report(**changes).usable is usable
        assert HealthSummary([report(**changes)]).ready is usable

    def test_who_is_not_required_does_not_matter(self) -> None:
        ill = report(required=False, status=UNHEALTHY, retry_after=99.0)
        summary = HealthSummary([report(status=DEGRADED), ill])
        assert (summary.ready, summary.status) == (True, DEGRADED)
        assert HealthSummary([ill]).status is HEALTHY

    @pytest.mark.parametrize(
        ("statuses", "worst"),
        [
            ([HEALTHY, DEGRADED], DEGRADED),
            ([UNKNOWN, DEGRADED], UNKNOWN),
            ([UNHEALTHY, UNKNOWN, HEALTHY], UNHEALTHY),
            ([], HEALTHY),
        ],
    )
    def test_the_worst_counts(self, statuses: list[HealthStatus], worst: HealthStatus) -> None:
        assert HealthSummary([report(status=status) for status in statuses]).status is worst

    def test_groups_are_the_required_the_family_and_pipelines(self) -> None:
        nightly = report(pipelines=("nightly",), required=False)
        assert [nightly.belongs_to(group) for group in ("storage", "nightly")] == [True, True]
        assert [nightly.belongs_to(group) for group in ("required", "weekly")] == [False, False]
        assert report().belongs_to("weekly")
        assert report().belongs_to("required")
