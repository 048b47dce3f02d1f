"""Plugins: provider types from folders, verified before they run, in processes of their own."""

from __future__ import annotations

from .loader import FamilyShape, LoadedPlugin, PluginLoader, PluginReport, PluginState

__all__ = ["FamilyShape", "LoadedPlugin", "PluginLoader", "PluginReport", "PluginState"]
