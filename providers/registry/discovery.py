"""Discovery: what providers there are to be had, and keeping the registries in step with it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...settings import ProviderSettings, Settings, SettingsError
from .candidates import (
    Candidate,
    Found,
    from_file_of_providers,
    from_settings,
    from_well_known,
    winners,
)
from .daemon import in_daemon_thread
from .errors import InvalidStateError, NotFoundError, RegistryError
from .events import DiscoveryFailed
from .registration import Declaration
from .registry import ProviderRegistry
from .report import LoadReport, LoadRow, Outcome
from .types import Family, ProviderTypes
from .watcher import FileWatcher

if TYPE_CHECKING:
    from .plugins import LoadedPlugin, PluginLoader

__all__ = ["ProviderDiscovery", "ValidationResult", "declarations"]

logger = logging.getLogger(__name__)

Key = tuple[str, str]


def declarations(
    family: Family, settings: Settings, types: ProviderTypes, variables: Mapping[str, str]
) -> dict[str, Declaration]:
    """
    Return what is declared of a family without asking plugins, by name.

    The settings come first, then the file of providers, well-known variables, and the types that
    work with no settings at all.
    """
    found, _ = winners(_static(family, settings, types, variables).candidates)
    return {name: one.declaration for (_, name), one in found.items() if one.declaration}


def _static(
    family: Family,
    settings: Settings,
    types: ProviderTypes,
    variables: Mapping[str, str],
    plugins: Iterable[Candidate] = (),
) -> Found:
    """Find a family's candidates in their order of precedence."""
    discovery = settings.registry.discovery
    found = Found(from_settings(settings, family))
    if discovery.config_path is not None:
        names = [one.name for one in types.families()]
        file = from_file_of_providers(discovery.config_path, names)
        found.candidates += [one for one in file.candidates if one.family == family.name]
        found.faults += file.faults
    found.candidates += [one for one in plugins if one.family == family.name]
    if discovery.enable_environment_discovery:
        found.candidates += from_well_known(types, family, variables)
    found.candidates += [
        Candidate(
            family.name,
            row.name,
            "builtin",
            "built in",
            Declaration(ProviderSettings(type=row.name), "builtin", "built in"),
        )
        for row in types.embedded(family.name)
    ]
    return found


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What a discovered provider would be worth: valid, or why not. Nothing was registered."""

    family: str
    name: str
    origin: str
    valid: bool
    code: str | None = None
    reason: str = ""


class ProviderDiscovery:
    """
    Finds providers, and keeps the registries in step with what there is to find.

    What is registered by hand comes before all; then settings, the file of providers
    (``registry.discovery.config_path``), plugins (``plugin_path``), and well-known variables. Of
    two of one name the first counts; the other is reported as shadowed, once.

    Args:
        registries: Gives the registries by family.
        settings: The settings in force.
        variables: The environment, for well-known variables.
    """

    def __init__(
        self,
        registries: Callable[[], Mapping[str, ProviderRegistry[Any]]],
        settings: Settings,
        *,
        variables: Mapping[str, str] = os.environ,
    ) -> None:
        self.settings = settings
        self._registries = registries
        self._variables = variables
        self._mine: set[Key] = set()
        self._told: set[tuple[Key, str]] = set()
        self._plugins: dict[str, LoadedPlugin] = {}
        self._watcher = FileWatcher()
        self._refreshing: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()
        self.report = LoadReport()
        """What became of everything that was found, the last time."""

    @property
    def registries(self) -> Mapping[str, ProviderRegistry[Any]]:
        """The registries by family."""
        return self._registries()

    @property
    def _types(self) -> ProviderTypes:
        return next(iter(self.registries.values())).types

    # -- finding, one place at a time ----------------------------------------------------

    async def discover_from_config(self, path: Path | None = None) -> LoadReport:
        """
        Register the providers that the settings name, or those of a file.

        Args:
            path: A TOML, YAML or JSON file of providers, in place of the settings.
        """
        if path is not None:
            return await self._add(from_file_of_providers(path, list(self.registries)))
        found = Found()
        for registry in self.registries.values():
            found.candidates += from_settings(self.settings, registry.family)
        return await self._add(found)

    async def discover_from_environment(self) -> LoadReport:
        """Register the providers that well-known variables make, ``ANTHROPIC_API_KEY`` and such."""
        found = Found()
        for registry in self.registries.values():
            found.candidates += from_well_known(self._types, registry.family, self._variables)
        return await self._add(found)

    async def discover_from_plugins(self, path: Path | None = None) -> LoadReport:
        """
        Load the plugins that are allowed and pinned, and register the providers they bring.

        Args:
            path: The folder of plugins; ``registry.discovery.plugin_path`` when not given.
        """
        return await self._add(await self._from_plugins(path))

    async def discover_all(self) -> LoadReport:
        """
        Bring the registries in step with everything there is to find.

        New providers are registered, changed ones reloaded, those that are gone end their work
        and are removed. A failure is a row, never the end of the rest, and what it concerns stays
        as it was.
        """
        async with self._busy:
            self.report = await self._apply(await self._find_all())
            return self.report

    async def validate_discovered_providers(self) -> list[ValidationResult]:
        """Tell what each provider to be found is worth; registers nothing."""
        found = await self._find_all()
        first, _ = winners(found.candidates)
        results = [
            ValidationResult("", "", row.origin, False, row.code, row.reason)
            for row in found.faults
        ]
        for one in first.values():
            error = one.error
            if one.declaration is not None and one.declaration.settings.enabled:
                try:
                    self.registries[one.family].validate(one.name, one.declaration)
                except RegistryError as fault:
                    error = fault
            code, reason = (error.code, error.message) if error else (None, "")
            results.append(
                ValidationResult(one.family, one.name, one.origin, error is None, code, reason)
            )
        return results

    # -- keeping in step -----------------------------------------------------------------

    async def refresh(self) -> LoadReport:
        """
        Read the settings anew and bring the registries in step.

        Settings with faults change nothing: the last good ones stay in force, and the report
        says what is wrong with the new ones.
        """
        async with self._busy:
            try:
                settings = await in_daemon_thread(self.settings.reread)
            except SettingsError as error:
                self.report = self._refused(error)
                return self.report
            before, self.settings = self.settings, settings
            for family, registry in self.registries.items():
                registry.apply(settings.registry)
                new, old = getattr(settings, family).default, getattr(before, family).default
                if new != old:
                    registry.declare_default(new)
            self.report = await self._apply(await self._find_all())
            return self.report

    def start_auto_refresh(self, interval: float | None = None) -> None:
        """
        Look for changes of files every ``interval`` seconds, and refresh when there are some.

        Watched are all files that settings and plugins are read from. Starting again changes the
        interval.

        Args:
            interval: Seconds; ``registry.discovery.auto_refresh_interval`` when not given.

        Raises:
            InvalidStateError: Neither says how many seconds.
        """
        seconds = interval or self.settings.registry.discovery.auto_refresh_interval
        if seconds is None:
            raise InvalidStateError(
                "No interval for looking for changes: give one, or set "
                "PURVEYOR_REGISTRY__DISCOVERY__AUTO_REFRESH_INTERVAL."
            )
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._watcher.look(self._watched())
        self._refreshing = asyncio.get_running_loop().create_task(
            self._refresh_forever(seconds), name="discovery"
        )

    async def stop_auto_refresh(self) -> None:
        """Look for changes no longer; a refresh under way is ended between two providers."""
        task, self._refreshing = self._refreshing, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _refresh_forever(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                changed = await in_daemon_thread(lambda: self._watcher.look(self._watched()))
                if changed:
                    logger.info("Changed: %s", ", ".join(map(str, changed)))
                    await self.refresh()
            except Exception:  # whatever it is, the next look may be better
                logger.exception("Looking for changes of settings failed; the last ones stay")

    def _watched(self) -> list[Path]:
        loader = self._loader()
        return [*self.settings.watched(), *(loader.watched() if loader else ())]

    # -- inside --------------------------------------------------------------------------

    def _loader(self, path: Path | None = None) -> PluginLoader | None:
        path = path or self.settings.registry.discovery.plugin_path
        if path is None:
            return None
        from .plugins import PluginLoader  # it brings much that most applications never need

        return PluginLoader(path, self.settings.registry.plugins)

    async def _find_all(self) -> Found:
        plugins = await self._from_plugins()
        all_found = Found(faults=plugins.faults)
        for registry in self.registries.values():
            found = _static(
                registry.family, self.settings, self._types, self._variables, plugins.candidates
            )
            all_found.candidates += found.candidates
            all_found.faults += [row for row in found.faults if row not in all_found.faults]
        return all_found

    async def _from_plugins(self, path: Path | None = None) -> Found:
        loader = self._loader(path)
        found = Found()
        for name in await in_daemon_thread(loader.names) if loader else ():
            if loader is None or not loader.allows(name):
                continue
            origin = f"plugin {name}"
            try:
                loaded = await in_daemon_thread(loader.load, name)
                self._take_types(name, loaded)
            except RegistryError as error:
                found.faults.append(
                    LoadRow("", name, Outcome.FAILED, origin, error.code, error.message, error)
                )
                continue
            for family, provider, config in loaded.providers:
                settings = ProviderSettings.model_validate(dict(config))
                declaration = Declaration(settings, "plugin", origin)
                found.candidates.append(Candidate(family, provider, "plugin", origin, declaration))
        return found

    def _take_types(self, name: str, loaded: LoadedPlugin) -> None:
        known = self._plugins.get(name)
        if known is not None and known.manifest == loaded.manifest:
            return
        for row in known.types if known else ():
            self._types.remove(row.family, row.name)
        for row in loaded.types:
            self._types.add(row)
        self._plugins[name] = loaded

    async def _add(self, found: Found) -> LoadReport:
        """Register what was found; nothing is removed."""
        async with self._busy:
            rows = [*found.faults, *[await self._one(one) for one in found.candidates]]
            return self._told_of(LoadReport(tuple(rows)))

    async def _apply(self, found: Found) -> LoadReport:
        first, shadowed = winners(found.candidates)
        for family, registry in self.registries.items():
            self._mine.update((family, name) for name in registry.declared())
        rows = list(found.faults)
        rows += [await self._withdraw(key) for key in sorted(self._mine - first.keys())]
        rows += [await self._one(one) for one in first.values()]
        for loser, winner in shadowed:
            rows += self._shadow(loser, f"{winner.source}, {winner.origin}")
        return self._told_of(LoadReport(tuple(rows)))

    async def _one(self, one: Candidate) -> LoadRow:
        registry = self.registries.get(one.family)
        if registry is None:
            names = ", ".join(self.registries)
            error = NotFoundError(f"Unknown family: {one.family}. There are these: {names}.")
            return one.failure(error)
        if one.declaration is None:
            return one.failure(one.error or NotFoundError(f"Provider not found: {one.name}."))
        if one.key not in self._mine and registry.is_registered(one.name):
            by_hand = registry.info(one.name)
            shadows = self._shadow(one, f"{by_hand.source}, {by_hand.origin}")
            return shadows[0] if shadows else one.row(Outcome.UNCHANGED)
        try:
            self._mine.add(one.key)
            outcome = await registry.declare(one.name, one.declaration)
        except RegistryError as error:
            return one.failure(error)
        return one.row(outcome, "enabled is false" if outcome is Outcome.SKIPPED else "")

    async def _withdraw(self, key: Key) -> LoadRow:
        family, name = key
        try:
            gone = await self.registries[family].withdraw(name)
        except RegistryError as error:
            return LoadRow(family, name, Outcome.FAILED, "", error.code, error.message, error)
        self._mine.discard(key)
        return LoadRow(family, name, Outcome.REMOVED if gone else Outcome.UNCHANGED, "")

    def _shadow(self, loser: Candidate, winner: str) -> list[LoadRow]:
        """Report, the first time, that another provider of that name comes before one."""
        if loser.source == "builtin" or (loser.key, loser.origin) in self._told:
            return []
        self._told.add((loser.key, loser.origin))
        reason = f"shadowed by the one from {winner}"
        logger.warning(
            "%s provider %s from %s is %s", loser.family, loser.name, loser.origin, reason
        )
        return [loser.row(Outcome.SKIPPED, reason)]

    def _refused(self, error: SettingsError) -> LoadReport:
        rows = [
            LoadRow("", "", Outcome.FAILED, problem.location, "INVALID_CONFIG", problem.reason)
            for problem in error.problems
        ]
        logger.error("The new settings have faults; the last good ones stay in force")
        return self._told_of(LoadReport(tuple(rows)))

    def _told_of(self, report: LoadReport) -> LoadReport:
        """Log what failed and tell the listeners."""
        for row in report.failed:
            if row.family:
                logger.error(
                    "Failed to create %s provider %s: %s", row.family, row.name, row.reason
                )
            else:
                logger.error("Discovery: %s: %s", row.origin, row.reason)
            registry = self.registries.get(row.family) or next(iter(self.registries.values()))
            if registry.events.wanted(DiscoveryFailed):
                registry.events.emit(DiscoveryFailed(row.family, row.name, row.origin, row.reason))
        return report
