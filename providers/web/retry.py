"""When a request may be made again, and after how long."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["backoff", "retry_after"]

FIRST_WAIT = 0.5
LAST_WAIT = 8.0


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """
    Return how many seconds an answer asks to wait; None where it does not say, or not rightly.

    ``retry-after-ms`` (OpenAI's) comes before ``Retry-After``, which is in seconds or a date
    (RFC 9110, 10.2.3).

    Args:
        headers: Of the answer, found whatever their case.
        now: The time, where it is not that of the clock.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        given = headers.get(name, "").strip()
        try:
            seconds = float(given) * scale
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        until = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def backoff(attempt: int) -> float:
    """Return the seconds to wait after failed attempt ``attempt`` (1, 2 ...): more each time."""
    longest = min(LAST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, hides nothing
