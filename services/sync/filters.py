"""Which objects take part in a sync: rules, of which the first that matches decides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ..patterns import expression
from .errors import SyncError

__all__ = ["Filters", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """
    Takes in or leaves out what a pattern means.

    ``*`` and ``?`` stand for what is within one part of a path, ``**`` for anything. A pattern
    with a slash at its beginning means paths from the top, any other one also what lies deeper.
    What matches a folder matches all that is in it; a slash at the end means folders only.
    """

    include: bool
    pattern: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read ``+ PATTERN`` (take in) or ``- PATTERN`` (leave out).

        Raises:
            SyncError: It is neither.
        """
        sign, _, pattern = text.partition(" ")
        pattern = pattern.strip()
        if sign not in ("+", "-") or not pattern.strip("/"):
            raise SyncError(
                "INVALID_FILTER",
                f"Invalid filter {text!r}: write '+ PATTERN' to take in what matches, or "
                "'- PATTERN' to leave it out.",
            )
        return cls(sign == "+", pattern)

    def expression(self) -> re.Pattern[str]:
        """Return what matches the paths that are meant."""
        middle = expression(self.pattern.strip("/")).pattern
        before = "" if self.pattern.startswith("/") else "(?:.*/)?"
        after = "/.*" if self.pattern.endswith("/") else "(?:/.*)?"
        return re.compile(f"{before}{middle}{after}", re.DOTALL)


class Filters:
    """
    Decides by rules in order; what none of them matches takes part.

    Args:
        rules: :class:`Rule`, or text for :meth:`Rule.parse`.
        include: Patterns to take in, after the rules; with any, all else is left out.
        exclude: Patterns to leave out, before ``include``.

    Raises:
        SyncError: A rule cannot be read.
    """

    __slots__ = ("_rules", "rules")

    def __init__(
        self,
        rules: Iterable[Rule | str] = (),
        *,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> None:
        read = [rule if isinstance(rule, Rule) else Rule.parse(rule) for rule in rules]
        read += [Rule.parse(f"- {pattern}") for pattern in exclude]
        if taken := [Rule.parse(f"+ {pattern}") for pattern in include]:
            read += [*taken, Rule(include=False, pattern="**")]
        self.rules = tuple(read)
        self._rules = [(rule.include, rule.expression().fullmatch) for rule in read]

    def admit(self, path: str) -> bool:
        """Tell whether a path takes part."""
        for include, matches in self._rules:
            if matches(path):
                return include
        return True
