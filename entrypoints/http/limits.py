"""What a request may cost: its body's size and time, and how many there may be of one caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...providers.catalogue import Tokens
from .addresses import address_of
from .identity import token_text
from .problem import Problem
from .problems import as_response
from .rates import Rates, too_often

__all__ = ["BodyLimit", "RateLimit", "Room", "declared_size"]


@dataclass(frozen=True, slots=True)
class Room:
    """How many bytes the body of a request may have, and the setting that says so."""

    size: int
    setting: str

    def refusal(self) -> Problem:
        """Return what is answered to one that has more."""
        told = f"The body of this request may have {self.size} bytes ({self.setting})."
        return Problem(413, "BODY_TOO_LARGE", told)


def declared_size(scope: Scope) -> int | None:
    """Return how many bytes a request says its body has; None if it does not say."""
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared[:20]) if declared.isdecimal() else None


class BodyLimit:
    """
    Read a request's body before the application begins: so much of it, and in so much time.

    A body that is too large or too slow is answered at once (413, 408). What is still to come of
    it is dropped for as long again, so that the client sees the answer; then the connection ends.
    Answers, and what is received after the body, pass as they are.

    Args:
        app: What answers.
        room: Says how large the body of a request may be.
        timeout: Seconds a body may take.
    """

    def __init__(
        self, app: ASGIApp, room: Callable[[Scope], Awaitable[Room]], timeout: float
    ) -> None:
        self._app = app
        self._room = room
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout):
                first = await self._read(scope, receive)
        except TimeoutError:
            refused = f"The body of the request took longer than {self._timeout:g} s to arrive."
            await self._refuse(Problem(408, "BODY_TIMEOUT", refused), scope, receive, send)
            return
        except Problem as problem:
            await self._refuse(problem, scope, receive, send)
            return
        if first["type"] == "http.disconnect":
            return  # nobody is there to be answered
        messages = [first]

        async def read() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, read, send)

    async def _read(self, scope: Scope, receive: Receive) -> Message:
        """Return the whole body as one message; or that the client has gone."""
        room = await self._room(scope)
        if (declared_size(scope) or 0) > room.size:
            raise room.refusal()
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            body += message.get("body", b"")
            if len(body) > room.size:
                raise room.refusal()
            if not message.get("more_body"):
                return {"type": "http.request", "body": bytes(body), "more_body": False}

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        problem.headers["Connection"] = "close"

        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.body":
                message["more_body"] = True
            await send(message)

        await as_response(problem, scope)(scope, receive, send_open)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})


class RateLimit:
    """
    Refuse (429) what a caller asks too often: by his token, or by his address without one.

    Args:
        app: What answers.
        tokens: Gives the tokens that count by themselves.
        rates: Of the callers.
    """

    def __init__(self, app: ASGIApp, tokens: Callable[[], Tokens], rates: Rates) -> None:
        self._app = app
        self._tokens = tokens
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and (wait := self._rates.take(self._caller(scope))):
            problem = too_often("Too many requests.", wait)
            await as_response(problem, scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> str:
        text = token_text(Headers(scope=scope))
        token = self._tokens().peek(text) if text else None
        return f"token {token.id}" if token else address_of(scope)
