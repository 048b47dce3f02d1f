from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import Family, ProviderRegistry, ProviderTypes, register_provider
from purveyor.settings import LifecycleSettings, RegistrySettings
from tests.providers.registry.samples import Backend, Sample


@pytest.fixture
def types() -> ProviderTypes:
    """A catalogue of the test's own, with the type ``sample``."""
    catalogue = ProviderTypes(scan_entry_points=False)
    catalogue.add_family(Family("storage", fallback="filesystem", aliases=("store",)))
    register_provider(
        "sample",
        description="For tests",
        capabilities={"search"},
        metadata={"supports_encryption": True, "vendor": "none"},
        types=catalogue,
    )(Sample)
    return catalogue


@pytest.fixture
def limits() -> LifecycleSettings:
    return LifecycleSettings()


@pytest.fixture
def registry(
    types: ProviderTypes, limits: LifecycleSettings, tmp_path: Path
) -> ProviderRegistry[Any]:
    settings = RegistrySettings(lifecycle=limits)
    return ProviderRegistry("storage", types=types, home=tmp_path, settings=settings)


@pytest.fixture
def backend() -> Backend:
    return Backend()
