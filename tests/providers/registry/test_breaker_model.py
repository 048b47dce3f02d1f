"""The circuit breaker against a model, and against another breaker where the two agree."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Literal

import interlock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from purveyor.providers.registry import BreakerState, CircuitBreaker, CircuitOpenError, Transition
from purveyor.providers.registry.breaker import Era
from purveyor.settings import BreakerSettings

Outcome = Literal["good", "bad", "wait", "none"]
OUTCOMES = st.sampled_from(["good", "bad", "wait", "none"])
HOLD = 6.0


@dataclass
class Ticket:
    """What the model admits a call in."""

    era: int
    probe: bool
    since: float


@dataclass
class Model:
    """The contract, in the plainest words; it is told the time with every question."""

    rules: BreakerSettings
    state: str = "closed"
    era: int = 0
    since: float = 0.0
    failures: list[float] = field(default_factory=list[float])
    bad_checks: int = 0
    probes: list[Ticket] = field(default_factory=list[Ticket])
    successes: int = 0
    last_failure: float = 0.0
    wait: float | None = 0.0
    trips: int = 0
    forced: bool = False
    turns: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def turn(self, state: str, now: float) -> None:
        if state != self.state:
            self.turns.append((self.state, state))
        self.state = state
        if state != "half-open":  # an open era includes its probing
            self.era += 1
            self.since = now
            self.failures, self.bad_checks = [], 0
            self.probes, self.successes = [], 0

    def retry_after(self, now: float) -> float | None:
        if self.state != "open":
            return 0.0
        if self.wait is None:
            return None
        self.last_failure = min(self.last_failure, now)
        return max(0.0, self.last_failure + self.wait - now)

    def admit(self, now: float) -> Ticket | None:
        if self.state == "closed":
            return Ticket(self.era, False, now)
        self.wait_out(now)
        if self.state == "open":
            return None
        for probe in self.probes:
            probe.since = min(probe.since, now)
        self.probes = [one for one in self.probes if now - one.since < self.rules.probe_ttl]
        if len(self.probes) >= self.rules.half_open_max_calls:
            return None
        self.probes.append(Ticket(self.era, True, now))
        return self.probes[-1]

    def wait_out(self, now: float) -> None:
        if self.state == "open" and self.retry_after(now) == 0.0:
            self.turn("half-open", now)

    def end(self, ticket: Ticket, outcome: Outcome, now: float) -> None:
        if ticket.probe:
            if any(one is ticket for one in self.probes):
                self.probes = [one for one in self.probes if one is not ticket]
                if outcome == "wait":
                    self.hold(now)
                elif outcome != "none":
                    self.probed(outcome, now)
        elif ticket.era == self.era and self.state == "closed":
            if outcome == "good":
                self.forgive()
            elif outcome == "wait" and self.counting:
                self.hold(now)
            elif outcome == "bad" and self.counting:
                self.last_failure = now
                self.failures = [min(time, now) for time in self.failures] + [now]
                self.failures = self.failures[-self.rules.failure_threshold :]
                if self.count(now) == self.rules.failure_threshold:
                    self.trip(now)

    @property
    def counting(self) -> bool:
        return self.rules.enabled and not self.forced

    def count(self, now: float) -> int:
        return sum(now - time <= self.rules.monitoring_period for time in self.failures)

    def forgive(self) -> None:
        if self.rules.reset_on_success:
            self.failures = []

    def probed(self, outcome: Outcome, now: float) -> None:
        if outcome == "bad":
            self.last_failure = now
            self.trip(now)
            return
        self.successes += 1
        if self.successes >= self.rules.success_threshold:
            self.turn("closed", now)

    def hold(self, now: float) -> None:
        self.last_failure, self.wait = now, HOLD
        self.turn("open", now)

    def trip(self, now: float) -> None:
        rules = self.rules
        if self.state == "closed" and now - self.since > rules.monitoring_period:
            self.trips = 0
        self.trips += 1
        grown = rules.recovery_timeout * rules.recovery_factor ** (self.trips - 1)
        self.wait = max(rules.recovery_timeout, min(grown, rules.recovery_cap))
        self.turn("open", now)

    def checked(self, outcome: Outcome, now: float) -> None:
        if not self.counting:
            return
        self.wait_out(now)
        if self.state == "half-open":
            self.probed(outcome, now)
        elif self.state == "closed" and outcome == "good":
            self.bad_checks = 0
            self.forgive()
        elif self.state == "closed":
            self.bad_checks += 1
            if self.bad_checks >= self.rules.failure_threshold:
                self.last_failure = now
                self.trip(now)

    def force(self, how: str, now: float) -> None:
        self.forced = how != "reset"
        if how == "open":
            self.wait = None
        elif how == "reset":
            self.trips = 0
        self.turn("open" if how == "open" else "closed", now)

    def configure(self, rules: BreakerSettings, now: float) -> None:
        self.rules = rules
        self.failures = self.failures[-rules.failure_threshold :]
        if not rules.enabled and not self.forced:
            self.turn("closed", now)


RULES = st.builds(
    BreakerSettings,
    failure_threshold=st.integers(1, 3),
    monitoring_period=st.sampled_from([4.0, 16.0]),
    recovery_timeout=st.sampled_from([8.0, 12.0]),
    half_open_max_calls=st.integers(1, 2),
    success_threshold=st.integers(1, 2),
    reset_on_success=st.booleans(),
    probe_ttl=st.sampled_from([5.0, 20.0]),
    recovery_factor=st.just(2.0),
    recovery_cap=st.just(30.0),
)


class Comparison(RuleBasedStateMachine):
    """Every rule does the same to the breaker and to the model."""

    @initialize(rules=RULES)
    def begin(self, rules: BreakerSettings) -> None:
        self.now = 100.0
        self.turns: list[tuple[str, str]] = []
        self.calls: list[tuple[Era, Ticket]] = []
        self.breaker = CircuitBreaker("b", rules, listener=self.listen, clock=lambda: self.now)
        self.model = Model(rules, since=self.now)

    def listen(self, _: CircuitBreaker, turn: Transition) -> None:
        self.turns.append((turn.before, turn.after))

    def call(self) -> bool:
        """Let a call ask to pass; it is under way if it may."""
        ticket = self.model.admit(self.now)
        if ticket is None:
            with pytest.raises(CircuitOpenError) as caught:
                self.breaker.admit()
            assert caught.value.retry_after == self.model.retry_after(self.now)
            return False
        self.calls.append((self.breaker.admit(), ticket))
        return True

    def end(self, number: int, outcome: Outcome) -> None:
        era, ticket = self.calls.pop(number)
        self.model.end(ticket, outcome, self.now)
        if outcome == "bad":
            self.breaker.fail(era, OSError())
        elif outcome == "wait":
            self.breaker.hold(era, HOLD, "LaterError")
        elif outcome == "none":
            self.breaker.release(era)
        elif era.pending:  # as the guard asks before it tells
            self.breaker.succeed(era)

    def trip(self) -> None:
        for _ in range(self.model.rules.failure_threshold):
            if self.call():
                self.end(-1, "bad")

    def wait_out(self) -> None:
        self.now += self.model.retry_after(self.now) or 0.0

    # -- one thing at a time -------------------------------------------------------------

    @rule(count=st.integers(1, 3))
    def several_calls_begin(self, count: int) -> None:
        for _ in range(count):
            self.call()

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=OUTCOMES)
    def a_call_ends(self, data: st.DataObject, outcome: Outcome) -> None:
        self.end(data.draw(st.integers(0, len(self.calls) - 1)), outcome)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 4.0, 5.0, 8.0, 16.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([1.0, 10.0, 1000.0]))
    def the_clock_jumps_back(self, seconds: float) -> None:
        self.now -= seconds

    @rule(outcome=st.sampled_from(["good", "bad"]))
    def a_check_ends(self, outcome: Outcome) -> None:
        self.model.checked(outcome, self.now)
        self.breaker.checked(OSError() if outcome == "bad" else None)

    @rule(how=st.sampled_from(["open", "closed", "reset", "reset"]))
    def somebody_decides(self, how: str) -> None:
        self.model.force(how, self.now)
        ways = {"open": "force_open", "closed": "force_closed", "reset": "reset"}
        getattr(self.breaker, ways[how])()

    @rule(rules=RULES, enabled=st.sampled_from([True, True, True, False]))
    def settings_change(self, rules: BreakerSettings, enabled: bool) -> None:
        rules = rules.model_copy(update={"enabled": enabled})
        self.model.configure(rules, self.now)
        self.breaker.configure(rules)

    # -- what seldom comes about by one thing at a time ----------------------------------

    @rule()
    def it_trips(self) -> None:
        self.trip()

    @rule(outcome=OUTCOMES, part=st.sampled_from([0.25, 0.5, 1.0]))
    def a_late_result_comes_during_the_wait(self, outcome: Outcome, part: float) -> None:
        if self.call():
            self.trip()
            self.now += part * (self.model.retry_after(self.now) or 0.0)
            self.end(-1 if self.model.state == "closed" else len(self.calls) - 1, outcome)
            self.agree()
            self.wait_out()
            self.call()

    @rule(stale=OUTCOMES, fresh=OUTCOMES, closed_between=st.booleans())
    def a_stale_result_comes_beside_a_probe(
        self, stale: Outcome, fresh: Outcome, closed_between: bool
    ) -> None:
        if not self.call():
            return
        late = len(self.calls) - 1
        self.trip()
        self.wait_out()
        if self.call() and closed_between:
            self.end(-1, "good")
            self.trip()
            self.wait_out()
            if not self.call():
                return
        self.end(late, stale)
        self.agree()
        if self.calls:
            self.end(-1, fresh)

    @rule(more=st.sampled_from([0.0, 0.5]))
    def failures_come_at_both_ends_of_the_period(self, more: float) -> None:
        self.somebody_decides("reset")
        for seconds in (self.model.rules.monitoring_period + more, *[0.0] * 2):
            self.call()
            self.end(-1, "bad")
            self.agree()
            if self.model.state != "closed":
                return
            self.now += seconds

    @rule(outcome=OUTCOMES)
    def a_late_result_comes_in_the_next_era(self, outcome: Outcome) -> None:
        self.somebody_decides("reset")
        self.call()
        for _ in range(2):  # in its own era, so that its success has to be told; and in the next
            for _ in range(self.model.rules.failure_threshold - 1):
                self.call()
                self.end(-1, "bad")
            if self.model.era == self.calls[-1][1].era:
                self.somebody_decides("reset")
        self.end(-1, outcome)

    @rule(outcome=OUTCOMES)
    def a_probe_comes_back_after_it_lost_its_slot(self, outcome: Outcome) -> None:
        self.trip()
        self.wait_out()
        if self.call():
            lost = len(self.calls) - 1
            self.now += self.model.rules.probe_ttl
            self.call()
            self.agree()
            self.end(lost, outcome)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.breaker.state == self.model.state
        assert self.breaker.failures == self.model.count(self.now)
        assert self.breaker.retry_after == self.model.retry_after(self.now)
        assert (self.breaker.era is not None) == (self.model.state == "closed")
        assert self.turns == self.model.turns


TestComparison = Comparison.TestCase
TestComparison.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestComparison = pytest.mark.requirement("S4.37", "S4.40", "S4.46")(TestComparison)


# -- another breaker ---------------------------------------------------------------------


class InterlockClock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Suspended:
    """Something to await that the test answers."""

    def __await__(self) -> Generator[None]:
        yield


async def suspended() -> None:
    await Suspended()


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(1, 3)),
        st.tuples(OUTCOMES, st.integers(0, 9)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 7.0, 7.5, 8.0])),
        st.tuples(st.just("trip"), st.integers(0, 1)),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(threshold=st.integers(1, 4), actions=ACTIONS)
def test_it_does_as_interlock_does(threshold: int, actions: list[tuple[str, Any]]) -> None:
    """
    Against interlock-cb, where the two mean the same: N failures in a row, however far apart.

    There that is a window of N calls all of which failed; here a monitoring period without
    end. Compared are admission, refusal with its seconds, the single probe, results that come
    late, and cancelled calls. Not compared: failures within a time, more than one success to
    close, and lost probes, which interlock-cb does not have or has as rates.
    """
    clock = InterlockClock()
    ours = CircuitBreaker(
        "ours",
        BreakerSettings(failure_threshold=threshold, recovery_timeout=8, monitoring_period=1e7),
        clock=clock.monotonic,
    )
    theirs = interlock.CircuitBreaker(
        name="theirs",
        config=interlock.Config(
            failure_rate_threshold=1.0,
            minimum_number_of_calls=threshold,
            window_size=threshold,
            permitted_calls_in_half_open=1,
            wait_duration_in_open=8.0,
            slow_call_duration_threshold=1e7,
        ),
        clock=clock,
    )
    calls: list[tuple[Era, Any]] = []

    def begin() -> bool:
        call: Any = theirs.call_async(suspended)
        try:
            era = ours.admit()
        except CircuitOpenError:
            with pytest.raises(interlock.CircuitOpenError) as caught:
                call.send(None)
            assert ours.retry_after == (caught.value.retry_after or 0.0)
            return False
        call.send(None)
        calls.append((era, call))
        return True

    def end(number: int, outcome: str) -> None:
        era, call = calls.pop(number)
        if outcome == "good":
            ours.succeed(era)
            with pytest.raises(StopIteration):
                call.send(None)
        elif outcome == "bad":
            ours.fail(era, OSError())
            with pytest.raises(OSError, match="gone"):
                call.throw(OSError("gone"))
        else:
            ours.release(era)
            call.close()

    for action, value in actions:
        if action == "begin":
            for _ in range(value):
                begin()
        elif action == "wait":
            clock.now += value
        elif action == "trip":
            for _ in range(threshold):
                if begin():
                    end(-1, "bad")
        elif calls:
            end(value % len(calls), action)
        assert ours.state.replace("-", "_") == theirs.state
    for _, call in calls:
        call.close()


# -- memory ------------------------------------------------------------------------------


@pytest.mark.requirement("S4.72")
@pytest.mark.parametrize("state", [BreakerState.OPEN, BreakerState.HALF_OPEN])
def test_ten_thousand_refused_calls_leave_no_memory(state: BreakerState) -> None:
    now = [0.0]
    breaker = CircuitBreaker("b", BreakerSettings(failure_threshold=1), clock=lambda: now[0])
    breaker.fail(breaker.admit(), OSError())
    if state is BreakerState.HALF_OPEN:
        now[0] = 300.0
        breaker.admit()

    def refuse(count: int) -> None:
        for _ in range(count):
            try:
                breaker.admit()
            except CircuitOpenError:
                continue
            raise AssertionError("it passed")

    tracemalloc.start()
    try:
        refuse(100)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        refuse(10_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert breaker.state is state
    assert after - before < 2_000


def test_two_thousand_trips_leave_no_memory() -> None:
    now = [0.0]
    breaker = CircuitBreaker("b", BreakerSettings(failure_threshold=2), clock=lambda: now[0])

    def cycle(count: int) -> None:
        for number in range(count):
            stale = breaker.admit()
            breaker.fail(breaker.admit(), OSError())
            breaker.fail(breaker.admit(), OSError())
            now[0] += 300.0
            breaker.release(breaker.admit())
            probe = breaker.admit()
            breaker.succeed(stale)
            if number % 2:
                breaker.fail(probe, OSError())
                now[0] += 300.0
                probe = breaker.admit()
            breaker.succeed(probe)

    tracemalloc.start()
    try:
        cycle(100)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        cycle(2_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert breaker.state is BreakerState.CLOSED
    assert after - before < 2_000
