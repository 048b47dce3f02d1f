"""The plugins whose types are in use, and what they bring along."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...settings import ProviderSettings
from .candidates import Candidate, Found
from .daemon import in_daemon_thread
from .errors import PluginRejectedError, RegistryError
from .registration import Declaration
from .report import LoadRow, Outcome
from .types import ProviderType, ProviderTypes

if TYPE_CHECKING:
    from ...settings import PluginSettings
    from .plugins import LoadedPlugin, PluginLoader
    from .plugins.pins import Pin

__all__ = ["PluginsInUse"]

Key = tuple[Path, str]


@dataclass(frozen=True, slots=True)
class _InUse:
    """A plugin, and what it was loaded from: as long as that is the same, it need not be again."""

    loaded: LoadedPlugin
    pin: Pin | None
    settings: PluginSettings


@dataclass(slots=True)
class PluginsInUse:
    """
    The plugins that were loaded last, by folder and name.

    One that may not run as it lies there now stays as it was.
    """

    _plugins: dict[Key, _InUse] = field(default_factory=dict[Key, _InUse])

    async def find(self, loader: PluginLoader, types: ProviderTypes) -> Found:
        """Load what is allowed and pinned, put its types in the catalogue, name its providers."""
        found = Found()
        try:
            names = [one for one in await in_daemon_thread(loader.names) if loader.allows(one)]
        except RegistryError as error:
            found.faults.append(_fault("", str(loader.path), error))
            names = []
        else:
            for key in [one for one in self._plugins if one[0] == loader.path]:
                if key[1] not in names:
                    _exchange(types, self._plugins.pop(key).loaded.types, ())
        for name in names:
            try:
                await self._take(loader, name, types)
            except RegistryError as error:
                found.faults.append(_fault(name, f"plugin {name}", error))
            except OSError as error:  # it is being replaced right now
                rejected = PluginRejectedError(f"Plugin {name!r} cannot be read: {error.strerror}.")
                found.faults.append(_fault(name, f"plugin {name}", rejected))
        for (path, name), known in self._plugins.items():
            if path == loader.path:
                found.candidates += _providers(name, known.loaded)
        return found

    async def _take(self, loader: PluginLoader, name: str, types: ProviderTypes) -> None:
        report = await in_daemon_thread(loader.report, name)
        if report.error is not None:
            raise report.error
        known = self._plugins.get((loader.path, name))
        if known is not None and (known.pin, known.settings) == (report.pin, loader.settings):
            return
        loaded = await in_daemon_thread(loader.load, name)
        _exchange(types, known.loaded.types if known else (), loaded.types)
        self._plugins[loader.path, name] = _InUse(loaded, report.pin, loader.settings)


def _fault(name: str, origin: str, error: RegistryError) -> LoadRow:
    return LoadRow("", name, Outcome.FAILED, origin, error.code, error.message, error)


def _providers(plugin: str, loaded: LoadedPlugin) -> Iterable[Candidate]:
    origin = f"plugin {plugin}"
    for family, name, config in loaded.providers:
        declaration = Declaration(ProviderSettings.model_validate(dict(config)), "plugin", origin)
        yield Candidate(family, name, "plugin", origin, declaration)


def _exchange(
    types: ProviderTypes, old: Iterable[ProviderType], new: Iterable[ProviderType]
) -> None:
    """
    Put new types in the place of old ones.

    Raises:
        AlreadyExistsError: Another type has the name of a new one; all is as before.
    """
    for row in old:
        types.remove(row.family, row.name)
    try:
        for row in new:
            types.add(row)
    except RegistryError:
        for row in new:
            if types.find(row.family, row.name) is row:
                types.remove(row.family, row.name)
        for row in old:
            types.add(row)
        raise
