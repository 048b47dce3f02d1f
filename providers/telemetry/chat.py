"""The calls of a model, observed by the conventions for generative AI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..registry import Operation
from .calls import Call, CallWatch, error_type
from .series import Attributes

if TYPE_CHECKING:
    from .instruments import Instruments
    from .spans import CallSpan

__all__ = ["ChatWatch"]


class ChatCall(Call):
    """One call of a model."""

    __slots__ = ("_attributes",)

    _watch: ChatWatch

    def __init__(self, watch: ChatWatch, span: CallSpan | None, attributes: Attributes) -> None:
        super().__init__(watch, span)
        self._attributes = attributes

    def end(self, error: BaseException | None, answer: Any = None) -> None:
        """Take note that the call ended, and of what it used."""
        completion = getattr(answer, "completion", answer)  # of a stream the last item's
        self._watch.used(self._attributes, error, self.seconds, getattr(completion, "usage", None))
        if self.within is not None and completion is not None:
            self.within.note(_of_response(completion))
        super().end(error)


class ChatWatch(CallWatch):
    """Observes what one operation asks of models, those of one provider."""

    def __init__(self, instruments: Instruments, operation: Operation) -> None:
        super().__init__(instruments, operation)
        self._chat: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": operation.provider_type,
        }

    def begin(self, arguments: Mapping[str, Any]) -> ChatCall:
        """A call begins."""
        model = arguments.get("model") or getattr(self.operation.config(), "model", None)
        attributes = {**self._chat, "gen_ai.request.model": str(model)} if model else self._chat
        span = None
        if self._spans is not None:
            name = f"chat {model}" if model else "chat"
            span = self._spans.begin(name, {**self._span_attributes, **attributes}, inner=False)
        return ChatCall(self, span, attributes)

    def used(
        self, attributes: Attributes, error: BaseException | None, seconds: float, usage: Any
    ) -> None:
        """Note how long a call took, and how many tokens."""
        durations, tokens = self.instruments.chat_duration, self.instruments.tokens
        if durations is None or tokens is None:
            return
        failed = {}
        if error is not None and not isinstance(error, GeneratorExit):
            failed = {"error.type": error_type(error)}
        durations.series({**attributes, **failed}).add(seconds)
        if usage is None:
            return
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            tokens.series({**attributes, "gen_ai.token.type": kind}).add(count)


def _of_response(completion: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "gen_ai.response.model": getattr(completion, "model", ""),
        "gen_ai.response.finish_reasons": (str(getattr(completion, "finish_reason", "")),),
    }
    usage = getattr(completion, "usage", None)
    if usage is not None:
        attributes["gen_ai.usage.input_tokens"] = usage.input_tokens
        attributes["gen_ai.usage.output_tokens"] = usage.output_tokens
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    return {key: value for key, value in attributes.items() if value not in ("", ("",))}
