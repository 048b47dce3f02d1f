"""What the pages say in numbers, words and drawings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from purveyor.entrypoints.http.dashboard.happened import detail, kind
from purveyor.entrypoints.http.dashboard.sparkline import Sparkline
from purveyor.entrypoints.http.dashboard.text import (
    age,
    clock,
    count,
    latency,
    shortened,
    value,
    wait,
)
from purveyor.entrypoints.http.event_log import LoggedEvent
from purveyor.providers.registry import HealthResult, HealthStatus

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "0 s ago"), (0, "0 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (3599, "59 min ago"),
     (3600, "1 h ago"), (86399, "23 h ago"), (86400, "1 d ago"), (9e6, "104 d ago")],
)  # fmt: skip
def test_an_age_has_one_unit(seconds: float, said: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (271, "4 min 31 s"),
     (3600, "1 h 0 min"), (86400, "24 h 0 min")],
)  # fmt: skip
def test_a_wait_is_told_to_the_second(seconds: float, said: str) -> None:
    assert wait(seconds) == said


def test_latencies_have_the_digits_that_mean_something() -> None:
    told = [latency(seconds) for seconds in (0.00042, 0.0042, 0.042, 0.42, 4.2)]
    assert told == ["0.4 ms", "4.2 ms", "42 ms", "420 ms", "4.2 s"]


def test_moments_are_told_in_utc() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=-7)))
    assert clock(there) == "2026-11-21 20:00:00 UTC"


def test_nouns_follow_their_number() -> None:
    assert [count(n, "check") for n in (0, 1, 2000)] == ["0 checks", "1 check", "2,000 checks"]


def test_long_text_is_shortened() -> None:
    assert (shortened("abc", 3), shortened("abcd", 3), shortened("a cd", 3)) == ("abc", "ab…", "a…")


@pytest.mark.parametrize(
    ("thing", "said"),
    [(None, "not set"), ("", "not set"), ([], "not set"), (True, "yes"), (False, "no"), (0, "0"),
     (["a", "b"], "a, b"), ({"a": [1, "é"]}, '{"a": [1, "é"]}'), ([1, 2], "[1, 2]")],
)  # fmt: skip
def test_settings_are_told_as_text(thing: Any, said: str) -> None:
    assert value(thing) == said


def checks(*found: tuple[str, float]) -> list[HealthResult]:
    return [HealthResult("one", HealthStatus(status), taken, NOW) for status, taken in found]


class TestSparkline:
    def test_each_result_has_a_shape_of_its_own(self) -> None:
        history = checks(("healthy", 0.1), ("degraded", 0.2), ("unhealthy", 10))
        drawing = Sparkline.of(history, length=3)
        assert drawing.width == 15
        assert dict(drawing.lines) == {"good": "M2 16V8", "warn": "M7 20V2", "bad": "M12 24V16"}

    def test_the_latest_is_on_the_right_and_the_oldest_are_left_out(self) -> None:
        assert Sparkline.of(checks(("healthy", 1)), length=4).lines == (("good", "M17 16V2"),)
        many = checks(*[("unhealthy", 1)] * 5, *[("healthy", 0)] * 2)
        assert dict(Sparkline.of(many, length=2).lines) == {"good": "M2 16V14M7 16V14"}

    def test_it_is_told_in_words(self) -> None:
        history = checks(("healthy", 0.1), ("unhealthy", 0.3), ("healthy", 0.2))
        assert Sparkline.of(history).label == (
            "last 3 checks: 2 healthy, 1 unhealthy; median 200 ms"
        )
        assert Sparkline.of([]).label == "not checked yet"


class TestEvents:
    @pytest.mark.parametrize(
        ("event", "data", "mark", "said"),
        [
            ("provider-registered", {"provider": {"name": "one"}}, "none", ""),
            ("provider-error", {"error": {"code": "X", "message": "gone"}}, "bad", "gone"),
            ("circuit-breaker-closed", {"reason": "reset"}, "good", "reset"),
            ("provider-failed-over", {"member": "a", "error": {"message": "gone"}}, "warn",
             "a: gone"),
            ("health-status-changed",
             {"before": "healthy", "after": "unhealthy", "result": {"message": "slow"}}, "bad",
             "healthy → unhealthy: slow"),
            ("discovery-failed", {"source": "file", "reason": "torn"}, "bad", "file: torn"),
        ],
    )  # fmt: skip
    def test_they_are_told_in_words(
        self, event: str, data: dict[str, Any], mark: str, said: str
    ) -> None:
        logged = LoggedEvent(1, NOW, event, "storage", "one", data)
        assert (kind(logged), detail(logged)) == (mark, said)
