"""The flashcard interface: notes in decks, with pictures and sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from ...registry.provider import ConfigT, Provider, operation

__all__ = [
    "Duplicates",
    "FlashcardProvider",
    "Media",
    "Note",
    "NoteOutcome",
    "NoteResult",
    "NoteType",
]

Duplicates: TypeAlias = Literal["skip", "update", "error"]
"""What to do with a note whose first field is there already."""


@dataclass(frozen=True, slots=True)
class Media:
    """
    A file for a field: its bytes, or where it lies on this machine.

    Args:
        name: The file's name in the collection.
        data: Its bytes, if ``path`` is not given.
        path: Where it lies.
    """

    name: str
    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """
    A note to add; each of its note type's templates makes a card of it.

    Args:
        fields: Contents by field, as HTML.
        tags: Without spaces.
        images: Pictures to append to fields, by field.
        audio: Sounds to append to fields, by field.
        deck: Where its cards go; the call's or the provider's when not given.
        note_type: Its type; the call's or the provider's when not given.
    """

    fields: Mapping[str, str]
    tags: Sequence[str] = ()
    images: Mapping[str, Media] = field(default_factory=dict[str, Media])
    audio: Mapping[str, Media] = field(default_factory=dict[str, Media])
    deck: str | None = None
    note_type: str | None = None


class NoteOutcome(StrEnum):
    """What became of a note."""

    ADDED = "added"
    UPDATED = "updated"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NoteResult:
    """What became of one note: its id in the collection, and the reason where it failed."""

    outcome: NoteOutcome
    id: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NoteType:
    """A note type: its name and its fields, in order; the first one tells notes apart."""

    name: str
    fields: Sequence[str]


class FlashcardProvider(Provider[ConfigT]):
    """
    A collection of flashcards.

    Errors are those of :mod:`.errors`, whatever the application.
    """

    family: ClassVar[str] = "flashcards"

    @operation
    async def decks(self) -> Sequence[str]:
        """Return the names of all decks, A to Z."""
        raise NotImplementedError

    @operation
    async def note_types(self) -> Sequence[NoteType]:
        """Return all note types, by name."""
        raise NotImplementedError

    @operation
    async def create_deck(self, name: str) -> None:
        """Make a deck; one that is there already stays as it is."""
        raise NotImplementedError

    @operation
    async def existing(
        self, notes: Sequence[Note], *, note_type: str | None = None
    ) -> Sequence[int | None]:
        """
        Tell which notes are there already: what ``add_notes`` would call a duplicate.

        Args:
            notes: Any number; pictures and sounds do not matter.
            note_type: For notes that name none; the provider's when not given.

        Returns:
            For each note, in their order, the id of the note of the same type with the same first
            field, None where there is none.

        Raises:
            NoteTypeNotFoundError: There is no such note type, or it lacks a field.
            ServiceError: The application does not answer, or refuses the key.
        """
        raise NotImplementedError

    @operation
    async def add_notes(
        self,
        notes: Sequence[Note],
        *,
        deck: str | None = None,
        note_type: str | None = None,
        duplicates: Duplicates = "skip",
    ) -> Sequence[NoteResult]:
        """
        Add notes; what is wrong with one of them keeps none of the others out.

        Args:
            notes: Any number; they are sent in batches.
            deck: For notes that name none; the provider's when not given. It must be there.
            note_type: For notes that name none; the provider's when not given.
            duplicates: For notes whose first field is there already, in a note of the same type:
                leave it, change its other fields, or call it a failure.

        Returns:
            One result for each note, in their order.

        Raises:
            DeckNotFoundError: There is no such deck; nothing was added.
            NoteTypeNotFoundError: There is no such note type, or it lacks a field; nothing was
                added.
            ServiceError: The application does not answer, or refuses the key.
        """
        raise NotImplementedError

    @operation
    async def store_media(self, media: Media) -> str:
        """Keep a file in the collection; return the name it got there."""
        raise NotImplementedError

    @operation
    async def sync(self) -> None:
        """Have the collection synchronised with its server, if it has one."""
        raise NotImplementedError
