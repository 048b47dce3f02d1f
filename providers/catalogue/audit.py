"""Records of changes: who did what, when, with what result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..registry.errors import RegistryError
from ..registry.redaction import mask
from .errors import CatalogueUnavailableError

if TYPE_CHECKING:
    from .catalogue import Catalogue

__all__ = ["ANONYMOUS", "CLI", "AuditLog", "AuditRecord"]

logger = logging.getLogger("purveyor.audit")

ANONYMOUS = "anonymous"
"""The caller who needed no token."""
CLI = "cli:"
"""What is before the login name of a caller of the command line."""

_TIDY = 3600.0
"""Seconds between two looks for records that are too old."""
_LONGEST = 1000
"""Characters of a record's target, and of its detail: what callers name may be of any length."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """
    One change, or an attempt at one.

    Args:
        at: When it ended (UTC).
        caller: The name of the token, ``anonymous``, or ``cli:`` and a login name.
        action: What was asked for: ``register``.
        target: Of what: ``storage/backups``.
        outcome: ``ok``, or the code of the error.
        detail: The error's message, secrets masked.
        id: Its number, the later the higher; 0 before it is written.
    """

    at: datetime
    caller: str
    action: str
    target: str
    outcome: str
    detail: str = ""
    id: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the same as JSON-safe data."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "at": self.at.isoformat()}


class AuditLog:
    """
    The records of a catalogue, the same for all processes that share it.

    Each is also logged by ``purveyor.audit``. A database that cannot be written loses none of
    them to the log, and undoes no change. A record is one line, whatever callers name.

    Args:
        catalogue: Whose database they are in.
        days: How long they are kept.
    """

    def __init__(self, catalogue: Catalogue, *, days: int = 90) -> None:
        self._catalogue = catalogue
        self._days = days
        self._tidied_at = -_TIDY

    async def write(
        self, caller: str, action: str, target: str, error: BaseException | None = None
    ) -> None:
        """Record what became of a change; never raises."""
        outcome = "ok" if error is None else getattr(error, "code", type(error).__name__)
        detail = "" if error is None else _line(str(error))
        record = AuditRecord(datetime.now(UTC), caller, action, _line(target), outcome, detail)
        logger.info("%s %s %s: %s %s", caller, action, record.target, outcome, detail)
        # Where the change found no database, another attempt would let the caller wait as long.
        is_away = isinstance(error, CatalogueUnavailableError)
        failure = error if is_away else await self._keep(record)
        if failure is not None:
            logger.error("The record of %s %s by %s is in this log alone: %s", action,
                         record.target, caller, failure)  # fmt: skip

    async def _keep(self, record: AuditRecord) -> RegistryError | None:
        """Write a record to the database; return why it cannot be."""
        from .model import audit as table

        values = record.to_dict() | {"at": record.at}
        del values["id"]
        try:
            async with self._catalogue.store().writing_aside() as connection:
                await connection.execute(table.insert().values(**values))
                if monotonic() - self._tidied_at >= _TIDY:
                    self._tidied_at = monotonic()
                    oldest = record.at - timedelta(days=self._days)
                    await connection.execute(table.delete().where(table.c.at < oldest))
        except RegistryError as failure:
            return failure
        return None

    async def entries(
        self, *, before: int | None = None, limit: int = 100
    ) -> Sequence[AuditRecord]:
        """
        Return records, the latest first.

        Args:
            before: Only those with lower numbers.
            limit: How many at most.
        """
        if not self._catalogue.is_present():
            return []
        store = self._catalogue.store()
        from .model import audit as table

        statement = table.select().order_by(table.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(table.c.id < before)
        async with store.reading() as connection:
            return [_record(row) for row in await connection.execute(statement)]


def _line(text: str) -> str:
    """Return a text masked, shortened, and with nothing in it that ends a line or a string."""
    text = " ".join(mask(text).split())[:_LONGEST]
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _record(row: Any) -> AuditRecord:
    names = ("caller", "action", "target", "outcome", "detail", "id")
    return AuditRecord(utc(row.at), *(getattr(row, name) for name in names))


def utc(moment: datetime) -> datetime:
    """Return a time that was read from the database with its zone, which SQLite does not keep."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
