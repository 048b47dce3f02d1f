"""Folders of plugins, written for one test."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Any

from purveyor.providers.registry.plugins import PluginLoader
from purveyor.settings.branches import PluginSettings

EXAMPLES = Path(__file__).parents[3] / "examples" / "plugins"

MANIFEST = """
name = "{name}"
version = "1.0"
api_version = 1

[[types]]
family = "storage"
type = "{name}-type"
class = "{name}:Storage"
capabilities = ["local-storage"]
"""

PREAMBLE = """
from __future__ import annotations
import asyncio, os, signal, socket, sys, time
from collections.abc import AsyncIterator
from pydantic import SecretStr
from purveyor.providers.registry import *
from purveyor.providers.storage import *

class Config(ProviderConfig):
    token: SecretStr | None = None
    size: int = 1
"""


def write_plugin(plugins: Path, name: str, code: str, *, manifest: str = "", **files: str) -> Path:
    """Write a plugin whose one module has its name; ``code`` follows the usual imports."""
    folder = plugins / name
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(MANIFEST.format(name=name) + manifest)
    (folder / f"{name}.py").write_text(PREAMBLE + textwrap.dedent(code))
    for file, text in files.items():
        (folder / f"{file}.py").write_text(textwrap.dedent(text))
    private(plugins)
    return folder


def storage(body: str = "", extra: str = "") -> str:
    """Return a storage class with these methods."""
    methods = textwrap.indent(textwrap.dedent(body) or "pass", "    ")
    return f"{textwrap.dedent(extra)}\nclass Storage(StorageProvider[Config]):\n{methods}\n"


def copy_example(plugins: Path, name: str = "memory") -> Path:
    """Put a copy of an example there."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(EXAMPLES / name, plugins / name, ignore=ignored)
    private(plugins)
    return plugins / name


def private(folder: Path) -> None:
    """Let nobody else write there, whatever this machine's umask says."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def loader(plugins: Path, *, pin: bool = True, **settings: Any) -> PluginLoader:
    """Return a loader that allows all, and pins all there is."""
    made = PluginLoader(plugins, PluginSettings(**{"allowed": ("*",), **settings}))
    if pin:
        made.pin([made.pinnable(name) for name in made.names()])
    return made


def provider_class(plugins: Path, name: str, **settings: Any) -> type[Any]:
    """Return the class of a plugin's one type."""
    (row,) = loader(plugins, **settings).load(name).types
    return row.loaded_class
