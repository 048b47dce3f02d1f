"""How often a service may be asked: the setting, and what waits for its turn."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from ..registry.extras import import_extra

__all__ = ["Limiter", "RateLimit", "parse_rate"]

SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_RATE = re.compile(rf"([1-9][0-9]{{0,8}}) ?/ ?({'|'.join(SECONDS)})", re.ASCII)


def parse_rate(text: str) -> tuple[int, float]:
    """
    Return how many requests are allowed in how many seconds.

    Args:
        text: Such as ``60/minute``.

    Raises:
        ValueError: It is nothing of the kind.
    """
    if (found := _RATE.fullmatch(text.strip().lower())) is None:
        raise ValueError(
            "must be a number of requests per second, minute, hour or day, such as 60/minute"
        )
    return int(found[1]), SECONDS[found[2]]


def _rate(text: str) -> str:
    number, seconds = parse_rate(text)
    return f"{number}/{next(name for name, length in SECONDS.items() if length == seconds)}"


RateLimit = Annotated[str, AfterValidator(_rate)]
"""A setting such as ``60/minute`` or ``500/day``."""


class Limiter:
    """
    Lets requests pass as often as is allowed, in the order they came; of one event loop.

    So many may go at once; what they used up comes back evenly. With ``60/minute`` sixty go at
    once, and from then on one each second.

    Args:
        rate: How often; None: nobody waits.
        extra: The extra that installs what is needed.
    """

    def __init__(self, rate: str | None, *, extra: str) -> None:
        self._bucket = None
        if rate is not None:
            self._bucket = import_extra("aiolimiter", extra=extra).AsyncLimiter(*parse_rate(rate))

    async def wait(self) -> None:
        """Return when one more request may be made."""
        if self._bucket is not None:
            await self._bucket.acquire()
