"""Flashcards: notes in decks."""

from __future__ import annotations

from .base import (
    Duplicates,
    FlashcardProvider,
    Media,
    Note,
    NoteOutcome,
    NoteResult,
    NoteType,
)
from .errors import (
    CollectionNotOpenError,
    DeckNotFoundError,
    DuplicateNoteError,
    FlashcardError,
    NoteTypeNotFoundError,
)

__all__ = [
    "CollectionNotOpenError",
    "DeckNotFoundError",
    "DuplicateNoteError",
    "Duplicates",
    "FlashcardError",
    "FlashcardProvider",
    "Media",
    "Note",
    "NoteOutcome",
    "NoteResult",
    "NoteType",
    "NoteTypeNotFoundError",
]
