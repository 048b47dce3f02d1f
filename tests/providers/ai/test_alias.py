"""A provider and a model of it under one name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from purveyor.providers.ai.alias import AliasAI, AliasConfig
from purveyor.providers.ai.errors import OverloadedError, RateLimitedError
from purveyor.providers.registry import (
    CircuitOpenError,
    HealthStatus,
    InvalidConfigError,
    ProviderRegistry,
)
from tests.providers.ai.parrots import Parrot, ParrotConfig, instance_of, parrot_types


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[ProviderRegistry[Any]]:
    made = ProviderRegistry[Any]("ai", types=parrot_types(), home=tmp_path)
    await made.register("polly", {"type": "seeing", "model": "grey", "max_tokens": 50})
    yield made
    await made.dispose_all()


async def alias(registry: ProviderRegistry[Any], name: str = "fast", **settings: Any) -> Any:
    return await registry.register(name, {"type": "alias", "provider": "polly", **settings})


def polly(registry: ProviderRegistry[Any]) -> Parrot:
    return instance_of(registry.require("polly"))


async def test_it_asks_its_provider_for_its_model(registry: ProviderRegistry[Any]) -> None:
    fast = await alias(registry, model="macaw")
    assert (await fast.complete("hello")).text == "macaw"
    chunks = [chunk async for chunk in fast.stream("hello")]
    assert (chunks[0].text, chunks[-1].completion.model) == ("macaw", "macaw")
    assert await fast.count_tokens("hello") == len("macaw")
    assert [model.id for model in await fast.models()] == ["grey"]


async def test_its_defaults_are_for_what_a_call_does_not_say(
    registry: ProviderRegistry[Any],
) -> None:
    fast = await alias(registry, model="macaw", max_tokens="7", temperature="0", system="Be brief.")
    await fast.complete("hello")
    first = polly(registry).asked[-1]
    assert (first.model, first.max_tokens, first.temperature) == ("macaw", 7, 0.0)
    assert first.system == "Be brief."
    await fast.complete("hello", model="grey", max_tokens=9, temperature=1.0, system="Sing.")
    last = polly(registry).asked[-1]
    assert (last.model, last.max_tokens, last.temperature) == ("grey", 9, 1.0)
    assert last.system == "Sing."


async def test_what_it_does_not_say_is_the_providers(registry: ProviderRegistry[Any]) -> None:
    await (await alias(registry)).complete("hello")
    asked = polly(registry).asked[-1]
    assert (asked.model, asked.max_tokens, asked.temperature) == ("grey", 50, None)


async def test_an_alias_of_an_alias_has_the_outer_ones_model(
    registry: ProviderRegistry[Any],
) -> None:
    await alias(registry, "inner", model="macaw", system="Be brief.")
    outer = await registry.register("outer", {"type": "alias", "provider": "inner", "model": "ara"})
    await outer.complete("hello")
    asked = polly(registry).asked[-1]
    assert (asked.model, asked.system) == ("ara", "Be brief.")


async def test_capabilities_and_health_are_the_providers(registry: ProviderRegistry[Any]) -> None:
    await alias(registry)
    assert registry.info("fast").capabilities == {"streaming", "vision"}
    assert registry.find_by_capability("vision") == ["fast", "polly"]
    assert (await registry.get_provider_health("fast")).status is HealthStatus.HEALTHY
    assert polly(registry).checks == 1
    polly(registry).errors += [OverloadedError("busy")] * 2  # a check is tried twice
    result = await registry.get_provider_health("fast")
    assert (result.status, result.message) == (HealthStatus.UNHEALTHY, "busy")


async def test_the_breaker_is_the_providers(registry: ProviderRegistry[Any]) -> None:
    one, other = await alias(registry, "one"), await alias(registry, "other", model="macaw")
    polly(registry).errors.append(RateLimitedError("slower", retry_after=20))
    with pytest.raises(RateLimitedError):
        await one.complete("hello")
    with pytest.raises(CircuitOpenError, match="Provider 'polly' was not asked"):
        await other.complete("hello")


async def test_one_registered_before_its_provider_is_good_once_that_is_there(
    registry: ProviderRegistry[Any],
) -> None:
    later = await registry.register("later", {"type": "alias", "provider": "jack"})
    with pytest.raises(InvalidConfigError, match=r"alias 'later' .*not there.*jack.*polly"):
        await later.complete("hello")
    assert registry.info("later").capabilities == frozenset()
    await registry.register("jack", {"type": "parrot", "model": "daw"})
    assert (await later.complete("hello")).text == "daw"


async def test_the_message_names_the_nearest(registry: ProviderRegistry[Any]) -> None:
    fast = await registry.register("fast", {"type": "alias", "provider": "poly"})
    with pytest.raises(InvalidConfigError, match=r"Provider not found: poly\. .*: polly, fast\."):
        await fast.complete("hello")


async def test_a_cycle_is_refused_by_name(registry: ProviderRegistry[Any]) -> None:
    await registry.register("a", {"type": "alias", "provider": "b"})
    with pytest.raises(InvalidConfigError, match="ai:b needs ai:a needs ai:b"):
        await registry.register("b", {"type": "alias", "provider": "a"})
    with pytest.raises(InvalidConfigError, match="ai:me needs ai:me"):
        await registry.register("me", {"type": "alias", "provider": "me"})


async def test_settings_that_make_no_sense_are_refused(registry: ProviderRegistry[Any]) -> None:
    wrong: list[dict[str, Any]]
    wrong = [{"provider": ""}, {"max_tokens": 0}, {"temperature": -1}, {"modle": "x"}]
    for settings in wrong:
        with pytest.raises(InvalidConfigError):
            await registry.register("fast", {"type": "alias", "provider": "polly", **settings})


async def test_leaving_a_stream_ends_the_providers() -> None:
    parrot = Parrot(ParrotConfig(model="grey"))
    ended: list[bool] = []

    async def stream(prompt: str, **_: object) -> AsyncIterator[str]:
        try:
            yield prompt
            yield prompt
        finally:
            ended.append(True)

    parrot.stream = stream  # type: ignore[method-assign,assignment]
    fast = AliasAI(AliasConfig(provider="polly")).bind("fast", lambda _: parrot)
    async with aclosing(cast(Any, fast.stream("hello"))) as chunks:
        assert await anext(chunks) == "hello"
    assert ended == [True]
    assert fast.capabilities == frozenset()
