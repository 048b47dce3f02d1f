"""From declared providers to registered ones: each failure is a row, never the end of the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from .errors import RegistryError

__all__ = ["LoadReport", "LoadRow", "Outcome"]


class Outcome(StrEnum):
    """What became of one declared provider."""

    REGISTERED = "registered"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One declared provider: what became of it, and why if it is not registered."""

    family: str
    name: str
    outcome: Outcome
    origin: str
    code: str | None = None
    reason: str = ""
    error: RegistryError | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of all declared providers."""

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
        return [row.name for row in self.rows if row.outcome is Outcome.REGISTERED]

    @property
    def skipped(self) -> list[LoadRow]:
        """Rows of the providers that are disabled."""
        return [row for row in self.rows if row.outcome is Outcome.SKIPPED]

    @property
    def failed(self) -> list[LoadRow]:
        """Rows of the providers whose settings or modules are at fault."""
        return [row for row in self.rows if row.outcome is Outcome.FAILED]

    @property
    def clean(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def raise_first(self) -> None:
        """Raise the first failure, if there is one."""
        for row in self.failed:
            if row.error is not None:
                raise row.error
