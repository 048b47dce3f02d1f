"""Composition: containers that declare how everything is wired, and decide nothing."""

from __future__ import annotations

from .ai import AISelector
from .application import ApplicationContainer, PurveyorContainer
from .blocking import BlockingContainer
from .family import FamilyContainer
from .selector import ProviderOverride, ProviderSelector

__all__ = [
    "AISelector",
    "ApplicationContainer",
    "BlockingContainer",
    "FamilyContainer",
    "ProviderOverride",
    "ProviderSelector",
    "PurveyorContainer",
]
