"""
The circuit breaker under threads: histories that must be linearizable, schedules tried in turn.

Threads alone seldom meet where it matters, so the clock, which the breaker asks in the midst of
its decisions, gives way to the others each time. What is left to luck, frontrun explores.
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import frontrun
import pytest

from purveyor.providers.registry import BreakerState, CircuitBreaker, CircuitOpenError, Transition
from purveyor.providers.registry.breaker import _PROBE, Era
from purveyor.settings import BreakerSettings
from tests.providers.registry.samples import in_threads

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
SETTINGS = BreakerSettings(failure_threshold=2, recovery_timeout=8, probe_ttl=1e6)


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Let threads interrupt one another as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


# -- linearizability ---------------------------------------------------------------------


@dataclass
class Call:
    """One call in a history: what was asked when, and what was answered when."""

    operation: str
    ticket: str
    answer: str
    begun: int
    ended: int


class Subject:
    """A breaker and its clock, driven by words; admissions are kept under the caller's names."""

    def __init__(self, clock: Callable[[], None] = lambda: None) -> None:
        self._give_way = clock
        self.now = 0.0
        self.tickets: dict[str, Era] = {}
        self.told: list[Transition] = []
        self.breaker = CircuitBreaker("b", SETTINGS, listener=self.listen, clock=self.time)

    def time(self) -> float:
        self._give_way()
        return self.now

    def listen(self, _: CircuitBreaker, transition: Transition) -> None:
        self.told.append(transition)

    def do(self, operation: str, ticket: str) -> str:
        """Do one thing; return what the caller sees of it."""
        breaker = self.breaker
        if operation == "wait":
            self.now = float(ticket)
        elif operation == "admit":
            try:
                self.tickets[ticket] = breaker.admit()
            except CircuitOpenError as error:
                return f"refused: {error.context}"
            return "admitted"
        elif operation in ("force_open", "reset"):
            getattr(breaker, operation)()
        elif ticket in self.tickets:
            era = self.tickets.pop(ticket)
            if operation == "fail":
                breaker.fail(era, "X")
            else:
                getattr(breaker, operation)(era)
        return ""

    def look(self) -> str:
        """Return all that can be seen at rest."""
        breaker, told = self.breaker, [turn.after.value for turn in self.told]
        return f"{breaker.state} {breaker.failures} {breaker.retry_after} {told}"


def is_linearizable(history: list[Call], last_look: str) -> bool:
    """
    Tell whether some order of the calls, one after another, explains every answer.

    A call may come next if no other one had ended before it began (Wing and Gong's search). The
    specification is the breaker itself, driven by one thread: it is led anew through each order.
    """

    def explained(order: list[Call]) -> str | None:
        subject = Subject()
        for call in order:
            if subject.do(call.operation, call.ticket) != call.answer:
                return None
        return subject.look()

    def search(order: list[Call], left: list[Call]) -> bool:
        look = explained(order)
        if look is None:
            return False
        if not left:
            return look == last_look
        first_end = min(call.ended for call in left)
        return any(
            search([*order, call], [other for other in left if other is not call])
            for call in left
            if call.begun <= first_end
        )

    return search([], sorted(history, key=lambda call: call.ended))


def plan(chance: random.Random, thread: int, length: int) -> list[tuple[str, str]]:
    """Return what a thread is to do, in an order that makes some sense."""
    steps: list[tuple[str, str]] = []
    mine: list[str] = []
    for number in range(length):
        if mine and chance.random() < 0.6:
            ends = ("fail", "fail", "succeed", "release")
            steps.append((chance.choice(ends), mine.pop(chance.randrange(len(mine)))))
        elif chance.random() < 0.8:
            mine.append(f"{thread}.{number}")
            steps.append(("admit", mine[-1]))
        else:
            others = [("wait", "8"), ("wait", "16"), ("force_open", ""), ("reset", "")]
            steps.append(chance.choice(others))
    return steps


def recorded(subject: Subject, plans: list[list[tuple[str, str]]]) -> list[Call]:
    """Let each thread carry out its plan; return what happened."""
    tick = itertools.count()

    def run(number: int) -> list[Call]:
        calls: list[Call] = []
        for operation, ticket in plans[number]:
            begun = next(tick)
            answer = subject.do(operation, ticket)
            calls.append(Call(operation, ticket, answer, begun, next(tick)))
        return calls

    return [call for calls in in_threads(len(plans), run) for call in calls]


def done(subject: Subject, steps: list[tuple[str, str]]) -> list[Call]:
    """Do one thing after another, before all threads."""
    return [
        Call(operation, ticket, subject.do(operation, ticket), when, when)
        for when, (operation, ticket) in enumerate(steps, -len(steps))
    ]


STARTS: dict[str, list[tuple[str, str]]] = {
    "closed": [],
    "one failure": [("admit", "a"), ("fail", "a")],
    "wait over": [("admit", "a"), ("admit", "b"), ("fail", "a"), ("fail", "b"), ("wait", "8")],
}


@pytest.mark.requirement("S4.44", "S4.46", "S4.70")
@pytest.mark.usefixtures("eager_switching")
@pytest.mark.parametrize("start", STARTS)
def test_what_threads_see_is_explained_by_one_call_after_another(start: str) -> None:
    chance = random.Random(7)
    for _ in range(120):
        subject = Subject(clock=lambda: time.sleep(0))
        plans = [plan(chance, thread, 4) for thread in range(3)]
        history = done(subject, STARTS[start]) + recorded(subject, plans)
        look = subject.look()
        assert is_linearizable(history, look), (history, look)


def test_the_search_refuses_two_probes_at_once() -> None:
    """What a breaker without a lock would let happen; one probe and one refusal are fine."""
    subject = Subject()
    history = done(subject, STARTS["wait over"])
    answers = [subject.do("admit", "c"), subject.do("admit", "d")]
    together = [Call("admit", name, answers[0], 1, 2) for name in "cd"]
    assert not is_linearizable([*history, *together], subject.look())
    together[1].answer = answers[1]
    assert is_linearizable([*history, *together], subject.look())
    assert is_linearizable([*history, *reversed(together)], subject.look())


# -- many calls --------------------------------------------------------------------------


@pytest.mark.requirement("S4.44", "S4.46", "S4.70")
@pytest.mark.usefixtures("eager_switching")
def test_eight_threads_never_probe_together_and_every_transition_is_told_once_in_order() -> None:
    told: list[Transition] = []
    breaker = CircuitBreaker(
        "b",
        BreakerSettings(failure_threshold=2, recovery_timeout=0.0005),
        listener=lambda _, turn: told.append(turn),
    )
    probing, together = [0], threading.Lock()

    def work(number: int) -> int:
        chance = random.Random(number)
        admitted = 0
        for _ in range(1000):
            try:
                era = breaker.admit()
            except CircuitOpenError:
                time.sleep(0.0001)
                continue
            admitted += 1
            probe = era.pending is _PROBE  # a closed era has its failures there
            if probe:
                with together:
                    probing[0] += 1
                    assert probing[0] == 1
                time.sleep(0)
                with together:
                    probing[0] -= 1
            ending = chance.random()
            if ending < 0.4:
                breaker.fail(era, "X")
            elif ending < 0.9:
                breaker.succeed(era)
            else:
                breaker.release(era)
        return admitted

    answers = in_threads(8, work)
    assert all(isinstance(answer, int) and answer for answer in answers), answers
    assert are_chained(told, breaker.state)
    assert len(told) > 20


def are_chained(told: list[Transition], last: BreakerState) -> bool:
    """Tell whether no transition was lost, told twice, or told out of order."""
    before = [CLOSED, *(turn.after for turn in told)]
    return [turn.before for turn in told] == before[:-1] and before[-1] is last


# -- schedules ---------------------------------------------------------------------------


@dataclass
class Meeting:
    """A breaker where two threads are about to meet, and what they find."""

    breaker: CircuitBreaker = field(init=False)
    now: float = 0.0
    told: list[Transition] = field(default_factory=list[Transition])
    found: list[Any] = field(default_factory=list[Any])
    eras: list[Era] = field(default_factory=list[Era])

    def __post_init__(self) -> None:
        self.breaker = CircuitBreaker("b", SETTINGS, listener=self.listen, clock=lambda: self.now)

    def listen(self, _: CircuitBreaker, turn: Transition) -> None:
        self.told.append(turn)

    def fail(self) -> None:
        self.breaker.fail(self.breaker.admit(), "X")

    def admit(self) -> None:
        try:
            self.found.append(self.breaker.admit())
        except CircuitOpenError:
            self.found.append(None)

    @property
    def probes(self) -> list[Era]:
        return [era for era in self.found if era is not None]


def closed_after_one_failure() -> Meeting:
    meeting = Meeting()
    meeting.eras = [meeting.breaker.admit() for _ in range(3)]
    meeting.fail()
    return meeting


def waited_out() -> Meeting:
    meeting = Meeting()
    meeting.eras = [meeting.breaker.admit()]
    meeting.fail()
    meeting.fail()
    meeting.now = 8.0
    return meeting


def probing() -> Meeting:
    meeting = waited_out()
    meeting.eras.append(meeting.breaker.admit())
    return meeting


@pytest.fixture
def explore(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Try the schedules of threads that meet; what is asked must hold after each."""
    monkeypatch.setenv("FRONTRUN_ACTIVE", "1")

    def explore(
        setup: Callable[[], Meeting],
        workers: list[Callable[[Meeting], Any]],
        holds: Callable[[Meeting], bool],
    ) -> None:
        result = frontrun.explore(
            setup,
            workers,
            lambda meeting: holds(meeting) and are_chained(meeting.told, meeting.breaker.state),
            detect_io=False,
            max_executions=150,
            total_timeout=15,
        )
        result.assert_holds()
        assert result.num_explored > 1, "the threads never met"

    return explore


Explore = Callable[..., None]


class TestSchedules:
    @pytest.mark.requirement("S4.40", "S4.44", "S4.70")
    def test_of_two_calls_at_the_half_open_moment_one_passes(self, explore: Explore) -> None:
        explore(
            waited_out,
            [Meeting.admit, Meeting.admit],
            lambda meeting: len(meeting.probes) == 1 and meeting.breaker.state is HALF_OPEN,
        )

    def test_a_call_and_a_good_check_at_the_half_open_moment_close_it(
        self, explore: Explore
    ) -> None:
        explore(
            waited_out,
            [Meeting.admit, lambda meeting: meeting.breaker.checked(None)],
            lambda meeting: len(meeting.probes) == 1 and meeting.breaker.state is CLOSED,
        )

    def test_a_failure_against_a_success_leaves_it_open_or_with_that_one_failure(
        self, explore: Explore
    ) -> None:
        def succeed(meeting: Meeting) -> None:
            era = meeting.eras[1]
            if era.pending:
                meeting.breaker.succeed(era)

        explore(
            closed_after_one_failure,
            [lambda meeting: meeting.breaker.fail(meeting.eras[0], "X"), succeed],
            lambda meeting: (
                meeting.breaker.state is OPEN
                or (meeting.breaker.state is CLOSED and meeting.breaker.failures == 1)
            ),
        )

    def test_two_failures_at_the_threshold_open_it_once(self, explore: Explore) -> None:
        explore(
            closed_after_one_failure,
            [
                lambda meeting: meeting.breaker.fail(meeting.eras[0], "X"),
                lambda meeting: meeting.breaker.fail(meeting.eras[1], "Y"),
            ],
            lambda meeting: [turn.after for turn in meeting.told] == [OPEN],
        )

    def test_no_failure_is_lost_among_two(self, explore: Explore) -> None:
        explore(
            lambda: meeting_with(CircuitBreaker("b", BreakerSettings(), clock=lambda: 0.0)),
            [Meeting.fail, Meeting.fail],
            lambda meeting: meeting.breaker.failures == 2,
        )

    def test_a_call_against_force_open_is_admitted_before_it_or_refused(
        self, explore: Explore
    ) -> None:
        def call(meeting: Meeting) -> None:
            meeting.admit()
            for era in meeting.probes:
                meeting.breaker.succeed(era)

        explore(
            waited_out,
            [call, lambda meeting: meeting.breaker.force_open()],
            lambda meeting: (
                meeting.breaker.state is OPEN
                and meeting.breaker.retry_after is None
                and meeting.breaker.era is None
            ),
        )

    def test_a_probe_given_back_while_another_call_asks_leaves_one_slot_and_no_more(
        self, explore: Explore
    ) -> None:
        def at_most_one(meeting: Meeting) -> bool:
            meeting.admit()
            meeting.admit()
            return len(meeting.probes) == 1

        explore(
            probing,
            [Meeting.admit, lambda meeting: meeting.breaker.release(meeting.eras[1])],
            at_most_one,
        )

    def test_a_probe_that_fails_against_a_late_success_opens_it_anew(
        self, explore: Explore
    ) -> None:
        explore(
            probing,
            [
                lambda meeting: meeting.breaker.fail(meeting.eras[1], "X"),
                lambda meeting: meeting.breaker.succeed(meeting.eras[0]),
            ],
            lambda meeting: meeting.breaker.state is OPEN,
        )

    def test_transitions_of_two_threads_are_told_once_and_in_order(self, explore: Explore) -> None:
        explore(
            closed_after_one_failure,
            [
                lambda meeting: meeting.breaker.fail(meeting.eras[0], "X"),
                lambda meeting: (meeting.breaker.force_open(), meeting.breaker.reset()),
            ],
            lambda meeting: [turn.after for turn in meeting.told] == [OPEN, CLOSED],
        )


def meeting_with(breaker: CircuitBreaker) -> Meeting:
    meeting = Meeting()
    meeting.breaker = breaker
    return meeting
