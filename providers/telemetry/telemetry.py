"""Who observes the operations of a container's providers."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...settings import TelemetrySettings
from ..registry import Event, Operation, Watch, import_extra
from ..registry.checking import Checking
from .calls import CallWatch
from .chat import ChatWatch
from .instruments import Instruments
from .names import CHAT
from .state import GAUGES, Reading, readings

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["Telemetry"]


class Telemetry(Instruments):
    """
    Counts, times and traces the operations of all providers of a container.

    It sets up nothing of OpenTelemetry's: spans and metrics go to the providers that the
    application set up, before or after, and nowhere if there are none. Metrics are kept here as
    well, for Prometheus.

    Args:
        settings: What to observe; everything when not given.
        tracer_provider: Makes the spans; the process-wide one when not given.
        meter_provider: Gets the metrics; the process-wide one when not given.

    Raises:
        ImportFailedError: OpenTelemetry is not installed; the message has the install line.
    """

    def __init__(
        self,
        settings: TelemetrySettings | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__(settings, tracer_provider=tracer_provider, meter_provider=meter_provider)
        self._registries: weakref.WeakSet[Checking[Any]] = weakref.WeakSet()
        self._heard: weakref.WeakSet[Any] = weakref.WeakSet()
        if self._meter is not None:
            process_wide = import_extra("opentelemetry.metrics", extra="telemetry")
            self._show_gauges(meter_provider or process_wide)

    def __deepcopy__(self, memo: object) -> Telemetry:
        """Stay the same: dependency-injector copies what a container is given."""
        return self

    # -- as an observer ------------------------------------------------------------------

    def know(self, registry: Checking[Any]) -> None:
        """Show a registry's providers in the gauges, and count its events."""
        self._registries.add(registry)
        if self.events is not None and registry.events not in self._heard:
            self._heard.add(registry.events)
            for event in Event.__subclasses__():
                registry.events.on(event, self._count)

    def watch(self, operation: Operation) -> Watch:
        """Return what observes each call of an operation."""
        chat = operation.family == "ai" and operation.name in CHAT and not operation.composed
        return (ChatWatch if chat else CallWatch)(self, operation).begin

    def _count(self, event: Event) -> None:
        if self.events is not None:
            attributes = {"purveyor.family": event.family, "purveyor.event": event.event_name}
            self.events.series(attributes).add(1)

    # -- the gauges ----------------------------------------------------------------------

    def readings(self) -> Iterator[Reading]:
        """Yield what the gauges show now."""
        # Of the gauges' attributes, one has up to four values.
        return readings(list(self._registries), self.settings.max_series // 4)

    def _show_gauges(self, of: Any) -> None:
        """Show the gauges of all containers that share a meter provider in one instrument each."""
        sharing = _sharing.setdefault(of, weakref.WeakSet())
        sharing.add(self)
        if self._meter is None or len(sharing) > 1:
            return
        observation = import_extra("opentelemetry.metrics", extra="telemetry").Observation
        for gauge, (unit, description) in GAUGES.items():

            def observe(_: CallbackOptions, gauge: str = gauge) -> Iterator[Any]:
                for telemetry in list(sharing):
                    for one in telemetry.readings():
                        if one.name == gauge:
                            yield observation(one.value, one.attributes)

            self._meter.create_observable_gauge(gauge, [observe], unit, description)


_sharing: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Telemetry]] = weakref.WeakKeyDictionary()
"""Who shows gauges by a meter provider, which takes each instrument once only; by the module of
OpenTelemetry's metrics where it is the process-wide one, which may be set up later."""
