"""
The way to an AI service: our own transport, or a client of the service's SDK.

A type says each thing once, as the JSON of its service. Which of the two takes it there and back
makes no difference to it: bodies, answers, events and errors are the same.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import urlencode

from ..registry.redaction import mask
from ..web.transport import Answer, Transport
from .errors import (
    BadResponseError,
    InvalidRequestError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
    StreamInterruptedError,
)
from .model import Chunk, Completion

__all__ = ["ClientWire", "Reducer", "TransportWire", "Wire", "WireEvent", "chunks_of"]

DONE = "[DONE]"


class WireEvent(NamedTuple):
    """
    An event of a stream: its name and its JSON object.

    OpenAI's mark of the end, ``[DONE]``, is named so and has no data; a client leaves it out.
    """

    name: str
    data: Mapping[str, Any]


class Wire(Protocol):
    """Takes JSON to a service and back; raises :class:`ServiceError` and nothing else."""

    async def complete(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Post ``body`` and return the object it is answered with."""
        ...

    def stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[WireEvent, None]:
        """Post ``body``, which asks for a stream, and yield its events; it may end too early."""
        ...

    async def get(self, path: str, **query: str | int) -> Mapping[str, Any]:
        """Return the object at ``path``."""
        ...

    async def close(self) -> None:
        """Close what is this wire's own."""
        ...


class TransportWire:
    """The wire that is our own transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def complete(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Post ``body`` and return the object it is answered with."""
        return _object(await self._transport.json("POST", path, body, headers=headers))

    async def stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[WireEvent, None]:
        """Post ``body`` and yield the events it is answered with."""
        async with aclosing(self._transport.events(path, body, headers=headers)) as events:
            async for name, data in events:
                if data == DONE:
                    yield WireEvent(DONE, {})
                    continue
                yield WireEvent(name, _read(data))

    async def get(self, path: str, **query: str | int) -> Mapping[str, Any]:
        """Return the object at ``path``."""
        asked = f"{path}?{urlencode(query)}" if query else path
        return _object(await self._transport.json("GET", asked))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


class ClientWire:
    """
    The wire that is a client of the service's SDK (``openai.AsyncOpenAI`` and the like).

    The client keeps its own address, login and timeouts, and belongs to who made it. Nothing is
    sent again here, nor should it be there: build it with ``max_retries=0``.

    Args:
        calls: The client's methods, by the path each one stands for.
        explain: Makes the error of an answer whose status is not a good one.
    """

    def __init__(
        self, calls: Mapping[str, Callable[..., Any]], explain: Callable[[Answer], ServiceError]
    ) -> None:
        self._calls = calls
        self._explain = explain

    async def complete(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Call the method for ``path`` and return its answer as an object."""
        return _dumped(await self._called(path, body, headers))

    async def stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[WireEvent, None]:
        """Call the method for ``path`` and yield its events as objects."""
        events = await self._called(path, body, headers)
        try:
            async for event in events:
                data = _dumped(event)
                yield WireEvent(str(data.get("type") or "message"), data)
        except Exception as error:
            raise self._named(error) from _shown(error)
        finally:
            await events.close()

    async def get(self, path: str, **query: str | int) -> Mapping[str, Any]:
        """Call the method for ``path`` and return its answer as an object."""
        return _dumped(await self._called(path, query, None))

    async def close(self) -> None:
        """Leave the client to who made it."""

    async def _called(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None
    ) -> Any:
        call = self._calls[path]
        known = inspect.signature(call).parameters
        named = {name: value for name, value in body.items() if name in known}
        more = {name: value for name, value in body.items() if name not in known}
        try:
            return await call(**named, extra_body=more or None, extra_headers=headers)
        except Exception as error:
            raise self._named(error) from _shown(error)

    def _named(self, error: Exception) -> Exception:
        """Return the error to raise for one of the SDK or of the HTTP library below it."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        told = f"{type(error).__name__}: {error}"
        if kinds & {"ServiceError", "TypeError"}:
            return error
        if kinds & {"APITimeoutError", "TimeoutException", "TimeoutError"}:
            return ServiceTimeoutError(f"The service did not answer in time: {told}")
        if kinds & {"APIConnectionError", "TransportError", "OSError"}:
            return ServiceConnectionError(f"The service cannot be reached: {told}")
        if "ValueError" in kinds or "APIResponseValidationError" in kinds:
            return BadResponseError(f"The service's answer cannot be read: {told}")
        if "APIError" not in kinds:  # what the SDK itself refuses is the caller's to change
            refused = kinds & {"AnthropicError", "OpenAIError"}
            return InvalidRequestError(f"The client refuses: {told}") if refused else error
        response = getattr(error, "response", None)
        answer = Answer(
            getattr(response, "status_code", 200),
            getattr(response, "headers", {}),
            _body_of(error),
        )
        failure = self._explain(answer)
        failure.context.setdefault("status", answer.status)
        return failure


class Reducer(Protocol):
    """Makes an answer of the events of its stream, in the way of one service."""

    @property
    def ended(self) -> bool:
        """Whether its end has come: what follows is no part of it."""
        ...

    @property
    def text(self) -> str:
        """The text so far."""
        ...

    def take(self, event: WireEvent) -> str:
        """
        Take an event and return the text it adds.

        Raises:
            ServiceError: The event says that something went wrong.
        """
        ...

    def completion(self) -> Completion:
        """
        Return the whole answer, the events being at their end.

        Raises:
            StreamInterruptedError: That was no end.
        """
        ...


async def chunks_of(
    events: AsyncGenerator[WireEvent, None], reducer: Reducer
) -> AsyncGenerator[Chunk, None]:
    """
    Yield the chunks of a stream of events, the last one with the whole answer.

    Raises:
        StreamInterruptedError: It broke off, fell silent, or ended before its end. What goes
            wrong before the first event is an error as of a request that is no stream; any other
            error that comes later has the text so far in ``context["partial"]``.
    """
    began = False
    async with aclosing(events):
        try:
            async for event in events:
                began = True
                if text := reducer.take(event):
                    yield Chunk(text)
        except ServiceError as error:
            lost = isinstance(error, (ServiceConnectionError, ServiceTimeoutError))
            if not began:
                raise
            if lost and not reducer.ended:
                raise StreamInterruptedError(
                    f"The stream broke off: {error}", partial=reducer.text
                ) from error
            if not lost:
                error.context.setdefault("partial", mask(reducer.text))
                raise
            # The answer is whole: how its connection ended is no matter.
    yield Chunk(completion=reducer.completion())


def _read(data: str) -> Mapping[str, Any]:
    with suppress(ValueError, RecursionError):
        return _object(json.loads(data))
    # Raised here, or it would carry the parser's error, which has the whole event.
    raise BadResponseError(
        "The service sent an event that is no JSON.", context={"event": data[:200]}
    )


def _object(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise BadResponseError(
            f"The service answered with JSON that is no object: {type(found).__name__}. Check "
            "base_url."
        )
    return cast("dict[str, Any]", found)


def _dumped(found: Any) -> Mapping[str, Any]:
    """Return what an SDK made of an answer, as it came; text is what it could not read."""
    dump = getattr(found, "model_dump", None)
    if dump is None:
        raise BadResponseError(
            "The service answered with something that is not the JSON of its protocol. Check the "
            "client's base_url."
        )
    return dump(mode="json", warnings=False)


def _shown(error: Exception) -> Exception | None:
    """Return an error that may stand as a cause; one with what a service said may quote the key."""
    return error if getattr(error, "body", None) is None else None


def _body_of(error: Exception) -> bytes:
    """Return the body of an SDK's error, which may have unpacked it."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        return json.dumps(body if "error" in body else {"error": body}).encode()
    return body.encode() if isinstance(body, str) else b""
