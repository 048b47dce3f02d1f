"""Metrics as they are kept: a few numbers for each set of attributes."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["OVERFLOW", "Attributes", "Metric", "Series"]

Attributes = Mapping[str, str | int]
Record = Callable[[float, Any], None]

OVERFLOW: Attributes = {"otel.metric.overflow": "true"}
"""The attributes of the one series for all that come beyond a metric's limit, as OpenTelemetry's
metrics SDK has them (specification 1.50, "Cardinality limits")."""


class Series:
    """
    What was measured under one set of attributes: how many values in each bucket, and their sum.

    Any thread may add. It may also happen while another addition of the same thread is under way,
    by the garbage collector: a lock that the thread may enter again costs no more.
    """

    __slots__ = ("_bounds", "_lock", "_record", "attributes", "counts", "sum")

    def __init__(
        self, attributes: Attributes, bounds: Sequence[float], record: Record | None
    ) -> None:
        self.attributes = attributes
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self._bounds = bounds
        self._record = record
        self._lock = threading.RLock()

    def add(self, value: float) -> None:
        """Note a value."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            self.counts[place] += 1
            self.sum += value
        if self._record is not None:
            self._record(value, self.attributes)

    def read(self) -> tuple[list[int], float]:
        """Return how many values each bucket has, the last one all above the bounds; the sum."""
        with self._lock:
            return self.counts.copy(), self.sum


class Metric:
    """
    One metric with all its series; a histogram if it has bounds, else a counter.

    Args:
        name: By the semantic conventions: ``purveyor.operation.duration``.
        unit: By UCUM: ``s``, ``{token}``.
        description: For people.
        bounds: The upper bounds of the buckets.
        limit: How many series it may have.
        record: Told of every value with its attributes, too.
    """

    def __init__(
        self,
        name: str,
        unit: str,
        description: str,
        bounds: Sequence[float] = (),
        *,
        limit: int,
        record: Record | None = None,
    ) -> None:
        self.name = name
        self.unit = unit
        self.description = description
        self.bounds = tuple(bounds)
        self._limit = limit
        self._record = record
        self._series: dict[frozenset[tuple[str, str | int]], Series] = {}
        self._lock = threading.Lock()

    def series(self, attributes: Attributes) -> Series:
        """Return the series of a set of attributes, or the one for all beyond the limit."""
        with self._lock:
            found = self._series.get(key := frozenset(attributes.items()))
            if found is None:
                if len(self._series) >= self._limit - 1:
                    attributes, key = OVERFLOW, frozenset(OVERFLOW.items())
                found = self._series.get(key) or Series(attributes, self.bounds, self._record)
                self._series[key] = found
            return found

    def all(self) -> list[Series]:
        """Return all series there are."""
        with self._lock:
            return list(self._series.values())
