"""What callers are told whose requests the end of the service cuts off."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problem import Problem
from .problems import as_response
from .stopping import Stopping

__all__ = ["LastAnswer"]


class LastAnswer:
    """
    Answer (503) requests that are cancelled because the service ends and their time is over.

    Those whose answer has begun are cut off: that is all that can be told then.

    Args:
        app: What answers.
        stopping: Tells that the service ends.
    """

    def __init__(self, app: ASGIApp, stopping: Stopping) -> None:
        self._app = app
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        has_begun = False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except asyncio.CancelledError:
            if scope["type"] == "http" and self._stopping.is_set() and not has_begun:
                problem = Problem(
                    503,
                    "SHUTTING_DOWN",
                    "The service ended before it had an answer; what was asked for may have been "
                    "done. Look, and ask again in a moment.",
                )
                await as_response(problem, scope)(scope, receive, send)
            raise
