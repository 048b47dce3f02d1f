"""Services on loopback that speak as strictly as the real ones, and fail when they are told to."""

from __future__ import annotations

from .anki import AnkiDouble, HeldNote
from .base import Asked, Double, Fault
from .forvo import ForvoDouble, Spoken

__all__ = ["AnkiDouble", "Asked", "Double", "Fault", "ForvoDouble", "HeldNote", "Spoken"]
