"""Services on loopback that speak as strictly as the real ones, and fail when they are told to."""

from __future__ import annotations

from .ai import AIDouble, Called, Heard, Reply
from .anki import AnkiDouble, HeldNote
from .anthropic import AnthropicDouble, AnthropicReply
from .base import Asked, Double, Fault
from .forvo import ForvoDouble, Spoken
from .openai import OpenAIDouble
from .openai_images import OpenAIImagesDouble
from .pictures import picture
from .runware import RunwareDouble

__all__ = [
    "AIDouble",
    "AnkiDouble",
    "AnthropicDouble",
    "AnthropicReply",
    "Asked",
    "Called",
    "Double",
    "Fault",
    "ForvoDouble",
    "Heard",
    "HeldNote",
    "OpenAIDouble",
    "OpenAIImagesDouble",
    "Reply",
    "RunwareDouble",
    "Spoken",
    "picture",
]
