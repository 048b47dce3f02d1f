"""Answering as long as somebody listens: callers that go away, and a service that ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from ....providers.registry import RegistryError, ShuttingDownError
from ..problem import Problem
from . import errors

if TYPE_CHECKING:
    from ..stopping import Stopping

__all__ = ["CallerGoneError", "EventStream", "attended"]

ResultT = TypeVar("ResultT")


class CallerGoneError(Exception):
    """Nobody listens any more."""


async def attended(
    work: Coroutine[Any, Any, ResultT], receive: Receive, stopping: Stopping | None = None
) -> ResultT:
    """
    Return what ``work`` does, which is cancelled when nobody is there for it.

    Args:
        work: What is done for the caller, who has said all he has to say.
        receive: Of his request.
        stopping: When the service ends; not given, the work is not ended by that.

    Raises:
        CallerGoneError: The caller has gone away.
        ShuttingDownError: The service ends.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    ends: dict[asyncio.Future[None], Exception] = {gone: CallerGoneError()}
    if stopping is not None:
        ends[asyncio.ensure_future(stopping.wait())] = ShuttingDownError(
            "The service ends. Ask again in a moment; another instance may answer."
        )
    try:
        done, _ = await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        raise next(error for end, error in ends.items() if end in done)
    finally:
        for one in (task, *ends):
            one.cancel()
        await asyncio.gather(task, *ends, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """
    A stream of server-sent events in OpenAI's way, closed with ``[DONE]`` if it ends well.

    What goes wrong before the first event is an answer of its own, with a status; what goes wrong
    later is the last event.

    Args:
        events: The events; closed in any case.
        stopping: When the service ends, which ends the stream.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[Mapping[str, Any]], stopping: Stopping | None
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._stopping = stopping
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        try:
            await attended(self._sent(send), receive, self._stopping)
        except (RegistryError, Problem) as error:
            if not self._begun:
                raise
            problem = error if isinstance(error, Problem) else Problem.of(error)
            await self._say(send, json.dumps(errors.as_event(problem)))
        except CallerGoneError:
            if not self._begun:
                await Response(status_code=499)(scope, receive, send)
                return
        await send({"type": "http.response.body", "body": b""})

    async def _sent(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                await self._say(send, json.dumps(event))
                await asyncio.sleep(0)  # else one that has all ready lets nobody else run
        await self._say(send, "[DONE]")

    async def _say(self, send: Send, data: str) -> None:
        if not self._begun:
            self._begun = True
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
        body = f"data: {data}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
