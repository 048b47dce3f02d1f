"""Services on loopback that speak as strictly as the real ones, and fail when they are told to."""

from __future__ import annotations

from .ai import AIDouble, Called, Heard, Reply
from .anthropic import AnthropicDouble, AnthropicReply
from .base import Asked, Double, Fault
from .openai import OpenAIDouble
from .openai_images import OpenAIImagesDouble
from .pictures import picture
from .runware import RunwareDouble

__all__ = [
    "AIDouble",
    "AnthropicDouble",
    "AnthropicReply",
    "Asked",
    "Called",
    "Double",
    "Fault",
    "Heard",
    "OpenAIDouble",
    "OpenAIImagesDouble",
    "Reply",
    "RunwareDouble",
    "picture",
]
