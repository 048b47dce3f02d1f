"""The circuit breaker's contract, line by line, on a clock that only moves when told."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from purveyor.providers.registry import BreakerState, CircuitBreaker, CircuitOpenError, Transition
from purveyor.settings import BreakerSettings

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class Clock:
    """Seconds, which pass when the test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Told:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []

    def __call__(self, _: CircuitBreaker, transition: Transition) -> None:
        self.transitions.append(transition)

    @property
    def states(self) -> list[BreakerState]:
        return [transition.after for transition in self.transitions]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def make(clock: Clock, told: Told) -> Callable[..., CircuitBreaker]:
    """Make a breaker of the default settings, but for those given."""

    def make(*, chance: Callable[[], float] = lambda: 0.0, **settings: Any) -> CircuitBreaker:
        return CircuitBreaker(
            "backups", BreakerSettings(**settings), listener=told, clock=clock, chance=chance
        )

    return make


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    """Let calls pass and fail."""
    for _ in range(times):
        breaker.fail(breaker.admit(), OSError("gone"))


def refused(breaker: CircuitBreaker) -> CircuitOpenError:
    """Return the error of a call that is refused."""
    with pytest.raises(CircuitOpenError) as caught:
        breaker.admit()
    return caught.value


class TestOpening:
    @pytest.mark.requirement("S4.37", "S4.39", "S4.64")
    def test_five_failures_within_sixty_seconds_open_it_four_do_not(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        fail(breaker, 4)
        assert (breaker.state, breaker.failures) == (CLOSED, 4)
        fail(breaker)
        assert breaker.state is OPEN

    @pytest.mark.requirement("S4.39")
    def test_first_and_last_exactly_sixty_seconds_apart_open_it(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        for _ in range(4):
            fail(breaker)
            clock.advance(15.0)
        fail(breaker)
        assert breaker.state is OPEN

    @pytest.mark.requirement("S4.39")
    def test_a_moment_more_than_sixty_seconds_apart_does_not(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 4)
        clock.advance(60.001)
        assert breaker.failures == 0
        fail(breaker)
        assert (breaker.state, breaker.failures) == (CLOSED, 1)

    def test_the_window_slides_with_each_failure(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(failure_threshold=3, monitoring_period=10)
        for seconds in (6.0, 6.0, 6.0, 6.0, 4.0):  # at most two in any ten of them
            fail(breaker)
            clock.advance(seconds)
        assert breaker.state is CLOSED
        fail(breaker)
        assert breaker.state is OPEN

    @pytest.mark.requirement("S4.38")
    def test_a_success_while_closed_clears_the_failures(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        fail(breaker, 4)
        breaker.succeed(breaker.admit())
        assert breaker.failures == 0
        fail(breaker, 4)
        assert breaker.state is CLOSED
        fail(breaker)
        assert breaker.state is OPEN

    def test_a_success_clears_nothing_where_reset_on_success_is_off(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make(reset_on_success=False)
        fail(breaker, 4)
        breaker.succeed(breaker.admit())
        assert breaker.failures == 4
        fail(breaker)
        assert breaker.state is OPEN

    @pytest.mark.parametrize("reset_on_success", [True, False])
    def test_a_success_need_be_told_only_where_there_is_something_to_clear(
        self, make: Callable[..., CircuitBreaker], reset_on_success: bool
    ) -> None:
        breaker = make(reset_on_success=reset_on_success)
        era = breaker.admit()
        assert not era.pending
        fail(breaker)
        assert bool(era.pending) is reset_on_success
        breaker.succeed(era)
        assert not era.pending

    def test_one_failure_opens_where_the_threshold_is_one(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make(failure_threshold=1)
        fail(breaker)
        assert breaker.state is OPEN

    def test_an_admission_while_closed_is_one_attribute(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make(failure_threshold=1)
        assert breaker.era is breaker.admit()
        fail(breaker)
        assert breaker.era is None

    def test_disabled_it_never_opens(self, make: Callable[..., CircuitBreaker]) -> None:
        breaker = make(enabled=False, failure_threshold=1)
        fail(breaker, 3)
        breaker.checked("down")
        assert (breaker.state, breaker.failures) == (CLOSED, 0)


class TestTheWait:
    @pytest.mark.requirement("S4.40", "S4.48")
    def test_it_refuses_until_three_hundred_seconds_after_the_last_failure(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(299.999)
        assert refused(breaker).retry_after == pytest.approx(0.001)
        clock.advance(0.001)
        breaker.admit()
        assert breaker.state is HALF_OPEN

    def test_a_caller_who_waits_as_long_as_told_passes(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(100.0)
        wait = refused(breaker).retry_after
        assert wait == breaker.retry_after == 200.0
        clock.advance(wait or 0.0)
        assert breaker.admit()

    def test_it_turns_half_open_on_a_call_and_not_by_itself(
        self, make: Callable[..., CircuitBreaker], clock: Clock, told: Told
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(1e6)
        assert (breaker.state, breaker.retry_after) == (OPEN, 0.0)
        assert told.states == [OPEN]
        breaker.admit()
        assert told.states == [OPEN, HALF_OPEN]

    def test_refused_calls_do_not_prolong_it(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        for _ in range(30):
            refused(breaker)
            clock.advance(10.0)
        assert breaker.admit()

    def test_a_late_failure_of_a_call_from_before_does_not_prolong_it(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        slow = breaker.admit()
        fail(breaker, 5)
        clock.advance(299.0)
        breaker.fail(slow, OSError())
        assert breaker.retry_after == 1.0

    def test_a_clock_that_jumps_back_starts_the_wait_anew_and_no_longer_one(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(-900.0)
        assert refused(breaker).retry_after == 300.0
        clock.advance(300.0)
        assert breaker.admit()

    def test_failures_from_before_a_jump_back_age_from_the_jump_on(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(reset_on_success=False)
        fail(breaker, 3)
        clock.advance(-900.0)
        fail(breaker)
        clock.advance(60.001)
        fail(breaker)
        assert (breaker.state, breaker.failures) == (CLOSED, 1)


class TestProbing:
    @pytest.fixture
    def waited(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> Callable[..., CircuitBreaker]:
        """Make a breaker that was open for just as long as it takes."""

        def waited(**settings: Any) -> CircuitBreaker:
            breaker = make(**settings)
            fail(breaker, 5)
            clock.advance(breaker.retry_after or 0.0)
            return breaker

        return waited

    @pytest.mark.requirement("S4.40")
    def test_half_open_lets_exactly_one_probe_through(
        self, waited: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = waited()
        breaker.admit()
        error = refused(breaker)
        assert error.context["state"] == "half-open"
        assert "An attempt is under way" in str(error)

    def test_as_many_probes_as_half_open_max_calls_says_may_be_in_flight(
        self, waited: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = waited(half_open_max_calls=3)
        probes = [breaker.admit() for _ in range(3)]
        refused(breaker)
        breaker.release(probes[0])
        breaker.admit()
        refused(breaker)

    @pytest.mark.requirement("S4.38")
    def test_its_success_closes(self, waited: Callable[..., CircuitBreaker], told: Told) -> None:
        breaker = waited()
        probe = breaker.admit()
        assert probe.pending, "a probe's success has to be told"
        breaker.succeed(probe)
        assert (breaker.state, breaker.failures) == (CLOSED, 0)
        assert told.states == [OPEN, HALF_OPEN, CLOSED]

    def test_its_failure_opens_anew_for_the_whole_wait(
        self, waited: Callable[..., CircuitBreaker], clock: Clock, told: Told
    ) -> None:
        breaker = waited()
        probe = breaker.admit()
        clock.advance(7.0)
        breaker.fail(probe, OSError())
        assert (breaker.state, breaker.retry_after) == (OPEN, 300.0)
        assert told.states == [OPEN, HALF_OPEN, OPEN]

    def test_as_many_successes_as_success_threshold_says_close(
        self, waited: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = waited(success_threshold=3)
        for _ in range(2):
            breaker.succeed(breaker.admit())
            assert breaker.state is HALF_OPEN
        breaker.succeed(breaker.admit())
        assert breaker.state is CLOSED

    def test_one_failure_among_them_opens_at_once_and_they_count_from_nothing(
        self, waited: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = waited(success_threshold=2)
        breaker.succeed(breaker.admit())
        fail(breaker)
        assert breaker.state is OPEN
        clock.advance(300.0)
        breaker.succeed(breaker.admit())
        assert breaker.state is HALF_OPEN

    def test_a_probe_given_back_counts_nothing_and_the_next_call_is_the_probe(
        self, waited: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = waited()
        breaker.release(breaker.admit())
        assert breaker.state is HALF_OPEN
        breaker.succeed(breaker.admit())
        assert breaker.state is CLOSED

    def test_what_a_probe_tells_after_it_gave_its_slot_back_is_void(
        self, waited: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = waited(success_threshold=2)
        for late in (breaker.succeed, lambda era: breaker.fail(era, "X")):
            probe = breaker.admit()
            breaker.release(probe)
            late(probe)
            assert breaker.state is HALF_OPEN
        probe = breaker.admit()
        breaker.succeed(probe)
        breaker.succeed(probe)
        assert breaker.state is HALF_OPEN, "told twice, counted once"

    def test_a_probe_that_never_returns_loses_its_slot_after_probe_ttl(
        self, waited: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = waited(probe_ttl=60)
        lost = breaker.admit()
        clock.advance(59.999)
        refused(breaker)
        clock.advance(0.001)
        probe = breaker.admit()
        breaker.fail(lost, OSError())
        assert breaker.state is HALF_OPEN, "it is a probe no longer"
        breaker.succeed(probe)
        assert breaker.state is CLOSED

    def test_a_clock_that_jumps_back_does_not_keep_a_slot_for_longer(
        self, waited: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = waited(probe_ttl=60)
        breaker.admit()
        clock.advance(-900.0)
        refused(breaker)
        clock.advance(60.0)
        assert breaker.admit()

    def test_a_probe_collected_in_the_midst_of_a_transition_gives_its_slot_back(
        self, make: Callable[..., CircuitBreaker], clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The collector may close a suspended coroutine wherever something is allocated."""
        breaker = make(failure_threshold=1)
        fail(breaker)
        clock.advance(300.0)
        suspended = [breaker.admit()]

        def collecting() -> float:
            while suspended:
                breaker.release(suspended.pop())
            return clock.now

        monkeypatch.setattr(breaker, "_clock", collecting)
        thread = threading.Thread(target=breaker.admit, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "it waits for a lock that it holds"
        refused(breaker)  # the slot went to the call of the thread

    def test_one_that_fails_is_told_as_such_and_as_one_failure(
        self, waited: Callable[..., CircuitBreaker], told: Told
    ) -> None:
        fail(waited())
        last = told.transitions[-1]
        assert (last.after, last.reason, last.failures) == (OPEN, "a probe failed", 1)


class TestEras:
    def test_a_late_success_of_a_call_from_before_it_opened_does_not_close_it(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        slow = breaker.admit()
        fail(breaker, 5)
        breaker.succeed(slow)
        assert breaker.state is OPEN
        clock.advance(300.0)
        breaker.admit()
        breaker.succeed(slow)
        assert breaker.state is HALF_OPEN

    def test_a_late_failure_neither_ends_a_probing_nor_counts_once_closed_again(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        slow = [breaker.admit() for _ in range(9)]
        fail(breaker, 5)
        clock.advance(300.0)
        probe = breaker.admit()
        breaker.fail(slow.pop(), OSError())
        assert breaker.state is HALF_OPEN
        breaker.succeed(probe)
        for era in slow:
            breaker.fail(era, OSError())
        assert (breaker.state, breaker.failures) == (CLOSED, 0)

    def test_a_late_success_clears_no_failures_of_the_next_era(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        slow = breaker.admit()
        breaker.reset()
        fail(breaker, 2)
        breaker.succeed(slow)
        assert breaker.failures == 2

    def test_a_probe_of_an_earlier_probing_says_nothing_in_the_next(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(half_open_max_calls=2)
        fail(breaker, 5)
        clock.advance(300.0)
        first, second = breaker.admit(), breaker.admit()
        breaker.fail(first, OSError())
        clock.advance(300.0)
        probe = breaker.admit()
        breaker.succeed(second)
        assert breaker.state is HALF_OPEN
        breaker.release(second)
        breaker.admit()
        refused(breaker)
        breaker.succeed(probe)
        assert breaker.state is CLOSED

    def test_a_call_given_back_while_closed_changes_nothing(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        era = breaker.admit()
        fail(breaker, 2)
        breaker.release(era)
        assert breaker.failures == 2
        assert breaker.era is era


class TestRefusing:
    def test_each_caller_gets_an_error_of_its_own_that_says_all(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(12.5)
        first, second = refused(breaker), refused(breaker)
        assert first is not second
        assert first.provider_name == "backups"
        assert first.context == {"state": "open", "retry_after": 287.5, "last_error": "OSError"}
        assert str(first) == (
            "Provider 'backups' was not asked: its circuit breaker is open after OSError. "
            "The next attempt is made in 287.5 s."
        )

    def test_the_last_failure_is_the_last_that_counted(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make(failure_threshold=2)
        breaker.fail(breaker.admit(), TimeoutError())
        breaker.fail(breaker.admit(), "ServerError")
        assert breaker.last_error == refused(breaker).context["last_error"] == "ServerError"

    def test_opened_by_hand_there_is_no_time_to_wait_for(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        breaker.force_open()
        error = refused(breaker)
        assert error.context == {"state": "open", "retry_after": None, "last_error": None}
        assert error.retry_after is None
        assert "until it is reset" in str(error)


class TestHealthChecks:
    def test_as_many_bad_checks_in_a_row_as_the_threshold_open_it_however_far_apart(
        self, make: Callable[..., CircuitBreaker], clock: Clock, told: Told
    ) -> None:
        breaker = make()
        for _ in range(4):
            breaker.checked(TimeoutError())
            clock.advance(3600.0)
        assert breaker.state is CLOSED
        breaker.checked(TimeoutError())
        assert (breaker.state, breaker.retry_after) == (OPEN, 300.0)
        assert told.transitions[0].reason == "5 failed checks in a row"
        assert breaker.last_error == "TimeoutError"

    def test_a_good_check_between_them_starts_the_row_anew(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        for error in ("down",) * 4 + (None,) + ("down",) * 4:
            breaker.checked(error)
        assert breaker.state is CLOSED

    def test_a_good_check_clears_failures_of_calls_as_a_success_does(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        fail(breaker, 4)
        breaker.checked(None)
        assert breaker.failures == 0

    def test_bad_checks_are_no_failures_of_calls(self, make: Callable[..., CircuitBreaker]) -> None:
        breaker = make()
        fail(breaker, 4)
        breaker.checked("down")
        assert (breaker.state, breaker.failures) == (CLOSED, 4)

    def test_before_the_wait_is_over_a_check_changes_nothing(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(299.999)
        breaker.checked(None)
        breaker.checked("down")
        assert breaker.state is OPEN
        assert breaker.retry_after == pytest.approx(0.001)

    def test_once_the_wait_is_over_a_good_check_closes_it_without_a_call(
        self, make: Callable[..., CircuitBreaker], clock: Clock, told: Told
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(300.0)
        breaker.checked(None)
        assert told.states == [OPEN, HALF_OPEN, CLOSED]

    def test_once_the_wait_is_over_a_bad_check_opens_it_anew(
        self, make: Callable[..., CircuitBreaker], clock: Clock, told: Told
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(300.0)
        breaker.checked("down")
        assert told.states == [OPEN, HALF_OPEN, OPEN]
        assert breaker.retry_after == 300.0

    def test_a_check_beside_a_probe_counts_and_ends_the_probes_era(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(300.0)
        probe = breaker.admit()
        breaker.checked(None)
        breaker.fail(probe, OSError())
        assert (breaker.state, breaker.failures) == (CLOSED, 0)

    def test_opened_or_closed_by_hand_it_takes_no_notice_of_checks(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make(failure_threshold=1)
        breaker.force_open()
        breaker.checked(None)
        assert breaker.state is OPEN
        breaker.force_closed()
        breaker.checked("down")
        assert breaker.state is CLOSED

    @pytest.mark.parametrize("way", ["reset", "force_closed"])
    def test_bad_checks_before_it_was_reset_or_closed_by_hand_do_not_count_after_it(
        self, make: Callable[..., CircuitBreaker], way: str
    ) -> None:
        breaker = make(failure_threshold=3)
        for _ in range(2):
            breaker.checked("down")
        getattr(breaker, way)()
        breaker.reset()
        breaker.checked("down")
        assert breaker.state is CLOSED
        for _ in range(2):
            breaker.checked("down")
        assert breaker.state is OPEN


class TestHolding:
    """The backend asks to be left alone: no failure, and no calls until then."""

    def test_it_refuses_for_as_long_as_it_was_asked_and_then_lets_one_probe_pass(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        breaker.hold(breaker.admit(), 20.0, OSError("later"))
        assert (breaker.state, breaker.failures, breaker.retry_after) == (OPEN, 0, 20.0)
        clock.advance(19.5)
        assert refused(breaker).retry_after == 0.5
        clock.advance(0.5)
        probe = breaker.admit()
        assert breaker.state is HALF_OPEN
        refused(breaker)
        breaker.succeed(probe)
        assert breaker.state is CLOSED

    def test_it_counts_no_failure_and_voids_what_was_under_way(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(failure_threshold=2)
        fail(breaker)
        late = breaker.admit()
        breaker.hold(breaker.admit(), 1.0, OSError())
        breaker.fail(late, OSError())
        assert breaker.retry_after == 1.0
        clock.advance(1.0)
        breaker.succeed(breaker.admit())
        fail(breaker)  # the first of its era
        assert (breaker.state, breaker.failures) == (CLOSED, 1)

    def test_it_never_shortens_a_longer_wait(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(failure_threshold=1)
        late = breaker.admit()
        fail(breaker)
        breaker.hold(late, 1.0, TimeoutError())
        assert (breaker.retry_after, breaker.last_error) == (300.0, "OSError")

    def test_a_probe_that_is_asked_to_wait_opens_it_for_so_long_and_no_longer(
        self, make: Callable[..., CircuitBreaker], clock: Clock, told: Told
    ) -> None:
        breaker = make(failure_threshold=1)
        fail(breaker)
        clock.advance(300.0)
        breaker.hold(breaker.admit(), 7.0, OSError())
        assert (breaker.state, breaker.retry_after) == (OPEN, 7.0)
        assert told.states == [OPEN, HALF_OPEN, OPEN]
        clock.advance(7.0)
        breaker.admit()

    def test_it_begins_when_it_is_told(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        era = breaker.admit()
        clock.advance(100.0)
        breaker.hold(era, 5.0, OSError())
        assert breaker.retry_after == 5.0

    def test_nobody_can_have_itself_left_alone_for_more_than_a_day(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        breaker.hold(breaker.admit(), 1_763_700_000.0, OSError())  # a date, taken for seconds
        assert breaker.retry_after == 86_400.0

    def test_forced_or_switched_off_it_takes_no_notice(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        off, closed, opened = make(enabled=False), make(), make()
        late = opened.admit()
        closed.force_closed()
        opened.force_open()
        off.hold(off.admit(), 5.0, OSError())
        closed.hold(closed.admit(), 5.0, OSError())
        opened.hold(late, 5.0, OSError())
        assert [one.state for one in (off, closed, opened)] == [CLOSED, CLOSED, OPEN]
        assert opened.retry_after is None

    def test_the_refusal_and_the_listener_are_told_why(
        self, make: Callable[..., CircuitBreaker], told: Told
    ) -> None:
        breaker = make()
        breaker.hold(breaker.admit(), 20.0, "LaterError")
        error = refused(breaker)
        assert error.message == (
            "Provider 'backups' was not asked: its circuit breaker is open, asked to wait after "
            "LaterError. The next attempt is made in 20.0 s."
        )
        assert error.context == {"state": "open", "retry_after": 20.0, "last_error": "LaterError"}
        assert told.transitions == [
            Transition(CLOSED, OPEN, "the backend asked to wait", failures=0, wait=20.0)
        ]

    def test_why_is_that_of_the_last_time_and_forgotten_by_a_reset(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(failure_threshold=1)
        breaker.hold(breaker.admit(), 20.0, "LaterError")
        clock.advance(20.0)
        fail(breaker)
        assert "is open after OSError." in str(refused(breaker))
        breaker.reset()
        breaker.force_open()
        assert "is open. It was opened by hand" in str(refused(breaker))

    def test_it_leaves_the_growth_of_the_wait_alone(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(failure_threshold=1, recovery_timeout=10, recovery_factor=2)
        fail(breaker)
        clock.advance(10.0)
        breaker.hold(breaker.admit(), 1.0, OSError())
        clock.advance(1.0)
        fail(breaker)
        assert breaker.retry_after == 20.0


class TestByHand:
    @pytest.mark.parametrize("forced", [True, False])
    def test_a_reset_closes_what_failures_opened(
        self, make: Callable[..., CircuitBreaker], forced: bool
    ) -> None:
        breaker = make(failure_threshold=1)
        fail(breaker)
        refused(breaker)
        breaker.reset("a renewed instance answers", forced=forced)
        assert breaker.state is CLOSED
        assert breaker.admit()

    def test_forced_open_it_stays_so_until_reset(
        self, make: Callable[..., CircuitBreaker], clock: Clock, told: Told
    ) -> None:
        breaker = make()
        breaker.force_open("maintenance")
        clock.advance(1e9)
        refused(breaker)
        assert breaker.retry_after is None
        breaker.reset("a renewed instance answers", forced=False)
        refused(breaker)
        breaker.reset("done")
        assert breaker.admit()
        assert told.transitions == [
            Transition(CLOSED, OPEN, "maintenance", wait=None),
            Transition(OPEN, CLOSED, "done", wait=0.0),
        ]

    def test_forced_open_while_open_it_no_longer_turns_half_open(
        self, make: Callable[..., CircuitBreaker], clock: Clock, told: Told
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        breaker.force_open()
        clock.advance(300.0)
        refused(breaker)
        assert told.states == [OPEN]

    def test_forced_open_while_probing_the_probe_says_nothing_any_more(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(300.0)
        probe = breaker.admit()
        breaker.force_open()
        breaker.succeed(probe)
        assert breaker.state is OPEN

    def test_forced_closed_it_counts_nothing_until_reset(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        breaker.force_closed()
        fail(breaker, 100)
        assert (breaker.state, breaker.failures) == (CLOSED, 0)
        breaker.reset()
        fail(breaker, 5)
        assert breaker.state is OPEN

    def test_reset_closes_and_forgets(
        self, make: Callable[..., CircuitBreaker], told: Told
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        breaker.reset()
        assert (breaker.state, breaker.failures, breaker.last_error) == (CLOSED, 0, "")
        assert told.states == [OPEN, CLOSED]
        fail(breaker, 4)
        breaker.reset()
        fail(breaker, 4)
        assert told.states == [OPEN, CLOSED], "closed already: nothing to tell"


class TestLengtheningTheWait:
    def trips(self, breaker: CircuitBreaker, clock: Clock, times: int) -> list[float | None]:
        """Open it, then let probes fail; return the waits."""
        waits: list[float | None] = []
        for _ in range(times):
            fail(breaker, 5 if breaker.state is CLOSED else 1)
            waits.append(breaker.retry_after)
            clock.advance(breaker.retry_after or 0.0)
        return waits

    def test_the_wait_stays_the_same_by_default(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        assert self.trips(make(), clock, 4) == [300.0] * 4

    def test_each_trip_multiplies_it_by_the_factor_up_to_the_cap(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(recovery_timeout=10, recovery_factor=3, recovery_cap=100)
        assert self.trips(breaker, clock, 5) == [10.0, 30.0, 90.0, 100.0, 100.0]

    def test_the_cap_never_makes_it_shorter_than_the_first(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(recovery_timeout=50, recovery_factor=2, recovery_cap=10)
        assert self.trips(breaker, clock, 3) == [50.0] * 3

    def test_a_thousand_trips_at_the_greatest_factor_end_at_the_cap(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(recovery_timeout=1, recovery_factor=1000, recovery_cap=2000)
        assert self.trips(breaker, clock, 1000)[-1] == 2000.0

    def test_chance_adds_up_to_the_jitter(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        chances = iter([0.0, 0.5, 1.0])
        breaker = make(recovery_timeout=10, recovery_jitter=0.2, chance=lambda: next(chances))
        assert self.trips(breaker, clock, 3) == pytest.approx([10.0, 11.0, 12.0])

    def test_a_trip_soon_after_closing_goes_on_lengthening_a_later_one_begins_anew(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(recovery_timeout=10, recovery_factor=2)
        self.trips(breaker, clock, 2)
        breaker.succeed(breaker.admit())
        clock.advance(60.0)
        assert self.trips(breaker, clock, 1) == [40.0]
        breaker.succeed(breaker.admit())
        clock.advance(60.001)
        assert self.trips(breaker, clock, 1) == [10.0]

    def test_reset_begins_anew(self, make: Callable[..., CircuitBreaker], clock: Clock) -> None:
        breaker = make(recovery_timeout=10, recovery_factor=2)
        self.trips(breaker, clock, 3)
        breaker.reset()
        assert self.trips(breaker, clock, 1) == [10.0]

    def test_under_a_factor_of_one_it_is_the_first_again(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(failure_threshold=1, recovery_timeout=8, recovery_factor=2)
        fail(breaker)
        clock.advance(8)
        fail(breaker)
        assert breaker.retry_after == 16
        breaker.configure(BreakerSettings(failure_threshold=1, recovery_timeout=8))
        clock.advance(16)
        fail(breaker)
        assert breaker.retry_after == 8


class TestListeners:
    @pytest.mark.requirement("S4.39")
    def test_told_what_changed_why_and_the_count(
        self, make: Callable[..., CircuitBreaker], clock: Clock, told: Told
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(300.0)
        breaker.succeed(breaker.admit())
        assert told.transitions == [
            Transition(CLOSED, OPEN, "5 failures within 60 s", failures=5, wait=300.0),
            Transition(OPEN, HALF_OPEN, "the wait is over", wait=0.0),
            Transition(HALF_OPEN, CLOSED, "the backend answers again", wait=0.0),
        ]

    def test_one_that_raises_is_logged_and_hurts_nobody(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        def listener(*_: object) -> None:
            raise ValueError("from the listener")

        breaker = CircuitBreaker("backups", listener=listener, clock=clock)
        fail(breaker, 5)
        assert breaker.state is OPEN
        assert "The listener of circuit breaker 'backups' raised" in caplog.text
        clock.advance(300.0)
        breaker.succeed(breaker.admit())
        assert breaker.state is CLOSED

    def test_one_that_calls_back_is_told_of_what_it_did_after_it_returned(
        self, clock: Clock
    ) -> None:
        heard: list[str] = []

        def listener(breaker: CircuitBreaker, transition: Transition) -> None:
            heard.append(f"begin {transition.after}")
            if transition.after is OPEN:
                breaker.reset()
                assert breaker.state is CLOSED
                assert (breaker.failures, breaker.retry_after) == (0, 0.0)
                breaker.succeed(breaker.admit())
            heard.append(f"end {transition.after}")

        fail(CircuitBreaker("backups", listener=listener, clock=clock), 5)
        assert heard == ["begin open", "end open", "begin closed", "end closed"]

    def test_while_one_hangs_other_threads_go_on_and_it_hears_the_rest_in_order(
        self, clock: Clock
    ) -> None:
        hanging, go_on = threading.Event(), threading.Event()
        heard: list[BreakerState] = []

        def listener(_: CircuitBreaker, transition: Transition) -> None:
            heard.append(transition.after)
            hanging.set()
            assert go_on.wait(10)

        breaker = CircuitBreaker("backups", listener=listener, clock=clock)
        thread = threading.Thread(target=fail, args=(breaker, 5))
        thread.start()
        try:
            assert hanging.wait(10)
            clock.advance(300.0)
            breaker.succeed(breaker.admit())
            assert breaker.state is CLOSED
            assert heard == [OPEN]
        finally:
            go_on.set()
            thread.join()
        assert heard == [OPEN, HALF_OPEN, CLOSED]

    def test_what_one_that_was_interrupted_left_is_told_with_the_next(self, clock: Clock) -> None:
        heard: list[BreakerState] = []

        def listener(breaker: CircuitBreaker, transition: Transition) -> None:
            heard.append(transition.after)
            if len(heard) == 1:
                breaker.reset()
                raise KeyboardInterrupt

        breaker = CircuitBreaker("backups", listener=listener, clock=clock)
        with pytest.raises(KeyboardInterrupt):
            fail(breaker, 5)
        assert (breaker.state, heard) == (CLOSED, [OPEN])
        breaker.force_open()
        assert heard == [OPEN, CLOSED, OPEN]

    def test_one_is_told_at_once_of_what_is_done_by_hand(
        self, make: Callable[..., CircuitBreaker], told: Told
    ) -> None:
        breaker = make()
        breaker.force_open("for repairs")
        assert told.transitions[-1] == Transition(CLOSED, OPEN, "for repairs", 0, None)
        breaker.force_closed("repaired")
        assert told.transitions[-1] == Transition(OPEN, CLOSED, "repaired", 0, 0.0)
        breaker.force_open()
        breaker.reset("all is well")
        assert told.transitions[-1] == Transition(OPEN, CLOSED, "all is well", 0, 0.0)
        assert told.states == [OPEN, CLOSED, OPEN, CLOSED]


class TestNewSettings:
    def test_the_failures_so_far_count_under_the_new_threshold(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        fail(breaker, 3)
        breaker.configure(BreakerSettings(failure_threshold=4))
        assert (breaker.state, breaker.failures) == (CLOSED, 3)
        fail(breaker)
        assert breaker.state is OPEN

    def test_a_threshold_below_the_failures_so_far_opens_at_the_next(
        self, make: Callable[..., CircuitBreaker]
    ) -> None:
        breaker = make()
        fail(breaker, 4)
        breaker.configure(BreakerSettings(failure_threshold=2))
        assert breaker.state is CLOSED
        fail(breaker)
        assert breaker.state is OPEN

    def test_calls_under_way_still_count(self, make: Callable[..., CircuitBreaker]) -> None:
        breaker = make()
        eras = [breaker.admit() for _ in range(5)]
        breaker.configure(BreakerSettings(recovery_timeout=7))
        for era in eras:
            breaker.fail(era, OSError())
        assert (breaker.state, breaker.retry_after) == (OPEN, 7.0)

    def test_a_wait_under_way_stays_as_long_the_next_is_new(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        breaker.configure(BreakerSettings(recovery_timeout=10))
        assert (breaker.state, breaker.retry_after) == (OPEN, 300.0)
        clock.advance(300.0)
        fail(breaker)
        assert breaker.retry_after == 10.0

    def test_a_probe_under_way_still_decides(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        clock.advance(300.0)
        probe = breaker.admit()
        breaker.configure(BreakerSettings(half_open_max_calls=2))
        breaker.admit()
        refused(breaker)
        breaker.succeed(probe)
        assert breaker.state is CLOSED

    @pytest.mark.parametrize("before", [True, False])
    def test_whether_a_success_clears_changes_at_once(
        self, make: Callable[..., CircuitBreaker], before: bool
    ) -> None:
        breaker = make(reset_on_success=before)
        fail(breaker, 2)
        breaker.configure(BreakerSettings(reset_on_success=not before))
        era = breaker.admit()
        assert bool(era.pending) is not before
        breaker.succeed(era)
        assert breaker.failures == (2 if before else 0)

    def test_switched_off_it_closes_and_counts_nothing_switched_on_again_it_does(
        self, make: Callable[..., CircuitBreaker], told: Told
    ) -> None:
        breaker = make()
        fail(breaker, 5)
        breaker.configure(BreakerSettings(enabled=False))
        assert breaker.state is CLOSED
        assert told.transitions[-1].reason == "switched off"
        fail(breaker, 9)
        breaker.configure(BreakerSettings())
        fail(breaker, 4)
        assert breaker.state is CLOSED
        fail(breaker)
        assert breaker.state is OPEN

    def test_what_was_forced_stays_forced(self, make: Callable[..., CircuitBreaker]) -> None:
        breaker = make()
        breaker.force_open()
        breaker.configure(BreakerSettings(enabled=False))
        refused(breaker)

    def test_growth_of_the_wait_ends_when_it_is_switched_off(
        self, make: Callable[..., CircuitBreaker], clock: Clock
    ) -> None:
        breaker = make(recovery_timeout=10, recovery_factor=2)
        for _ in range(3):
            fail(breaker, 5 if breaker.state is CLOSED else 1)
            clock.advance(breaker.retry_after or 0.0)
        breaker.configure(BreakerSettings(recovery_timeout=10))
        fail(breaker)
        assert breaker.retry_after == 10.0


def test_importing_it_imports_no_dependency_injector() -> None:
    """It would switch the lock of the interpreter back on in free-threaded Python."""
    code = (
        "import sys, purveyor.providers.registry.breaker;"
        "sys.exit(any(name.split('.')[0] == 'dependency_injector' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
