"""Which providers others need: the order of starting, and cycles, which nobody can start."""

from __future__ import annotations

from collections.abc import Callable, Collection
from graphlib import CycleError, TopologicalSorter

from .errors import InvalidConfigError

__all__ = ["needed_by", "refuse_cycle"]

Needs = Callable[[str], Collection[str]]
"""Tells what a provider, written ``family:name``, needs, written likewise."""


def refuse_cycle(start: str, needs: Needs) -> None:
    """
    Follow what ``start`` needs, directly or not.

    Raises:
        InvalidConfigError: Something of it needs itself; the message names the cycle.
    """
    graph: dict[str, Collection[str]] = {}
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if one not in graph:
            graph[one] = needs(one)
            waiting += graph[one]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1][::-1]
        raise InvalidConfigError(
            f"Configuration invalid: {' needs '.join(cycle)}: none of them could ever start. "
            "Take one out of depends_on or members, or let an alias name another provider.",
            start.partition(":")[2],
            {"cycle": cycle},
        ) from None


def needed_by(wanted: str, candidates: Collection[str], needs: Needs) -> list[str]:
    """Return those of ``candidates`` that need ``wanted``, directly or not, the last ones first."""
    found: dict[str, None] = {}

    def follow(one: str) -> None:
        for other in candidates:
            if other not in found and one in needs(other):
                follow(other)
                found[other] = None

    follow(wanted)
    return list(found)
