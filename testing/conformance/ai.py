"""The conformance kit of the AI family."""

from __future__ import annotations

from .ai_asking import AskingRules
from .ai_capabilities import CapabilityRules
from .ai_faults import FaultRules
from .ai_robustness import RobustnessRules

__all__ = ["AIConformance"]


class AIConformance(AskingRules, CapabilityRules, FaultRules, RobustnessRules):
    """
    Everything a caller may rely on in an AI provider, one test for each rule.

    Subclass it, name the class, and say what it is tested against and how it gets there. That is
    an :class:`~purveyor.testing.doubles.AIDouble` that speaks the type's protocol; there is one
    for OpenAI's and one for Anthropic's::

        class TestMyModels(AIConformance):
            provider_class = MyModels

            def make_service(self) -> AIDouble:
                return OpenAIDouble()

            def make_config(self, service: AIDouble, **changes: Any) -> MyConfig:
                return MyConfig(base_url=f"{service.url}/v1", api_key=service.key, **changes)

    The attributes that may be set are those of :class:`.ai_case.AICase`.
    """
