"""How the benchmarks measure: rounds of all candidates in turn, medians, ratios of one run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping


def per_call(function: Callable[[], object], calls: int) -> float:
    """Return nanoseconds of this thread's CPU time per call."""
    gc.disable()
    try:
        loop = range(calls)
        started = time.thread_time_ns()
        for _ in loop:
            function()
        return (time.thread_time_ns() - started) / calls
    finally:
        gc.enable()


def rounds(candidates: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """Measure every candidate once a round, ``count`` rounds after one that is not counted."""
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(count + 1):
        for name, measure in candidates.items():
            figure = measure()
            if number:
                figures[name].append(figure)
    return figures


def ratio(figures: Mapping[str, list[float]], name: str, peer: str) -> float:
    """Return the median of ``name`` over ``peer``, round by round."""
    pairs = zip(figures[name], figures[peer], strict=True)
    return statistics.median(one / other for one, other in pairs)


def table(figures: Mapping[str, list[float]], unit: str, peer: str) -> None:
    """Print each candidate's median, minimum and maximum, and its ratio to ``peer``."""
    width = max(map(len, figures))
    print(f"{'':{width}}  {'median':>10}  {'min':>10}  {'max':>10}  {'ratio':>6}   ({unit})")
    for name, values in figures.items():
        print(
            f"{name:{width}}  {statistics.median(values):10.3f}  {min(values):10.3f}  "
            f"{max(values):10.3f}  {ratio(figures, name, peer):6.2f}"
        )


def verdict(what: str, figure: float, bound: float, *, at_least: bool = False) -> None:
    """Print a figure beside the bound it is held against."""
    kept = figure >= bound if at_least else figure <= bound
    sign = ">=" if at_least else "<="
    print(f"{'ok ' if kept else 'NOT'} {what}: {figure:.2f} ({sign} {bound:g})")
