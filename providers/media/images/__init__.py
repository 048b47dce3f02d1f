"""Images: pictures from a description."""

from __future__ import annotations

from .base import GeneratedImage, ImageOptions, ImageProvider
from .errors import ImageNotWrittenError, IncompleteImagesError

__all__ = [
    "GeneratedImage",
    "ImageNotWrittenError",
    "ImageOptions",
    "ImageProvider",
    "IncompleteImagesError",
]
