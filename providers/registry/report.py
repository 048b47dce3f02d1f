"""What became of many providers at once: each failure is a row, never the end of the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from .errors import RegistryError

__all__ = ["LoadReport", "LoadRow", "Outcome"]


class Outcome(StrEnum):
    """What became of one provider."""

    REGISTERED = "registered"
    RELOADED = "reloaded"
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    """Disabled, or shadowed by another of the same name that comes before it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LoadRow:
    """
    One provider: what became of it, and why if it is not registered.

    Family and name are empty where a fault is not one provider's: of a file, say. ``required``
    is said of a failed one of which nothing else is known: its entry could not be read.
    """

    family: str
    name: str
    outcome: Outcome
    origin: str
    code: str | None = None
    reason: str = ""
    error: RegistryError | None = field(default=None, repr=False, compare=False)
    required: bool = False


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of several providers."""

    rows: tuple[LoadRow, ...] = ()

    def __add__(self, other: LoadReport) -> LoadReport:
        return LoadReport((*self.rows, *other.rows))

    @classmethod
    def joined(cls, reports: Iterable[LoadReport]) -> LoadReport:
        """Return one report of several."""
        return cls(tuple(row for report in reports for row in report.rows))

    @property
    def registered(self) -> list[str]:
        """Names of the providers that are registered."""
        return [row.name for row in self.of(Outcome.REGISTERED)]

    @property
    def skipped(self) -> list[LoadRow]:
        """Rows of the providers that are disabled or shadowed."""
        return self.of(Outcome.SKIPPED)

    @property
    def failed(self) -> list[LoadRow]:
        """Rows of the providers whose settings or modules are at fault."""
        return self.of(Outcome.FAILED)

    def of(self, *outcomes: Outcome) -> list[LoadRow]:
        """Return the rows with one of ``outcomes``."""
        return [row for row in self.rows if row.outcome in outcomes]

    def names_of(self, family: str) -> list[str]:
        """Return the names of a family's providers that have a row."""
        return [row.name for row in self.rows if row.family == family]

    @property
    def clean(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def raise_first(self) -> None:
        """Raise the first failure, if there is one."""
        for row in self.failed:
            if row.error is not None:
                raise row.error
