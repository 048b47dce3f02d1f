"""The process-wide storage registry, filled: built-in storages, then those of plugins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from purveyor.providers.registry import AlreadyExistsError, LoadReport, Outcome, default_types
from purveyor.providers.registry.plugins import PluginLoader
from purveyor.providers.storage import storage_registry
from purveyor.providers.storage.registry import initialize_storage, load_plugin_providers
from purveyor.settings import Settings, load_settings
from tests.providers.registry.plugin_samples import copy_example

PROVIDER = """
[[providers]]
name = "scratch"
family = "storage"
type = "memory-plugin"
"""


@pytest.fixture(autouse=True)
def _empty_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("purveyor.providers.storage.registry._registries", [])
    monkeypatch.setattr("purveyor.providers.storage.registry._discoveries", [])
    yield
    default_types.remove("storage", "memory-plugin")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of the environment: a folder with one plugin, pinned and allowed."""
    plugins = tmp_path / "plugins"
    manifest = copy_example(plugins) / "plugin.toml"
    manifest.write_text(manifest.read_text() + PROVIDER)
    monkeypatch.setenv("PURVEYOR_REGISTRY__DISCOVERY__PLUGIN_PATH", str(plugins))
    monkeypatch.setenv("PURVEYOR_REGISTRY__PLUGINS__ALLOWED", "memory")
    settings = load_settings()
    loader = PluginLoader(plugins, settings.registry.plugins)
    loader.pin([loader.pinnable("memory")])
    return settings


@pytest.mark.requirement("S1.26")
async def test_initializing_registers_what_is_built_in() -> None:
    assert await initialize_storage() == LoadReport()
    assert storage_registry().names() == ["filesystem", "sqlite"]
    assert storage_registry().default_name() == "filesystem"
    with pytest.raises(AlreadyExistsError):
        await initialize_storage()


@pytest.mark.requirement("S1.26", "S4.25")
@pytest.mark.usefixtures("settings")
async def test_initializing_loads_the_plugins_of_the_environment_too() -> None:
    report = await initialize_storage()
    assert report.registered == ["scratch"]
    registry = storage_registry()
    assert registry.names() == ["filesystem", "scratch", "sqlite"]
    assert registry.default_name() == "filesystem"
    scratch = registry.require("scratch")
    await scratch.put("k", b"v")
    assert await scratch.get("k") == b"v"
    assert (await registry.graceful_shutdown()).clean


@pytest.mark.requirement("S1.27")
async def test_a_folder_of_plugins_is_loaded_once(settings: Settings) -> None:
    path = settings.registry.discovery.plugin_path
    assert path is not None
    first = await load_plugin_providers(path)
    assert [(row.name, row.outcome) for row in first.rows] == [("scratch", Outcome.REGISTERED)]
    again = await load_plugin_providers(path, settings)
    assert [(row.name, row.outcome) for row in again.rows] == [("scratch", Outcome.UNCHANGED)]


@pytest.mark.requirement("S1.27", "S4.25")
async def test_what_is_not_pinned_is_a_row(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "plugins" / "memory" / "more.py").touch()
    report = await load_plugin_providers(tmp_path / "plugins", settings)
    assert [(row.name, row.code) for row in report.failed] == [("memory", "PLUGIN_REJECTED")]
    assert default_types.find("storage", "memory-plugin") is None


@pytest.mark.requirement("S1.27")
async def test_a_folder_that_is_not_there_has_no_plugins(tmp_path: Path) -> None:
    assert await load_plugin_providers(tmp_path / "missing") == LoadReport()
