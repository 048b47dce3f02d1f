"""The AI types that come with Purveyor: rows of data, which import nothing."""

from __future__ import annotations

from ..registry.types import ProviderType, default_types

__all__ = ["AI_TYPES"]

AI_TYPES: tuple[ProviderType, ...] = (
    ProviderType(
        family="ai",
        name="alias",
        path="purveyor.providers.ai.alias:AliasAI",
        description="A provider and a model of it under one name, with defaults of its own",
        display_name="Alias",
    ),
)

for _row in AI_TYPES:
    default_types.add(_row)
