"""The types that speak OpenAI's protocol keep every rule of the AI family."""

from __future__ import annotations

from typing import Any

from purveyor.providers.ai.local import LocalConfig, LocalProvider
from purveyor.providers.ai.openai import OpenAIConfig, OpenAIProvider
from purveyor.testing.conformance import AIConformance
from purveyor.testing.doubles import AIDouble, OpenAIDouble


class TestOpenAI(AIConformance):
    provider_class = OpenAIProvider

    def make_service(self) -> AIDouble:
        return OpenAIDouble()

    def make_config(self, service: AIDouble, **changes: Any) -> OpenAIConfig:
        given = {"base_url": f"{service.url}/v1", "api_key": service.key, **changes}
        return OpenAIConfig.model_validate(given)


class TestLocal(AIConformance):
    provider_class = LocalProvider

    def make_service(self) -> AIDouble:
        return OpenAIDouble(max_tokens_field="max_tokens")

    def make_config(self, service: AIDouble, **changes: Any) -> LocalConfig:
        given = {"base_url": f"{service.url}/v1", "api_key": service.key, **changes}
        return LocalConfig.model_validate(given)
