"""Discovery: what providers there are to be had, and keeping the registries in step with it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...settings import Settings, SettingsError
from .candidates import (
    Candidate,
    ExtraSource,
    Found,
    from_embedded,
    from_file_of_providers,
    from_settings,
    from_well_known,
    winners,
)
from .daemon import in_daemon_thread
from .errors import InvalidStateError, NotFoundError, ProviderError, RegistryError, nearest_first
from .events import DiscoveryFailed
from .found_plugins import PluginsInUse
from .registration import Declaration
from .registry import ProviderRegistry
from .report import LoadReport, LoadRow, Outcome
from .types import Family, ProviderTypes
from .watcher import FileWatcher

if TYPE_CHECKING:
    from .plugins import PluginLoader

__all__ = ["ProviderDiscovery", "ValidationResult", "declarations"]

logger = logging.getLogger(__name__)

Key = tuple[str, str]
_NOTHING = LoadReport()


def declarations(
    family: Family, settings: Settings, types: ProviderTypes, variables: Mapping[str, str]
) -> dict[str, Declaration]:
    """
    Return what is declared of a family without asking plugins, by name.

    The settings come first, then the file of providers, well-known variables, and the types that
    work with no settings at all.
    """
    path = settings.registry.discovery.config_path
    file = from_file_of_providers(path, [family.name]).candidates if path else []
    found, _ = winners(_in_order(family, settings, types, variables, file))
    return {name: one.declaration for (_, name), one in found.items() if one.declaration}


def _in_order(
    family: Family,
    settings: Settings,
    types: ProviderTypes,
    variables: Mapping[str, str],
    elsewhere: Iterable[Candidate],
) -> list[Candidate]:
    """Return a family's candidates in their order of precedence."""
    found = [*from_settings(settings, family)]
    found += [one for one in elsewhere if one.family == family.name]
    if settings.registry.discovery.enable_environment_discovery:
        found += from_well_known(types, family, variables)
    return found + from_embedded(types, family)


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

    What is registered by hand comes before all; then the extra source, settings, the file of
    providers (``registry.discovery.config_path``), plugins (``plugin_path``), and well-known
    variables. Of two of one name the first counts; the other is reported as shadowed, once.

    Args:
        registries: Gives the registries by family.
        settings: The settings in force.
        extra: A further place of providers, which tells of its changes: the catalogue.
        variables: The environment, for well-known variables.
    """

    def __init__(
        self,
        registries: Callable[[], Mapping[str, ProviderRegistry[Any]]],
        settings: Settings,
        extra: ExtraSource | None = None,
        *,
        variables: Mapping[str, str] = os.environ,
    ) -> None:
        self.settings = settings
        self._extra = extra
        self._registries = registries
        self._variables = variables
        self._added: set[Key] = set()
        self._shadowed: dict[tuple[Key, str, str], LoadRow] = {}
        self._told_shadowed: set[tuple[Key, str, str]] = set()
        self._file: list[Candidate] = []
        self._elsewhere: list[Candidate] = []
        self._of_extra = Found()
        self._plugins = PluginsInUse()
        self._refreshing: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()
        self.report = LoadReport()
        """What became of everything that was found, the last time."""
        self.complete = False
        """Whether the extra source and the file were read: else there may be unknown providers."""

    @property
    def registries(self) -> Mapping[str, ProviderRegistry[Any]]:
        """The registries by family."""
        return self._registries()

    @property
    def shadowed(self) -> list[LoadRow]:
        """Those that another of their name comes before, when all was last looked for."""
        return list(self._shadowed.values())

    @property
    def _types(self) -> ProviderTypes:
        return next(iter(self.registries.values())).types

    # -- finding, one place at a time ----------------------------------------------------
    #
    # What one of these registers stays when it is not among all there is to find.

    async def discover_from_config(self, path: Path | None = None) -> LoadReport:
        """
        Register the providers that the settings name, or those of a file.

        Args:
            path: A TOML, YAML or JSON file of providers, in place of the settings.
        """
        async with self._busy:
            if path is not None:
                return await self._add(await self._read(path))
            found = Found()
            for registry in self.registries.values():
                found.candidates += from_settings(self.settings, registry.family)
            return await self._add(found)

    async def discover_from_environment(self) -> LoadReport:
        """Register the providers that well-known variables make, ``ANTHROPIC_API_KEY`` and such."""
        async with self._busy:
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
        async with self._busy:
            return await self._add(await self._from_plugins(path))

    async def discover_all(self) -> LoadReport:
        """
        Bring the registries in step with everything there is to find.

        New providers are registered, changed ones reloaded, those that are gone end their work
        and are removed. A failure is a row, never the end of the rest, and what it concerns stays
        as it was.
        """
        async with self._busy:
            return await self._bring_in_step()

    async def validate_discovered_providers(self) -> list[ValidationResult]:
        """Tell what each provider to be found is worth; registers nothing but plugins' types."""
        async with self._busy:
            found = await self._find_all()
        first, _ = winners(found.candidates)
        results = [
            ValidationResult(row.family, row.name, row.origin, False, row.code, row.reason)
            for row in found.faults
        ]
        for one in first.values():
            error = self._refusal(one)
            if one.declaration is not None and one.declaration.settings.enabled and not error:
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
            return await self._refresh()

    async def take_in(self, keys: Collection[Key] | None = None) -> LoadReport:
        """
        Bring the registries in step with the extra source only.

        Args:
            keys: Families and names of what changed there; all of it when not given.

        Returns:
            What became of these.
        """
        if self._extra is None:
            return _NOTHING
        async with self._busy:
            found = await self._extra.find(keys)
            known, faults = self._of_extra.candidates, self._of_extra.faults
            everything = (one.key for one in (*known, *found.candidates))
            concerned = set(everything if keys is None else keys)
            found.stand_in(one for one in known if one.key in concerned)
            now = {one.key: one for one in found.candidates}
            rest = [one for one in known if one.key not in concerned]
            self._of_extra = Found([*rest, *found.candidates], found.faults)
            declared = self._declared()
            rows = list(found.faults)
            for key in sorted(concerned, key=lambda key: (key in declared, key)):
                one = now.get(key) or self._next_best(key)
                if one is not None:
                    rows.append(await self._one(one, declared))
                elif key in declared:
                    rows.append(await self._withdraw(key))
            others = (row for row in self.report.rows if row not in faults)
            others = [row for row in others if (row.family, row.name) not in concerned]
            self._tell(LoadReport((*others, *rows)), self.report)
            return LoadReport(tuple(rows))

    def _next_best(self, key: Key) -> Candidate | None:
        """Return who has a name that the extra source has no longer."""
        registry = self.registries.get(key[0])
        if registry is None:
            return None
        others = _in_order(
            registry.family, self.settings, self._types, self._variables, self._elsewhere
        )
        return next((one for one in others if one.key == key), None)

    def listen(self) -> None:
        """Take in what changes in the extra source as it happens, until :meth:`close`."""
        if self._extra is not None:
            self._extra.listen(self.take_in)

    async def close(self) -> None:
        """Listen no longer, and close what is open."""
        if self._extra is not None:
            await self._extra.close()

    def start_auto_refresh(self, interval: float | None = None) -> None:
        """
        Look for changes of files every ``interval`` seconds, and refresh when there are some.

        Watched are all files that settings and plugins are read from. While something is at
        fault there is a refresh at every look; each fault is told once. The first look is at
        once. Starting again changes the interval.

        Args:
            interval: Seconds; ``registry.discovery.auto_refresh_interval`` when not given.

        Raises:
            InvalidStateError: Neither says how many seconds.
        """
        preset = self.settings.registry.discovery.auto_refresh_interval
        seconds = preset if interval is None else interval
        if seconds is None or seconds <= 0:
            raise InvalidStateError(
                "No interval for looking for changes: give one of more than 0 seconds, or set "
                "PURVEYOR_REGISTRY__DISCOVERY__AUTO_REFRESH_INTERVAL."
            )
        before = self._refreshing
        if before is not None:
            before.cancel()
        self._refreshing = asyncio.get_running_loop().create_task(
            self._refresh_forever(seconds, before), name="discovery"
        )

    async def stop_auto_refresh(self, timeout: float | None = None) -> None:
        """
        Look for changes no longer; a refresh under way is cancelled, and what it made is closed.

        Args:
            timeout: Seconds to wait for that at most.
        """
        task, self._refreshing = self._refreshing, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=timeout)

    async def _refresh_forever(self, seconds: float, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        watcher = FileWatcher()
        while True:
            try:
                changed = await in_daemon_thread(watcher.look, self._watched())
                if changed or not self.report.clean:
                    logger.debug("Changed: %s", ", ".join(map(str, changed)) or "nothing")
                    async with self._busy:
                        await self._refresh(told=self.report)
                elif self._extra is not None and await self._extra.has_changed():
                    await self.take_in()
            except Exception:  # whatever it is, the next look may be better
                logger.exception("Looking for changes of settings failed; the last ones stay")
            await asyncio.sleep(seconds)

    def _watched(self) -> list[Path]:
        loader = self._loader()
        return [*self.settings.watched(), *((loader.pins_path, loader.path) if loader else ())]

    # -- finding all ---------------------------------------------------------------------

    def _loader(self, path: Path | None = None) -> PluginLoader | None:
        path = path or self.settings.registry.discovery.plugin_path
        if path is None:
            return None
        from .plugins import PluginLoader  # it brings much that most applications never need

        return PluginLoader(path, self.settings.registry.plugins)

    async def _find_all(self) -> Found:
        path = self.settings.registry.discovery.config_path
        file = Found() if path is None else await self._read(path)
        plugins = await self._from_plugins()
        extra = Found() if self._extra is None else await self._extra.find()
        self.complete = self.complete or not (file.faults or extra.faults)
        file.stand_in(self._file)
        extra.stand_in(self._of_extra.candidates)
        self._file, self._of_extra = file.candidates, extra
        elsewhere = self._elsewhere = [*file.candidates, *plugins.candidates]
        found = Found([*extra.candidates], [*extra.faults, *file.faults, *plugins.faults])
        for registry in self.registries.values():
            found.candidates += _in_order(
                registry.family, self.settings, self._types, self._variables, elsewhere
            )
        found.candidates += [one for one in elsewhere if one.family not in self.registries]
        return found

    async def _read(self, path: Path) -> Found:
        return await in_daemon_thread(from_file_of_providers, path, list(self.registries))

    async def _from_plugins(self, path: Path | None = None) -> Found:
        loader = self._loader(path)
        return Found() if loader is None else await self._plugins.find(loader, self._types)

    # -- bringing the registries in step -------------------------------------------------

    async def _refresh(self, told: LoadReport = _NOTHING) -> LoadReport:
        try:
            settings = await in_daemon_thread(self.settings.reread)
        except SettingsError as error:
            rows = [
                LoadRow("", "", Outcome.FAILED, problem.location, error.code, problem.reason)
                for problem in error.problems
            ]
            return self._tell(LoadReport(tuple(rows)), told)
        before, self.settings = self.settings, settings
        for family, registry in self.registries.items():
            registry.apply(settings.registry)
            new, old = getattr(settings, family).default, getattr(before, family).default
            if new != old:
                registry.declare_default(new)
        return await self._bring_in_step(told)

    async def _bring_in_step(self, told: LoadReport = _NOTHING) -> LoadReport:
        found = await self._find_all()
        first, shadowed = winners(found.candidates)
        self._shadowed = {}
        declared = self._declared()
        self._added -= first.keys()
        rows = list(found.faults)
        # What is new comes first: something that changed may need it.
        in_order = sorted(first.values(), key=lambda one: one.key in declared)
        rows += [await self._one(one, declared) for one in in_order]
        for loser, winner in shadowed:
            rows += self._shadow(loser, f"{winner.source}, {winner.origin}")
        gone = sorted(declared - first.keys() - self._added)
        rows += [await self._withdraw(key) for key in gone]
        return self._tell(LoadReport(tuple(rows)), told)

    async def _add(self, found: Found) -> LoadReport:
        """Register what was found; nothing is removed."""
        declared = self._declared()
        rows = [*found.faults, *[await self._one(one, declared) for one in found.candidates]]
        self._added |= {one.key for one in found.candidates} - declared
        return self._tell(LoadReport(tuple(rows)))

    def _declared(self) -> set[Key]:
        """Return all but what was registered by hand."""
        registries = self.registries.items()
        return {(family, name) for family, registry in registries for name in registry.declared()}

    async def _one(self, one: Candidate, declared: Collection[Key]) -> LoadRow:
        refusal = self._refusal(one)
        if refusal is not None or one.declaration is None:
            return one.failure(refusal or NotFoundError(f"Provider not found: {one.name}."))
        registry = self.registries[one.family]
        if one.key not in declared and registry.is_registered(one.name):
            by_hand = registry.info(one.name)
            shadows = self._shadow(one, f"{by_hand.source}, {by_hand.origin}")
            return shadows[0] if shadows else one.row(Outcome.UNCHANGED)
        try:
            outcome = await registry.declare(one.name, one.declaration)
        except Exception as error:  # whatever its code raises, the others are not concerned
            return one.failure(_registry_error(one.name, error))
        if outcome is Outcome.REMOVED:
            self._keep_default(one.key)
        return one.row(outcome, "" if one.declaration.settings.enabled else "enabled is false")

    def _refusal(self, one: Candidate) -> RegistryError | None:
        if one.family in self.registries:
            return one.error
        names = ", ".join(nearest_first(one.family, self.registries))
        return NotFoundError(f"Unknown family: {one.family}. There are these: {names}.", one.name)

    async def _withdraw(self, key: Key) -> LoadRow:
        gone = Candidate(*key, "", "")
        try:
            await self.registries[gone.family].withdraw(gone.name)
        except Exception as error:  # as above: closing it, perhaps
            return gone.failure(_registry_error(gone.name, error))
        self._keep_default(key)
        return gone.row(Outcome.REMOVED)

    def _keep_default(self, key: Key) -> None:
        """Remember a default provider that was removed: the settings still name it."""
        family, name = key
        if getattr(self.settings, family).default == name:
            self.registries[family].declare_default(name)

    def _shadow(self, loser: Candidate, winner: str) -> list[LoadRow]:
        """Report, the first time, that another provider of that name comes before one."""
        known = (loser.key, loser.origin, winner)
        if loser.source == "builtin":
            return []
        reason = f"shadowed by the one from {winner}"
        self._shadowed[known] = loser.row(Outcome.SKIPPED, reason)
        if known in self._told_shadowed:
            return []
        self._told_shadowed.add(known)
        logger.warning(
            "%s provider %s from %s is %s", loser.family, loser.name, loser.origin, reason
        )
        return [self._shadowed[known]]

    def _tell(self, report: LoadReport, told: LoadReport = _NOTHING) -> LoadReport:
        """Log what failed and tell the listeners, but not once more what they were told."""
        self.report = report
        for row in report.failed:
            if row in told.rows:
                continue
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


def _registry_error(name: str, error: Exception) -> RegistryError:
    if isinstance(error, RegistryError):
        return error
    reason = f"{type(error).__name__}: {error}"
    return ProviderError(f"Provider {name!r} failed: {reason}", name)
