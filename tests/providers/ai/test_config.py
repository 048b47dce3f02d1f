"""The settings that every AI provider has."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.ai import AIConfig, Usage

URL = "https://ai.example.com/v1"


@pytest.mark.parametrize(
    "prices",
    [{"m": {"input": 3, "output": "15"}}, '{"m": {"input": 3, "output": 15}}'],
    ids=["a table", "JSON, as a variable has it"],
)
def test_prices_are_a_table(prices: Any) -> None:
    config = AIConfig(base_url=URL, prices=prices)
    price = config.price("m")
    assert price is not None
    assert price.of(Usage(1_000_000, 100_000)) == Decimal("4.5")
    assert config.price("other") is None


def test_a_price_may_be_for_all_models() -> None:
    config = AIConfig.model_validate(
        {"base_url": URL, "prices": {"*": {"input": 2, "output": 4, "cached": 1}}}
    )
    price = config.price("any")
    assert price is not None
    assert price.of(Usage(2_000_000, 0, cached_tokens=1_000_000)) == Decimal(3)


def test_prices_that_are_none_are_told_with_their_form() -> None:
    with pytest.raises(ValidationError, match=r'JSON such as \{"MODEL": \{"input": 3'):
        AIConfig.model_validate({"base_url": URL, "prices": "cheap"})
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        AIConfig.model_validate({"base_url": URL, "prices": {"m": {"input": -1, "output": 1}}})
