"""The media types that come with Purveyor: rows of data, which import nothing."""

from __future__ import annotations

from ..registry.types import ProviderType, default_types

__all__ = ["MEDIA_TYPES"]

IMAGE_TYPES: tuple[ProviderType, ...] = ()

AUDIO_TYPES: tuple[ProviderType, ...] = ()

FLASHCARD_TYPES: tuple[ProviderType, ...] = ()

MEDIA_TYPES = (*IMAGE_TYPES, *AUDIO_TYPES, *FLASHCARD_TYPES)

for _row in MEDIA_TYPES:
    default_types.add(_row)
