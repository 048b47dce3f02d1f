"""What goes wrong with flashcards beside what goes wrong with any service."""

from __future__ import annotations

from ...web.errors import ServiceError

__all__ = [
    "CollectionNotOpenError",
    "DeckNotFoundError",
    "DuplicateNoteError",
    "FlashcardError",
    "NoteTypeNotFoundError",
]


class FlashcardError(ServiceError):
    """The application refuses what it is asked."""

    default_code = "FLASHCARDS_FAILED"
    is_backend_failure = False


class DeckNotFoundError(FlashcardError, LookupError):
    """The collection has no deck of that name; the message lists those it has."""

    default_code = "DECK_NOT_FOUND"


class NoteTypeNotFoundError(FlashcardError, LookupError):
    """The collection has no note type of that name, or the type has no such field."""

    default_code = "NOTE_TYPE_NOT_FOUND"


class DuplicateNoteError(FlashcardError):
    """A note with this first field is there already."""

    default_code = "DUPLICATE_NOTE"


class CollectionNotOpenError(FlashcardError):
    """The application runs, and has no collection open."""

    default_code = "COLLECTION_NOT_OPEN"
    is_backend_failure = True
