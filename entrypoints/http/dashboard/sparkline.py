"""The last checks of a provider as a small drawing, with the same in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ....providers.registry import HealthResult, HealthStatus
from .text import count, latency

__all__ = ["Sparkline"]

_STEP = 5
_LINE = 16
_DEEP = 8
"""How far a failed check reaches below the line."""
_KIND = {
    HealthStatus.HEALTHY: "good",
    HealthStatus.DEGRADED: "warn",
    HealthStatus.UNHEALTHY: "bad",
    HealthStatus.UNKNOWN: "none",
}


@dataclass(frozen=True, slots=True)
class Sparkline:
    """
    One bar a check, the latest on the right.

    An answer stands upon the line, the higher the longer it took; one that was degraded goes
    through it, and a failed check hangs below it. So nothing is said by colour alone.

    Args:
        width: In units of the drawing.
        lines: The bars of each kind, as the data of an SVG path.
        label: The same in words.
    """

    width: int
    lines: tuple[tuple[str, str], ...]
    label: str

    @classmethod
    def of(cls, history: Sequence[HealthResult], *, length: int = 20) -> Sparkline:
        """Draw the last results; ``history`` has the oldest first."""
        shown = history[-length:]
        answers = [one.latency for one in shown if one.status is not HealthStatus.UNHEALTHY]
        longest = max(answers, default=0.0) or 1.0
        paths: dict[str, list[str]] = {}
        for at, one in enumerate(shown, start=length - len(shown)):
            kind = _KIND[one.status]
            if kind == "bad":
                top, foot = _LINE, _LINE + _DEEP
            else:
                top, foot = _LINE - 2 - round(12 * one.latency / longest), _LINE
                foot += _DEEP // 2 if kind == "warn" else 0
            paths.setdefault(kind, []).append(f"M{at * _STEP + 2} {foot}V{top}")
        lines = tuple((kind, "".join(bars)) for kind, bars in paths.items())
        return cls(length * _STEP, lines, _label(shown))


def _label(shown: Sequence[HealthResult]) -> str:
    if not shown:
        return "not checked yet"
    found = [(status, sum(one.status is status for one in shown)) for status in HealthStatus]
    parts = ", ".join(f"{number} {status.value}" for status, number in found if number)
    typical = latency(median(one.latency for one in shown))
    return f"last {count(len(shown), 'check')}: {parts}; median {typical}"
