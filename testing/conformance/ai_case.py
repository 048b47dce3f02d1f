"""What the tests of the AI kit share: how one runs, and what it runs against."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeAlias

import pytest
from pydantic import BaseModel

from ...providers.ai import AIProvider, Chunk, Completion, Prompt
from ...providers.registry import guarded
from ..doubles import AIDouble
from .case import PROVIDER_NAME, Case, plain, refusal, secrets_in

__all__ = [
    "PROVIDER_NAME",
    "AICase",
    "AIModel",
    "ai_test",
    "both",
    "drained",
    "refusal",
    "secrets_in",
    "service_test",
    "until",
]

AIModel: TypeAlias = AIProvider[Any]


class AICase(Case):
    """What an author tells of the type under test, and of the service it is tested against."""

    provider_class: ClassVar[type[AIProvider[Any]]]
    """The class under test."""
    timeout: ClassVar[float] = 30.0
    """Seconds one test may take."""

    def make_service(self) -> AIDouble:
        """Return a service that speaks the type's protocol, as strictly as the real one."""
        raise NotImplementedError(
            f"{type(self).__name__} must define make_service: it returns an AIDouble that speaks "
            f"the protocol of {self.provider_class.__name__}."
        )

    def make_config(self, service: AIDouble, **changes: Any) -> BaseModel:
        """Return settings for the service as it runs: its address and its key, and ``changes``."""
        raise NotImplementedError(
            f"{type(self).__name__} must define make_config: it returns the settings with which a "
            f"{self.provider_class.__name__} reaches the service, and what it is given."
        )

    @pytest.fixture
    def service(self) -> Iterator[AIDouble]:
        """Run the service."""
        with self.make_service() as service:
            yield service

    def make(self, service: AIDouble, **changes: Any) -> AIModel:
        """Return a guarded instance, as a registry would give it, that makes one attempt."""
        settings = {"model": service.models[0], "retries": 0, **changes}
        return guarded(
            self.provider_class(self.make_config(service, **settings)), name=PROVIDER_NAME
        )

    @asynccontextmanager
    async def made(self, service: AIDouble, **changes: Any) -> AsyncGenerator[AIModel, None]:
        """Have an instance with other settings for a while."""
        model = self.make(service, **changes)
        try:
            yield model
        finally:
            await model.dispose()

    refuses = Case.lacks


def ai_test(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """
    Make a coroutine method that takes a model and its service into a plain test.

    The model is disposed at the end; otherwise as :func:`service_test`.
    """

    async def run(self: AICase, service: AIDouble, **fixtures: Any) -> None:
        __tracebackhide__ = True
        async with self.made(service) as model:
            await function(self, model, service, **fixtures)

    functools.update_wrapper(run, function)
    own, _, *rest = inspect.signature(function).parameters.values()
    run.__signature__ = inspect.Signature([own, *rest])  # pyright: ignore[reportFunctionMemberAccess]
    return service_test(run)


def service_test(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a coroutine method that takes a service into a plain test, in a loop of its own."""

    def test(self: AICase, /, **fixtures: Any) -> None:
        __tracebackhide__ = True
        self.run(lambda: function(self, **fixtures))

    return plain(test, function, [*inspect.signature(function).parameters.values()])


def both(
    model: AIModel, prompt: Prompt, /, **options: Any
) -> Iterator[tuple[str, Awaitable[object]]]:
    """Yield a question in both ways, whole and as a stream, each with its name."""
    yield "complete", model.complete(prompt, **options)
    yield "stream", drained(model.stream(prompt, **options))


async def drained(chunks: AsyncIterator[Chunk]) -> tuple[str, Completion]:
    """Return the text of a stream's chunks, and the whole answer the last one has."""
    texts: list[str] = []
    completion: Completion | None = None
    async for chunk in chunks:
        assert completion is None, "a chunk came after the one that has the whole answer"
        texts.append(chunk.text)
        completion = chunk.completion
    assert completion is not None, "the stream ended without a chunk that has the whole answer"
    assert texts.pop() == "", "the chunk that has the whole answer must have no text of its own"
    text = "".join(texts)
    assert completion.text == text, "the whole answer is not what the chunks say"
    return text, completion


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so, which another thread makes so."""
    try:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{what}: not within 5 seconds")
