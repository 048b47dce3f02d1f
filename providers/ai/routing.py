"""Which provider to ask: the best one that can do it, for what it may cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from ..registry.errors import NotFoundError, RegistryError
from ..registry.failover import FailoverConfig, why_not_yet
from ..registry.metadata import capability_set
from ..registry.outage import reason_of
from ..registry.registry import ProviderRegistry
from .alias import AliasConfig
from .base import AIConfig, Price

__all__ = ["best_of", "price_of"]


def price_of(registry: ProviderRegistry[Any], name: str, model: str = "") -> Price | None:
    """
    Return what a provider's model costs, if that is known; connects nothing.

    Of a failover provider it is the price of its dearest member, if that of every one is known.

    Args:
        registry: The AI providers.
        name: One of them.
        model: The one asked for; the provider's own when not given.
    """
    try:
        config = registry.config(name)
    except RegistryError:
        return None
    if isinstance(config, AIConfig):
        return config.price(model or config.model)
    if isinstance(config, AliasConfig):
        return price_of(registry, config.provider, model or config.model)
    if not isinstance(config, FailoverConfig):
        return None
    prices = [price_of(registry, member, model) for member in config.members]
    known = [price for price in prices if price is not None]
    return max(known, key=lambda price: price.output) if len(known) == len(prices) else None


def best_of(
    registry: ProviderRegistry[Any],
    capabilities: Iterable[str] = (),
    max_cost: Decimal | float | None = None,
) -> str:
    """
    Return the name of the best provider for a purpose; asks nobody.

    That is the one with the highest priority; of several, the cheapest; of those, the first by
    name, aliases last. One that is known to be down comes after all others. An alias that is
    given no priority has its provider's.

    Args:
        registry: The AI providers.
        capabilities: What it must be able to do.
        max_cost: What a million tokens of its answers may cost at most, in the currency of the
            ``prices``. One whose price is not known is out.

    Raises:
        NotFoundError: There is none; the message says of each provider why not.
        ValueError: ``max_cost`` is below 0, or no number.
    """
    wanted = capability_set(capabilities)
    limit = None if max_cost is None else Decimal(str(max_cost))
    if limit is not None and (limit.is_nan() or limit < 0):
        raise ValueError(f"max_cost is {max_cost}: it must be a number of at least 0.")
    fit: list[tuple[bool, int, Decimal, bool, str]] = []
    for name in registry.find_by_capability(*wanted):
        price = price_of(registry, name)
        if not _is_dear(price, limit):
            down = bool(why_not_yet(name, registry.require(name), registry))
            cost = Decimal("Infinity") if price is None else price.output
            is_alias = isinstance(registry.config(name), AliasConfig)
            fit.append((down, -_priority_of(registry, name), cost, is_alias, name))
    if not fit:
        raise _nobody(registry, wanted, limit)
    return min(fit)[-1]


def _is_dear(price: Price | None, limit: Decimal | None) -> bool:
    return limit is not None and (price is None or price.output > limit)


def _priority_of(registry: ProviderRegistry[Any], name: str) -> int:
    settings, config = registry.settings(name), registry.config(name)
    if isinstance(config, AliasConfig) and "priority" not in settings.model_fields_set:
        with contextlib.suppress(RegistryError):
            return _priority_of(registry, config.provider)
    return settings.priority


def _nobody(
    registry: ProviderRegistry[Any], wanted: frozenset[str], limit: Decimal | None
) -> NotFoundError:
    reasons: dict[str, str] = {}
    for name in registry.names():
        try:
            missing = wanted - registry.info(name).capabilities
        except RegistryError as error:
            reasons[name] = reason_of(error)
            continue
        price = price_of(registry, name)
        faults = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        if _is_dear(price, limit):
            cost = f"a million tokens cost {price.output}" if price else ""
            faults.append(cost or "its model has no price in its prices")
        reasons[name] = "; ".join(faults)
    purpose = ", ".join(sorted(wanted)) or "anything"
    purpose += "" if limit is None else f" for at most {limit}"
    lines = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())
    return NotFoundError(
        f"Provider not found: no {registry.family.name} provider is there for {purpose}."
        + (lines or " There is none at all."),
        context={"family": registry.family.name, "reasons": reasons},
    )
