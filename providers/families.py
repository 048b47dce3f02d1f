"""The families there are, and the type that each of them has."""

from __future__ import annotations

from .registry.types import Family, ProviderType, default_types

__all__ = [
    "AI",
    "AUDIO",
    "DATA_SOURCES",
    "FAILOVER_TYPES",
    "FAMILIES",
    "FLASHCARDS",
    "IMAGES",
    "STORAGE",
]

STORAGE = Family("storage", fallback="filesystem")
DATA_SOURCES = Family("data_sources", aliases=("data",), fallback="local_file")
AI = Family("ai")
IMAGES = Family("images", aliases=("image",))
AUDIO = Family("audio")
FLASHCARDS = Family("flashcards", aliases=("sync",))

FAMILIES = (STORAGE, DATA_SOURCES, AI, IMAGES, AUDIO, FLASHCARDS)

_FAILOVER_CLASSES = {
    "storage": "purveyor.providers.storage.failover:FailoverStorage",
    "data_sources": "purveyor.providers.data_sources.failover:FailoverSource",
    "ai": "purveyor.providers.ai.failover:FailoverAI",
    "images": "purveyor.providers.media.images.failover:FailoverImages",
    "audio": "purveyor.providers.media.audio.failover:FailoverAudio",
    "flashcards": "purveyor.providers.media.flashcards.failover:FailoverFlashcards",
}

FAILOVER_TYPES = tuple(
    ProviderType(
        family=family.name,
        name="failover",
        path=_FAILOVER_CLASSES.get(family.name, "purveyor.providers.web.failover:FailoverService"),
        description="Several providers as one: the first that can answers",
        display_name="Failover",
    )
    for family in FAMILIES
)

for _family in FAMILIES:
    default_types.add_family(_family)
for _row in FAILOVER_TYPES:
    default_types.add(_row)
