"""The calls of one operation, observed: timed, counted, and a span each where that is recorded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..registry import Operation, RegistryError
from .names import DB_SYSTEMS
from .series import Attributes, Metric, Series

if TYPE_CHECKING:
    from .instruments import Instruments
    from .spans import CallSpan

__all__ = ["Call", "CallWatch", "error_type"]

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def error_type(error: BaseException) -> str:
    """
    Return an error's class, for ``error.type``: a registry's code, else the name of its class.

    Never anything of its message, which may tell a secret.
    """
    if isinstance(error, RegistryError) and _CODE.fullmatch(error.code):
        return error.code
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


def _outcome(error: BaseException) -> Attributes:
    """Return how a call ended that has no answer."""
    if isinstance(error, GeneratorExit):
        return {"purveyor.outcome": "abandoned"}
    if isinstance(error, asyncio.CancelledError):
        return {"purveyor.outcome": "cancelled"}
    return {"purveyor.outcome": "error", "error.type": error_type(error)}


class Call:
    """One call, see :class:`~purveyor.providers.registry.Observation`."""

    __slots__ = ("_started", "_watch", "within")

    def __init__(self, watch: CallWatch, span: CallSpan | None) -> None:
        self._watch = watch
        self.within = span
        self._started = perf_counter()

    def first(self) -> None:
        """Take note that the first item of a stream came."""
        self._watch.first(self.seconds)

    @property
    def seconds(self) -> float:
        """How long it has taken until now."""
        return perf_counter() - self._started

    def end(self, error: BaseException | None, answer: Any = None) -> None:
        """Take note that the call ended."""
        seconds = self.seconds
        series = self._watch.succeeded if error is None else self._watch.failed(error)
        if series is not None:
            series.add(seconds)
        if self.within is not None:
            self.within.end({} if error is None else _outcome(error))


class CallWatch:
    """
    Observes the calls of one operation of one provider.

    What every call needs is looked up once: the series of those that succeed, the attributes.
    """

    def __init__(self, instruments: Instruments, operation: Operation) -> None:
        self.operation = operation
        self.instruments = instruments
        self.attributes: Attributes = {
            "purveyor.family": operation.family,
            "purveyor.provider": operation.provider,
            "purveyor.provider.type": operation.provider_type,
            "purveyor.operation": operation.name,
        }
        self.succeeded = self._series(instruments.duration, {"purveyor.outcome": "ok"})
        self._failed: dict[str, Series | None] = {}
        self._first: Series | None = None
        self._spans = instruments.spans
        self._name = f"{operation.name} {operation.provider_type}"
        self._span_attributes = dict(self.attributes)
        if operation.provider_type in DB_SYSTEMS:
            self._span_attributes["db.system.name"] = operation.provider_type

    def begin(self, arguments: Mapping[str, Any]) -> Call:
        """A call begins."""
        spans = self._spans
        if spans is None:
            return Call(self, None)
        inner = self.operation.composed
        return Call(self, spans.begin(self._name, self._span_attributes, inner=inner))

    def first(self, seconds: float) -> None:
        """Note how long the first item of a stream took."""
        if self._first is None:
            self._first = self._series(self.instruments.first_item, {})
        if self._first is not None:
            self._first.add(seconds)

    def failed(self, error: BaseException) -> Series | None:
        """Return where calls are counted that end so."""
        outcome = _outcome(error)
        key = str(outcome.get("error.type") or outcome["purveyor.outcome"])
        if key not in self._failed:
            self._failed[key] = self._series(self.instruments.duration, outcome)
        return self._failed[key]

    def _series(self, metric: Metric | None, more: Attributes) -> Series | None:
        return None if metric is None else metric.series({**self.attributes, **more})
