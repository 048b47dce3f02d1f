"""Data sources by id, with their credentials encrypted: the registry that S3 describes."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self, cast

from pydantic import Secret, SecretBytes, SecretStr

from ...settings import ProviderSettings
from .. import families
from ..registry import (
    MASK,
    AlreadyExistsError,
    Declaration,
    NotFoundError,
    ProviderRegistry,
    ProviderType,
    ProviderTypes,
    ShutdownReport,
    Status,
)
from ..registry.cache import TTLCache
from ..registry.credentials import CredentialManager, Owner
from ..registry.errors import nearest_first
from ..registry.validation import check_name
from .base import DataSource, ItemInfo, ItemMetadata
from .types import DATA_SOURCE_TYPES

__all__ = ["Connector", "DataSourceConfig", "DataSourceRegistry", "DataSourceType"]


class DataSourceType(StrEnum):
    """The types that come with Purveyor; any other is named by a plain string."""

    AZURE_BLOB = "azure_blob"
    POSTGRESQL = "postgresql"
    LOCAL_FILE = "local_file"


@dataclass(frozen=True, slots=True)
class DataSourceConfig:
    """
    One data source.

    Args:
        id: The name it is registered under.
        type: Its type.
        name: A name for people.
        config: The type's settings. What a registry gives back has its secrets masked,
            encrypted or plain, as was asked.
        metadata: Anything to be kept with it.
    """

    id: str
    type: DataSourceType | str
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


class DataSourceRegistry:
    """
    Data sources by id: their classes, their settings with encrypted secrets, their connectors.

    It stands on a :class:`ProviderRegistry` of its own. Secrets are held encrypted, each bound to
    its source and field, and decrypted when a connector is first asked for. An application that
    takes its sources from settings needs only ``container.data_sources``.

    Args:
        credential_manager: Encrypts the secrets; that of the environment when not given.
        cache_ttl: Seconds for which metadata is kept; 0: not at all.
        cache_size: Entries of metadata that are kept at most.
    """

    def __init__(
        self,
        credential_manager: CredentialManager | None = None,
        *,
        cache_ttl: float = 300.0,
        cache_size: int = 1024,
    ) -> None:
        self._types = ProviderTypes()
        self._types.add_family(families.DATA_SOURCES)
        for row in DATA_SOURCE_TYPES:
            self._types.add(row)
        self._credentials = credential_manager or CredentialManager()
        self._registry = ProviderRegistry[DataSource[Any]](families.DATA_SOURCES, types=self._types)
        self._cache = TTLCache[tuple[str, str], Any](cache_ttl, max_entries=cache_size)
        self._stored: dict[str, DataSourceConfig] = {}
        self._arriving: set[str] = set()
        self._connectors: dict[str, Connector] = {}

    # -- classes -------------------------------------------------------------------------

    def register_connector_class(
        self, type: DataSourceType | str, connector_class: builtins.type[DataSource[Any]]
    ) -> None:
        """
        Make a type of data source known; the class that it has already is no error.

        Raises:
            AlreadyExistsError: Another class has that type.
        """
        name = check_name(str(type))
        known = self._types.find(self._family, name)
        if known is not None and known.loaded_class is connector_class:
            return
        self._types.add(
            ProviderType(
                self._family,
                name,
                f"{connector_class.__module__}:{connector_class.__qualname__}",
                provider_class=connector_class,
                distribution=connector_class.__module__.partition(".")[0],
                origin="register_connector_class",
            )
        )

    # -- sources -------------------------------------------------------------------------

    async def register_data_source(
        self, config: DataSourceConfig, test_connection: bool = False
    ) -> None:
        """
        Register a data source; its secrets are encrypted, and nothing is connected.

        Args:
            config: What it is.
            test_connection: Connect and ask it first; a failure registers nothing.

        Raises:
            AlreadyExistsError: The id is taken.
            NotFoundError: No such type.
            InvalidConfigError: The settings have faults; all of them are named.
            RegistrationFailedError: The test failed; the cause is kept.
            CredentialError: There is no key to encrypt its secrets with.
        """
        name = check_name(config.id)
        if name in self._stored or name in self._arriving:
            raise AlreadyExistsError(
                f"Provider already registered: {name}. There is a data source of that id; "
                "unregister it first, or choose another id.",
                name,
            )
        row = self._types.get(self._family, str(config.type))
        self._arriving.add(name)
        try:
            self._registry.validate(name, Declaration(_settings(config), "api", "code"))
            sealed = self._sealed(config, row.secret_fields)
            if test_connection:
                await self._registry.register(name, _settings(config), start="test")
            self._stored[name] = sealed
        finally:
            self._arriving.discard(name)

    async def unregister_data_source(self, source_id: str, *, timeout: float | None = None) -> None:
        """
        Remove a data source, once the calls under way have ended, and all that is kept of it.

        Raises:
            NotFoundError: There is none of that id.
            InUseError: The calls did not end in time (seconds); it stays as it was.
        """
        self._config(source_id)
        if self._registry.has(source_id):
            await self._registry.unregister(source_id, mode="drain", timeout=timeout)
        self._stored.pop(source_id, None)
        self._connectors.pop(source_id, None)
        self.clear_cache(source_id)

    async def get_connector(self, source_id: str) -> Connector:
        """
        Return the connector of a data source: always the same one, connected when first used.

        One that was disconnected is connected again.

        Raises:
            NotFoundError: There is none of that id.
            CredentialError: Its secrets cannot be decrypted.
            RegistryError: It cannot be connected again.
        """
        stored = self._config(source_id)
        if not self._registry.has(source_id):
            with suppress(AlreadyExistsError):  # another thread was faster
                self._registry.register_nowait(source_id, _settings(self._opened(stored)))
        if self._registry.info(source_id).status is Status.DISPOSED:
            await self._registry.initialize(source_id)
        source = self._registry.require(source_id)
        return self._connectors.setdefault(
            source_id, Connector(source_id, source, self._registry, self._cache)
        )

    def get_config(
        self, source_id: str, *, sanitize: bool = True, decrypt: bool = False
    ) -> DataSourceConfig:
        """
        Return what is known of a data source.

        Args:
            source_id: Its id.
            sanitize: Mask the secrets.
            decrypt: Give them in plain text, if they are not masked; else as they are stored.

        Raises:
            NotFoundError: There is none of that id.
            CredentialError: Its secrets cannot be decrypted.
        """
        stored = self._config(source_id)
        if sanitize:
            secret = self._types.get(self._family, str(stored.type)).secret_fields
            shown = {key: MASK if key in secret else one for key, one in stored.config.items()}
            return replace(stored, config=shown)
        return self._opened(stored) if decrypt else stored

    def list_data_sources(self) -> list[DataSourceConfig]:
        """Return all data sources, A to Z, their secrets masked."""
        return [self.get_config(source_id) for source_id in sorted(self._stored)]

    def exists(self, source_id: str) -> bool:
        """Tell whether there is a data source of that id."""
        return source_id in self._stored

    async def test_connection(self, source_id: str) -> bool:
        """
        Connect a data source if need be and ask it one cheap question; True if it answers.

        Raises:
            NotFoundError: There is none of that id.
            RegistryError: Why it does not answer.
        """
        return await (await self.get_connector(source_id)).test_connection()

    async def disconnect_all(self, *, timeout: float | None = None) -> ShutdownReport:
        """
        Disconnect all data sources within one deadline; they stay registered.

        Args:
            timeout: Seconds; 30 when not given.
        """
        return await self._registry.dispose_all(timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.disconnect_all()

    # -- metadata ------------------------------------------------------------------------

    def cache_metadata(
        self, source_id: str, metadata: Any, *, item: str = "", ttl: float | None = None
    ) -> None:
        """
        Keep what is known of a data source, or of one of its items, for a while.

        Args:
            source_id: Its id.
            metadata: Anything but None.
            item: The item; empty for the source itself.
            ttl: Seconds; ``cache_ttl`` when not given.

        Raises:
            NotFoundError: There is none of that id.
        """
        self._config(source_id)
        self._cache.put((source_id, item), metadata, ttl=ttl)

    def get_cached_metadata(self, source_id: str, *, item: str = "") -> Any | None:
        """Return what was kept, None where there is nothing or it has expired."""
        return self._cache.get((source_id, item))

    def clear_cache(self, source_id: str | None = None) -> int:
        """Forget the metadata of one data source, or of all; return how many entries there were."""
        return self._cache.clear(None if source_id is None else lambda key: key[0] == source_id)

    # -- inside --------------------------------------------------------------------------

    @property
    def _family(self) -> str:
        return families.DATA_SOURCES.name

    def _config(self, source_id: str) -> DataSourceConfig:
        found = self._stored.get(source_id)
        if found is None:
            ids = nearest_first(source_id, self._stored)
            there_are = f"There are: {', '.join(ids)}." if ids else "There is none yet."
            raise NotFoundError(
                f"Provider not found: {source_id}. {there_are} register_data_source() adds one.",
                source_id,
                {"family": self._family, "available": ids},
            )
        return found

    def _sealed(self, config: DataSourceConfig, secret: frozenset[str]) -> DataSourceConfig:
        def seal(key: str, value: Any) -> Any:
            if key not in secret or value is None:
                return value
            return self._credentials.encrypt(_plain(value), self._owner(config.id, key))

        return replace(config, config={key: seal(key, one) for key, one in config.config.items()})

    def _opened(self, stored: DataSourceConfig) -> DataSourceConfig:
        secret = self._types.get(self._family, str(stored.type)).secret_fields

        def opened(key: str, value: Any) -> Any:
            if key not in secret or value is None:
                return value
            return self._credentials.decrypt(value, self._owner(stored.id, key))

        return replace(stored, config={key: opened(key, one) for key, one in stored.config.items()})

    def _owner(self, source_id: str, key: str) -> Owner:
        return Owner(self._family, source_id, key)


class Connector:
    """
    One data source of a :class:`DataSourceRegistry`.

    It has the operations of :class:`DataSource`, guarded like those of every provider;
    :meth:`list_items` gives a list and :meth:`get_metadata` remembers its answers.
    """

    def __init__(
        self,
        source_id: str,
        source: DataSource[Any],
        registry: ProviderRegistry[DataSource[Any]],
        cache: TTLCache[tuple[str, str], Any],
    ) -> None:
        self.id = source_id
        self.source = source
        self._registry = registry
        self._cache = cache

    @property
    def is_connected(self) -> bool:
        """Whether it is connected now."""
        return self._registry.info(self.id).status is Status.READY

    async def connect(self) -> None:
        """Connect now; also one that was disconnected."""
        await self._registry.initialize(self.id)

    async def disconnect(self) -> None:
        """Disconnect at once, and forget what is known of its items."""
        await self._registry.dispose(self.id)
        self._cache.clear(lambda key: key[0] == self.id)

    async def test_connection(self) -> bool:
        """Ask it one cheap question; True if it answers, else the error says why not."""
        return await self.source.test_connection()

    async def list_items(self, prefix: str = "") -> list[ItemInfo]:
        """Return the items; :meth:`DataSource.list_items` gives them one by one."""
        items: AsyncIterator[ItemInfo] = self.source.list_items(prefix)
        return [item async for item in items]

    async def get_metadata(self, item: str) -> ItemMetadata:
        """Return what is known of an item, from the cache if that is fresh."""
        return await self._cache.get_or_make(
            (self.id, item), lambda: self.source.get_metadata(item)
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.source, name)

    def __repr__(self) -> str:
        return f"<Connector {self.id!r} {self.source!r}>"


def _settings(config: DataSourceConfig) -> ProviderSettings:
    return ProviderSettings(
        type=str(config.type), metadata=dict(config.metadata), options=Secret(dict(config.config))
    )


def _plain(value: Any) -> Any:
    if isinstance(value, SecretBytes):
        return value.get_secret_value().decode()
    return cast(Any, value).get_secret_value() if isinstance(value, Secret | SecretStr) else value
