"""Asking models about data, which is fetched before they are asked."""

from __future__ import annotations

from .briefing import Briefing, brief
from .models import ListedModel, ModelList
from .telling import Told

__all__ = ["Briefing", "ListedModel", "ModelList", "Told", "brief"]
