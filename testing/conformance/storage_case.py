"""What the tests of the storage kit share: how one runs, and the things it works with."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr

from ...providers.registry import guarded
from ...providers.registry.types import default_types
from ...providers.storage import ObjectInfo, StorageProvider

__all__ = [
    "MIB",
    "PROVIDER_NAME",
    "PausedSource",
    "Storage",
    "StorageCase",
    "calls_on",
    "drained",
    "each",
    "infos",
    "keys",
    "pieces",
    "refusal",
    "secrets_in",
    "storage_test",
]

MIB = 1024 * 1024
PROVIDER_NAME = "conformance"

Storage = StorageProvider[Any]
P = ParamSpec("P")
CaseT = TypeVar("CaseT", bound="StorageCase")
ErrorT = TypeVar("ErrorT", bound=Exception)


class StorageCase:
    """What an author tells of the type under test, and how its instances come and go."""

    provider_class: ClassVar[type[StorageProvider[Any]]]
    """The class under test."""
    capabilities: ClassVar[frozenset[str]]
    """What the type declares. When not set: what the catalogue says of the class, or of the
    nearest of its bases that stands there."""
    persistent: ClassVar[bool] = True
    """Whether objects outlive the instance that put them."""
    case_sensitive: ClassVar[bool] = True
    """Whether keys that differ only in case can stand beside each other; the second is a
    KeyConflictError where they cannot. Leave them out of ``odd_keys`` then."""
    racers: ClassVar[int] = 20
    """How many writers race for one new key; fewer where the backend makes losers wait."""
    timeout: ClassVar[float] = 60.0
    """Seconds one test may take."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "provider_class" in vars(cls) and "capabilities" not in vars(cls):
            cls.capabilities = _declared_by(cls.provider_class)

    @pytest.fixture
    def storage_config(self) -> BaseModel:
        """Return the settings of an empty storage, another one for each test."""
        raise NotImplementedError(
            f"{type(self).__name__} must define a fixture storage_config that returns the settings "
            f"of an empty {self.provider_class.__name__}."
        )

    def make_storage(self, config: Any) -> Storage:
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


def _declared_by(provider_class: type) -> frozenset[str]:
    default_types.all("storage")  # reads the entry points
    for base in provider_class.__mro__:
        row = default_types.of_class("storage", base)
        if row is not None:
            return row.capabilities
    raise TypeError(
        f"{provider_class.__name__} is not in the catalogue of types: decorate it with "
        "@register_provider, or set capabilities in the test class."
    )


def storage_test(
    function: Callable[Concatenate[CaseT, Storage, P], Awaitable[None]],
) -> Callable[Concatenate[CaseT, BaseModel, P], None]:
    """
    Make a coroutine method that takes a storage into a plain test that takes ``storage_config``.

    It runs in an event loop of its own, whatever plugin there is, and disposes the storage.
    """

    @functools.wraps(function)
    def test(self: CaseT, storage_config: BaseModel, *args: P.args, **kwargs: P.kwargs) -> None:
        __tracebackhide__ = True

        async def run() -> None:
            __tracebackhide__ = True
            storage = self.make_storage(storage_config)
            try:
                async with asyncio.timeout(self.timeout):
                    await function(self, storage, *args, **kwargs)
            finally:
                await storage.dispose()

        # With a factory the runner leaves the thread's current loop to whom it belongs.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(run())

    own, storage, *fixtures = inspect.signature(function).parameters.values()
    config = storage.replace(name="storage_config", annotation=BaseModel)
    test.__signature__ = inspect.Signature([own, config, *fixtures])  # pyright: ignore[reportAttributeAccessIssue]
    del test.__wrapped__  # what pytest sees is a plain function
    return test


async def each(function: Callable[[Any], Awaitable[object]], values: Iterable[Any]) -> None:
    """Call a coroutine function with every value, 32 at once."""
    waiting = iter(values)

    async def work() -> None:
        for value in waiting:
            await function(value)

    async with asyncio.TaskGroup() as group:
        for _ in range(32):
            group.create_task(work())


async def infos(storage: Storage, prefix: str = "") -> list[ObjectInfo]:
    """Return what ``list`` yields."""
    return [info async for info in storage.list(prefix)]


async def keys(storage: Storage, prefix: str = "") -> list[str]:
    """Return the keys that ``list`` yields."""
    return [info.key for info in await infos(storage, prefix)]


async def drained(chunks: AsyncIterable[bytes]) -> bytes:
    """Return all bytes of a stream."""
    return b"".join([chunk async for chunk in chunks])


async def pieces(data: bytes, size: int = MIB) -> AsyncIterator[bytes]:
    """Yield ``data`` piece by piece, letting others run in between."""
    for begin in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[begin : begin + size]


def calls_on(storage: Storage, key: str, other: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return every operation that takes a key, as calls; ``other`` is the key of an object."""
    return {
        "put": lambda: storage.put(key, b"new"),
        "put(overwrite=False)": lambda: storage.put(key, b"new", overwrite=False),
        "put of an iterator": lambda: storage.put(key, pieces(b"new")),
        "get": lambda: storage.get(key),
        "get_with_info": lambda: storage.get_with_info(key),
        "stream": lambda: drained(storage.stream(key)),
        "stat": lambda: storage.stat(key),
        "exists": lambda: storage.exists(key),
        "delete": lambda: storage.delete(key),
        "copy from": lambda: storage.copy(key, "target"),
        "copy to": lambda: storage.copy(other, key),
        "move from": lambda: storage.move(key, "target"),
        "move to": lambda: storage.move(other, key),
    }


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


class PausedSource:
    """Three chunks, and a pause after the second until ``go_on`` is set, or an error there."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.error: Exception | None = None
        self._paused = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield bytes(MIB)
        yield bytes(MIB)
        self._paused.set()
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        yield bytes(MIB)

    async def reached(self, put: asyncio.Task[Any]) -> None:
        """Wait until the put has come to the pause."""
        pause = asyncio.create_task(self._paused.wait())
        await asyncio.wait([put, pause], return_when=asyncio.FIRST_COMPLETED)
        pause.cancel()
        if put.done():
            pytest.fail(f"put did not read its source to the end: {put.exception()!r}")


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
