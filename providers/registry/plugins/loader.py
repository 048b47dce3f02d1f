"""Plugins: what lies in their folder, what of it may run, and the provider types it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ....settings import PluginSettings
from ..errors import NotFoundError, PluginRejectedError, nearest_first
from ..metadata import capability_set
from ..types import ProviderType, default_types
from .files import PluginFiles, permission_faults, read_folder
from .importing import install, package_of, provider_class
from .launch import PluginLaunch
from .manifest import (
    MANIFEST,
    Fault,
    PluginManifest,
    PluginType,
    parsed_manifest,
    rejection,
)
from .pins import PINS, Pin, Pins, pin_faults, read_pins, write_pins
from .proxy import isolated_class
from .shape import FamilyShape, shape_of

__all__ = ["FamilyShape", "LoadedPlugin", "PluginLoader", "PluginReport", "PluginState"]


class PluginState(StrEnum):
    """Where a plugin stands."""

    PINNED = "pinned"
    """Everything is right: it may run."""
    CHANGED = "changed"
    UNPINNED = "unpinned"
    NOT_ALLOWED = "not allowed"
    REJECTED = "rejected"
    """Its manifest, or who may write its files, forbids to run it, pinned or not."""


@dataclass(frozen=True, slots=True)
class PluginReport:
    """One plugin as it lies there: its state, and the error with all reasons if it may not run."""

    name: str
    folder: Path
    manifest: PluginManifest | None
    state: PluginState
    error: PluginRejectedError | None = None
    pin: Pin | None = None
    """What pinning it as it is now would write."""

    @property
    def reasons(self) -> list[dict[str, str]]:
        """Why it may not run: each with ``where``, ``reason`` and ``remedy``."""
        found: Any = self.error.context["reasons"] if self.error else []
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        manifest = self.manifest
        return {
            "name": self.name,
            "folder": str(self.folder),
            "state": self.state.value,
            "version": manifest.version if manifest else None,
            "description": manifest.description if manifest else None,
            "types": [
                {
                    "family": one.family,
                    "type": one.type,
                    "capabilities": sorted(capability_set(one.capabilities)),
                }
                for one in (manifest.types if manifest else ())
            ],
            "files": dict(self.pin.files) if self.pin else {},
            "reasons": self.reasons,
        }


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """
    What a verified plugin gives.

    ``types`` are rows for :meth:`ProviderTypes.add`; ``providers`` are the providers it declares,
    each as family, name and settings.
    """

    manifest: PluginManifest
    types: tuple[ProviderType, ...]
    providers: tuple[tuple[str, str, Mapping[str, Any]], ...]


@dataclass(slots=True)
class _Candidate:
    """A folder that was read, and what was found in it."""

    name: str
    folder: Path
    files: PluginFiles = field(default_factory=PluginFiles)
    manifest: PluginManifest | None = None
    unsafe: list[Fault] = field(default_factory=list[Fault])
    changed: list[Fault] = field(default_factory=list[Fault])
    refused: list[Fault] = field(default_factory=list[Fault])
    pin: Pin | None = None

    def report(self) -> PluginReport:
        faults = [*self.unsafe, *self.changed, *self.refused]
        if self.unsafe:
            state = PluginState.REJECTED
        elif self.changed:
            state = PluginState.UNPINNED if self.pin is None else PluginState.CHANGED
        else:
            state = PluginState.NOT_ALLOWED if self.refused else PluginState.PINNED
        error = rejection(self.name, faults) if faults else None
        now = Pin(version=self.manifest.version, files=self.files.hashes) if self.manifest else None
        return PluginReport(self.name, self.folder, self.manifest, state, error, now)


class PluginLoader:
    """
    The plugins below a folder.

    Args:
        path: The folder, with one folder for each plugin.
        settings: Which may run, and how far they are trusted.
        families: The shapes of families; that of a family left out is taken from the types it
            has.
    """

    def __init__(
        self,
        path: Path,
        settings: PluginSettings,
        *,
        families: Mapping[str, FamilyShape] | None = None,
    ) -> None:
        self.path = path
        self.settings = settings
        self.pins_path = settings.pins or path / PINS
        self._families = dict(families or {})

    # -- looking -------------------------------------------------------------------------

    def discover(self) -> list[PluginReport]:
        """
        Return a report on each plugin, A to Z; none of their code runs.

        Raises:
            PluginRejectedError: The folder itself cannot be read; a faulty plugin is a report.
        """
        return [self._candidate(name).report() for name in self.names()]

    def names(self) -> list[str]:
        """Return the names of the plugins' folders, A to Z; hidden ones are left out."""
        try:
            entries = sorted(self.path.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PluginRejectedError(
                f"The folder of plugins cannot be read: {self.path}: {error.strerror}. Correct "
                "registry.discovery.plugin_path, or let this user read it."
            ) from error
        return [
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and (entry.is_dir() or entry.is_symlink())
        ]

    def report(self, name: str) -> PluginReport:
        """
        Return a report on one plugin.

        Raises:
            NotFoundError: There is no folder of that name.
        """
        return self._known(name).report()

    def allows(self, name: str) -> bool:
        """Tell whether the settings allow a plugin of that name."""
        return name in self.settings.allowed or "*" in self.settings.allowed

    def watched(self) -> list[Path]:
        """Return every path whose change may change what there is: folders, files, the pins."""
        below = [path for name in self.names() for path in sorted((self.path / name).rglob("*"))]
        folders = [self.path / name for name in self.names()]
        return list(dict.fromkeys([self.path, self.pins_path, *folders, *below]))

    # -- pinning -------------------------------------------------------------------------

    def pinnable(self, name: str) -> PluginReport:
        """
        Return a report on a plugin that keeps all rules but its pin.

        Raises:
            NotFoundError: There is no folder of that name.
            PluginRejectedError: It breaks another rule, and no pin would help.
        """
        candidate = self._known(name)
        if candidate.unsafe:
            raise rejection(name, candidate.unsafe)
        return candidate.report()

    def pin(self, reports: list[PluginReport]) -> None:
        """Trust plugins exactly as they were when these reports were made."""
        plugins = dict(read_pins(self.pins_path).plugins)
        plugins |= {report.name: report.pin for report in reports if report.pin is not None}
        write_pins(self.pins_path, Pins(plugins=plugins))

    # -- loading -------------------------------------------------------------------------

    def load(self, name: str) -> LoadedPlugin:
        """
        Verify a plugin and return what it gives.

        Isolated, nothing of it runs before a provider of its connects. In process, its modules
        are imported now.

        Raises:
            NotFoundError: There is no folder of that name.
            PluginRejectedError: It broke a rule; nothing of it ran.
            ImportFailedError: In process, its modules cannot be imported.
        """
        candidate = self._known(name)
        report = candidate.report()
        if report.error is not None:
            raise report.error
        manifest = candidate.manifest
        assert manifest is not None  # noqa: S101 - without one there is an error
        shapes = {one.family: self._shape(one.family, candidate) for one in manifest.types}
        if self.settings.isolation == "in_process":
            install(name, candidate.files.contents)
            classes = [
                provider_class(name, one.path, shapes[one.family].base) for one in manifest.types
            ]
        else:
            classes = [
                isolated_class(one, self._launch(candidate, one, shapes[one.family]))
                for one in manifest.types
            ]
        return LoadedPlugin(
            manifest,
            tuple(
                _row(manifest, one, cls) for one, cls in zip(manifest.types, classes, strict=True)
            ),
            tuple(
                (one.family, one.name, {"type": one.type, "options": dict(one.settings)})
                for one in manifest.providers
            ),
        )

    def _launch(self, candidate: _Candidate, entry: PluginType, shape: FamilyShape) -> PluginLaunch:
        secrets = {name for name, one in entry.settings.items() if one.type == "secret"}
        return PluginLaunch(
            plugin=candidate.name,
            path=entry.path,
            files=MappingProxyType(candidate.files.contents),
            secrets=frozenset(secrets),
            shape=shape,
            settings=self.settings,
        )

    def _shape(self, family: str, candidate: _Candidate) -> FamilyShape:
        if family not in self._families:
            found = shape_of(family, default_types)
            if found is None:
                where = f"{candidate.folder / MANIFEST}: types"
                reason = f"there is no family {family!r} a plugin can add types to"
                names = sorted({row.family for row in default_types.all()} | self._families.keys())
                remedy = f"There are: {', '.join(names)}."
                raise rejection(candidate.name, [Fault(where=where, reason=reason, remedy=remedy)])
            self._families[family] = found
        return self._families[family]

    # -- judging -------------------------------------------------------------------------

    def _known(self, name: str) -> _Candidate:
        names = self.names()
        if name not in names:
            there = ", ".join(nearest_first(name, names)) or "none"
            raise NotFoundError(
                f"There is no plugin {name!r} in {self.path}. There are: {there}.",
                context={"plugin": name, "available": names},
            )
        return self._candidate(name)

    def _candidate(self, name: str) -> _Candidate:
        found = _Candidate(name, self.path / name, read_folder(self.path / name))
        found.unsafe += permission_faults(str(self.path), self.path.stat())
        found.unsafe += found.files.faults
        self._read_manifest(found)
        try:
            found.pin = read_pins(self.pins_path).plugins.get(name)
        except PluginRejectedError as error:
            reasons: Any = error.context["reasons"]
            found.unsafe += [Fault(**one) for one in reasons]
        else:
            found.changed += pin_faults(name, found.files, found.pin, found.folder)
        if not self.allows(name):
            found.refused.append(
                Fault(
                    where=str(found.folder),
                    reason="is not allowed",
                    remedy=f"Add {name} to registry.plugins.allowed "
                    "(PURVEYOR_REGISTRY__PLUGINS__ALLOWED).",
                )
            )
        return found

    @staticmethod
    def _read_manifest(found: _Candidate) -> None:
        where = str(found.folder / MANIFEST)
        data = found.files.contents.get(MANIFEST)
        if data is None:
            found.unsafe.append(
                Fault(where=where, reason="is missing", remedy="Every plugin has a manifest.")
            )
            return
        parsed = parsed_manifest(data, where)
        if isinstance(parsed, list):
            found.unsafe += parsed
            return
        found.manifest = parsed
        if parsed.name != found.name:
            found.unsafe.append(
                Fault(
                    where=f"{where}: name",
                    reason=f"is {parsed.name!r}, and the folder is {found.name!r}",
                    remedy="Give the folder the plugin's name.",
                )
            )
        found.unsafe += [
            Fault(
                where=f"{where}: types",
                reason=f"{one.path!r} names a module that is not there",
                remedy="Write class as module:Class, the module below the plugin's folder.",
            )
            for one in parsed.types
            if not _module_file(one.path, found.files.contents)
        ]


def _module_file(path: str, files: Mapping[str, bytes]) -> bool:
    place = path.partition(":")[0].replace(".", "/")
    return f"{place}.py" in files or f"{place}/__init__.py" in files


def _row(manifest: PluginManifest, entry: PluginType, cls: type[Any]) -> ProviderType:
    return ProviderType(
        family=entry.family,
        name=entry.type,
        path=f"{package_of(manifest.name)}.{entry.path}",
        description=entry.description or manifest.description,
        capabilities=capability_set(entry.capabilities),
        display_name=entry.display_name,
        metadata=MappingProxyType({"plugin": manifest.name, "plugin_version": manifest.version}),
        distribution=f"plugin {manifest.name}",
        origin=f"plugin {manifest.name!r} {manifest.version}",
        provider_class=cls,
    )
