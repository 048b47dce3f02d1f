"""What the doubles of AI services share: what they are to answer, and what they have heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from .base import Double, Fault

__all__ = ["AIDouble", "Called", "ErrorKind", "Heard", "Reply", "cut"]

ErrorKind: TypeAlias = Literal[
    "authentication",
    "permission",
    "model_not_found",
    "invalid",
    "too_long",
    "refused",
    "rate_limit",
    "quota",
    "server",
    "overloaded",
]
"""What a service may say is wrong."""


@dataclass(frozen=True, slots=True)
class Called:
    """A tool the model asks for: its name, and the arguments as the model wrote them."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What the model says next.

    Args:
        text: None: ``You said: ...``, with the last text it was told.
        calls: Tools it asks for.
        finish: Why it ends; None: for the calls, or because it has said all.
        input_tokens: Read, those the service had kept among them.
        output_tokens: Written.
        cached_tokens: Of those read, the ones the service had kept.
        pieces: Into how many a stream cuts the text.
        pace: Seconds between two pieces of a stream.
        noise: Whether the stream has events and fields nobody knows.
        ends_after: A stream ends after so many pieces, as if all were well, and without its end.
        fails_after: A stream has an error after so many pieces.
        fails_with: Which error.
    """

    text: str | None = None
    calls: Sequence[Called] = ()
    finish: Literal["stop", "length", "tool_calls", "refused"] | None = None
    input_tokens: int = 11
    output_tokens: int = 7
    cached_tokens: int = 0
    pieces: int = 5
    pace: float = 0.0
    noise: bool = False
    ends_after: int | None = None
    fails_after: int | None = None
    fails_with: ErrorKind = "overloaded"

    @property
    def reason(self) -> str:
        """Why it ends."""
        return self.finish or ("tool_calls" if self.calls else "stop")


@dataclass(frozen=True, slots=True)
class Heard:
    """
    What a request says, whatever the form of its service.

    Args:
        model: Which model is asked.
        system: What stands above the conversation.
        said: The texts, in order: who says it, and what.
        images: The pictures, in order: their bytes, or their address.
        calls: The tool calls of turns before: id, name, arguments.
        results: What tools answered: id of the call, content, and whether they failed.
        tools: The tools that are offered: the schema of the arguments by name.
        tool_choice: ``auto``, ``none``, ``required`` or a name; None where nothing is said.
        schema: What the answer must look like.
        max_tokens: Of the answer at most.
        temperature: As it was given.
        stop: Texts to stop at.
        stream: Whether a stream is asked for.
    """

    model: str
    system: str = ""
    said: Sequence[tuple[str, str]] = ()
    images: Sequence[bytes | str] = ()
    calls: Sequence[tuple[str, str, Mapping[str, Any]]] = ()
    results: Sequence[tuple[str, str, bool]] = ()
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    tool_choice: str | None = None
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    stop: Sequence[str] = ()
    stream: bool = False


class AIDouble(Double):
    """
    A service of AI models.

    Args:
        key: The one it accepts.
        models: Those it has.
        context: Characters a model takes; a longer prompt is refused.
    """

    default_key: ClassVar[str] = "sk-loopback-0123456789abcdef"

    def __init__(
        self,
        *,
        key: str = default_key,
        models: Sequence[str] = ("model-a", "model-b"),
        context: int = 100_000,
    ) -> None:
        super().__init__()
        self.key = key
        self.models = tuple(models)
        self.context = context
        self.heard: list[Heard] = []
        """Every request for an answer so far, in order, as far as it was accepted."""
        self._replies: deque[Reply] = deque()

    def reply(self, *replies: Reply) -> None:
        """Let the next answers be these, in order; afterwards it says what it was told."""
        with self._lock:
            self._replies.extend(replies)

    def fault(self, kind: ErrorKind, *, headers: Mapping[str, str] | None = None) -> Fault:
        """Return the fault with which this service says that something is wrong."""
        raise NotImplementedError

    # -- for subclasses ------------------------------------------------------------------

    def next_reply(self, heard: Heard) -> tuple[Reply, str]:
        """Note what was heard, and return what to answer: the reply with its text."""
        with self._lock:
            self.heard.append(heard)
            reply = self._replies.popleft() if self._replies else Reply()
        last = heard.said[-1][1] if heard.said else ""
        return reply, f"You said: {last}" if reply.text is None else reply.text


def cut(text: str, pieces: int) -> Iterator[str]:
    """Yield a text in so many pieces, or in fewer if it is shorter."""
    size = max(1, -(-len(text) // pieces))
    for begin in range(0, len(text), size):
        yield text[begin : begin + size]
