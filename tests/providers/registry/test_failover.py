"""Failover: several providers as one, each call answered by the first that can."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.families import FAILOVER_TYPES, FAMILIES
from purveyor.providers.registry import (
    CircuitOpenError,
    ConnectionFailedError,
    CreationFailedError,
    HealthStatus,
    ImportFailedError,
    InvalidConfigError,
    InvalidStateError,
    NotFoundError,
    OperationTimeoutError,
    PermissionDeniedError,
    Provider,
    ProviderError,
    ProviderFailedOver,
    ProviderRegistry,
    ProviderType,
    ProviderTypes,
    UnsupportedCapabilityError,
    default_types,
    operation,
)
from purveyor.providers.registry.failover import (
    Failover,
    FailoverConfig,
    answered_by,
    why_not_yet,
)
from purveyor.providers.registry.provider import ConfigT
from purveyor.settings import BreakerSettings, HealthSettings, RegistrySettings
from tests.providers.registry.samples import (
    Backend,
    BackendError,
    Gate,
    Sample,
    SampleConfig,
    raising,
    turns,
)

LOGGER = "purveyor.providers.registry.failover"
HEALTH = HealthSettings(retries=0)
NO_BREAKERS = RegistrySettings(circuit_breaker=BreakerSettings(enabled=False), health=HEALTH)


class Talk(Provider[ConfigT]):
    """What the tests ask of every member."""

    family = "storage"

    @operation
    async def do(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """Await ``work`` with the instance."""
        raise NotImplementedError

    @operation
    def each(self, work: Callable[[Any], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        """Give what ``work`` gives."""
        raise NotImplementedError

    @operation
    async def read(self, work: Callable[[Any, Any], Awaitable[Any]], source: Any) -> Any:
        """Await ``work`` with the instance and the source."""
        raise NotImplementedError

    @operation
    def plain(self, work: Callable[[Any], Any]) -> Any:
        """Call ``work`` with the instance."""
        raise NotImplementedError


class Member(Sample, Talk[SampleConfig]):
    config_class = SampleConfig

    @operation
    async def each(self, work: Callable[[Any], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        async for item in work(self):
            yield item

    @operation
    async def read(self, work: Callable[[Any, Any], Awaitable[Any]], source: Any) -> Any:
        return await work(self, source)

    @operation
    async def special(self) -> str:
        """Nothing that the family's interface has."""
        return self.config.label


class TalkFailover(Failover, Talk[FailoverConfig]):
    """The family's failover type, as any family makes it."""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def registry(
    types: ProviderTypes, clock: Clock, tmp_path: Path
) -> AsyncIterator[ProviderRegistry[Any]]:
    """A registry whose breakers open at the first failure and wait for a minute."""
    for name, cls in (("member", Member), ("failover", TalkFailover), ("any", Failover)):
        types.add(
            ProviderType(
                family="storage",
                name=name,
                path=f"{__name__}:{cls.__name__}",
                provider_class=cls,
                capabilities=frozenset({"search"} if cls is Member else ()),
            )
        )
    breaker = BreakerSettings(failure_threshold=1, recovery_timeout=60)
    made = ProviderRegistry[Any](
        "storage",
        types=types,
        home=tmp_path,
        settings=RegistrySettings(circuit_breaker=breaker, health=HEALTH),
        clock=clock,
    )
    yield made
    await made.dispose_all()


async def add(registry: ProviderRegistry[Any], *names: str, **backends: Backend) -> Any:
    """Register members, and ``main`` made of them in that order."""
    for name in (*names, *backends):
        backend = backends.get(name) or Backend()
        await registry.register(name, SampleConfig(backend=backend, label=name), type="member")
    return await registry.register("main", {"type": "failover", "members": [*names, *backends]})


class Down:
    """Work that fails at the members named, and tells who did it; counts who was asked."""

    def __init__(self, *names: str, error: Exception | None = None) -> None:
        self.names = set(names)
        self.asked: list[str] = []
        self.error = error

    def _ask(self, member: Any) -> str:
        name = member.config.label
        self.asked.append(name)
        if name in self.names:
            raise self.error or BackendError(f"{name} is down")
        return name

    async def __call__(self, member: Any, *_: Any) -> str:
        return self._ask(member)

    def plain(self, member: Any) -> str:
        return self._ask(member)


# -- the settings ----------------------------------------------------------------------------


@pytest.mark.parametrize("members", ["a, b", '["a", "b"]', ["a", "b"], ("a", "b")])
def test_members_are_a_list_in_any_form_the_environment_has(members: Any) -> None:
    assert FailoverConfig.model_validate({"members": members}).members == ("a", "b")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([], "at least 1 entry"),
        (None, "members: "),
        ("a,b,a", "names a more than once"),
        (["a", ""], "must not hold an empty name"),
        ('["a"', "not well-formed"),
    ],
)
async def test_a_list_that_is_none_is_told(
    registry: ProviderRegistry[Any], members: Any, said: str
) -> None:
    with pytest.raises(InvalidConfigError, match=said):
        await registry.register("main", {"type": "failover", "members": members})


def test_every_family_has_the_type_and_reading_its_row_imports_nothing() -> None:
    assert [row.family for row in FAILOVER_TYPES] == [family.name for family in FAMILIES]
    for row in FAILOVER_TYPES:
        assert default_types.get(row.family, "failover") is row
        assert issubclass(row.loaded_class, Failover)
        assert row.config_class is FailoverConfig
        assert Failover.members_of(FailoverConfig(members=("a",))) == ("a",)


# -- who is asked ----------------------------------------------------------------------------


async def test_the_first_member_answers(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")
    work = Down()
    assert await main.do(work) == "a"
    assert answered_by() == "a"
    assert work.asked == ["a"]
    assert isinstance(main, Talk)


async def test_the_next_one_answers_where_a_backend_fails(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b", "c")
    assert await main.do(Down("a", "b")) == "c"
    assert answered_by() == "c"


async def test_a_member_whose_breaker_is_open_is_not_asked(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")
    await main.do(Down("a"))
    calls = registry.require("a")._guard.calls
    work = Down()
    assert await main.do(work) == "b"
    assert work.asked == ["b"]
    assert registry.require("a")._guard.calls == calls


async def test_the_first_one_answers_again_once_its_breaker_lets_a_probe_pass(
    registry: ProviderRegistry[Any], clock: Clock
) -> None:
    main = await add(registry, "a", "b")
    await main.do(Down("a"))
    clock.now = 60.0
    assert await main.do(Down("a")) == "b"  # the probe failed, the call did not
    clock.now = 119.0
    assert await main.do(Down()) == "b"
    clock.now = 120.0
    assert await main.do(Down()) == "a"
    assert await main.do(Down()) == "a"


async def test_while_a_probe_is_under_way_the_others_are_asked(
    registry: ProviderRegistry[Any], clock: Clock
) -> None:
    main = await add(registry, "a", "b")
    await main.do(Down("a"))
    clock.now = 60.0
    gate = Gate()
    probe = asyncio.create_task(main.do(gate))
    await gate.reached.wait()
    assert await main.do(Down()) == "b"
    gate.opened.set()
    await probe
    assert await main.do(Down()) == "a"


async def test_an_unhealthy_member_is_asked_last(registry: ProviderRegistry[Any]) -> None:
    ill = Backend(health=raising(ValueError("ill")))
    main = await add(registry, a=ill, b=Backend())
    registry.apply(NO_BREAKERS)
    for _ in range(2):
        await registry.get_provider_health("a")
    assert registry.health("a").status is HealthStatus.UNHEALTHY
    work = Down()
    assert await main.do(work) == "b"
    assert work.asked == ["b"]
    work = Down("b")
    assert await main.do(work) == "a"
    assert work.asked == ["b", "a"]


async def test_a_member_that_cannot_be_connected_is_passed(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, a=Backend(connect=raising(PermissionError("no"))), b=Backend())
    assert await main.do(Down()) == "b"


async def test_nor_does_it_matter_whose_fault_that_is(registry: ProviderRegistry[Any]) -> None:
    refused = Backend(connect=raising(PermissionDeniedError("wrong password")))
    main = await add(registry, a=refused, b=Backend())
    assert await main.do(Down()) == "b"
    assert refused.connects == 1
    assert registry.require("a")._guard.breaker.failures == 0


async def test_a_disposed_member_is_passed(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")
    await registry.dispose("a")
    assert await main.do(Down()) == "b"


async def test_a_member_that_is_not_there_is_passed_and_told_once(
    registry: ProviderRegistry[Any], caplog: pytest.LogCaptureFixture
) -> None:
    await registry.register("b", SampleConfig(label="b"), type="member")
    main = await registry.register("main", {"type": "failover", "members": "a,b"})
    with caplog.at_level(logging.ERROR, LOGGER):
        for _ in range(3):
            assert await main.do(Down()) == "b"
    (record,) = caplog.records
    assert "Member a of failover provider main cannot be used: Provider not found: a" in str(
        record.msg % record.args
    )


async def test_a_member_that_is_replaced_is_found_under_its_name(
    registry: ProviderRegistry[Any],
) -> None:
    main = await add(registry, "a", "b")
    await main.do(Down())
    await registry.unregister("a")
    assert await main.do(Down()) == "b"
    await registry.register("a", SampleConfig(label="another a"), type="member")
    assert await main.do(Down()) == "another a"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionFailedError("gone"),
        OperationTimeoutError("late"),
        ConnectionResetError("reset"),
        TimeoutError(),
        ProviderError("broken"),
        CircuitOpenError("open"),
        CreationFailedError("not built"),
        ImportFailedError("no such extra"),
        InvalidStateError("disposed"),
        UnsupportedCapabilityError("cannot"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_another_member_could_cure_moves_on(
    registry: ProviderRegistry[Any], error: Exception
) -> None:
    main = await add(registry, "a", "b")
    assert await main.do(Down("a", error=error)) == "b"


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ValueError("wrong"), TypeError("x"), PermissionError("no"), LookupError("x")],
    ids=lambda error: type(error).__name__,
)
async def test_the_callers_own_mistake_does_not(
    registry: ProviderRegistry[Any], error: Exception
) -> None:
    main = await add(registry, "a", "b")
    work = Down("a", error=error)
    with pytest.raises(type(error)) as caught:
        await main.do(work)
    assert caught.value is error
    assert work.asked == ["a"]
    assert answered_by() == "a"


async def test_cancellation_does_not_move_on(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")
    gate = Gate()
    task = asyncio.create_task(main.do(gate))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert registry.require("b")._guard.calls == 0


async def test_a_member_says_itself_what_counts_against_its_backend(
    registry: ProviderRegistry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Member, "_is_failure", lambda _, error: isinstance(error, KeyError))
    main = await add(registry, "a", "b")
    assert await main.do(Down("a", error=KeyError("x"))) == "b"


async def test_a_members_own_timeout_moves_on(registry: ProviderRegistry[Any]) -> None:
    await registry.register(
        "a", {"type": "member", "label": "a", "timeout": 0.01, "options": {"backend": Backend()}}
    )
    await registry.register("b", SampleConfig(label="b"), type="member")
    main = await registry.register("main", {"type": "failover", "members": "a,b"})

    async def work(member: Any) -> str:
        if member.config.label == "a":
            await asyncio.Event().wait()
        return member.config.label

    assert await main.do(work) == "b"


# -- when nobody can -------------------------------------------------------------------------


async def test_the_error_names_every_member_with_its_reason(
    registry: ProviderRegistry[Any],
) -> None:
    main = await add(registry, "a", "b")
    with pytest.raises(ConnectionFailedError) as caught:
        await main.do(Down("a", "b"))
    error = caught.value
    assert str(error) == (
        "do of provider 'main' failed: no member could answer.\n"
        "  a: do: a is down\n"
        "  b: do: b is down"
    )
    assert error.provider_name == "main"
    assert error.context["members"] == {
        "a": {"code": "CONNECTION_FAILED", "message": "do: a is down"},
        "b": {"code": "CONNECTION_FAILED", "message": "do: b is down"},
    }
    assert str(error.__cause__) == "do: b is down"
    assert answered_by() is None


async def test_if_all_breakers_are_open_the_error_tells_the_shortest_wait(
    registry: ProviderRegistry[Any], clock: Clock
) -> None:
    main = await add(registry, "a", "b", "c")
    await main.do(Down("a"))
    clock.now = 10.0
    with pytest.raises(ConnectionFailedError):
        await main.do(Down("b", "c"))
    clock.now = 20.0
    registry.require("c")._guard.breaker.force_open()
    work = Down()
    with pytest.raises(CircuitOpenError) as caught:
        await main.do(work)
    assert caught.value.retry_after == 40.0
    assert all(
        f"\n  {name}: Provider {name!r} was not asked" in str(caught.value) for name in "abc"
    )
    assert work.asked == []


async def test_a_backends_failure_tells_more_than_a_refusal(
    registry: ProviderRegistry[Any],
) -> None:
    main = await add(registry, "a", "b", "c")
    await registry.dispose("c")
    await main.do(Down("a"))
    with pytest.raises(ConnectionFailedError, match="no member could answer") as caught:
        await main.do(Down("b"))
    assert list(caught.value.context["members"]) == ["a", "b", "c"]  # type: ignore[call-overload]


async def test_members_that_are_not_there_are_no_lookup_error(
    registry: ProviderRegistry[Any],
) -> None:
    """Or a storage that is away would look like an object that is not there."""
    main = await registry.register("main", {"type": "failover", "members": "a,b"})
    with pytest.raises(CreationFailedError, match="a: Provider not found: a") as caught:
        await main.do(Down())
    assert not isinstance(caught.value, LookupError | ValueError)


async def test_an_error_without_a_type_of_ours_gets_one(
    registry: ProviderRegistry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Member, "_is_failure", lambda *_: True)
    for raised, expected in (
        (UnsupportedCapabilityError("x"), UnsupportedCapabilityError),
        (TimeoutError("slow"), OperationTimeoutError),
        (BrokenPipeError("gone"), ConnectionFailedError),
        (ArithmeticError("odd"), ProviderError),
    ):
        name = type(raised).__name__
        await registry.register(name, SampleConfig(label="a"), type="member")
        main = await registry.register(f"main-{name}", {"type": "failover", "members": [name]})
        with pytest.raises(expected) as caught:
            await main.do(Down("a", error=raised))
        assert f"\n  {name}: " in str(caught.value)


async def test_its_own_breaker_adds_no_trouble(registry: ProviderRegistry[Any]) -> None:
    ill = Backend(health=raising(ConnectionError("ill")))
    main = await add(registry, a=ill)
    for _ in range(10):
        await registry.get_provider_health("main")
        with pytest.raises((ConnectionFailedError, CircuitOpenError)):
            await main.do(Down("a"))
    registry.apply(RegistrySettings(health=HEALTH))  # new settings for all bring it none either
    for _ in range(10):
        await registry.get_provider_health("main")
    registry.require("a")._guard.breaker.reset()
    assert await main.do(Down()) == "a"


# -- streams ---------------------------------------------------------------------------------


async def test_a_stream_moves_on_before_its_first_item(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")

    async def work(member: Any) -> AsyncIterator[str]:
        if member.config.label == "a":
            raise BackendError("down")
        yield member.config.label
        yield "more"

    assert [item async for item in main.each(work)] == ["b", "more"]
    assert answered_by() == "b"


async def test_a_stream_does_not_move_on_afterwards(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")

    async def work(member: Any) -> AsyncIterator[str]:
        yield member.config.label
        raise BackendError("lost")

    items: list[str] = []
    with pytest.raises(ConnectionFailedError, match="each: lost"):
        async for item in main.each(work):
            items += [item]
    assert items == ["a"]
    assert registry.require("b")._guard.calls == 0


async def test_an_empty_stream_is_an_answer(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")

    async def work(_: Any) -> AsyncIterator[str]:
        for item in ():
            yield item

    assert [item async for item in main.each(work)] == []
    assert answered_by() == "a"


async def test_a_stream_nobody_gives_is_an_error(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")

    async def work(member: Any) -> AsyncIterator[str]:
        raise BackendError(member.config.label)
        yield ""

    with pytest.raises(ConnectionFailedError, match="a: each: a\n  b: each: b"):
        await anext(main.each(work))


async def test_a_stream_that_is_left_is_closed_at_once(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a")
    ended: list[str] = []

    async def work(member: Any) -> AsyncIterator[str]:
        try:
            yield member.config.label
            yield "more"
        finally:
            ended.append("ended")

    items = main.each(work)
    assert await anext(items) == "a"
    await items.aclose()
    assert registry.require("a")._guard.in_flight == 0


async def test_a_plain_operation_moves_on_too(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")
    assert main.plain(Down("a").plain) == "b"
    assert answered_by() == "b"
    with pytest.raises(KeyError):
        main.plain(Down("b", error=KeyError("x")).plain)


# -- arguments that can be read once ---------------------------------------------------------


async def chunks() -> AsyncIterator[bytes]:
    for chunk in (b"one", b"two"):
        yield chunk


class Once:
    """Async iterable, and gone when it was iterated over."""

    def __init__(self) -> None:
        self._items = chunks()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._items


class Pipe(io.BytesIO):
    """A file that cannot be wound back, and is not asked where it stands."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError("a pipe")


class Liar(Pipe):
    """One that says it could be."""

    def seekable(self) -> bool:
        return True


SOURCES: dict[str, Callable[[], Any]] = {
    "async generator": chunks,
    "async iterable": Once,
    "iterator": lambda: iter((b"one", b"two")),
    "pipe": lambda: Pipe(b"onetwo"),
    "file with no position": lambda: Liar(b"onetwo"),
}


async def everything(source: Any, size: int = -1) -> bytes:
    if hasattr(source, "__aiter__"):
        return b"".join([chunk async for chunk in source])
    return source.read(size) if hasattr(source, "read") else b"".join(source)


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_call_moves_on_if_its_argument_was_not_read(
    registry: ProviderRegistry[Any], kind: str
) -> None:
    main = await add(registry, "a", "b")

    async def work(member: Any, source: Any) -> bytes:
        if member.config.label == "a":
            raise BackendError("down")
        return await everything(source)

    assert await main.read(work, SOURCES[kind]()) == b"onetwo"
    assert await main.read(work, source=SOURCES[kind]()) == b"onetwo"


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_call_does_not_move_on_if_it_was(
    registry: ProviderRegistry[Any], kind: str
) -> None:
    main = await add(registry, "a", "b")

    async def work(_: Any, source: Any) -> bytes:
        if hasattr(source, "__anext__"):
            await anext(source)
        else:
            source.read(1) if hasattr(source, "read") else next(source)
        raise BackendError("down")

    with pytest.raises(ConnectionFailedError, match="down") as caught:
        await main.read(work, SOURCES[kind]())
    (note,) = caught.value.__notes__
    assert note.startswith("No further member of failover provider 'main' was asked: the ")
    assert registry.require("b")._guard.calls == 0


async def test_an_iterator_that_was_closed_counts_as_read(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")

    async def work(_: Any, source: Any) -> None:
        await source.aclose()
        raise BackendError("down")

    with pytest.raises(ConnectionFailedError) as caught:
        await main.read(work, chunks())
    assert caught.value.__notes__


async def test_a_seekable_file_is_wound_back_to_where_it_stood(
    registry: ProviderRegistry[Any], tmp_path: Path
) -> None:
    main = await add(registry, "a", "b")
    path = tmp_path / "file"
    path.write_bytes(b"onetwothree")

    async def work(member: Any, source: Any) -> bytes:
        answer = await asyncio.to_thread(source.read, 6)
        if member.config.label == "a":
            raise BackendError("down")
        return answer

    with path.open("rb") as file:
        file.seek(3)
        assert await main.read(work, file) == b"twothr"


async def test_a_file_that_was_closed_or_lent_out_is_not_read_again(
    registry: ProviderRegistry[Any], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    main = await add(registry, "a", "b")
    with path.open("rb") as file:

        async def lend(_: Any, source: Any) -> None:
            source.fileno()
            raise BackendError("down")

        async def close(_: Any, source: Any) -> None:
            file.read()
            source.read()
            file.close()
            raise BackendError("down")

        for work in (lend, close):
            registry.require("a")._guard.breaker.reset()
            with pytest.raises(ConnectionFailedError) as caught:
                await main.read(work, file)
            assert "BufferedReader" in caught.value.__notes__[0]


async def test_a_file_that_a_thread_still_reads_is_not_given_to_another_member(
    registry: ProviderRegistry[Any],
) -> None:
    main = await add(registry, "a", "b")
    reading, go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reading.set()
            go_on.wait(10)
            return super().read(size)

    async def work(_: Any, source: Any) -> None:
        threading.Thread(target=source.read).start()
        await asyncio.to_thread(reading.wait)
        raise BackendError("given up")

    with pytest.raises(ConnectionFailedError) as caught:
        await main.read(work, Slow(b"content"))
    go_on.set()
    assert caught.value.__notes__


async def test_a_member_that_is_left_behind_gets_nothing_more(
    registry: ProviderRegistry[Any],
) -> None:
    main = await add(registry, "a", "b")
    kept: list[Any] = []

    async def work(member: Any, source: Any) -> Any:
        if member.config.label == "b":
            return await everything(source)
        kept.append(source)
        raise BackendError("down")

    for kind in ("async generator", "pipe", "iterator"):
        registry.require("a")._guard.breaker.reset()
        assert await main.read(work, SOURCES[kind]()) == b"onetwo"
        with pytest.raises(RuntimeError, match="is over"):
            await everything(kept[-1])


async def test_a_file_looks_like_itself(registry: ProviderRegistry[Any], tmp_path: Path) -> None:
    main = await add(registry, "a")
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\n")

    async def work(_: Any, source: Any) -> Any:
        target = bytearray(1)
        lines = [source.readline(), *source]
        return source.name, source.tell(), lines, source.seek(0), source.readinto(target), target

    with path.open("rb") as file:
        expected = (str(path), 8, [b"one\n", b"two\n"], 0, 1, bytearray(b"o"))
        assert await main.read(work, file) == expected


# -- groups of groups ------------------------------------------------------------------------


async def grouped(registry: ProviderRegistry[Any], name: str, *members: str) -> Any:
    return await registry.register(name, {"type": "failover", "members": members})


async def test_a_group_can_be_a_member(registry: ProviderRegistry[Any]) -> None:
    await add(registry, "a", "b")
    await registry.register("c", SampleConfig(label="c"), type="member")
    outer = await grouped(registry, "outer", "main", "c")
    assert await outer.do(Down()) == "a"
    assert answered_by() == "main/a"
    assert await outer.do(Down("a")) == "b"
    assert answered_by() == "main/b"
    assert await outer.do(Down("b")) == "c"
    assert answered_by() == "c"
    assert await outer.do(Down()) == "c"  # both breakers are open
    with pytest.raises(ConnectionFailedError) as caught:
        await outer.do(Down("c"))
    assert "\n  main: do of provider 'main' failed" in str(caught.value)
    assert "\n    a: Provider 'a' was not asked" in str(caught.value)


async def test_a_group_is_asked_after_others_while_all_its_members_are_down(
    registry: ProviderRegistry[Any],
) -> None:
    main = await add(registry, "a", "b")
    await registry.register("c", SampleConfig(label="c"), type="member")
    outer = await grouped(registry, "outer", "main", "c")
    a, b = registry.require("a"), registry.require("b")
    a._guard.breaker.force_open()
    assert why_not_yet("main", main, registry) == ""
    assert await outer.do(Down()) == "b"
    b._guard.breaker.force_open()
    assert why_not_yet("main", main, registry) == "its circuit breaker is open"
    down = Down()
    assert await outer.do(down) == "c"
    assert down.asked == ["c"]
    await registry.unregister("b")
    assert "not found: b" in why_not_yet("main", main, registry)


async def test_a_cycle_is_refused_by_name(registry: ProviderRegistry[Any]) -> None:
    await grouped(registry, "one", "two")
    await grouped(registry, "two", "three")
    with pytest.raises(InvalidConfigError, match=r"three.* needs .*one.* needs .*two"):
        await grouped(registry, "three", "one")
    with pytest.raises(InvalidConfigError):
        await grouped(registry, "self", "self")


async def test_a_cycle_is_refused_when_a_member_is_looked_up() -> None:
    made: dict[str, Any] = {}
    for name, members in (("a", "b"), ("b", "c"), ("c", "b"), ("d", "d")):
        group = TalkFailover(FailoverConfig.model_validate({"members": members}))
        made[name] = group.bind(name, made.__getitem__)
    for name, cycle in (("a", "a -> b -> c -> b"), ("b", "b -> c -> b"), ("d", "d -> d")):
        with pytest.raises(InvalidConfigError, match=cycle):
            await made[name].do(Down())


async def test_without_a_registry_it_works_and_knows_of_no_capabilities() -> None:
    member = Member(SampleConfig(label="a"))
    inner = TalkFailover(FailoverConfig(members=("none", "a")))
    outer = TalkFailover(FailoverConfig(members=("inner",)))
    there: dict[str, Any] = {"inner": inner, "a": member}

    def lookup(name: str) -> Any:
        if name not in there:
            raise NotFoundError(f"no {name}")
        return there[name]

    inner.bind("inner", lookup)
    assert await outer.bind("outer", lookup).do(Down()) == "a"
    assert answered_by() == "inner/a"
    assert outer.capabilities == frozenset()


# -- telling ---------------------------------------------------------------------------------


async def test_moving_on_is_an_event(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")
    told: list[ProviderFailedOver] = []
    registry.on(ProviderFailedOver, told.append)
    await main.do(Down("a"))
    await main.do(Down("a"))  # skipped: its breaker told why
    (event,) = told
    assert (event.family, event.name, event.member) == ("storage", "main", "a")
    assert isinstance(event.error, ConnectionFailedError)


async def test_the_log_has_a_line_for_each_change_of_who_answers(
    registry: ProviderRegistry[Any], caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    main = await add(registry, "a", "b")
    with caplog.at_level(logging.INFO, LOGGER):
        await main.do(Down())
        for _ in range(3):
            await main.do(Down("a"))
        clock.now = 60.0
        for _ in range(3):
            await main.do(Down())
    lines = [one for one in caplog.records if one.name == LOGGER]
    assert [one.getMessage() for one in lines] == [
        "Failover provider main: b answers now, a did before; a: do: a is down",
        "Failover provider main: a answers now, b did before",
    ]
    assert {one.levelno for one in lines} == {logging.WARNING}


async def test_a_change_for_a_breaker_that_is_open_tells_so(
    registry: ProviderRegistry[Any], caplog: pytest.LogCaptureFixture
) -> None:
    main = await add(registry, "a", "b")
    registry.require("a")._guard.breaker.force_open()
    with caplog.at_level(logging.INFO, LOGGER):
        await main.do(Down())
    assert "a: its circuit breaker is open" in caplog.text


async def test_a_capability_that_a_member_lacks_is_no_change(
    registry: ProviderRegistry[Any], caplog: pytest.LogCaptureFixture
) -> None:
    main = await add(registry, "a", "b")
    with caplog.at_level(logging.INFO, LOGGER):
        assert await main.do(Down("a", error=UnsupportedCapabilityError("cannot"))) == "b"
    assert not [one for one in caplog.records if one.name == LOGGER]


async def test_each_task_is_told_who_answered_its_own_call(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")
    registry.apply(NO_BREAKERS)

    async def one(number: int) -> bool:
        down = ("a",) if number % 2 else ()
        await asyncio.sleep(0)
        who = await main.do(Down(*down))
        await turns(number % 5)
        return who == answered_by() == ("b" if number % 2 else "a")

    assert all(await asyncio.gather(*map(one, range(200))))
    assert answered_by() is None


# -- health and capabilities -----------------------------------------------------------------


async def test_it_is_well_if_one_member_is_without_waiting_for_the_others(
    registry: ProviderRegistry[Any],
) -> None:
    hanging = Gate()
    main = await add(
        registry,
        a=Backend(health=hanging),
        b=Backend(health=raising(ConnectionError("ill"))),
        c=Backend(),
    )
    assert await main.check_health() is None
    assert hanging.reached.is_set()  # all were asked
    assert (await registry.get_provider_health("main")).status is HealthStatus.HEALTHY
    assert len(asyncio.all_tasks()) == 1


async def test_it_is_ill_if_all_members_are_and_names_them(registry: ProviderRegistry[Any]) -> None:
    await add(
        registry,
        a=Backend(health=raising(ConnectionError("cut off"))),
        b=Backend(health=raising(BackendError("broken"))),
    )
    await registry.reload("main", {"type": "failover", "members": "a,b,c"})
    result = await registry.get_provider_health("main")
    assert result.status is HealthStatus.UNHEALTHY
    for part in ("a: ConnectionError: cut off", "b: check_health: broken", "c: Provider not found"):
        assert f"\n  {part}" in result.message


async def test_it_is_degraded_if_that_is_the_best_of_them(
    registry: ProviderRegistry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check_health(self: Member) -> HealthStatus | None:
        await self.config.backend.health()
        return HealthStatus.DEGRADED

    monkeypatch.setattr(Member, "check_health", check_health)
    main = await add(registry, a=Backend(health=raising(ConnectionError("ill"))), b=Backend())
    assert await main.check_health() is HealthStatus.DEGRADED


async def test_a_check_that_is_cancelled_leaves_no_task(registry: ProviderRegistry[Any]) -> None:
    gate = Gate()
    main = await add(registry, a=Backend(health=gate))
    check = asyncio.create_task(main.check_health())
    await gate.reached.wait()
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    assert len(asyncio.all_tasks()) == 1


async def test_it_can_what_all_members_can_and_connects_none(
    registry: ProviderRegistry[Any],
) -> None:
    main = await add(registry, "a", "b")
    assert main.capabilities == {"search"}
    await registry.register_instance("c", object(), capabilities={"search", "encryption"})
    await registry.reload("main", {"type": "failover", "members": "a,c,none"})
    assert main.capabilities == {"search"}
    outer = await grouped(registry, "outer", "c")
    assert outer.capabilities == {"search", "encryption"}
    assert registry.require("a")._guard.status == "registered"


# -- any family ------------------------------------------------------------------------------


async def test_by_itself_it_forwards_the_operations_its_members_have(
    registry: ProviderRegistry[Any],
) -> None:
    await add(registry, "a", "b")
    some = await registry.register("some", {"type": "any", "members": "none,a,b"})
    assert await some.do(Down("a")) == "b"
    assert await some.special() == "b"
    assert [item async for item in some.items(2)] == [0, 1]
    assert some.plain(Down().plain) == "b"
    with pytest.raises(AttributeError, match="has no attribute 'helper'"):
        some.helper(1)


async def test_a_member_without_the_operation_is_passed(registry: ProviderRegistry[Any]) -> None:
    await registry.register("a", SampleConfig(label="a"), type="sample")
    await registry.register("b", SampleConfig(label="b"), type="member")
    some = await registry.register("some", {"type": "any", "members": "a,b"})
    assert await some.special() == "b"
    await registry.unregister("b")
    with pytest.raises(AttributeError):
        await some.special()


async def test_an_object_can_be_a_member(registry: ProviderRegistry[Any]) -> None:
    class Plain:
        async def do(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
            raise ConnectionError("nobody")

    await registry.register_instance("plain", Plain())
    await registry.register("b", SampleConfig(label="b"), type="member")
    main = await grouped(registry, "main", "plain", "b")
    assert await main.do(Down()) == "b"
    assert await main.check_health() is None


# -- what it costs ---------------------------------------------------------------------------


async def test_a_call_that_succeeds_makes_no_task_and_leaves_nothing(
    registry: ProviderRegistry[Any],
) -> None:
    main = await add(registry, "a", "b")
    registry.apply(NO_BREAKERS)
    await main.do(Down("a"))
    made: list[Any] = []
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> Any:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    try:
        await main.do(Down())
        await main.do(Down("a"))
    finally:
        loop.set_task_factory(None)
    assert made == []


async def test_what_moved_on_is_freed_at_once(registry: ProviderRegistry[Any]) -> None:
    main = await add(registry, "a", "b")
    registry.apply(NO_BREAKERS)

    async def lost(member: Any) -> AsyncIterator[str]:
        if member.config.label == "a":
            raise BackendError("down")
        yield "b"

    await main.do(Down("a"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            await main.do(Down("a"))
            assert [item async for item in main.each(lost)] == ["b"]
        assert gc.collect() < 10
    finally:
        gc.enable()
