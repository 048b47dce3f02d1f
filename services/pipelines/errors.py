"""What goes wrong in a pipeline that is no provider's own error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...providers.registry import RegistryError

__all__ = ["PipelineError", "TableError", "TableFault"]

SHOWN = 10
"""Faults that a message names; all of them are in the error."""


class PipelineError(RegistryError):
    """A pipeline that cannot do what it is asked."""


@dataclass(frozen=True, slots=True)
class TableFault:
    """
    What is wrong with a table, and where.

    Args:
        reason: What, and what to do.
        line: The line of the file, from 1; None where it is the whole file.
        column: The column's name; empty where it is the whole line.
    """

    reason: str
    line: int | None = None
    column: str = ""

    def __str__(self) -> str:
        where = [f"line {self.line}"] if self.line is not None else []
        where += [f"column {self.column!r}"] if self.column else []
        return f"{', '.join(where)}: {self.reason}" if where else self.reason


class TableError(PipelineError):
    """A table that cannot be made into notes; nothing was asked of any service, nor paid."""

    def __init__(self, name: str, faults: Sequence[TableFault]) -> None:
        """
        Args:
            name: The file.
            faults: All that is wrong, in order.
        """
        self.name = name
        self.faults = tuple(faults)
        lines = [str(fault) for fault in self.faults[:SHOWN]]
        if len(self.faults) > SHOWN:
            lines.append(f"and {len(self.faults) - SHOWN} more")
        super().__init__(
            "INVALID_TABLE",
            "\n  ".join([f"{name}:", *lines]) if len(lines) > 1 else f"{name}: {lines[0]}",
            context={"faults": [str(fault) for fault in self.faults]},
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (TableError, (self.name, self.faults))
