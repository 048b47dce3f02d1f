"""Flashcards from a table: pictures and sounds are made, and the notes pushed, in batches."""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from ...providers.media.flashcards import (
    DeckNotFoundError,
    FlashcardProvider,
    Media,
    NoteOutcome,
    NoteResult,
    NoteType,
    NoteTypeNotFoundError,
)
from ...providers.registry import InvalidConfigError, RegistryError
from ...providers.registry.errors import nearest_first
from .batch import Batch
from .notes import CardOptions, PlannedNote, plan_notes
from .pipeline import Assigned, Pipeline
from .result import BatchEvent, Estimate, ItemOutcome, ItemResult
from .table import Table, read_table

__all__ = [
    "CardOptions",
    "CardsEvent",
    "CardsResult",
    "RowFinished",
    "RowOutcome",
    "RowResult",
    "push_cards",
]

logger = logging.getLogger(__name__)

BATCH = 50
"""Notes pushed at once: what is held in memory, and lost sight of in a kill, at most."""


class RowOutcome(StrEnum):
    """What became of a row."""

    ADDED = "added"
    UPDATED = "updated"
    SKIPPED = "skipped"
    """Its note was there already, or stands further up in the table."""
    FAILED = "failed"
    NOT_DONE = "not_done"
    """It was not tried: the cost limit is reached, or a provider is not to be asked any more."""
    WOULD_PUSH = "would_push"
    """In a dry run: it would be added, or updated."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """
    What became of one row.

    Args:
        line: Of the file, from 1.
        first: The field that tells its note apart.
        outcome: What became of it.
        id: Of the note in the collection, if it is there.
        reason: Why it was not added.
        cost: What its pictures cost now; None where that is not known.
    """

    line: int
    first: str
    outcome: RowOutcome
    id: int | None = None
    reason: str = ""
    cost: Decimal | None = Decimal(0)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        return {
            "line": self.line,
            "first": self.first,
            "outcome": self.outcome.value,
            "id": self.id,
            "reason": self.reason,
            "cost": None if self.cost is None else str(self.cost),
        }


@dataclass(slots=True)
class RowFinished:
    """A row is done, as ``done`` of ``total``."""

    result: RowResult
    done: int
    total: int


CardsEvent: TypeAlias = BatchEvent | RowFinished


@dataclass(slots=True)
class CardsResult:
    """
    What became of a table.

    Args:
        rows: One result for each row, in their order.
        estimate: What its pictures and sounds would cost, known before the first was made.
        cost: What they did cost, as far as that is known.
        error: Why the whole ended early, if it did.
        warnings: What went otherwise than one may think.
        dry_run: Nothing was made, and nothing pushed.
    """

    rows: Sequence[RowResult]
    estimate: Estimate
    cost: Decimal = Decimal(0)
    error: RegistryError | None = None
    warnings: Sequence[str] = field(default=())
    dry_run: bool = False

    def count(self, outcome: RowOutcome) -> int:
        """Return how many rows have an outcome."""
        return sum(row.outcome is outcome for row in self.rows)

    @property
    def unknown(self) -> int:
        """How many rows cost something that is not known."""
        return sum(row.cost is None for row in self.rows)

    @property
    def success(self) -> bool:
        """Whether the notes of all rows are in the collection (or would be, in a dry run)."""
        bad = (RowOutcome.FAILED, RowOutcome.NOT_DONE)
        return self.error is None and not any(row.outcome in bad for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        return {
            "success": self.success,
            "dry_run": self.dry_run,
            **{outcome.value: self.count(outcome) for outcome in RowOutcome},
            "estimate": self.estimate.to_dict(),
            "cost": str(self.cost),
            "unknown": self.unknown,
            "error": None if self.error is None else self.error.message,
            "error_code": None if self.error is None else self.error.code,
            "warnings": list(self.warnings),
            "rows": [row.to_dict() for row in self.rows],
        }


async def push_cards(
    table: Table | str | Path,
    pipeline: Pipeline,
    *,
    provider: str | None = None,
    options: CardOptions | None = None,
    max_cost: Decimal | None = None,
    dry_run: bool = False,
    observer: Callable[[CardsEvent], None] | None = None,
) -> CardsResult:
    """
    Make notes of the rows of a table, with pictures and sounds, and push them to a collection.

    Columns are fields of the note type by their names; see :class:`CardOptions` for the others.
    All that can be wrong is looked for before anything is paid: the file, its columns, the deck,
    the note type, the providers. A row whose note is there already costs nothing, unless it is to
    be updated. A row fails or succeeds by itself. When the push is cancelled, what was pushed is
    there, and what was made is kept: the same call goes on.

    Args:
        table: The table, or a CSV file; see :func:`read_table`.
        pipeline: Makes pictures and sounds, and gives the collection.
        provider: The flashcard provider; the pipeline's preferred one when not given.
        options: How rows become notes.
        max_cost: What the pictures may cost; see :meth:`Pipeline.run`.
        dry_run: Tell what would be done and cost, and do nothing.
        observer: Called with each event, at once, on the event loop. One that raises is logged.

    Raises:
        TableError: All that is wrong with the table.
        DeckNotFoundError: There is no such deck.
        NoteTypeNotFoundError: There is no such note type.
        RegistryError: A provider is not to be had, or not well.
        OSError: The file cannot be read.
    """
    options = options or CardOptions()
    if not isinstance(table, Table):
        table = await asyncio.to_thread(read_table, table)
    collection = pipeline.provider("flashcards", provider)
    note_type = await _note_type(collection, options.note_type)
    await _check_deck(collection, options.deck)
    planned = plan_notes(table, note_type, options)
    push = _Push(collection.handle, note_type.name, options, len(planned), observer)
    to_do = await push.new_ones(planned)
    estimate = await pipeline.estimate([media.job for one in to_do for media in one.media])
    result = CardsResult((), estimate, dry_run=dry_run)
    if dry_run:
        for one in to_do:
            push.done(one, RowOutcome.WOULD_PUSH)
    else:
        async with pipeline.batch(max_cost=max_cost, observer=observer) as batch:
            for start in range(0, len(to_do), BATCH):
                await push.push(to_do[start : start + BATCH], batch)
            result.cost, result.warnings = batch.spent, batch.warnings
    result.rows = [push.rows[one.line] for one in planned]
    result.error = push.error
    return result


class _Push:
    """One push under way."""

    def __init__(
        self,
        collection: FlashcardProvider[Any],
        note_type: str,
        options: CardOptions,
        total: int,
        observer: Callable[[CardsEvent], None] | None,
    ) -> None:
        self.rows: dict[int, RowResult] = {}
        """What became of each row, by line."""
        self.error: RegistryError | None = None
        self._collection = collection
        self._note_type = note_type
        self._options = options
        self._total = total
        self._observer = observer

    async def new_ones(self, planned: Sequence[PlannedNote]) -> list[PlannedNote]:
        """Return the notes that are to be pushed: not there yet, or to be changed."""
        if self._options.duplicates == "update":
            return list(planned)
        there = await self._collection.existing(
            [one.note for one in planned], note_type=self._note_type
        )
        leave = RowOutcome.SKIPPED if self._options.duplicates == "skip" else RowOutcome.FAILED
        lines: dict[str, int] = {}
        new: list[PlannedNote] = []
        for one, found in zip(planned, there, strict=True):
            if found is not None:
                self.done(one, leave, found, "it is there already")
            elif (line := lines.setdefault(one.first, one.line)) != one.line:
                self.done(one, leave, reason=f"it is the same note as in line {line}")
            else:
                new.append(one)
        return new

    async def push(self, planned: Sequence[PlannedNote], batch: Batch) -> None:
        """Make what the notes need, and push those that have it."""
        if self.error is not None:
            for one in planned:
                self.done(one, RowOutcome.NOT_DONE, reason=self.error.message)
            return
        results = iter(await batch.run([media.job for one in planned for media in one.media]))
        ready: list[tuple[PlannedNote, Decimal | None]] = []
        for one in planned:
            made = [next(results) for _ in one.media]
            cost = _sum(made)
            if lacking := self._lacking(made):
                failed = lacking.outcome is ItemOutcome.FAILED
                outcome = RowOutcome.FAILED if failed else RowOutcome.NOT_DONE
                self.done(one, outcome, reason=lacking.reason, cost=cost)
            else:
                ready.append((_with_media(one, made), cost))
        if not ready:
            return
        try:
            pushed = await self._collection.add_notes(
                [one.note for one, _ in ready],
                deck=self._options.deck,
                note_type=self._note_type,
                duplicates=self._options.duplicates,
            )
        except RegistryError as error:
            self.error = error
            pushed = [NoteResult(NoteOutcome.FAILED, reason=error.message)] * len(ready)
        for (one, cost), result in zip(ready, pushed, strict=True):
            outcome = RowOutcome(result.outcome.value)
            self.done(one, outcome, result.id, result.reason, cost)

    def _lacking(self, made: Sequence[ItemResult]) -> ItemResult | None:
        """Return why a row cannot be pushed: what was not made, if that matters."""
        for one in made:
            passable = self._options.incomplete and one.outcome is ItemOutcome.FAILED
            if one.product is None and not passable:
                return one
        return None

    def done(
        self,
        one: PlannedNote,
        outcome: RowOutcome,
        id: int | None = None,
        reason: str = "",
        cost: Decimal | None = Decimal(0),
    ) -> None:
        """Note what became of a row, and tell it."""
        result = RowResult(one.line, one.first, outcome, id, reason, cost)
        self.rows[one.line] = result
        if self._observer is not None:
            try:
                self._observer(RowFinished(result, len(self.rows), self._total))
            except Exception:
                logger.exception("The observer of a push raised; the push goes on")


async def _note_type(collection: Assigned, wanted: str | None) -> NoteType:
    name = wanted or getattr(collection.config, "note_type", None)
    if not name:
        raise InvalidConfigError(
            f"No note type is named: give one, or set the note_type of {collection.name!r}.",
            collection.name,
        )
    types = {one.name: one for one in await collection.handle.note_types()}
    if name not in types:
        raise NoteTypeNotFoundError(
            f"There is no note type {name!r} in {collection.name!r}. There are: "
            f"{', '.join(nearest_first(name, types)) or 'none'}.",
            collection.name,
        )
    return types[name]


async def _check_deck(collection: Assigned, wanted: str | None) -> None:
    name = wanted or getattr(collection.config, "deck", None)
    if not name:
        return  # the provider knows what to say
    decks = await collection.handle.decks()
    if name not in decks:
        raise DeckNotFoundError(
            f"There is no deck {name!r} in {collection.name!r}. There are: "
            f"{', '.join(nearest_first(name, decks)) or 'none'}.",
            collection.name,
        )


def _with_media(one: PlannedNote, made: Sequence[ItemResult]) -> PlannedNote:
    found: dict[str, dict[str, Media]] = {"image": {}, "audio": {}}
    said: list[str] = []
    for media, result in zip(one.media, made, strict=True):
        if (product := result.product) is not None:
            name = f"purveyor-{result.digest[:24]}{product.suffix}"
            found[media.kind][media.field] = Media(name, product.data)
            said += filter(None, [product.details.get("attribution")])
    fields = {**one.note.fields}
    if one.attribution is not None and said:
        fields[one.attribution] = html.escape("; ".join(said), quote=False)
    note = replace(one.note, fields=fields, images=found["image"], audio=found["audio"])
    return replace(one, note=note)


def _sum(made: Sequence[ItemResult]) -> Decimal | None:
    total = Decimal(0)
    for one in made:
        if one.cost is None:
            return None
        total += one.cost
    return total
