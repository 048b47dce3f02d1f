"""A plugin's process, seen from inside: it holds one instance and runs what the parent asks."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, nullcontext, suppress
from typing import Any, NoReturn

from pydantic import ValidationError

from ....settings import explain
from ..errors import InvalidConfigError, RegistryError
from ..provider import Call, Provider
from ..redaction import secret_fields_of
from .codec import Codec
from .confine import confine
from .importing import install, provider_class
from .shape import FamilyShape
from .wire import CHUNK, WINDOW, Credit, Inflow, Kind, Wire

__all__ = ["Worker", "main"]

TEXT_SENT = 4_000


class SourceFailedError(Exception):
    """The stream a caller gave broke; the caller hears of its own error, not of this one."""


class Worker:
    """
    Serves one parent over one pipe.

    Args:
        reader: Where the parent's messages come from.
        writer: Where the answers go.
    """

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._wire = Wire(reader, writer, Codec(), limit=sys.maxsize)
        self._instance: Provider[Any] | None = None
        self._shape: FamilyShape | None = None
        self._name = ""
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._credits: dict[int, Credit] = {}
        self._sources: dict[int, Inflow] = {}

    async def run(self, confinement: Mapping[str, Any]) -> None:
        """Serve until the parent closes the pipe."""
        await self._wire.send(Kind.HELLO, 0, confinement)
        with suppress(EOFError, ConnectionError):
            while True:
                self._dispatch(*await self._wire.receive())
        for task in list(self._calls.values()):
            task.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)

    def _dispatch(self, kind: Kind, number: int, data: bytes | bytearray) -> None:
        value = self._wire.codec.loads(data)
        if kind in (Kind.START, Kind.CALL):
            work = self._start(value) if kind is Kind.START else self._work(number, *value)
            task = asyncio.create_task(self._answer(number, work))
            self._calls[number] = task
            task.add_done_callback(lambda _: self._calls.pop(number, None))
        elif kind is Kind.CANCEL:
            self._wire.forget(number)
            if number in self._calls:
                # Not before its first step: a task that never ran answers nothing.
                asyncio.get_running_loop().call_soon(self._calls[number].cancel)
        elif kind is Kind.CREDIT and number in self._credits:
            self._credits[number].grant(value)
        elif kind is Kind.PING:
            self._wire.post(Kind.PONG)
        elif number in self._sources:
            self._feed(kind, self._sources[number], value)

    @staticmethod
    def _feed(kind: Kind, source: Inflow, value: Any) -> None:
        if kind is Kind.ITEM:
            source.put(value)
        elif kind is Kind.END:
            source.end()
        elif kind is Kind.ERROR:
            source.end(SourceFailedError(f"the caller's stream raised {value}"))

    def _source(self, number: int) -> Inflow:
        def grant(amount: int) -> None:
            self._wire.post(Kind.CREDIT, number, amount)

        source = self._sources[number] = Inflow(grant, opened=0)
        return source

    # -- answering -----------------------------------------------------------------------

    async def _answer(self, number: int, work: Awaitable[tuple[Kind, Any]]) -> None:
        """Send what became of a call; exactly one last message, whatever happens."""
        try:
            kind, value = await work
            await self._wire.send(kind, number, value)
        except asyncio.CancelledError:
            self._wire.post(Kind.CANCELLED, number)
        except ConnectionError:
            return
        except (SystemExit, KeyboardInterrupt) as error:
            _leave(error)
        except BaseException as error:
            self._wire.post(Kind.ERROR, number, _told(error))

    async def _start(self, bundle: Mapping[str, Any]) -> tuple[Kind, Any]:
        plugin, path = bundle["plugin"], bundle["path"]
        shape = self._shape = FamilyShape.from_wire(bundle["shape"])
        self._wire.codec = Codec(shape.values, self._source)
        self._name = bundle["context"].get("name") or plugin
        install(plugin, bundle["files"])
        cls = provider_class(plugin, path, shape.base)
        self._instance = cls(_config(plugin, cls, bundle))
        return Kind.RESULT, None

    async def _work(
        self, number: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Kind, Any]:
        instance, shape = self._instance, self._shape
        assert instance is not None  # noqa: S101 - the parent sends START first
        assert shape is not None  # noqa: S101 - as above
        function: Callable[..., Any] = getattr(instance, name)
        operation = shape.operations.get(name)
        try:
            if operation is not None and operation.is_stream:
                await self._yield(number, function(*args, **kwargs))
                return Kind.END, None
            return Kind.RESULT, await function(*args, **kwargs)
        except Exception as error:
            if isinstance(error, RegistryError | SourceFailedError):
                raise
            mapped = instance._translate(error, Call(name.strip("_"), args, kwargs, self._name))
            if mapped is None:
                raise
            raise mapped from error
        finally:
            self._forget([*args, *kwargs.values()])

    async def _yield(self, number: int, items: Any) -> None:
        credit = self._credits[number] = Credit(WINDOW)
        try:
            async with aclosing(items) if hasattr(items, "aclose") else nullcontext():
                async for item in items:
                    await credit.take()
                    await self._wire.send(Kind.ITEM, number, item)
        finally:
            del self._credits[number]

    def _forget(self, arguments: list[Any]) -> None:
        """Drop the streams that were a call's arguments."""
        for number, source in list(self._sources.items()):
            if any(one is source for one in arguments):
                del self._sources[number]
                self._wire.forget(number)


def _config(plugin: str, cls: type[Provider[Any]], bundle: Mapping[str, Any]) -> Any:
    """Return the settings as the class's own model, which has the last word."""
    model = cls.config_class
    untold = secret_fields_of(model) & set(model.model_fields) - set(bundle["secrets"])
    problems = [
        {"where": name, "reason": 'is secret; the manifest must say type = "secret"'}
        for name in sorted(untold & bundle["config"].keys())
    ]
    if not problems:
        try:
            return model.model_validate(dict(bundle["config"]), context=dict(bundle["context"]))
        except ValidationError as error:
            problems = [
                {"where": ".".join(path) or plugin, "reason": reason}
                for path, reason in explain(error, model)
            ]
    lines = "".join(f"\n  {one['where']}: {one['reason']}" for one in problems)
    raise InvalidConfigError(
        f"Configuration invalid: plugin {plugin!r} refuses the settings{lines}",
        context={"problems": problems},
    )


def _told(error: BaseException) -> list[Any]:
    """Return an error for the wire: its class's name, code, message and context."""
    if isinstance(error, RegistryError):
        return [type(error).__name__, error.code, error.message[:TEXT_SENT], _plain(error.context)]
    try:
        text = str(error)
    except Exception:  # a hostile or broken __str__ is the plugin's affair
        text = "(no text)"
    return [type(error).__name__, None, text[:TEXT_SENT], {}]


def _plain(context: Mapping[str, object]) -> dict[str, object]:
    try:
        Codec().dumps(context)
    except (TypeError, ValueError, RecursionError):
        return {}
    return dict(context)


def _leave(error: SystemExit | KeyboardInterrupt) -> NoReturn:
    """End as the plugin wants to, at once: no thread it started may hold the process."""
    code = error.code if isinstance(error, SystemExit) else 130
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)  # noqa: T201 - what Python itself does with such a code
        code = 1
    sys.stderr.flush()
    os._exit(code or 0)


def main(boot: Mapping[str, Any]) -> NoReturn:
    """Run as a plugin's process: standard input and output are the pipe."""
    confinement = confine(boot)
    tempfile.tempdir = os.getcwd()  # noqa: PTH109 - the folder that is removed in the end
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)  # what the plugin prints is no answer
    asyncio.run(_serve(requests, answers, confinement))
    sys.stderr.flush()
    os._exit(0)


async def _serve(requests: int, answers: int, confinement: Mapping[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit=CHUNK)
    with os.fdopen(requests, "rb", 0) as source, os.fdopen(answers, "wb", 0) as target:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=loop), target
        )
        await Worker(reader, StreamWriter(transport, protocol, None, loop)).run(confinement)
        transport.close()
