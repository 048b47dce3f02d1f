"""AI services that stand in for each other, and the one layer of retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from purveyor.providers.ai import AIConfig, AIProvider, Chunk, Completion, FinishReason
from purveyor.providers.ai.base import Request
from purveyor.providers.ai.errors import (
    AccessDeniedError,
    ApplicationNotRunningError,
    AuthenticationError,
    BadResponseError,
    ContentRefusedError,
    ContextTooLongError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
    StreamInterruptedError,
)
from purveyor.providers.registry import ProviderRegistry, register_provider
from purveyor.providers.registry.failover import answered_by, stand_in_waits
from purveyor.providers.web.retry import retry_after
from purveyor.providers.web.transport import Answer, Transport
from purveyor.testing.doubles import Double, Fault
from tests.providers.ai.parrots import Parrot, instance_of, parrot_types

CURABLE = [
    OverloadedError("busy"),
    ServiceTimeoutError("silent"),
    ServiceConnectionError("gone"),
    BadResponseError("babble"),
    RateLimitedError("slower", retry_after=20),
    QuotaExhaustedError("spent"),
    ApplicationNotRunningError("not there"),
    StreamInterruptedError("broken"),
    ModelNotFoundError("which?"),
]
SEEN = [
    InvalidRequestError("what?"),
    ContextTooLongError("too long"),
    ContentRefusedError("no"),
    AuthenticationError("who?"),
    AccessDeniedError("not you"),
]


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[ProviderRegistry[Any]]:
    """``main`` is made of ``first`` and ``second``."""
    made = ProviderRegistry[Any]("ai", types=parrot_types(), home=tmp_path)
    await made.register("first", {"type": "parrot", "model": "one"})
    await made.register("second", {"type": "parrot", "model": "two"})
    await made.register("main", {"type": "failover", "members": "first,second"})
    yield made
    await made.dispose_all()


def parrot(registry: ProviderRegistry[Any], name: str) -> Parrot:
    return instance_of(registry.require(name))


def named(error: Exception) -> str:
    return type(error).__name__


# -- who answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", CURABLE, ids=named)
async def test_what_another_service_could_cure_moves_on(
    registry: ProviderRegistry[Any], error: Exception
) -> None:
    parrot(registry, "first").errors.append(error)
    assert (await registry.require("main").complete("hello")).text == "two"
    assert answered_by() == "second"


@pytest.mark.parametrize("error", CURABLE, ids=named)
async def test_so_does_a_stream_before_its_first_chunk(
    registry: ProviderRegistry[Any], error: Exception
) -> None:
    parrot(registry, "first").errors.append(error)
    texts = [chunk.text async for chunk in registry.require("main").stream("hello")]
    assert (texts, answered_by()) == (["two", ""], "second")


async def test_a_stream_that_breaks_off_later_comes_through(
    registry: ProviderRegistry[Any],
) -> None:
    parrot(registry, "first").breaks_off = StreamInterruptedError("broken", partial="one")
    said: list[str] = []
    with pytest.raises(StreamInterruptedError) as caught:
        async for chunk in registry.require("main").stream("hello"):
            said += [chunk.text]
    assert (said, caught.value.partial) == (["one"], "one")
    assert not parrot(registry, "second").asked


@pytest.mark.parametrize("error", SEEN, ids=named)
async def test_the_callers_mistake_and_a_refused_key_come_through(
    registry: ProviderRegistry[Any], error: ServiceError
) -> None:
    parrot(registry, "first").errors.append(error)
    with pytest.raises(type(error)):
        await registry.require("main").complete("hello")
    assert (answered_by(), parrot(registry, "second").asked) == ("first", [])


async def test_a_key_that_is_refused_on_connecting_comes_through_too(
    registry: ProviderRegistry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise AuthenticationError("who?")

    monkeypatch.setattr(parrot(registry, "first"), "_connect", refuse)
    with pytest.raises(AuthenticationError):
        await registry.require("main").complete("hello")


async def test_one_that_asked_to_wait_is_not_asked_until_then(
    registry: ProviderRegistry[Any],
) -> None:
    parrot(registry, "first").errors.append(RateLimitedError("slower", retry_after=20))
    for _ in range(3):
        assert (await registry.require("main").complete("hello")).text == "two"
    assert len(parrot(registry, "first").asked) == 1


async def test_a_model_that_is_named_is_asked_of_each_and_passed_where_it_is_not(
    registry: ProviderRegistry[Any],
) -> None:
    parrot(registry, "first").errors.append(ModelNotFoundError("no such model"))
    assert (await registry.require("main").complete("hello", model="three")).text == "three"
    parrot(registry, "first").errors.append(ModelNotFoundError("no such model"))
    parrot(registry, "second").errors.append(ModelNotFoundError("none here"))
    with pytest.raises(ModelNotFoundError, match=r"first: no such model\n  second: none here"):
        await registry.require("main").complete("hello", model="four")


async def test_an_outage_tells_more_than_a_model_that_the_stand_in_lacks(
    registry: ProviderRegistry[Any],
) -> None:
    parrot(registry, "first").errors.append(OverloadedError("busy"))
    parrot(registry, "second").errors.append(ModelNotFoundError("none here"))
    with pytest.raises(OverloadedError, match=r"first: busy\n  second: none here"):
        await registry.require("main").complete("hello", model="four")


async def test_members_may_be_aliases_of_models_of_one_service(
    registry: ProviderRegistry[Any],
) -> None:
    await registry.register("big", {"type": "alias", "provider": "first", "model": "big"})
    await registry.register("small", {"type": "alias", "provider": "first", "model": "small"})
    await registry.register("any", {"type": "failover", "members": "big,small,second"})
    parrot(registry, "first").errors.append(OverloadedError("busy"))
    assert (await registry.require("any").complete("hello")).text == "small"
    assert answered_by() == "small"
    parrot(registry, "first").errors.append(RateLimitedError("slower", retry_after=20))
    assert (await registry.require("any").complete("hello")).text == "two"
    asked = len(parrot(registry, "first").asked)
    assert (await registry.require("any").complete("hello")).text == "two"
    assert len(parrot(registry, "first").asked) == asked  # both are behind one breaker


async def test_an_alias_that_leads_nowhere_is_passed(registry: ProviderRegistry[Any]) -> None:
    await registry.register("lost", {"type": "alias", "provider": "nobody"})
    await registry.register("any", {"type": "failover", "members": "lost,second"})
    assert (await registry.require("any").complete("hello")).text == "two"


async def test_a_cycle_through_an_alias_is_refused_by_name(
    registry: ProviderRegistry[Any],
) -> None:
    await registry.register("one", {"type": "alias", "provider": "two"})
    with pytest.raises(Exception, match="ai:two needs ai:one needs ai:two"):
        await registry.register("two", {"type": "failover", "members": "one,first"})


# -- one layer of retries --------------------------------------------------------------------


class Chat(Double):
    """A service that answers when it likes to."""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/chat", self.chat), web.post("/events", self.events)]

    async def chat(self, _: web.Request) -> web.Response:
        return web.json_response({"text": str(self.port)})

    async def events(self, request: web.Request) -> web.StreamResponse:
        return await self.send_pieces(request, [b"data: %d\n\n" % self.port])


class Service(AIProvider[AIConfig]):
    """Asks a :class:`Chat`, by the transport of all services."""

    async def _connect(self) -> None:
        self.pauses: list[float] = []
        self._transport = Transport(
            self.config, headers=dict[str, str], explain=explain, extra="openai", pause=self._pause
        )

    async def _close(self) -> None:
        await self._transport.close()

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def _complete(self, request: Request) -> Completion:
        said = await self._transport.json("POST", "/chat", {"model": request.model})
        return Completion(said["text"], request.model, FinishReason.STOP)

    async def _stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        async for event in self._transport.events("/events", {"model": request.model}):
            yield Chunk(event.data)


def explain(answer: Answer) -> ServiceError:
    return RateLimitedError("slower", retry_after=retry_after(answer.headers))


SLOWER = Fault(status=429, headers={"Retry-After": "1"})


@pytest.fixture
def doubles() -> Iterator[list[Chat]]:
    with Chat() as one, Chat() as two, Chat() as three:
        yield [one, two, three]


@pytest.fixture
async def services(tmp_path: Path, doubles: list[Chat]) -> AsyncIterator[ProviderRegistry[Any]]:
    """``main`` is made of the services ``0`` and ``1``, ``outer`` of ``main`` and ``2``."""
    types = parrot_types()
    register_provider("service", types=types)(Service)
    made = ProviderRegistry[Any]("ai", types=types, home=tmp_path)
    for number, double in enumerate(doubles):
        await made.register(
            str(number), {"type": "service", "base_url": double.url, "model": "any"}
        )
    await made.register("main", {"type": "failover", "members": "0,1"})
    await made.register("outer", {"type": "failover", "members": "main,2"})
    yield made
    await made.dispose_all()


async def ask(provider: Any, how: str) -> str:
    if how == "complete":
        return (await provider.complete("hello")).text
    return "".join([chunk.text async for chunk in provider.stream("hello")])


def counts(doubles: list[Chat]) -> list[int]:
    return [len(double.requests) for double in doubles]


HOW = pytest.mark.parametrize("how", ["complete", "stream"])


@HOW
async def test_one_that_has_a_stand_in_is_asked_once(
    services: ProviderRegistry[Any], doubles: list[Chat], how: str
) -> None:
    doubles[0].fail(SLOWER)
    assert await ask(services.require("main"), how) == str(doubles[1].port)
    assert counts(doubles) == [1, 1, 0]


@HOW
async def test_the_last_one_may_try_again(
    services: ProviderRegistry[Any], doubles: list[Chat], how: str
) -> None:
    doubles[0].fail(SLOWER)
    doubles[1].fail(SLOWER)
    assert await ask(services.require("main"), how) == str(doubles[1].port)
    assert counts(doubles) == [1, 2, 0]


@HOW
async def test_so_may_one_whose_stand_in_is_known_to_be_down(
    services: ProviderRegistry[Any], doubles: list[Chat], how: str
) -> None:
    services.require("1")._guard.breaker.force_open()
    doubles[0].fail(SLOWER)
    assert await ask(services.require("main"), how) == str(doubles[0].port)
    assert counts(doubles) == [2, 0, 0]


@HOW
async def test_the_last_of_an_inner_group_has_the_outer_ones_stand_in(
    services: ProviderRegistry[Any], doubles: list[Chat], how: str
) -> None:
    for double in doubles:
        double.fail(SLOWER)
    assert await ask(services.require("outer"), how) == str(doubles[2].port)
    assert counts(doubles) == [1, 1, 2]
    assert answered_by() == "2"


async def test_without_a_group_it_is_tried_again(
    services: ProviderRegistry[Any], doubles: list[Chat]
) -> None:
    doubles[0].fail(SLOWER)
    assert await ask(services.require("0"), "complete") == str(doubles[0].port)
    assert counts(doubles) == [2, 0, 0]


async def test_what_a_member_leaves_running_has_no_stand_in(
    registry: ProviderRegistry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()
    left: list[asyncio.Task[bool]] = []

    async def later() -> bool:
        during = stand_in_waits()
        await ended.wait()
        return during and not stand_in_waits()

    async def complete(request: Request) -> Completion:
        left.append(asyncio.create_task(later()))
        await asyncio.sleep(0)
        return Completion("one", request.model, FinishReason.STOP)

    monkeypatch.setattr(parrot(registry, "first"), "_complete", complete)
    await registry.require("main").complete("hello")
    ended.set()
    assert await left[0]


async def test_nothing_of_it_is_left_with_the_caller_or_in_the_rest_of_a_stream(
    registry: ProviderRegistry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    async def stream(request: Request) -> AsyncIterator[Chunk]:
        for number in range(2):
            seen.append(stand_in_waits())
            yield Chunk(str(number))

    monkeypatch.setattr(parrot(registry, "first"), "_stream", stream)
    async with aclosing(cast(Any, registry.require("main").stream("hello"))) as chunks:
        async for _ in chunks:
            seen += [stand_in_waits()]
    assert seen == [True, False, False, False]
    parrot(registry, "first").errors.append(InvalidRequestError("what?"))
    with pytest.raises(InvalidRequestError):
        await registry.require("main").complete("hello")
    assert not stand_in_waits()
