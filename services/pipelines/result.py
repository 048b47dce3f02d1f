"""What will become of a batch, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias

from .jobs import Product

__all__ = [
    "BatchEvent",
    "BatchResult",
    "Estimate",
    "ItemFinished",
    "ItemOutcome",
    "ItemResult",
    "ItemStarted",
    "Observer",
]


class ItemOutcome(StrEnum):
    """What became of an item."""

    MADE = "made"
    """A service made it, now."""
    KEPT = "kept"
    """It was made before, or for another item of the batch: it cost nothing."""
    FAILED = "failed"
    NOT_DONE = "not_done"
    """It was not tried: the cost limit is reached, or its provider is not to be asked any more."""


@dataclass(frozen=True, slots=True)
class ItemResult:
    """
    What became of one item.

    Args:
        key: The job's own.
        outcome: What became of it.
        provider: Who was asked.
        digest: What tells the result apart from others: of what was asked for, and of whom.
        product: What was made, if it was.
        cost: What it cost in this batch; None where it cost something that is not known.
        code: Of the error, where there is no product.
        reason: Why there is none.
    """

    key: str
    outcome: ItemOutcome
    provider: str
    digest: str
    product: Product | None = None
    cost: Decimal | None = Decimal(0)
    code: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data, without the bytes."""
        product = self.product
        return {
            "key": self.key,
            "outcome": self.outcome.value,
            "provider": self.provider,
            "digest": self.digest,
            "media_type": product and product.media_type,
            "path": str(product.path) if product and product.path else None,
            "details": dict(product.details) if product else {},
            "cost": None if self.cost is None else str(self.cost),
            "code": self.code,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    What a batch will cost.

    Args:
        items: Jobs in all.
        kept: Jobs whose result is there already.
        calls: What has to be made, by provider; what several jobs ask for alike is made once.
        cost: Of those whose price is known, in the currency of the prices.
        unknown: Those whose price is not known.
    """

    items: int
    kept: int
    calls: Mapping[str, int]
    cost: Decimal
    unknown: int

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        return {
            "items": self.items,
            "kept": self.kept,
            "calls": dict(self.calls),
            "cost": str(self.cost),
            "unknown": self.unknown,
        }

    def __str__(self) -> str:
        calls = ", ".join(f"{count} of {name}" for name, count in self.calls.items()) or "nothing"
        more = f" and {self.unknown} of unknown cost" if self.unknown else ""
        return f"{self.items} items, {self.kept} kept; to be asked for: {calls}; {self.cost}{more}"


@dataclass(frozen=True, slots=True)
class BatchResult:
    """
    What became of a batch.

    Args:
        items: One result for each job, in their order.
        warnings: What went otherwise than one may think, and made no item fail.
    """

    items: Sequence[ItemResult]
    warnings: Sequence[str] = field(default=())

    def count(self, outcome: ItemOutcome) -> int:
        """Return how many items have an outcome."""
        return sum(item.outcome is outcome for item in self.items)

    @property
    def cost(self) -> Decimal:
        """What the batch cost, as far as that is known."""
        return sum((item.cost for item in self.items if item.cost is not None), Decimal(0))

    @property
    def unknown(self) -> int:
        """How many items cost something that is not known."""
        return sum(item.cost is None for item in self.items)

    @property
    def success(self) -> bool:
        """Whether there is a product of every job."""
        return all(item.product is not None for item in self.items)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data, without the bytes."""
        return {
            "success": self.success,
            **{outcome.value: self.count(outcome) for outcome in ItemOutcome},
            "cost": str(self.cost),
            "unknown": self.unknown,
            "items": [item.to_dict() for item in self.items],
            "warnings": list(self.warnings),
        }


@dataclass(slots=True)
class ItemStarted:
    """A service is about to be asked for an item."""

    key: str
    provider: str


@dataclass(slots=True)
class ItemFinished:
    """An item is done, as ``done`` of ``total`` so far; ``spent`` is what all of them cost."""

    result: ItemResult
    done: int
    total: int
    spent: Decimal


BatchEvent: TypeAlias = ItemStarted | ItemFinished
Observer: TypeAlias = Callable[[BatchEvent], None]
