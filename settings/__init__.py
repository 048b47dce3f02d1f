"""What the environment may say: the tree of settings, its sources, and what is wrong with it."""

from __future__ import annotations

from .branches import (
    AISettings,
    BreakerSettings,
    CatalogueSettings,
    CredentialSettings,
    DiscoverySettings,
    FamilySettings,
    HealthSettings,
    LifecycleSettings,
    PluginSettings,
    ProviderSettings,
    RegistrySettings,
)
from .errors import Problem, SettingsError
from .explain import explain
from .found import FoundProvider, ProvidersFile, is_required, read_providers
from .http import HttpSettings
from .model import Settings, load_settings
from .telemetry import TelemetrySettings

__all__ = [
    "AISettings",
    "BreakerSettings",
    "CatalogueSettings",
    "CredentialSettings",
    "DiscoverySettings",
    "FamilySettings",
    "FoundProvider",
    "HealthSettings",
    "HttpSettings",
    "LifecycleSettings",
    "PluginSettings",
    "Problem",
    "ProviderSettings",
    "ProvidersFile",
    "RegistrySettings",
    "Settings",
    "SettingsError",
    "TelemetrySettings",
    "explain",
    "is_required",
    "load_settings",
    "read_providers",
]
