"""AI providers by name, by provider and model, and by what is needed."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dependency_injector.wiring import Provide, inject

from purveyor.containers import ApplicationContainer
from purveyor.providers.ai.errors import OverloadedError, RateLimitedError
from purveyor.providers.ai.routing import price_of
from purveyor.providers.registry import InvalidConfigError, NotFoundError
from purveyor.settings import Settings
from tests.providers.ai.parrots import Parrot, ParrotConfig, instance_of, parrot_types

PRICES = {
    "grey": {"input": 1, "output": "4.5"},
    "macaw": {"input": "0.1", "output": "0.5"},
}


def made(tmp_path: Path, *, aliases: dict[str, str] | None = None, **providers: Any) -> Any:
    """Return a container with the AI providers given."""
    settings = Settings(
        home=tmp_path,
        ai={"providers": providers, "aliases": aliases or {}},
        registry={"health": {"retries": 0, "monitor": False}},
    )
    return ApplicationContainer(settings=settings, types=parrot_types())


@pytest.fixture
def container(tmp_path: Path) -> Any:
    return made(
        tmp_path,
        aliases={"fast": "polly:macaw", "plain": "polly", "local": "jack:llama3:8b"},
        polly={"type": "parrot", "model": "grey", "prices": PRICES},
        jack={"type": "seeing", "model": "daw", "priority": 40},
    )


@inject
def injected(
    preset: Any = Provide["ai.polly:macaw"], alias: Any = Provide["ai.fast"]
) -> tuple[Any, Any]:
    return preset, alias


class TestProviderAndModel:
    async def test_the_model_is_preset(self, container: Any) -> None:
        async with container.lifespan():
            assert (await container.ai("polly:macaw").complete("hello")).text == "macaw"
            assert (await container.ai("polly").complete("hello")).text == "grey"
            said = [chunk.text async for chunk in container.ai("polly:macaw").stream("hello")]
            assert said == ["macaw", ""]

    @pytest.mark.parametrize("model", ["llama3:8b", "org/model:free", "gpt-4.1"])
    async def test_it_is_all_that_comes_after_the_first_colon(
        self, container: Any, model: str
    ) -> None:
        async with container.lifespan():
            assert (await container.ai(f"polly:{model}").complete("hello")).text == model

    async def test_a_call_may_name_another(self, container: Any) -> None:
        async with container.lifespan():
            assert (await container.ai("polly:macaw").complete("hi", model="ara")).text == "ara"

    async def test_what_it_costs_is_what_the_model_costs(self, container: Any) -> None:
        async with container.lifespan():
            answer = await container.ai("polly:macaw").complete("hello")
            assert answer.usage.cost == Decimal("0.1")  # a million tokens were read
            assert (await container.ai("polly:ara").complete("hello")).usage.cost is None

    def test_nothing_is_registered_and_nothing_kept(self, container: Any) -> None:
        registry = container.ai.registry
        before = (registry.names(), dict(registry.handles))
        for number in range(100):
            container.ai(f"polly:model-{number}")
        assert registry.names() == before[0]
        assert set(registry.handles) - set(before[1]) <= {"polly"}
        assert not [name for name in container.ai._ready if ":" in name]

    def test_selecting_connects_nothing_and_tells_what_it_is(self, container: Any) -> None:
        preset = container.ai("jack:daw:2")
        assert container.ai("jack")._guard.status == "registered"
        assert repr(preset) == "<AliasAI jack:daw:2>"
        assert preset.capabilities == {"streaming", "vision"}

    def test_the_provider_must_be_there(self, container: Any) -> None:
        with pytest.raises(NotFoundError, match=r"not found: poly\. .*: polly, "):
            container.ai("poly:macaw")
        for name in ("polly:", ":macaw", ":"):
            with pytest.raises(NotFoundError):
                container.ai(name)

    async def test_an_override_of_the_provider_applies_to_it(self, container: Any) -> None:
        fake = Parrot(ParrotConfig(model="fake"))
        with container.ai.override_provider("polly", fake):
            assert (await container.ai("polly:macaw").complete("hello")).text == "macaw"
        assert [request.model for request in fake.asked] == ["macaw"]

    async def test_a_provider_that_only_a_test_knows_will_do(self, container: Any) -> None:
        fake = Parrot(ParrotConfig(model="fake"))
        with container.ai.override_provider("cloud", fake):
            preset = container.ai("cloud:big")
            assert (await preset.complete("hello")).text == "big"
            assert preset.capabilities == frozenset()

    def test_it_can_be_overridden_itself(self, container: Any) -> None:
        with container.ai.override_provider("polly:macaw", "fake"):
            assert container.ai("polly:macaw") == "fake"
            assert container.ai("polly:grey") != "fake"

    async def test_an_override_of_the_whole_selector_applies(
        self, container: Any, tmp_path: Path
    ) -> None:
        other = made(tmp_path, polly={"type": "parrot", "model": "other"})
        with container.ai.override(other.ai):
            assert container.ai("polly:macaw")._provider is other.ai("polly")
            assert container.ai.select() is other.ai("polly")
        with container.ai.override("everything"):
            assert container.ai("polly:macaw") == container.ai.select() == "everything"

    async def test_it_is_injected_like_any_other(self, container: Any) -> None:
        container.wire(modules=[sys.modules[__name__]])
        async with container.lifespan():
            assert [(await one.complete("hello")).text for one in injected()] == ["macaw", "macaw"]
        container.unwire()

    def test_it_works_without_an_event_loop(self, container: Any) -> None:
        with container.blocking as services:
            preset = services.ai("polly:macaw")
            assert preset.complete("hello").text == "macaw"
            assert [chunk.text for chunk in preset.stream("hello")] == ["macaw", ""]
            assert services.family("ai")("fast").complete("hello").text == "macaw"
            assert services.ai.select(capabilities={"vision"}).complete("hello").text == "daw"


class TestAliases:
    """Those of the settings; see tests/settings/test_aliases.py for how they are written."""

    async def test_they_are_providers_like_others(self, container: Any) -> None:
        async with container.lifespan():
            for name, model in (("fast", "macaw"), ("plain", "grey"), ("local", "llama3:8b")):
                assert (await container.ai(name).complete("hello")).text == model
        assert {"fast", "plain", "local"} <= set(container.ai.registry.names())
        assert container.ai.registry.info("fast").origin == "argument ai.aliases.fast"

    async def test_one_may_be_the_default(self, tmp_path: Path) -> None:
        settings = Settings(
            home=tmp_path,
            ai={
                "default": "fast",
                "aliases": {"fast": "polly:macaw"},
                "providers": {"polly": {"type": "parrot"}},
            },
        )
        container: Any = ApplicationContainer(settings=settings, types=parrot_types())
        async with container.lifespan():
            assert (await container.ai().complete("hello")).text == "macaw"

    async def test_an_override_of_what_one_stands_for_applies(self, tmp_path: Path) -> None:
        container = made(
            tmp_path,
            aliases={"fast": "polly:macaw", "faster": "fast"},
            polly={"type": "parrot", "model": "grey"},
            main={"type": "failover", "members": "faster,polly"},
        )
        fake = Parrot(ParrotConfig(model="fake"))
        async with container.lifespan():
            with container.ai.override_provider("polly", fake):
                for name in ("fast", "faster", "main", "fast:ara"):
                    await container.ai(name).complete("hello")
            assert [asked.model for asked in fake.asked] == ["macaw", "macaw", "macaw", "ara"]
            await container.ai("fast").complete("hello")
            assert len(fake.asked) == 4
            assert len(instance_of(container.ai("polly")).asked) == 1

    def test_they_leave_the_only_provider_the_default_one(self, tmp_path: Path) -> None:
        container = made(tmp_path, aliases={"fast": "polly:macaw"}, polly={"type": "parrot"})
        assert container.ai() is container.ai("polly")
        assert container.ai() is container.ai("polly")  # now that it is registered
        container = made(tmp_path, aliases={"fast": "polly:macaw"})
        assert container.ai() is container.ai("fast")

    async def test_one_that_leads_nowhere_is_told_with_its_place(self, tmp_path: Path) -> None:
        container = made(tmp_path, aliases={"fast": "poly:x"}, polly={"type": "parrot"})
        async with container.lifespan():
            with pytest.raises(
                InvalidConfigError,
                match=r"alias 'fast' \(argument ai\.aliases\.fast\) .*poly\. .*: polly, fast",
            ):
                await container.ai("fast").complete("hello")

    async def test_what_they_stand_for_can_change(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PURVEYOR_AI__ALIASES__FAST", "polly:macaw")
        providers = {"polly": {"type": "parrot"}}
        container: Any = ApplicationContainer(
            settings=Settings(home=tmp_path, ai={"providers": providers}), types=parrot_types()
        )
        async with container.lifespan():
            fast = container.ai("fast")
            assert (await fast.complete("hello")).text == "macaw"
            monkeypatch.setenv("PURVEYOR_AI__ALIASES__FAST", "polly:ara")
            await container.discovery().refresh()
            assert (await fast.complete("hello")).text == "ara"


class TestSelect:
    def test_by_capability(self, container: Any) -> None:
        assert container.ai.select(capabilities={"vision"}) is container.ai("jack")
        assert container.ai.select(capabilities={"Streaming"}) is not container.ai("jack")

    def test_the_highest_priority_comes_first_then_the_lowest_cost_then_the_name(
        self, tmp_path: Path
    ) -> None:
        dear = {"type": "parrot", "model": "grey", "prices": PRICES}
        cheap = {"type": "parrot", "model": "macaw", "prices": PRICES}
        free = {"type": "parrot", "model": "unknown"}
        container = made(tmp_path, a=free, b=dear, d=cheap, c=cheap)
        assert container.ai.select() is container.ai("c")
        container = made(tmp_path, a=free | {"priority": 60}, b=dear, c=cheap)
        assert container.ai.select() is container.ai("a")

    def test_max_cost_is_what_a_million_tokens_of_answers_may_cost(self, container: Any) -> None:
        for limit in (Decimal("4.5"), 4.5, 5):
            assert container.ai.select(max_cost=limit) is container.ai("fast")
        assert container.ai.select(max_cost=0.5) is container.ai("fast")
        with pytest.raises(NotFoundError):
            container.ai.select(max_cost=0.49)
        for wrong in (-1, float("nan")):
            with pytest.raises(ValueError, match=r"max_cost is .*: it must be a number"):
                container.ai.select(max_cost=wrong)

    def test_an_alias_counts_with_its_model_a_group_with_its_dearest(self, tmp_path: Path) -> None:
        container = made(
            tmp_path,
            aliases={"fast": "polly:macaw", "odd": "polly:unknown"},
            polly={"type": "parrot", "model": "grey", "prices": PRICES},
            any={"type": "failover", "members": "fast,polly"},
            unsure={"type": "failover", "members": "fast,odd"},
            wild={"type": "parrot", "model": "x", "prices": {"*": {"input": 1, "output": 2}}},
        )
        costs = {
            name: price.output if (price := price_of(container.ai.registry, name)) else None
            for name in container.ai.registry.names()
        }
        assert costs == {
            "fast": Decimal("0.5"),
            "odd": None,
            "polly": Decimal("4.5"),
            "any": Decimal("4.5"),
            "unsure": None,
            "wild": Decimal(2),
        }
        assert price_of(container.ai.registry, "nobody") is None
        price = price_of(container.ai.registry, "any", "macaw")
        assert price is not None
        assert price.output == Decimal("0.5")

    def test_the_refusal_says_of_each_why_not(self, tmp_path: Path) -> None:
        container = made(
            tmp_path,
            aliases={"fast": "polly:macaw"},
            polly={"type": "parrot", "model": "grey", "prices": PRICES},
            jack={"type": "seeing", "model": "daw"},
            odd={"type": "parrot", "modle": "x"},
        )
        with pytest.raises(NotFoundError) as caught:
            container.ai.select(capabilities={"vision", "tools"}, max_cost=1)
        head, *lines = str(caught.value).splitlines()
        assert head == (
            "Provider not found: no ai provider is there for tools, vision for at most 1."
        )
        assert lines[:3] == [
            "  fast: lacks tools, vision",
            "  jack: lacks tools; its model has no price in its prices",
            "  odd: Configuration invalid: ai provider 'odd' (type parrot)",
        ]
        assert lines[-1] == "  polly: lacks tools, vision; a million tokens cost 4.5"
        with pytest.raises(NotFoundError, match=r"for anything\. There is none at all\."):
            made(tmp_path).ai.select()

    def test_an_alias_has_the_priority_of_its_provider_unless_it_has_its_own(
        self, tmp_path: Path
    ) -> None:
        alias = {"type": "alias", "provider": "polly"}
        container = made(
            tmp_path,
            aliases={"a": "polly:macaw", "b": "jack"},
            polly={"type": "parrot", "priority": 60},
            jack={"type": "parrot"},
        )
        assert container.ai.select() is container.ai("polly")
        container = made(
            tmp_path, polly={"type": "parrot", "priority": 60}, first=alias | {"priority": 70}
        )
        assert container.ai.select() is container.ai("first")

    async def test_one_that_is_known_to_be_down_comes_last(self, container: Any) -> None:
        async with container.lifespan():
            wanted = container.ai("polly")
            instance_of(wanted).errors.append(RateLimitedError("slower", retry_after=20))
            assert container.ai.select() is container.ai("fast")  # the cheapest
            with pytest.raises(RateLimitedError):
                await wanted.complete("hello")
            assert container.ai.select() is container.ai("jack")  # as fast is polly's
            container.ai("jack")._guard.breaker.force_open()
            assert container.ai.select() is container.ai("fast")

    async def test_so_does_one_whose_last_check_was_bad(self, container: Any) -> None:
        async with container.lifespan():
            instance_of(container.ai("polly")).errors.extend([OverloadedError("busy")] * 99)
            for _ in range(2):
                await container.ai.registry.get_provider_health("polly")
            assert container.ai.select() is container.ai("jack")

    async def test_what_is_selected_can_be_overridden(self, container: Any) -> None:
        fake = Parrot(ParrotConfig(model="fake"))
        with container.ai.override_provider("jack", fake):
            assert container.ai.select(capabilities={"vision"}) is fake
