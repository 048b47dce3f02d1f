"""The AI family: selected by name, by provider and model, or by what is needed."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, cast

from ..providers.ai.alias import AliasAI, AliasConfig
from ..providers.ai.base import AIProvider
from ..providers.ai.routing import best_of
from .family import FamilyContainer, registry_from_settings
from .selector import ProviderSelector

__all__ = ["AIFamilyContainer", "AISelector"]


class AISelector(ProviderSelector[AIProvider[Any]]):
    """
    Selects an AI provider by name, or by provider and model: ``container.ai("anthropic:NAME")``.

    The latter is the provider with the model preset, as an alias is; nothing is registered. The
    model is all that comes after the first colon.
    """

    def _select(self, name: str | None) -> AIProvider[Any]:
        provider, _, model = (name or "").partition(":")
        overridden = cast(Any, self).last_overriding is not None or name in self._overrides
        if overridden or not (provider and model):
            return super()._select(name)
        found = self(provider)
        preset = AliasAI(AliasConfig(provider=provider, model=model))
        return preset.bind(f"{provider}:{model}", lambda _: found, self.registry)

    def select(
        self, *, capabilities: Iterable[str] = (), max_cost: Decimal | float | None = None
    ) -> AIProvider[Any]:
        """
        Return the best provider for a purpose: by priority, then by what it costs; asks nobody.

        One that is known to be down (its circuit breaker is open, its last check was bad) comes
        after all others.

        Args:
            capabilities: What it must be able to do: ``{"vision", "tools"}``.
            max_cost: What a million tokens of its answers may cost at most, in the currency of
                the setting ``prices``; one without a price for its model is out.

        Raises:
            NotFoundError: There is none; the message says of each provider why not.
        """
        overriding: Any = cast(Any, self).last_overriding
        if overriding is not None:
            if isinstance(overriding, AISelector):
                return overriding.select(capabilities=capabilities, max_cost=max_cost)
            return overriding()
        return self(best_of(self.registry, capabilities, max_cost))

    def _has(self, name: str) -> bool:
        provider, colon, model = name.partition(":")
        return self.registry.has(provider) and bool(model or not colon)


class AIFamilyContainer(FamilyContainer):
    """What the AI family needs."""

    select: Any = AISelector(
        registry_from_settings,
        family=FamilyContainer.family,
        settings=FamilyContainer.settings,
        types=FamilyContainer.types,
        events=FamilyContainer.events,
        monitor=FamilyContainer.monitor,
        peers=FamilyContainer.peers,
        observer=FamilyContainer.telemetry,
    )
