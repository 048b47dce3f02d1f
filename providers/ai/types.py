"""The AI types that come with Purveyor: rows of data, which import nothing."""

from __future__ import annotations

from ..registry.types import ProviderType, default_types

__all__ = ["AI_TYPES"]

AI_TYPES: tuple[ProviderType, ...] = ()

for _row in AI_TYPES:
    default_types.add(_row)
