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
    DeckNotFoundError,
    DuplicateNoteError,
    FlashcardError,
    NoteTypeNotFoundError,
)

__all__ = [
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
