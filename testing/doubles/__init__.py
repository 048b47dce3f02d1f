"""Services on loopback that speak as strictly as the real ones, and fail when they are told to."""

from __future__ import annotations

from .base import Asked, Double, Fault
from .openai_images import OpenAIImagesDouble
from .pictures import picture
from .runware import RunwareDouble

__all__ = ["Asked", "Double", "Fault", "OpenAIImagesDouble", "RunwareDouble", "picture"]
