"""The media types that come with Purveyor: rows of data, which import nothing."""

from __future__ import annotations

from ..registry.types import ProviderType, default_types

__all__ = ["MEDIA_TYPES"]

IMAGE_TYPES: tuple[ProviderType, ...] = ()

AUDIO_TYPES: tuple[ProviderType, ...] = (
    ProviderType(
        family="audio",
        name="forvo",
        path="purveyor.providers.media.audio.forvo:Forvo",
        description="Words spoken by people, from Forvo",
        capabilities=frozenset({"pronunciation"}),
        extra="media",
        display_name="Forvo",
        well_known={"api_key": "FORVO_API_KEY"},
    ),
)

FLASHCARD_TYPES: tuple[ProviderType, ...] = (
    ProviderType(
        family="flashcards",
        name="anki",
        path="purveyor.providers.media.flashcards.anki:Anki",
        description="The collection open in Anki on this machine, by AnkiConnect",
        capabilities=frozenset({"media", "sync"}),
        extra="media",
        display_name="Anki",
    ),
)

MEDIA_TYPES = (*IMAGE_TYPES, *AUDIO_TYPES, *FLASHCARD_TYPES)

for _row in MEDIA_TYPES:
    default_types.add(_row)
