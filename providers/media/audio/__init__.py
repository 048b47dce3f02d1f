"""Audio: how a word is pronounced."""

from __future__ import annotations

from .base import AudioProvider, Pronunciation, Recording, Sex
from .errors import WordNotFoundError

__all__ = ["AudioProvider", "Pronunciation", "Recording", "Sex", "WordNotFoundError"]
