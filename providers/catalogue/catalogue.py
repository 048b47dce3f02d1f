"""The catalogue: what is registered through code, command line or HTTP, kept and shared."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ...settings import ProviderSettings, Settings, is_required
from ..registry.build import settings_of
from ..registry.candidates import Candidate, Found
from ..registry.credentials import CredentialManager, Owner
from ..registry.discovery import ProviderDiscovery
from ..registry.errors import (
    AlreadyExistsError,
    CredentialError,
    InvalidConfigError,
    NotFoundError,
    RegistryError,
    nearest_first,
)
from ..registry.extras import import_extra
from ..registry.metadata import HealthResult
from ..registry.redaction import remember
from ..registry.registration import Declaration
from ..registry.registry import ProviderRegistry
from ..registry.report import LoadRow, Outcome
from ..registry.validation import check_name
from .address import Address
from .announce import Follower
from .entry import Entry
from .errors import ConflictError
from .sealing import Draft, drafted, settings_from

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from .rows import Row, Sealed
    from .store import Store

__all__ = ["Catalogue"]

Key = tuple[str, str]
SOURCE = "api"


class Catalogue:
    """
    Registrations that outlive the process, in a file or in a database that replicas share.

    A change is validated, written with its secrets encrypted, in force in this process when the
    call returns, and announced: the others on PostgreSQL take it in at once, those on the same
    SQLite file when they next look (``registry.discovery.auto_refresh_interval``).

    Nothing is imported or opened before it is needed, and there is no file until something is
    added. What was opened belongs to the event loop that did.

    Args:
        settings: Say where it is (``catalogue.url``), and the keys (``credentials``).
        discovery: Gives the discovery that brings the registries in step.
        credentials: Encrypts and decrypts; those of ``settings`` when not given.
    """

    def __init__(
        self,
        settings: Settings,
        discovery: Callable[[], ProviderDiscovery],
        credentials: CredentialManager | None = None,
    ) -> None:
        self.address = Address.of(settings)
        self.credentials = credentials or CredentialManager.from_settings(
            settings.credentials, embedded=self.address.path is not None
        )
        self._remembered = settings.catalogue
        remember(self._remembered)
        self._discovery = discovery
        self._store: Store | None = None
        self._follower: Follower | None = None
        self._seen: int | None = None

    # -- reading -------------------------------------------------------------------------

    async def get(self, family: str, name: str) -> Entry | None:
        """Return an entry, None if there is none of that name."""
        found = await self._read([(self._family(family), name)])
        return found[0] if found else None

    async def entries(self, family: str | None = None) -> list[Entry]:
        """Return all entries, or those of a family, by family and name; nothing is decrypted."""
        return await self._read(family=None if family is None else self._family(family))

    # -- changing ------------------------------------------------------------------------

    async def add(
        self, family: str, name: str, config: Mapping[str, Any] | ProviderSettings
    ) -> Entry:
        """
        Register a provider for good.

        Args:
            family: The family.
            name: The provider's name.
            config: Its settings, flat beside ``type`` and the rest of the envelope as in a
                configuration file.

        Raises:
            AlreadyExistsError: The name is taken; the message names both origins.
            InvalidConfigError: The settings have faults; all of them are named.
            CredentialError: There is no key, or none that is of use.
            CatalogueUnavailableError: The database cannot be reached or written.
            RegistryError: There is no such family or type, or the name is not usable.
        """
        registry = self._registry(family)
        draft = self._draft(registry, name, settings_of(name, config, None), None)
        self._refuse_taken(registry, name)
        key = registry.family.name, name
        secrets = draft.sealed(*key, self.credentials)
        from .rows import Row, now, put

        async with self._writing() as (connection, number):
            there = await self._row(connection, key)
            if there is not None:
                raise self._taken(key, f"{self._origin} (version {there.version})")
            row = Row(*key, draft.type, draft.config, secrets, number, now())
            await put(connection, row)
            await self._opened().announce(connection, *key)
        return await self._applied(row)

    async def update(
        self,
        family: str,
        name: str,
        config: Mapping[str, Any] | ProviderSettings,
        *,
        version: int,
    ) -> Entry:
        """
        Replace a provider's settings.

        A secret that is left out, or :data:`~purveyor.providers.registry.UNCHANGED`, stays as it
        is stored; None removes it. The mask that stands for a secret is refused.

        Args:
            family: The family.
            name: The provider's name.
            config: All settings, as for :meth:`add`. Its type when none is named.
            version: Of the entry that was looked at.

        Raises:
            ConflictError: Somebody else changed or removed it since.
            NotFoundError: There is no such entry.
            RegistryError: As :meth:`add`.
        """
        registry = self._registry(family)
        entry = await self.get(family, name)
        if entry is None:
            raise await self._not_found(registry.family.name, name)
        key = registry.family.name, name
        if entry.version != version:
            raise ConflictError(*key, version, entry.version)
        draft = self._draft(registry, name, self._of_entry(config, entry), entry)
        self._refuse_elsewhere(registry, draft, entry)
        secrets = draft.sealed(*key, self.credentials)
        from .rows import Row, change, now

        async with self._writing() as (connection, number):
            there = await self._row(connection, key)
            if there is None or there.version != version:
                raise ConflictError(*key, version, there.version if there else None)
            # Taken from what is there now: they may be under another key than they were.
            kept = {field: there.secrets[field] for field in draft.kept}
            row = Row(*key, draft.type, draft.config, {**kept, **secrets}, number, now())
            await change(connection, row)
            await self._opened().announce(connection, *key)
        return await self._applied(row)

    def holds(self, entry: Entry, config: Mapping[str, Any] | ProviderSettings) -> bool:
        """
        Tell whether an entry says already what :meth:`update` would make it say.

        Raises:
            RegistryError: As :meth:`update`.
        """
        registry = self._registry(entry.family)
        draft = self._draft(registry, entry.name, self._of_entry(config, entry), entry)
        if (draft.type, draft.config) != (entry.type, dict(entry.config)):
            return False
        if set(entry.secrets) != {*draft.given, *draft.kept}:
            return False
        try:
            return all(
                self.credentials.decrypt(
                    entry.secrets[field], Owner(entry.family, entry.name, field)
                )
                == value
                for field, value in draft.given.items()
            )
        except CredentialError:
            return False

    async def try_out(
        self, family: str, name: str, config: Mapping[str, Any] | ProviderSettings
    ) -> HealthResult:
        """
        Find out whether a provider with some settings would answer; keeps and registers nothing.

        Secrets that are left out are the stored ones, if the entry is there and is reached where
        it was: they are shown to no other server.

        Args:
            family: The family.
            name: The provider's name; there need not be one.
            config: All settings, as for :meth:`add`.

        Raises:
            InvalidConfigError: The settings have faults, or would show stored secrets elsewhere.
            RegistryError: There is no such family or type, or the name is not usable.
        """
        registry = self._registry(family)
        entry = await self.get(family, name)
        settings = settings_of(name, config, None)
        if entry is not None:
            settings = self._of_entry(config, entry)
        draft = self._draft(registry, check_name(name), settings, entry)
        if entry is not None:
            self._refuse_elsewhere(registry, draft, entry)
        whole = self._whole(registry, name, draft, entry.secrets if entry else {})
        return await registry.try_out(name, self._declaration(whole))

    def _of_entry(
        self, config: Mapping[str, Any] | ProviderSettings, entry: Entry
    ) -> ProviderSettings:
        """Return new settings of an entry, which stays of its type if they name none."""
        settings = settings_of(entry.name, config, None)
        if settings.type is not None:
            return settings
        return settings.model_copy(update={"type": entry.type})

    def _refuse_elsewhere(
        self, registry: ProviderRegistry[Any], draft: Draft, entry: Entry
    ) -> None:
        """Refuse to show stored secrets to another server than the one they were given for."""
        if not draft.kept:
            return
        model: Any = registry.types.get(registry.family.name, draft.type).config_class
        before, after = entry.config.get("options", {}), draft.config["options"]
        addresses: frozenset[str] = getattr(model, "addresses", frozenset())
        moved = sorted(
            key for key in addresses if key in draft.given or before.get(key) != after.get(key)
        )
        if draft.type != entry.type:
            moved = ["type", *moved]
        if moved:
            kept = ", ".join(sorted(draft.kept))
            raise InvalidConfigError(
                f"Configuration invalid: provider {entry.name!r} is to be reached elsewhere "
                f"({', '.join(moved)} changed), and the stored {kept} was given for where it was. "
                f"Give {kept} anew.",
                entry.name,
                {"moved": moved, "kept": sorted(draft.kept)},
            )

    async def remove(self, family: str, name: str, *, version: int | None = None) -> None:
        """
        Remove a provider for good; where it is in use, its work is ended first.

        Args:
            family: The family.
            name: The provider's name.
            version: Of the entry that was looked at; not given, any is removed.

        Raises:
            ConflictError: Somebody else changed it since.
            NotFoundError: There is no such entry.
            CatalogueUnavailableError: The database cannot be reached or written.
        """
        key = self._family(family), name
        there: Row | None = None
        if self.is_present():
            from .rows import remove

            async with self._writing() as (connection, _):
                there = await self._row(connection, key)
                if there is not None:
                    if version is not None and there.version != version:
                        raise ConflictError(*key, version, there.version)
                    await remove(connection, key)
                    await self._opened().announce(connection, *key)
        if there is None:
            raise await self._not_found(*key)
        await self._discovery().take_in([key])

    # -- the secrets alone, for their rotation -------------------------------------------

    async def sealed(self, size: int) -> AsyncGenerator[list[Sealed]]:
        """Give the secrets of all entries as they are stored, those of ``size`` at a time."""
        key: Key | None = None
        while self.is_present():
            store = self._opened()
            from .rows import after

            async with store.reading() as connection:
                found = await after(connection, key, size)
            if not found:
                return
            key = found[-1].key
            yield found

    async def reseal(self, changed: Sequence[Sealed]) -> list[Sealed]:
        """
        Store other encrypted forms of the same secrets; versions stay, and nobody is told.

        Args:
            changed: As they were given by :meth:`sealed`, in that order, with the new forms.

        Returns:
            Those that somebody else changed meanwhile, as they are now: nothing was stored for
            them.
        """
        new = {one.key: one for one in changed}
        store = self._opened()
        from .rows import between, reseal

        async with store.writing() as (connection, _):
            there = await between(connection, changed[0].key, changed[-1].key)
            there = [one for one in there if one.key in new]
            same = [new[one.key] for one in there if one.version == new[one.key].version]
            await reseal(connection, same)
        return [one for one in there if one.version != new[one.key].version]

    # -- as discovery sees it ------------------------------------------------------------

    def is_present(self) -> bool:
        """Tell whether there is anything to be asked: a server, or a file."""
        return self.address.path is None or self.address.path.exists()

    async def find(self, keys: Collection[Key] | None = None) -> Found:
        """
        Return the entries as candidates for registration.

        Raises:
            CredentialError: The database is on a server, and there is no key.
        """
        self._require_key()
        if not self.is_present():
            self._seen = None
            return Found()
        try:
            seen = self._seen if keys is not None else await self._opened().revision()
            entries = await self._read(keys)
        except RegistryError as error:
            self._seen = None
            fault = LoadRow("", "", Outcome.FAILED, self._origin, error.code, error.message, error)
            return Found(faults=[fault])
        self._seen = seen
        return Found([self._candidate(entry) for entry in entries])

    async def has_changed(self) -> bool:
        """Tell whether there was a change since all entries were last found."""
        if not self.is_present():
            return self._seen is not None
        try:
            return self._seen is None or await self._opened().revision() != self._seen
        except RegistryError:
            return True

    def listen(self, changed: Callable[[Collection[Key] | None], Awaitable[object]]) -> None:
        """Await ``changed`` as others change entries, if the database announces it."""
        if self.address.path is not None or self._follower is not None:
            return

        async def take_in(keys: Collection[Key] | None) -> bool:
            if keys is not None or await self.has_changed():
                await changed(keys)
            return self._seen is not None

        self._follower = Follower(self.address, take_in)

    async def close(self) -> None:
        """Listen no longer and close what is open; whatever is asked next opens it anew."""
        follower, self._follower = self._follower, None
        store, self._store = self._store, None
        try:
            if follower is not None:
                await follower.close()
        finally:
            if store is not None:
                await store.close()

    def store(self) -> Store:
        """Return the open database, for what is kept beside the registrations."""
        return self._opened()

    # -- inside --------------------------------------------------------------------------

    @property
    def _origin(self) -> str:
        return self.address.shown

    def _require_key(self) -> None:
        if self.address.path is None:
            _ = self.credentials.key_ids  # raises what is wrong with them

    def _opened(self) -> Store:
        if self._store is None or not self._store.check_loop():
            self._require_key()
            import_extra("sqlalchemy", extra="catalogue")
            from .store import Store

            self._store = Store(self.address)
        return self._store

    def _writing(self) -> AbstractAsyncContextManager[tuple[AsyncConnection, int]]:
        return self._opened().writing()

    def _family(self, name: str) -> str:
        """Return a family's name for its name or an older one."""
        for registry in self._discovery().registries.values():
            if name in (registry.family.name, *registry.family.aliases):
                return registry.family.name
        return name

    def _registry(self, family: str) -> ProviderRegistry[Any]:
        registries = self._discovery().registries
        found = registries.get(self._family(family))
        if found is None:
            names = ", ".join(nearest_first(family, registries))
            raise NotFoundError(f"Unknown family: {family}. There are these: {names}.")
        return found

    def _draft(
        self,
        registry: ProviderRegistry[Any],
        name: str,
        settings: ProviderSettings,
        before: Entry | None,
    ) -> Draft:
        """Return what is to be stored, after it was validated."""
        family, types = registry.family.name, registry.types
        row = types.find(family, settings.type or name) or types.find(family, name)
        if row is None:
            registry.validate(name, self._declaration(settings))
            return self._draft(registry, name, settings, before)  # it came this very moment
        stored = before.secrets if before else dict[str, str]()
        draft = drafted(name, settings, row, stored)
        whole = self._whole(registry, name, draft, stored)
        registry.validate(name, self._declaration(whole))
        return draft

    def _whole(
        self,
        registry: ProviderRegistry[Any],
        name: str,
        draft: Draft,
        stored: Mapping[str, str],
    ) -> ProviderSettings:
        """Return the settings that a draft would make, what it keeps of the stored ones too."""
        return settings_from(
            draft.type,
            draft.config,
            {field: stored[field] for field in draft.kept},
            family=registry.family.name,
            name=name,
            credentials=self.credentials,
            given=draft.given,
        )

    def _declaration(self, settings: ProviderSettings) -> Declaration:
        return Declaration(settings, SOURCE, self._origin, shared=True)

    def _refuse_taken(self, registry: ProviderRegistry[Any], name: str) -> None:
        """Refuse a name that settings, a plugin or a call have given to another provider."""
        if not registry.has(name):
            return
        try:
            info = registry.info(name)
            source, origin = info.source, info.origin
        except RegistryError:
            source, origin = "settings", "one of faulty settings"
        if source != "builtin" and origin != self._origin:
            raise self._taken((registry.family.name, name), f"{source}, {origin}")

    def _taken(self, key: Key, by: str) -> AlreadyExistsError:
        family, name = key
        return AlreadyExistsError(
            f"Provider already registered: {name}. The {family} provider of that name comes from "
            f"{by}; refused is the one for the {self._origin}. Choose another name, or change the "
            "first.",
            name,
            {"family": family},
        )

    async def _not_found(self, family: str, name: str) -> NotFoundError:
        names = nearest_first(name, [entry.name for entry in await self.entries(family)])
        there_are = f"has these: {', '.join(names)}" if names else "has none"
        return NotFoundError(
            f"Provider not found: {name}. Of the {family} providers the {self._origin} "
            f"{there_are}. Others are set where they come from.",
            name,
            {"family": family, "available": names},
        )

    async def _read(
        self, keys: Collection[Key] | None = None, *, family: str | None = None
    ) -> list[Entry]:
        if not self.is_present():
            return []
        store = self._opened()
        from .rows import read

        async with store.reading() as connection:
            found = await read(connection, keys, family)
        return [self._entry(row) for row in found]

    async def _row(self, connection: AsyncConnection, key: Key) -> Row | None:
        from .rows import read

        return next(iter(await read(connection, [key])), None)

    async def _applied(self, row: Row) -> Entry:
        await self._discovery().take_in([(row.family, row.name)])
        return self._entry(row)

    def _entry(self, row: Row) -> Entry:
        fault: RegistryError | None = None
        config: Mapping[str, Any] = row.config
        secrets: dict[str, str] = {}
        try:
            secrets = {str(field): str(token) for field, token in row.secrets.items()}
            settings = settings_from(
                row.type,
                config,
                secrets,
                family=row.family,
                name=row.name,
                credentials=self.credentials,
            )
        except (ValidationError, TypeError, AttributeError):
            config = {}
            settings = ProviderSettings(type=row.type, required=is_required(row.config))
            fault = InvalidConfigError(
                f"Configuration invalid: the entry of the {row.family} provider {row.name!r} in "
                f"the {self._origin} is not what this release writes. Install the release that "
                "wrote it, or remove the entry.",
                row.name,
            )
        return Entry(
            family=row.family,
            name=row.name,
            version=row.version,
            updated_at=row.updated_at.replace(tzinfo=row.updated_at.tzinfo or UTC),
            settings=settings,
            fault=fault,
            config=config,
            secrets=secrets,
        )

    def _candidate(self, entry: Entry) -> Candidate:
        candidate = Candidate(entry.family, entry.name, SOURCE, self._origin, error=entry.fault)
        if entry.fault is not None:
            return dataclasses.replace(candidate, required=entry.settings.required)
        where = functools.partial(self._where, entry.family, entry.name)
        declaration = Declaration(entry.settings, SOURCE, self._origin, where, shared=True)
        return dataclasses.replace(candidate, declaration=declaration)

    def _where(self, family: str, name: str, path: tuple[str, ...]) -> str:
        return f"{self._origin}: {'.'.join((family, name, *path))}"
