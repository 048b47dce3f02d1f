"""Spans of OpenTelemetry: begun where somebody records, and current while their call runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.propagate import extract
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

__all__ = ["CallSpan", "Spans"]


class Spans:
    """Begins the spans of calls."""

    def __init__(self, tracer: Tracer) -> None:
        self._start = tracer.start_span

    def begin(self, name: str, attributes: Mapping[str, Any], *, inner: bool) -> CallSpan | None:
        """
        Return the span of a call that begins; None where there is nothing to be recorded.

        Within a trace that is not sampled nobody is asked: the whole trace is, or nothing of it.

        Args:
            name: Of the span.
            attributes: Of the span, also for the sampler to decide by.
            inner: Whether the call stays in this process, its own calls being spans as well.
        """
        around = get_current_span()
        if around is not INVALID_SPAN and not (
            around.is_recording() or around.get_span_context().trace_flags.sampled
        ):
            return None
        kind = SpanKind.INTERNAL if inner else SpanKind.CLIENT
        span = self._start(name, kind=kind, attributes=attributes)
        return None if span is INVALID_SPAN else CallSpan(span, set_span_in_context(span))

    def serve(
        self, name: str, attributes: Mapping[str, Any], headers: Mapping[str, str]
    ) -> CallSpan:
        """
        Return the span of a request that came in.

        It is in the trace that the headers name; or within the span that an application has
        begun for the request that this one is mounted in.

        Args:
            name: Of the span, until its route is known.
            attributes: Of the span.
            headers: Of the request, ``traceparent`` among them (W3C Trace Context).
        """
        context, kind = get_current(), SpanKind.INTERNAL
        if get_current_span() is INVALID_SPAN:
            context, kind = extract(headers, context), SpanKind.SERVER
        span = self._start(name, context, kind=kind, attributes=attributes)
        return CallSpan(span, set_span_in_context(span, context))


class CallSpan:
    """
    The span of a call; the current one while a ``with`` block lasts, which may be entered again.

    A stream enters it for each of its steps: what is set around a ``yield`` would be set for the
    caller, and reset in whatever context the stream is closed.
    """

    __slots__ = ("_context", "_span", "_token")

    def __init__(self, span: Span, context: Context) -> None:
        self._span = span
        self._context = context
        self._token: Any = None

    def __enter__(self) -> None:
        self._token = attach(self._context)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A call that the garbage collector ends may be ended in anybody's context.
        if kind is not GeneratorExit or get_current() is self._context:
            detach(self._token)

    def note(self, attributes: Mapping[str, Any], name: str | None = None) -> None:
        """Add attributes, and give it another name if there is a better one."""
        self._span.set_attributes(attributes)
        if name is not None:
            self._span.update_name(name)

    def end(self, outcome: Mapping[str, Any]) -> None:
        """End the span; ``outcome`` are the attributes that tell how, if the call failed."""
        if outcome and self._span.is_recording():
            self._span.set_attributes(outcome)
            if "error.type" in outcome:
                self._span.set_status(StatusCode.ERROR)
        self._span.end()
