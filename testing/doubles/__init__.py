"""Services on loopback that speak as strictly as the real ones, and fail when they are told to."""

from __future__ import annotations

from .base import Asked, Double, Fault

__all__ = ["Asked", "Double", "Fault"]
