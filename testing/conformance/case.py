"""What the tests of every kit share: how one runs, and what it looks for."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr

from ...providers.registry import guarded
from ...providers.registry.provider import Provider
from ...providers.registry.types import default_types

__all__ = ["PROVIDER_NAME", "Case", "plain", "provider_test", "refusal", "secrets_in"]

PROVIDER_NAME = "conformance"

ErrorT = TypeVar("ErrorT", bound=Exception)
TestFunction: TypeAlias = Callable[..., Awaitable[None]]


class Case:
    """What an author tells of the type under test, whatever its family."""

    provider_class: ClassVar[type[Any]]
    """The class under test."""
    capabilities: ClassVar[frozenset[str]]
    """What the type declares. When not set: what the catalogue says of the class, or of the
    nearest of its bases that stands there."""
    timeout: ClassVar[float] = 60.0
    """Seconds one test may take."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "provider_class" in vars(cls) and "capabilities" not in vars(cls):
            cls.capabilities = _declared_by(cls.provider_class)

    def guarded(self, config: Any) -> Any:
        """Return a guarded instance, as a registry would give it, named ``conformance``."""
        return guarded(self.provider_class(config), name=PROVIDER_NAME)

    def needs(self, capability: str) -> None:
        """Skip a test of a capability the type does not declare."""
        if capability not in self.capabilities:
            pytest.skip(f"{self.provider_class.__name__} does not declare {capability!r}")

    def lacks(self, capability: str) -> None:
        """Skip a test that an undeclared capability is refused."""
        if capability in self.capabilities:
            pytest.skip(f"{self.provider_class.__name__} declares {capability!r}")

    def run(self, function: Callable[[], Awaitable[None]]) -> None:
        """Call a coroutine function in an event loop of its own, whatever plugin there is."""
        __tracebackhide__ = True

        async def run() -> None:
            __tracebackhide__ = True
            async with asyncio.timeout(self.timeout):
                await function()

        # With a factory the runner leaves the thread's current loop to whom it belongs.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(run())

    def run_with(
        self, make: Callable[[], Provider[Any]], function: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Call a coroutine function with an instance made in its loop and disposed at the end."""
        __tracebackhide__ = True

        async def run() -> None:
            __tracebackhide__ = True
            provider = make()
            try:
                await function(provider)
            finally:
                await provider.dispose()

        self.run(run)


def provider_test(settings: str, make: str) -> Callable[[TestFunction], Callable[..., None]]:
    """
    Return what makes a coroutine method that takes a provider into a plain test.

    The test takes the settings instead, runs in an event loop of its own, whatever plugin there
    is, and disposes the provider.

    Args:
        settings: Name of the fixture with the settings.
        make: Name of the method that makes an instance of them.
    """

    def decorate(function: TestFunction) -> Callable[..., None]:
        def test(self: Case, /, **fixtures: Any) -> None:
            __tracebackhide__ = True
            config = fixtures.pop(settings)
            self.run_with(
                lambda: getattr(self, make)(config),
                lambda provider: function(self, provider, **fixtures),
            )

        own, provider, *rest = inspect.signature(function).parameters.values()
        return plain(test, function, [own, provider.replace(name=settings), *rest])

    return decorate


def plain(
    test: Callable[..., None], function: TestFunction, parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """Return a test that looks like a coroutine function to readers, and like none to pytest."""
    functools.update_wrapper(test, function)
    test.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    del test.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
    return test


def _declared_by(provider_class: type) -> frozenset[str]:
    family: str = getattr(provider_class, "family", "")
    default_types.all(family)  # reads the entry points
    for base in provider_class.__mro__:
        row = default_types.of_class(family, base)
        if row is not None:
            return row.capabilities
    raise TypeError(
        f"{provider_class.__name__} is not in the catalogue of types: decorate it with "
        "@register_provider, or set capabilities in the test class."
    )


async def refusal(kind: type[ErrorT], name: str, call: Awaitable[object]) -> ErrorT:
    """Return the error a call raises, which must be of that kind."""
    try:
        await call
    except kind as error:
        return error
    except Exception as error:
        raise AssertionError(
            f"{name} must raise {kind.__name__}, and raised {type(error).__name__}: {error}"
        ) from error
    pytest.fail(f"{name} must raise {kind.__name__}, and raised nothing")


def secrets_in(value: object) -> Iterator[str]:
    """Yield the values of the secret fields of some settings."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, SecretBytes):
        yield value.get_secret_value().decode("utf-8", "replace")
    elif isinstance(value, BaseModel):
        for _, field in value:
            yield from secrets_in(field)
    elif isinstance(value, Mapping):
        for item in cast("Mapping[object, object]", value).values():
            yield from secrets_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in cast("list[object]", value):
            yield from secrets_in(item)
