"""The AI types that come with Purveyor: rows of data, which import nothing."""

from __future__ import annotations

from ..registry.types import ProviderType, default_types

__all__ = ["AI_TYPES"]

AI_TYPES: tuple[ProviderType, ...] = (
    ProviderType(
        family="ai",
        name="anthropic",
        aliases=("anthropic-claude",),
        path="purveyor.providers.ai.anthropic:AnthropicProvider",
        description="The Claude models of Anthropic",
        capabilities=frozenset(
            {"streaming", "tools", "json-schema", "vision", "token-counting", "remote"}
        ),
        extra="anthropic",
        display_name="Anthropic",
        well_known={"api_key": "ANTHROPIC_API_KEY", "base_url": "ANTHROPIC_BASE_URL"},
    ),
    ProviderType(
        family="ai",
        name="openai",
        aliases=("openai-gpt",),
        path="purveyor.providers.ai.openai:OpenAIProvider",
        description="Models of OpenAI, or of any service that speaks its protocol",
        capabilities=frozenset({"streaming", "tools", "json-schema", "vision", "remote"}),
        extra="openai",
        display_name="OpenAI",
        well_known={
            "api_key": "OPENAI_API_KEY",
            "base_url": "OPENAI_BASE_URL",
            "organization": "OPENAI_ORG_ID",
            "project": "OPENAI_PROJECT_ID",
        },
    ),
    ProviderType(
        family="ai",
        name="local",
        aliases=("local-llm",),
        path="purveyor.providers.ai.local:LocalProvider",
        description="Models on this machine, of any server that speaks OpenAI's protocol",
        capabilities=frozenset({"streaming", "tools", "json-schema", "vision", "local"}),
        extra="openai",
        display_name="Local models",
    ),
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
