"""The last events, kept for whoever follows them."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

from ...providers.registry.errors import RegistryError
from ...providers.registry.events import Event, Events, event_classes
from ...providers.registry.metadata import HealthResult, ProviderInfo
from ...providers.registry.redaction import mask

__all__ = ["Bell", "EventLog", "LoggedEvent"]


@dataclass(slots=True)
class LoggedEvent:
    """
    One event as it is told: JSON-safe, known secrets masked; not to be changed.

    Args:
        id: Its number in this log, from 1.
        at: When it came up, UTC.
        event: What happened: ``provider-registered``, say.
        family: The provider's family; empty where it is not one provider's.
        name: The provider's name; empty where it is not one provider's.
        data: What else the event says; an error is its ``code`` and ``message``.
    """

    id: int
    at: datetime
    event: str
    family: str
    name: str
    data: dict[str, Any]
    _frame: bytes = field(default=b"", init=False, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        return {
            "id": self.id,
            "at": self.at.isoformat(),
            "event": self.event,
            "family": self.family,
            "name": self.name,
            "data": self.data,
        }

    def frame(self, boot: str) -> bytes:
        """Return the same as a server-sent event, made once for all who follow."""
        if not self._frame:
            data = json.dumps(self.to_dict(), ensure_ascii=False)
            text = f"id: {boot}-{self.id}\nevent: {self.event}\ndata: {data}\n\n"
            self._frame = text.encode(errors="replace")
        return self._frame


class EventLog:
    """
    Keeps the last events of the registries, numbered, in one ring.

    Who follows is a number in the ring and something to wake: nothing is queued for anybody,
    so a slow follower costs no memory and no time. What leaves the ring before he read it he
    has missed, and :meth:`read` says how much that was.

    It listens from when it is made until :meth:`close`, or until nobody has it any more.
    Events may come up in any thread, and be followed in any event loop.

    Args:
        events: Where they come up.
        size: How many are kept.
    """

    def __init__(self, events: Events, size: int) -> None:
        self.boot = secrets.token_hex(4)
        """Tells the numbers of this log from those of another process, or of one before."""
        self.last = 0
        """The number of the newest event; 0 while there is none."""
        self._slots: list[LoggedEvent | None] = [None] * size
        self._lock = threading.Lock()
        self._bells: tuple[Bell, ...] = ()
        self._events = events
        self._listener = _listener(events, weakref.ref(self))
        self._heard: tuple[type[Event], ...] = ()
        self.open()

    @property
    def size(self) -> int:
        """How many are kept."""
        return len(self._slots)

    def __deepcopy__(self, memo: object) -> EventLog:
        """Stay the same: dependency-injector copies what a container is given."""
        return self

    # -- listening -----------------------------------------------------------------------

    def open(self) -> None:
        """Listen to every event; once more changes nothing."""
        if not self._heard:
            self._heard = tuple(event_classes().values())
            for cls in self._heard:
                self._events.on(cls, self._listener)

    def close(self) -> None:
        """Listen no longer; what was heard stays."""
        heard, self._heard = self._heard, ()
        for cls in heard:
            self._events.off(cls, self._listener)

    @contextmanager
    def listening(self) -> Generator[None]:
        """Listen for as long as this lasts."""
        self.open()
        try:
            yield
        finally:
            self.close()

    def note(self, event: Event) -> None:
        """Take an event in, and wake who follows."""
        logged = LoggedEvent(
            0, datetime.now(UTC), event.event_name, event.family, event.name, _data_of(event)
        )
        with self._lock:
            logged.id = self.last + 1
            self._slots[logged.id % len(self._slots)] = logged
            self.last = logged.id
        for bell in self._bells:
            bell.ring()

    # -- reading -------------------------------------------------------------------------

    def backwards(self, before: int | None = None) -> Iterator[LoggedEvent]:
        """Iterate over what is kept, newest first; of those before a number, if it is given."""
        newest = self.last if before is None else min(self.last, before - 1)
        for number in range(newest, max(0, newest - len(self._slots)), -1):
            logged = self._slots[number % len(self._slots)]
            if logged is None or logged.id != number:  # another one took its place meanwhile
                return
            yield logged

    def recent(self, limit: int = 50) -> list[LoggedEvent]:
        """Return the last events, newest first."""
        return [logged for logged, _ in zip(self.backwards(), range(limit), strict=False)]

    def read(self, seen: int, limit: int) -> tuple[int, list[LoggedEvent]]:
        """
        Return what comes after an event, oldest first.

        Args:
            seen: The number of the last one that was read.
            limit: How many to return at most.

        Returns:
            How many are gone before they were read, and those that come after these.
        """
        size, last = len(self._slots), self.last
        missed = max(0, last - size - seen)
        first = seen + missed + 1
        found: list[LoggedEvent] = []
        for number in range(first, min(last + 1, first + limit)):
            logged = self._slots[number % size]
            if logged is None or logged.id != number:  # another one took its place meanwhile
                break
            found.append(logged)
        return missed, found

    # -- following -----------------------------------------------------------------------

    @property
    def followers(self) -> int:
        """How many follow now."""
        return sum(bell.followers for bell in self._bells)

    @contextmanager
    def following(self) -> Generator[Bell]:
        """Be woken by new events in the running event loop, by what this gives."""
        loop = asyncio.get_running_loop()
        with self._lock:
            bell = next((one for one in self._bells if one.loop is loop), None)
            if bell is None:
                bell = Bell(loop)
                self._bells = (*self._bells, bell)
            bell.followers += 1
        try:
            yield bell
        finally:
            with self._lock:
                bell.followers -= 1
                if not bell.followers:
                    self._bells = tuple(one for one in self._bells if one is not bell)


class Bell:
    """Wakes the followers of one event loop, however many they are, with one call."""

    __slots__ = ("_changed", "_rung", "followers", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.followers = 0
        self._changed = asyncio.Event()
        self._rung = False

    def ring(self) -> None:
        """Wake them, from any thread; before they woke once more changes nothing."""
        if not self._rung:
            self._rung = True
            try:
                self.loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop is closed: nobody follows
                return

    def _wake(self) -> None:
        self._rung = False
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self) -> None:
        """Wait until it rings; what came up before is not waited for."""
        await self._changed.wait()


def _listener(events: Events, log: weakref.ref[EventLog]) -> Callable[[Event], None]:
    """Return a listener that keeps no log alive, and goes with it."""

    def listen(event: Event) -> None:
        to = log()
        if to is None:
            events.off(type(event), listen)
        else:
            to.note(event)

    return listen


# -- what is told of an event ------------------------------------------------------------


@cache
def _fields(cls: type[Event]) -> tuple[str, ...]:
    own = cls.__dataclass_fields__
    return tuple(name for name in own if name not in Event.__dataclass_fields__)


def _data_of(event: Event) -> dict[str, Any]:
    return {name: _plain(getattr(event, name)) for name in _fields(type(event))}


def _plain(value: Any, clean: Callable[[str], str] = mask) -> Any:
    """Return a value as JSON-safe data; an error too, so that nothing keeps its traceback."""
    if isinstance(value, str):
        return clean(str(value))
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, RegistryError):
        return {"code": value.code, "message": value.message}
    if isinstance(value, BaseException):
        return {"code": None, "message": clean(f"{type(value).__name__}: {value}")}
    if isinstance(value, ProviderInfo):  # without secrets as it is
        return _plain(value.to_dict(), str)
    if isinstance(value, HealthResult):
        return _plain(value.to_dict(), clean)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {clean(str(key)): _plain(inner, clean) for key, inner in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner, clean) for inner in cast("list[Any]", value)]
    return clean(str(value))
