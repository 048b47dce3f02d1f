"""What a registry tells to whom it may concern."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from .errors import NotFoundError, RegistryError, nearest_first
from .metadata import HealthResult, HealthStatus, ProviderInfo

__all__ = [
    "CircuitBreakerClosed",
    "CircuitBreakerHalfOpened",
    "CircuitBreakerOpened",
    "DiscoveryFailed",
    "Event",
    "Events",
    "HealthStatusChanged",
    "LeaseDenied",
    "ProviderErrorOccurred",
    "ProviderFailedOver",
    "ProviderRegistered",
    "ProviderReloaded",
    "ProviderUnregistered",
    "event_classes",
]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Event:
    """Base of all events: which provider of which family."""

    event_name: ClassVar[str]

    family: str
    name: str


@dataclass(slots=True)
class ProviderRegistered(Event):
    """A provider became visible."""

    event_name = "provider-registered"
    provider: ProviderInfo


@dataclass(slots=True)
class ProviderUnregistered(Event):
    """A provider is gone, its instance disposed."""

    event_name = "provider-unregistered"


@dataclass(slots=True)
class ProviderErrorOccurred(Event):
    """The backend of a provider failed; a caller's mistake is no such event."""

    event_name = "provider-error"
    error: RegistryError


@dataclass(slots=True)
class ProviderReloaded(Event):
    """New settings of a provider are in force, or a new instance in its place."""

    event_name = "provider-reloaded"
    provider: ProviderInfo


@dataclass(slots=True)
class ProviderFailedOver(Event):
    """A member of a failover provider could not answer, and the next one was asked."""

    event_name = "provider-failed-over"
    member: str
    error: Exception


@dataclass(slots=True)
class HealthStatusChanged(Event):
    """The health of a provider is another than before; ``result`` is the check that told."""

    event_name = "health-status-changed"
    before: HealthStatus
    after: HealthStatus
    result: HealthResult


@dataclass(slots=True)
class CircuitBreakerOpened(Event):
    """Calls are refused for ``retry_after`` seconds (None: until somebody resets it)."""

    event_name = "circuit-breaker-opened"
    reason: str
    failures: int
    retry_after: float | None


@dataclass(slots=True)
class CircuitBreakerHalfOpened(Event):
    """A probe may pass, to find out whether the backend answers again."""

    event_name = "circuit-breaker-half-opened"
    reason: str


@dataclass(slots=True)
class CircuitBreakerClosed(Event):
    """All calls pass again."""

    event_name = "circuit-breaker-closed"
    reason: str


@dataclass(slots=True)
class LeaseDenied(Event):
    """Somebody asked for a lease of a provider that is being removed or is disposed."""

    event_name = "lease-denied"
    holder: str
    error: RegistryError


@dataclass(slots=True)
class DiscoveryFailed(Event):
    """
    New settings, or a provider that was found, are at fault; what was there before stays.

    ``name`` and ``family`` are empty where the fault is not one provider's.
    """

    event_name = "discovery-failed"
    source: str
    reason: str


EventT = TypeVar("EventT", bound=Event)
Listener = Callable[[Any], Awaitable[None] | None]


def event_classes() -> dict[str, type[Event]]:
    """Return the events there are, by name."""
    return {cls.event_name: cls for cls in Event.__subclasses__()}


def _event_class(event: type[EventT] | str) -> type[Event]:
    if not isinstance(event, str):
        return event
    known = event_classes()
    if event not in known:
        names = ", ".join(nearest_first(event, known))
        raise NotFoundError(f"Unknown event: {event}. There are these: {names}.")
    return known[event]


class Events:
    """
    Listeners by event class. Any thread may subscribe, unsubscribe and emit.

    Plain listeners run at once, in order of subscription, in the thread that emits; coroutine
    functions become tasks of the running event loop, at most ``max_tasks`` at a time: what
    comes beyond is dropped, and logged once until there is room again. A listener that raises
    is logged, and the others still hear of the event.

    Args:
        max_tasks: How many coroutine listeners may be under way.
    """

    def __init__(self, *, max_tasks: int = 1000) -> None:
        self._listeners: dict[type[Event], tuple[Listener, ...]] = {}
        self._max_tasks = max_tasks
        self._dropped = 0
        self._tasks: set[asyncio.Future[None]] = set()
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: object) -> Events:
        """Stay the same: dependency-injector copies what a container is given."""
        return self

    def on(self, event: type[EventT] | str, listener: Listener) -> None:
        """
        Call ``listener`` with every event of a class, or of a name (``"provider-registered"``).

        Raises:
            NotFoundError: No event has that name.
        """
        cls = _event_class(event)
        with self._lock:
            self._listeners[cls] = (*self._listeners.get(cls, ()), listener)

    def off(self, event: type[EventT] | str, listener: Listener) -> None:
        """Undo one :meth:`on`; a listener that is not subscribed is no error."""
        cls = _event_class(event)
        with self._lock:
            listeners = list(self._listeners.get(cls, ()))
            if listener in listeners:
                listeners.remove(listener)
            if listeners:
                self._listeners[cls] = tuple(listeners)
            else:
                self._listeners.pop(cls, None)

    def wanted(self, cls: type[Event]) -> bool:
        """Tell whether anybody listens, so that an event nobody wants is never built."""
        return cls in self._listeners

    def emit(self, event: Event) -> None:
        """Tell the listeners of the event's class."""
        for listener in self._listeners.get(type(event), ()):
            try:
                answer = listener(event)
                if inspect.isawaitable(answer):
                    self._spawn(answer, event)
            except Exception:
                logger.exception("A listener of %s raised; the others go on", event.event_name)

    def _spawn(self, awaitable: Awaitable[None], event: Event) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            logger.error(
                "A listener of %s is a coroutine function, but the event came up outside an "
                "event loop; it was not called. Subscribe a plain function.",
                event.event_name,
            )
            return

        if len(self._tasks) >= self._max_tasks:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            self._dropped += 1
            if self._dropped == 1:
                logger.error(
                    "%d listeners are under way and do not end; %s and what follows is not told "
                    "to coroutine listeners until there is room",
                    len(self._tasks),
                    event.event_name,
                )
            return
        if self._dropped:
            logger.error("%d events were not told to coroutine listeners", self._dropped)
            self._dropped = 0

        async def run() -> None:
            try:
                await awaitable
            except Exception:
                logger.exception("A listener of %s raised; the others go on", event.event_name)

        task = loop.create_task(run(), name=f"listener of {event.event_name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """End the coroutine listeners of this event loop."""
        loop = asyncio.get_running_loop()
        for task in [task for task in self._tasks if task.get_loop() is loop]:
            task.cancel()

    async def settle(self) -> None:
        """Wait until the coroutine listeners of this event loop have finished."""
        loop = asyncio.get_running_loop()
        if mine := [task for task in self._tasks if task.get_loop() is loop]:
            await asyncio.wait(mine)
