"""What is wrong with settings: all of it at once, each fault where somebody can mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Problem", "SettingsError"]


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One fault.

    Args:
        location: Where it can be mended: a variable's full name, or a file and key.
        reason: What is wrong and what is allowed. Never quotes the value: it may be secret.
        path: The setting, as keys from the root of the tree; empty for a file as a whole.
    """

    location: str
    reason: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


class SettingsError(ValueError):
    """Settings that cannot be used; ``problems`` has every fault, the message lists them."""

    code = "INVALID_CONFIG"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"Configuration invalid: {count} fault{'s' * (count != 1)}{lines}")

    def __reduce__(self) -> tuple[type[SettingsError], tuple[tuple[Problem, ...]]]:
        return (type(self), (self.problems,))
