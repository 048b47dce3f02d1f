"""
Images, audio and flashcards: the families of media applications.

Importing this package makes the built-in types known; it imports none of their libraries.
"""

from __future__ import annotations

from .types import MEDIA_TYPES

__all__ = ["MEDIA_TYPES"]
