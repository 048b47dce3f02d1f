"""Events as server-sent events (HTML Living Standard, section 9.2)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ...providers.registry import RegistryError, Role
from .event_log import Bell, EventLog, LoggedEvent
from .identity import still_may
from .problem import Problem
from .problems import as_response

__all__ = ["EventStream"]

HEARTBEAT = 15.0
"""Seconds without an event after which a comment keeps the connection open."""
PACE = 0.05
"""Seconds between two parts of a stream: what comes up meanwhile goes together."""
BATCH = 100
"""Events of one part at most."""
RECHECK = 2.0
"""Seconds after which it is asked again whether the caller may still listen."""
PATIENCE = 1.0
"""Seconds that a client has to take the last words."""

_NUMBER = re.compile("[0-9]{1,18}")


class EventStream(Response):
    """
    A response that tells events until the client goes, may listen no longer, or the service ends.

    A client that does not read is waited for; meanwhile the log moves on, and it is told how many
    events it has missed.

    Args:
        request: Who asks is asked again whether he still may.
        log: The events.
        wanted: Which of them to tell.
        after: The id of the last event that the client has; not given, only new ones are told.
        most: How many streams may be open.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        request: Request,
        log: EventLog,
        wanted: Callable[[LoggedEvent], bool],
        *,
        after: str | None,
        most: int,
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["Cache-Control"] = "no-store"
        self.headers["X-Accel-Buffering"] = "no"  # for nginx, which would keep it back
        self._request = request
        self._log = log
        self._wanted = wanted
        self._after = after
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._log.followers >= self._most:
            await _too_many(self._most)(scope, receive, send)
            return
        with self._log.following() as bell:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            words = await self._until_it_ends(receive, send, bell)
        if words is not None:
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(PATIENCE):
                    await send(_body(words, more=False))

    async def _until_it_ends(self, receive: Receive, send: Send, bell: Bell) -> bytes | None:
        """Tell the events; return the last words, None if nobody is there to hear them."""
        stopping = self._request.app.state.stopping
        async with asyncio.TaskGroup() as group:
            told = group.create_task(self._tell(send, bell))
            left = group.create_task(_leaving(receive))
            refused = group.create_task(self._refusal())
            ending = group.create_task(stopping.wait())
            tasks = (told, left, refused, ending)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        if done & {told, left}:
            return None
        if refused in done:
            return _frame("refused", {"reason": "Your token opens nothing any more."})
        return _frame("shutdown", {"reason": "The service ends; come again."})

    async def _tell(self, send: Send, bell: Bell) -> None:
        """Send events as they come up; ends only when the client is gone."""
        seen, parts = self._begin()
        with suppress(OSError):  # so ASGI 2.4 tells that the client is gone
            while True:
                await send(_body(b"".join(parts), more=True))
                seen, parts = await self._more(seen, bell)

    async def _more(self, seen: int, bell: Bell) -> tuple[int, list[bytes]]:
        """Wait for events that are wanted, or until the client should hear something anyway."""
        log, ends = self._log, monotonic() + HEARTBEAT
        await asyncio.sleep(PACE)
        while monotonic() < ends:
            if log.last == seen:
                with suppress(TimeoutError):
                    async with asyncio.timeout(ends - monotonic()):
                        await bell.wait()
            missed, events = log.read(seen, BATCH)
            seen += missed + len(events)
            parts = [self._missed(missed, seen - len(events))] if missed else []
            parts += [one.frame(log.boot) for one in events if self._wanted(one)]
            if parts:
                return seen, parts
            await asyncio.sleep(PACE if len(events) < BATCH else 0.0)
        return seen, [f": nothing else\nid: {log.boot}-{seen}\n\n".encode()]

    def _begin(self) -> tuple[int, list[bytes]]:
        """Return the last event the client has, and what it is told before all others."""
        log, after = self._log, self._after
        hello = f"retry: 2000\nid: {log.boot}-{log.last}\n\n".encode()
        if after is None:
            return log.last, [hello]
        boot, _, number = after.rpartition("-")
        if boot == log.boot and _NUMBER.fullmatch(number) and int(number) <= log.last:
            return int(number), [b"retry: 2000\n\n"]
        oldest = max(0, log.last - log.size)
        return oldest, [b"retry: 2000\n\n", self._missed(None, oldest)]

    def _missed(self, count: int | None, number: int) -> bytes:
        return _frame("missed", {"missed": count}, f"{self._log.boot}-{number}")

    async def _refusal(self) -> None:
        """Return when the caller may listen no longer."""
        allowed = True
        while allowed:
            await asyncio.sleep(RECHECK)
            with suppress(RegistryError):  # who cannot be asked about now is not sent away
                allowed = await still_may(self._request, Role.READER)


async def _leaving(receive: Receive) -> None:
    """Return when the client is gone."""
    message: Message = {}
    while message.get("type") != "http.disconnect":
        message = await receive()


def _frame(event: str, data: dict[str, Any], id: str | None = None) -> bytes:
    number = "" if id is None else f"id: {id}\n"
    return f"{number}event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def _body(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _too_many(most: int) -> Response:
    return as_response(
        Problem(
            503,
            "TOO_MANY_STREAMS",
            f"{most} streams of events are open, as many as there may be "
            "(PURVEYOR_HTTP__MAX_STREAMS). Close one, or come again later.",
            headers={"Retry-After": "5"},
        )
    )
