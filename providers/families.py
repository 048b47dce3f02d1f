"""The families there are."""

from __future__ import annotations

from .registry.types import Family, default_types

__all__ = ["AI", "AUDIO", "DATA_SOURCES", "FAMILIES", "FLASHCARDS", "IMAGES", "STORAGE"]

STORAGE = Family("storage", fallback="filesystem")
DATA_SOURCES = Family("data_sources", aliases=("data",))
AI = Family("ai")
IMAGES = Family("images", aliases=("image",))
AUDIO = Family("audio")
FLASHCARDS = Family("flashcards", aliases=("sync",))

FAMILIES = (STORAGE, DATA_SOURCES, AI, IMAGES, AUDIO, FLASHCARDS)

for _family in FAMILIES:
    default_types.add_family(_family)
