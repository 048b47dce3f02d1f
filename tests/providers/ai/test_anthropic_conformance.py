"""The type ``anthropic`` keeps what every AI type promises."""

from __future__ import annotations

from typing import Any

from purveyor.providers.ai.anthropic import AnthropicConfig, AnthropicProvider
from purveyor.testing.conformance import AIConformance
from purveyor.testing.doubles import AIDouble, AnthropicDouble


class TestAnthropic(AIConformance):
    provider_class = AnthropicProvider

    def make_service(self) -> AIDouble:
        return AnthropicDouble()

    def make_config(self, service: AIDouble, **changes: Any) -> AnthropicConfig:
        given = {"base_url": service.url, "api_key": service.key, **changes}
        return AnthropicConfig.model_validate(given)
