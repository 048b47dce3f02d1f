"""How often a service may be asked."""

from __future__ import annotations

import asyncio
import time

import pytest
from pydantic import BaseModel, ValidationError

from purveyor.providers.web.limit import Limiter, RateLimit, parse_rate


class Settings(BaseModel):
    rate_limit: RateLimit | None = None


@pytest.mark.parametrize(
    ("text", "number", "seconds"),
    [
        ("60/minute", 60, 60.0),
        ("5/second", 5, 1.0),
        ("500/Day", 500, 86_400.0),
        (" 10 / hour ", 10, 3600.0),
    ],
)
def test_a_rate_is_a_number_per_time(text: str, number: int, seconds: float) -> None:
    assert parse_rate(text) == (number, seconds)


def test_a_setting_has_one_spelling() -> None:
    assert Settings(rate_limit=" 60 / Minute").rate_limit == "60/minute"


@pytest.mark.parametrize(
    "text", ["", "60", "0/minute", "-1/second", "1.5/second", "60/minutes", "60/week", "٣/day"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValidationError, match="such as 60/minute"):
        Settings(rate_limit=text)


async def test_what_is_over_the_rate_waits_its_turn() -> None:
    limiter = Limiter("10/second", extra="media")
    order: list[int] = []

    async def ask(number: int) -> None:
        await limiter.wait()
        order.append(number)

    began = time.monotonic()
    await asyncio.gather(*map(ask, range(12)))
    assert time.monotonic() - began >= 0.19  # ten at once, two more a tenth of a second each
    assert order == list(range(12))


async def test_who_is_cancelled_while_waiting_leaves_the_others_their_turn() -> None:
    limiter = Limiter("5/second", extra="media")
    for _ in range(5):
        await limiter.wait()
    impatient = asyncio.create_task(limiter.wait())
    patient = asyncio.create_task(limiter.wait())
    await asyncio.sleep(0)
    impatient.cancel()
    async with asyncio.timeout(5):
        await patient
    assert impatient.cancelled()


async def test_without_a_rate_nobody_waits() -> None:
    limiter = Limiter(None, extra="media")
    async with asyncio.timeout(1):
        for _ in range(1000):
            await limiter.wait()
