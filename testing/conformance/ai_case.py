"""What the tests of the AI kit share: how one runs, and what it runs against."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeAlias, TypeVar

import pytest
from pydantic import BaseModel

from ...providers.ai import AIProvider, Chunk, Completion, Prompt
from ...providers.registry import guarded
from ...providers.registry.types import default_types
from ..doubles import AIDouble
from .storage_case import PROVIDER_NAME, refusal, secrets_in

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
P = ParamSpec("P")
CaseT = TypeVar("CaseT", bound="AICase")


class AICase:
    """What an author tells of the type under test, and of the service it is tested against."""

    provider_class: ClassVar[type[AIProvider[Any]]]
    """The class under test."""
    capabilities: ClassVar[frozenset[str]]
    """What the type declares. When not set: what the catalogue says of the class, or of the
    nearest of its bases that stands there."""
    timeout: ClassVar[float] = 30.0
    """Seconds one test may take."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "provider_class" in vars(cls) and "capabilities" not in vars(cls):
            cls.capabilities = _declared_by(cls.provider_class)

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

    def needs(self, capability: str) -> None:
        """Skip a test of a capability the type does not declare."""
        if capability not in self.capabilities:
            pytest.skip(f"{self.provider_class.__name__} does not declare {capability!r}")

    def refuses(self, capability: str) -> None:
        """Skip a test of a capability the type declares."""
        if capability in self.capabilities:
            pytest.skip(f"{self.provider_class.__name__} declares {capability!r}")


def _declared_by(provider_class: type) -> frozenset[str]:
    default_types.all("ai")  # reads the entry points
    for base in provider_class.__mro__:
        row = default_types.of_class("ai", base)
        if row is not None:
            return row.capabilities
    raise TypeError(
        f"{provider_class.__name__} is not in the catalogue of types: decorate it with "
        "@register_provider, or set capabilities in the test class."
    )


def ai_test(
    function: Callable[Concatenate[CaseT, AIModel, AIDouble, P], Awaitable[None]],
) -> Callable[Concatenate[CaseT, AIDouble, P], None]:
    """
    Make a coroutine method that takes a model and its service into a plain test.

    The model is disposed at the end; otherwise as :func:`service_test`.
    """

    async def test(self: CaseT, service: AIDouble, *args: P.args, **kwargs: P.kwargs) -> None:
        __tracebackhide__ = True
        async with self.made(service) as model:
            await function(self, model, service, *args, **kwargs)

    functools.update_wrapper(test, function)
    own, _, *rest = inspect.signature(function).parameters.values()
    test.__signature__ = inspect.Signature([own, *rest])  # pyright: ignore[reportFunctionMemberAccess]
    return service_test(test)


def service_test(
    function: Callable[Concatenate[CaseT, AIDouble, P], Awaitable[None]],
) -> Callable[Concatenate[CaseT, AIDouble, P], None]:
    """
    Make a coroutine method that takes a service into a plain test.

    It runs in an event loop of its own, whatever plugin there is.
    """

    @functools.wraps(function)
    def test(self: CaseT, service: AIDouble, *args: P.args, **kwargs: P.kwargs) -> None:
        __tracebackhide__ = True

        async def run() -> None:
            __tracebackhide__ = True
            async with asyncio.timeout(self.timeout):
                await function(self, service, *args, **kwargs)

        # With a factory the runner leaves the thread's current loop to whom it belongs.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(run())

    test.__signature__ = inspect.signature(function)  # pyright: ignore[reportAttributeAccessIssue]
    del test.__wrapped__  # what pytest sees is a plain function
    return test


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
