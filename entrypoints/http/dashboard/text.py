"""Moments, seconds and other values as people read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

__all__ = ["age", "clock", "count", "latency", "segment", "shortened", "value", "wait"]


def age(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment was, in one unit; the script on the pages says the same."""
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def wait(seconds: float) -> str:
    """Return a span of time to come, to the second; the script on the pages says the same."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def clock(moment: datetime) -> str:
    """Return a moment as date and time of day in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def latency(seconds: float) -> str:
    """Return the time a check took, with about two digits that mean something."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an s in the plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def segment(name: str) -> str:
    """Return a name as one segment of a URL's path."""
    return quote(name, safe="")


def shortened(text: str, length: int = 160) -> str:
    """Return a text's beginning, with an ellipsis if there is more."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def value(thing: Any) -> str:
    """Return a setting's value as text: a list by commas, what is nested as JSON."""
    if thing is None or thing == "" or thing == [] or thing == {}:
        return "not set"
    if isinstance(thing, bool):
        return "yes" if thing else "no"
    if isinstance(thing, str):
        return thing
    if isinstance(thing, Sequence) and all(isinstance(one, str) for one in thing):  # pyright: ignore[reportUnknownVariableType]
        return ", ".join(thing)  # pyright: ignore[reportUnknownArgumentType]
    return json.dumps(thing, ensure_ascii=False, default=str)
