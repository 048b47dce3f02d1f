"""
Telemetry: what providers do, as OpenTelemetry's spans and metrics and as Prometheus' text.

The libraries of the extra ``telemetry`` are imported when a :class:`Telemetry` is made.
"""

from __future__ import annotations

from .series import Metric, Series
from .telemetry import Telemetry

__all__ = ["Metric", "Series", "Telemetry"]
