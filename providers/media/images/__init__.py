"""Images: pictures from a description."""

from __future__ import annotations

from .base import GeneratedImage, ImageOptions, ImageProvider

__all__ = ["GeneratedImage", "ImageOptions", "ImageProvider"]
