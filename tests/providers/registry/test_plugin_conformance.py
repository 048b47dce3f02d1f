"""The same storage plugin keeps the rules of the kit in process and isolated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from purveyor.testing.conformance import StorageConformance
from purveyor.testing.conformance.storage_behaviour import BehaviourRules
from purveyor.testing.conformance.storage_capabilities import CapabilityRules
from purveyor.testing.conformance.storage_copies import CopyRules
from purveyor.testing.conformance.storage_keys import KeyRules
from purveyor.testing.conformance.storage_robustness import RobustnessRules
from tests.providers.registry.plugin_samples import copy_example, loader, write_plugin

FOLDER_PLUGIN = """
from pathlib import Path
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage

class Storage(FilesystemStorage):
    pass
"""


class PluginCase:
    """A plugin that is written, pinned and loaded once for all tests of a class."""

    isolation: ClassVar[str]
    provider_class: ClassVar[Any]

    @staticmethod
    def write(plugins: Path) -> str:
        copy_example(plugins)
        return "memory"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _loaded(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        plugins = tmp_path_factory.mktemp("plugins")
        name = cls.write(plugins)
        (row,) = loader(plugins, isolation=cls.isolation).load(name).types
        cls.provider_class = row.loaded_class
        cls.capabilities = row.capabilities  # type: ignore[attr-defined]


class MemoryCase(PluginCase):
    provider_class = object
    capabilities = frozenset()
    persistent = False

    @pytest.fixture
    def storage_config(self) -> BaseModel:
        return self.provider_class.config_class()


@pytest.mark.requirement("S4.52")
class TestMemoryInProcess(MemoryCase, StorageConformance):
    isolation = "in_process"


@pytest.mark.requirement("S4.52")
class TestMemoryIsolated(MemoryCase, BehaviourRules, CopyRules, KeyRules, CapabilityRules):
    """The rules of robustness are those of the folder below, which can break more of them."""

    isolation = "process"


@pytest.mark.requirement("S4.52")
class TestFolderIsolated(PluginCase, CapabilityRules, RobustnessRules):
    """Objects larger than the pipe, kept by threads of the plugin's process; streams and races."""

    provider_class = object
    capabilities = frozenset()
    isolation = "process"
    persistent = True

    @staticmethod
    def write(plugins: Path) -> str:
        write_plugin(
            plugins,
            "folder",
            FOLDER_PLUGIN,
            manifest='[types.settings.root]\ntype = "path"\nrequired = true\n',
        )
        manifest = plugins / "folder" / "plugin.toml"
        text = manifest.read_text().replace(
            '["local-storage"]', '["local-storage", "modified-times", "streaming"]'
        )
        manifest.write_text(text)
        return "folder"

    @pytest.fixture
    def storage_config(self, tmp_path: Path) -> BaseModel:
        return self.provider_class.config_class(root=tmp_path / "root")
