"""Composition: containers that declare how everything is wired, and decide nothing."""

from __future__ import annotations

from .application import ApplicationContainer, PurveyorContainer
from .blocking import BlockingContainer
from .family import FamilyContainer
from .selector import ProviderOverride, ProviderSelector

__all__ = [
    "ApplicationContainer",
    "BlockingContainer",
    "FamilyContainer",
    "ProviderOverride",
    "ProviderSelector",
    "PurveyorContainer",
]
