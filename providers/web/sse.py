"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .errors import BadResponseError

__all__ = ["Event", "EventParser"]

MAX_EVENT = 16 * 1024 * 1024


class Event(NamedTuple):
    """One event: its name, ``message`` where the stream names none, and its data."""

    name: str
    data: str


class EventParser:
    """Makes events of the bytes of a stream, however they are cut into pieces."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[Event]:
        """
        Yield the events that ``piece`` completes.

        Raises:
            BadResponseError: An event is larger than any is.
        """
        text = self._rest + piece
        if not self._started and len(text) >= 3:
            text, self._started = text.removeprefix(b"\xef\xbb\xbf"), True
        # A carriage return at the end may be the first half of a line's end.
        complete = max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1)) + 1
        self._rest = text[complete:]
        if len(self._rest) + self._size > MAX_EVENT:
            raise BadResponseError(f"The service sent an event of more than {MAX_EVENT} bytes.")
        for line in text[:complete].splitlines():
            if line:
                self._take(line)
            elif event := self._taken():
                yield event

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            self._data.append(text)
            self._size += len(line)
        elif field == b"event":
            self._name = text

    def _taken(self) -> Event | None:
        event = Event(self._name or "message", "\n".join(self._data)) if self._data else None
        self._name, self._data, self._size = "", [], 0
        return event
