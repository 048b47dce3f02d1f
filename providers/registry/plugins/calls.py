"""The calls under way in a plugin's process, seen from the parent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import ProviderError
from .codec import SourceRef
from .launch import Mask, PluginLaunch
from .shape import Operation, UnfitValueError
from .sources import chunks, is_source
from .wire import Credit, Inflow, Kind, Wire, WireError

__all__ = ["PluginCalls"]

_ANSWERS = frozenset({Kind.RESULT, Kind.ERROR, Kind.CANCELLED, Kind.ITEM, Kind.END})


@dataclass(slots=True, eq=False)
class _Call:
    """A call that has not been answered yet."""

    number: int
    operation: Operation | None
    answer: asyncio.Future[Any]
    items: Inflow | None = None
    abandoned: bool = False
    """Nobody waits for it any more; its last message is still to come."""
    source_error: Exception | None = None
    pumps: dict[int, asyncio.Task[None]] = field(default_factory=dict[int, asyncio.Task[None]])


class PluginCalls:
    """
    Many calls at a time over one wire, each by its number.

    Nothing that comes over the wire is trusted: what breaks the protocol raises, and ends the
    process; an answer that is well-formed and of the wrong type fails its own call.

    Args:
        launch: What runs there.
        wire: The pipe.
        mask: Hides secrets in what the plugin says.
        on_deaf: Called when the process does not even react to a ping, with the seconds waited.
    """

    def __init__(
        self, launch: PluginLaunch, wire: Wire, mask: Mask, on_deaf: Callable[[float], None]
    ) -> None:
        self._launch = launch
        self._wire = wire
        self._mask = mask
        self._on_deaf = on_deaf
        self._number = 0
        self._calls: dict[int, _Call] = {}
        self._credits: dict[int, Credit] = {}
        self._end: Callable[[], ProviderError] | None = None
        self._ready = False
        self._heard = False
        self._pings = 0

    # -- making calls --------------------------------------------------------------------

    async def start(self, bundle: Any) -> None:
        """
        Have the plugin imported and the instance built; who cancels it ends the process.

        Raises:
            RegistryError: What the plugin raised, or what became of its process.
        """
        call = self._begin(None)
        await self._send(call, Kind.START, bundle)
        await asyncio.shield(call.answer)
        self._ready = True

    async def call(self, value: Any, operation: Operation | None = None) -> Any:
        """
        Send a call and return its answer; cancelled, it is cancelled in the plugin too.

        Raises:
            RegistryError: What the plugin raised, or what became of its process.
        """
        call = self._begin(operation)
        sent = False
        try:
            await self._send(call, Kind.CALL, value)
            sent = True
            return await asyncio.shield(call.answer)
        except asyncio.CancelledError:
            await self._cancel(call, wait=sent)
            raise
        finally:
            await self._finish(call, sent=sent)

    async def stream(self, operation: Operation, value: Any) -> AsyncGenerator[Any, None]:
        """Iterate over what an operation yields; leaving early ends it in the plugin too."""
        call = self._begin(operation)
        items = call.items = Inflow(
            lambda amount: self._wire.post(Kind.CREDIT, call.number, amount)
        )
        sent = False
        try:
            await self._send(call, Kind.CALL, value)
            sent = True
            async for item in items:
                yield item
        finally:
            if not items.ended:
                await self._cancel(call, wait=sent)
            await self._finish(call, sent=sent)

    def _begin(self, operation: Operation | None) -> _Call:
        if self._end is not None:
            raise self._end()
        self._number += 1
        call = _Call(self._number, operation, asyncio.get_running_loop().create_future())
        self._calls[call.number] = call
        return call

    async def _send(self, call: _Call, kind: Kind, value: Any) -> None:
        if call.operation is not None:
            name, args, kwargs = value
            value = (name, *self._with_sources(call, call.operation, args, kwargs))
        with suppress(ConnectionError):  # it is gone, and its end answers the call
            await self._wire.send(kind, call.number, value)

    async def _cancel(self, call: _Call, *, wait: bool) -> None:
        """Cancel a call in the plugin and wait until it is over there, but not for ever."""
        if call.answer.done():
            return
        call.abandoned = True
        with suppress(ConnectionError):
            self._wire.post(Kind.CANCEL, call.number)
            if not wait:  # it was never told of the call as a whole, and has nothing to answer
                return
            self._heard = False
            self._ping()
            await asyncio.wait([call.answer], timeout=self._launch.cancel_grace)
            if not call.answer.done() and not self._heard:
                self._on_deaf(self._launch.cancel_grace)

    async def _finish(self, call: _Call, *, sent: bool) -> None:
        call.abandoned = True
        if not sent:
            self._calls.pop(call.number, None)
        for number, pump in call.pumps.items():
            self._credits.pop(number, None)
            pump.cancel()
        if call.pumps:
            await asyncio.wait(call.pumps.values())

    # -- sources -------------------------------------------------------------------------

    def _with_sources(
        self, call: _Call, operation: Operation, args: Any, kwargs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with whatever is to be streamed replaced by a number."""
        if not operation.sources:
            return args, kwargs
        bound = operation.signature.bind(*args, **kwargs)
        for name in operation.sources & bound.arguments.keys():
            value = bound.arguments[name]
            if is_source(name, value):
                bound.arguments[name] = self._source(call, value)
        return bound.args, bound.kwargs

    def _source(self, call: _Call, value: Any) -> SourceRef:
        self._number += 1
        number = self._number
        credit = self._credits[number] = Credit(0)  # nothing is read before the plugin asks
        call.pumps[number] = asyncio.create_task(self._pump(call, number, credit, value))
        return SourceRef(number)

    async def _pump(self, call: _Call, number: int, credit: Credit, value: Any) -> None:
        try:
            await credit.take()
            async for chunk in chunks(value):
                await self._wire.send(Kind.ITEM, number, chunk)
                await credit.take()
            await self._wire.send(Kind.END, number)
        except Exception as error:
            if self._end is None:
                call.source_error = error
                with suppress(ConnectionError):
                    await self._wire.send(Kind.ERROR, number, type(error).__name__)

    # -- hearing answers -----------------------------------------------------------------

    def dispatch(self, kind: Kind, number: int, data: bytes | bytearray) -> None:
        """
        Take a message of the plugin's process.

        Raises:
            ValueError, WireError: It is none that could rightly come now.
        """
        self._heard = True
        call = self._calls.get(number)
        if kind is Kind.PONG and self._pings:
            self._pings -= 1
        elif kind is Kind.CREDIT and number in self._credits:
            self._credits[number].grant(_amount(self._wire.codec.loads(data)))
        elif kind in _ANSWERS and call is not None:
            self._answered(call, kind, data)
        elif kind is not Kind.CREDIT or not 0 < number <= self._number:  # a source that is over
            raise WireError(f"{kind.name} {number} at the wrong time")

    def _answered(self, call: _Call, kind: Kind, data: bytes | bytearray) -> None:
        try:
            value = self._wire.codec.loads(data)
            if call.operation is not None and kind in (Kind.RESULT, Kind.ITEM):
                call.operation.checked(value)
        except UnfitValueError as error:
            self._settle(call, self._launch.failure(f"its answer is wrong: {error}"))
            call.abandoned = True
            if kind is Kind.ITEM:
                self._wire.post(Kind.CANCEL, call.number)
            else:
                self._calls.pop(call.number, None)
            return
        if kind is Kind.ITEM:
            if call.items is None:
                raise WireError("an item where none was asked for")
            if not call.abandoned:
                call.items.put(value)
            return
        if kind in (Kind.RESULT, Kind.END) and (kind is Kind.END) is (call.items is None):
            raise WireError(f"{kind.name} in answer to the wrong kind of call")
        # Before the call is forgotten: what is no error ends the process, and with it the call.
        error = self._launch.raised(value, self._mask) if kind is Kind.ERROR else None
        self._calls.pop(call.number, None)
        if error is not None:
            self._settle(call, call.source_error or error)
        elif kind is Kind.CANCELLED and not call.abandoned:
            self._settle(call, self._launch.failure("it cancelled the call itself"))
        else:
            self._settle(call, None, value)

    @staticmethod
    def _settle(call: _Call, error: Exception | None, value: Any = None) -> None:
        if call.items is not None:
            call.items.end(error)
        if call.answer.done():
            return
        if error is None or call.items is not None:  # a stream's reader hears it from the stream
            call.answer.set_result(value)
        else:
            call.answer.set_exception(error)
            call.answer.exception()  # perhaps nobody waits any more

    # -- the end -------------------------------------------------------------------------

    async def watch(self) -> float:
        """Return, with the seconds waited, once the process has work to do and is deaf."""
        while True:
            if self._calls and self._ready:  # an import may take all of its own timeout
                self._heard = False
                self._ping()
            await asyncio.sleep(self._launch.patience)
            if self._pings and not self._heard:
                return self._launch.patience

    def _ping(self) -> None:
        self._pings += 1
        self._wire.post(Kind.PING)

    def fail(self, reason: Callable[[], ProviderError]) -> None:
        """Fail all calls, those under way and those to come."""
        self._end = reason
        for call in list(self._calls.values()):
            self._settle(call, reason())
        self._calls.clear()


def _amount(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise WireError("credit that is no number")
    return value
