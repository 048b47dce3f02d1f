"""The media types that come with Purveyor: rows of data, which import nothing."""

from __future__ import annotations

from ..registry.types import ProviderType, default_types

__all__ = ["MEDIA_TYPES"]

IMAGE_TYPES = (
    ProviderType(
        family="images",
        name="openai",
        path="purveyor.providers.media.images.openai:OpenAIImages",
        description="Images of OpenAI, and of every service that speaks its protocol",
        capabilities=frozenset({"batch", "remote"}),
        extra="media",
        display_name="OpenAI",
        well_known={
            "api_key": "OPENAI_API_KEY",
            "base_url": "OPENAI_BASE_URL",
            "organization": "OPENAI_ORG_ID",
            "project": "OPENAI_PROJECT_ID",
        },
    ),
    ProviderType(
        family="images",
        name="runware",
        path="purveyor.providers.media.images.runware:RunwareImages",
        description="Images of the many models that Runware has",
        capabilities=frozenset({"batch", "negative-prompt", "seed", "remote"}),
        extra="media",
        display_name="Runware",
        well_known={"api_key": "RUNWARE_API_KEY"},
    ),
)

AUDIO_TYPES = (
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

FLASHCARD_TYPES = (
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
