"""
The registry under threads: histories that must be linearizable, schedules tried in turn.

Threads alone seldom meet where it matters, so a listener and the making of a config model, which
the registry calls in the midst of its work, give way to the others.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import frontrun
import pytest

from purveyor.providers.registry import (
    Declaration,
    Family,
    Lease,
    ProviderRegistered,
    ProviderRegistry,
    ProviderTypes,
    RegistryError,
    register_provider,
)
from purveyor.settings import ProviderSettings
from tests.providers.registry.samples import Sample, SampleConfig, in_threads

NAMES = ("a", "b")
DECLARED = Declaration(ProviderSettings(type="sample"), "config", "a file")


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Let threads interrupt one another as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class GivingWay(SampleConfig):
    def model_post_init(self, _: Any) -> None:
        time.sleep(0)


class GivingWaySample(Sample):
    config_class = GivingWay


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing, without an event loop to make."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def registry_of(cls: type[Sample], *declared: str) -> ProviderRegistry[Any]:
    types = ProviderTypes(scan_entry_points=False)
    types.add_family(Family("storage"))
    register_provider("sample", types=types)(cls)
    said = dict.fromkeys(declared, DECLARED)
    return ProviderRegistry[Any]("storage", types=types, declared=said)


# -- linearizability ---------------------------------------------------------------------


@dataclass
class Call:
    """One call in a history: what was asked when, and what was answered when."""

    operation: str
    name: str
    answer: str
    begun: int
    ended: int


class Subject:
    """A registry, driven by words; what it gives is told by who registered it."""

    def __init__(self) -> None:
        self.registry = registry_of(GivingWaySample, "b")
        self.registry.on(ProviderRegistered, lambda _: time.sleep(0))

    def do(self, operation: str, name: str, label: str) -> str:
        """Do one thing; return what the caller sees of it."""
        registry = self.registry
        try:
            if operation == "register":
                registry.register_nowait(name, {"type": "sample", "label": label})
            elif operation == "unregister":
                run(registry.unregister(name))
            elif operation == "get":
                found = registry.get(name)
                return "none" if found is None else f"found {found.config.label}"
            elif operation == "has":
                return str(registry.has(name))
            elif operation == "set_default":
                registry.set_default(name)
            else:
                return registry.default_name()
        except RegistryError as error:
            return error.code
        return "done"


@dataclass(frozen=True)
class Sequential:
    """The specification: a dict of labels and a default; declared is what nobody needed yet."""

    labels: tuple[tuple[str, str], ...] = (("b", ""),)
    default: str | None = None

    def do(self, operation: str, name: str, label: str) -> tuple[str, Sequential]:
        labels = dict(self.labels)
        there = name in labels
        if operation == "register":
            if there:
                return "ALREADY_EXISTS", self
            return "done", self.changed({**labels, name: label})
        if operation == "unregister":
            if not there:
                return "NOT_FOUND", self
            del labels[name]
            return "done", self.changed(labels, None if self.default == name else self.default)
        if operation == "get":
            return (f"found {labels[name]}" if there else "none"), self
        if operation == "has":
            return str(there), self
        if operation == "set_default":
            return ("done", self.changed(labels, name)) if there else ("NOT_FOUND", self)
        if self.default is not None:
            return self.default, self
        return (next(iter(labels)) if len(labels) == 1 else "NOT_FOUND"), self

    def changed(self, labels: dict[str, str], default: str | None = "") -> Sequential:
        default = self.default if default == "" else default
        return Sequential(tuple(sorted(labels.items())), default)


def is_linearizable(history: list[Call], last: list[str], labels: dict[int, str]) -> bool:
    """
    Tell whether some order of the calls, one after another, explains every answer.

    A call may come next if no other one had ended before it began (Wing and Gong's search, with
    what was tried remembered as Lowe does). A registration is refused also while another one of
    the name, or its removal, is under way: a name is not free before it is.
    """
    tried: set[tuple[frozenset[int], Sequential]] = set()

    def search(left: frozenset[int], state: Sequential) -> bool:
        if (left, state) in tried:
            return False
        tried.add((left, state))
        if not left:
            return [state.do(what, name, "")[0] for what, name in LOOKS] == last
        first_end = min(history[one].ended for one in left)
        for one in left:
            call = history[one]
            if call.begun <= first_end:
                answer, after = state.do(call.operation, call.name, labels[one])
                busy = call.answer == "ALREADY_EXISTS" and meets(call)
                if answer == call.answer and search(left - {one}, after):
                    return True
                if busy and search(left - {one}, state):
                    return True
        return False

    def meets(call: Call) -> bool:
        return any(
            other is not call
            and other.name == call.name
            and other.operation in ("register", "unregister")
            and other.begun < call.ended
            and call.begun < other.ended
            for other in history
        )

    return search(frozenset(range(len(history))), Sequential())


LOOKS = [("has", "a"), ("has", "b"), ("get", "a"), ("get", "b"), ("default_name", "")]
OPERATIONS = ["register", "unregister", "get", "has", "set_default", "default_name"]


def recorded(subject: Subject, plans: list[list[tuple[str, str]]]) -> tuple[list[Call], list[str]]:
    """Let each thread carry out its plan; return what happened, and the labels it used."""
    tick = itertools.count()

    def carry_out(number: int) -> list[tuple[Call, str]]:
        calls: list[tuple[Call, str]] = []
        for step, (operation, name) in enumerate(plans[number]):
            label, begun = f"{number}.{step}", next(tick)
            answer = subject.do(operation, name, label)
            calls.append((Call(operation, name, answer, begun, next(tick)), label))
        return calls

    calls = [one for calls in in_threads(len(plans), carry_out) for one in calls]
    return [call for call, _ in calls], [label for _, label in calls]


@pytest.mark.requirement("S1.1", "S1.32", "S4.44", "S4.46", "S4.70")
@pytest.mark.usefixtures("eager_switching")
@pytest.mark.parametrize("seed", range(4))
def test_what_threads_see_is_explained_by_one_call_after_another(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        subject = Subject()
        plans = [
            [(chance.choice(OPERATIONS), chance.choice(NAMES)) for _ in range(4)] for _ in range(3)
        ]
        history, labels = recorded(subject, plans)
        last = [subject.do(operation, name, "") for operation, name in LOOKS]
        assert is_linearizable(history, last, dict(enumerate(labels))), (history, last)


def test_the_search_refuses_a_provider_that_two_registered() -> None:
    last = ["True", "True", "found 0", "found ", "NOT_FOUND"]
    both = [Call("register", "a", "done", 0, 2), Call("register", "a", "done", 1, 3)]
    labels = {0: "0", 1: "1"}
    assert not is_linearizable(both, last, labels)
    both[1].answer = "ALREADY_EXISTS"
    assert is_linearizable(both, last, labels)
    both[1].answer = "done"
    both[1].operation, both[1].answer = "get", "none"  # seen before it was there
    assert is_linearizable(both, last, labels)
    both[1].begun = 2.5  # type: ignore[assignment]
    assert not is_linearizable(both, last, labels)


# -- schedules ---------------------------------------------------------------------------


@dataclass
class Meeting:
    """A registry where two threads are about to meet, and what they find."""

    registry: ProviderRegistry[Any]
    found: list[Any] = field(default_factory=list[Any])
    events: list[str] = field(default_factory=list[str])

    def attempt(self, work: Callable[[], Any]) -> None:
        try:
            self.found.append(work())
        except RegistryError as error:
            self.found.append(error.code)

    def register(self) -> None:
        self.attempt(lambda: self.registry.register_nowait("a", {"type": "sample"}))

    def unregister(self) -> None:
        self.attempt(lambda: run(self.registry.unregister("a")))

    def require(self) -> None:
        self.attempt(lambda: self.registry.require("a"))

    def lease(self) -> None:
        self.attempt(lambda: self.registry.lease("a"))

    @property
    def orderly(self) -> bool:
        """Whether nothing is half there."""
        registry = self.registry
        return set(registry.handles) == set(registry._registrations) and registry._reserved == {}

    def of(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.found if isinstance(one, kind)]


def empty() -> Meeting:
    return Meeting(registry_of(Sample))


def registered() -> Meeting:
    meeting = empty()
    meeting.registry.register_nowait("a", {"type": "sample"})
    return meeting


def declared() -> Meeting:
    return Meeting(registry_of(Sample, "a"))


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
            lambda meeting: holds(meeting) and meeting.orderly,
            detect_io=False,
            max_executions=100,
            timeout_per_run=30,
            total_timeout=12,
        )
        result.assert_holds()
        assert result.num_explored > 1, "the threads never met"

    return explore


Explore = Callable[..., None]


class TestSchedules:
    @pytest.mark.requirement("S1.10", "S4.44", "S4.46")
    def test_of_two_registrations_of_a_name_one_wins(self, explore: Explore) -> None:
        explore(
            empty,
            [Meeting.register, Meeting.register],
            lambda meeting: (
                meeting.of(str) == ["ALREADY_EXISTS"]
                and meeting.of(Sample) == [meeting.registry.handles["a"]]
            ),
        )

    @pytest.mark.requirement("S1.21", "S4.44")
    def test_a_leased_provider_is_there_and_one_unregistered_is_not_leased(
        self, explore: Explore
    ) -> None:
        def holds(meeting: Meeting) -> bool:
            if meeting.of(Lease):
                return meeting.of(str) == ["IN_USE"] and meeting.registry.has("a")
            return None in meeting.found and not meeting.registry.has("a")

        explore(registered, [Meeting.lease, Meeting.unregister], holds)

    @pytest.mark.requirement("S4.44", "S4.46")
    def test_a_declared_provider_unregistered_at_its_first_use_stays_away(
        self, explore: Explore
    ) -> None:
        explore(
            declared,
            [Meeting.require, Meeting.unregister],
            lambda meeting: None in meeting.found and not meeting.registry.has("a"),
        )

    @pytest.mark.requirement("S4.44", "S4.46")
    def test_two_first_uses_of_a_declared_provider_give_the_same(self, explore: Explore) -> None:
        explore(
            declared,
            [Meeting.require, Meeting.require],
            lambda meeting: meeting.found == [meeting.registry.handles["a"]] * 2,
        )

    @pytest.mark.requirement("S1.32", "S4.46")
    def test_of_two_removals_one_finds_it_gone(self, explore: Explore) -> None:
        explore(
            registered,
            [Meeting.unregister, Meeting.unregister],
            lambda meeting: sorted(map(str, meeting.found)) == ["NOT_FOUND", "None"],
        )
