"""The catalogue of provider types: what could be configured, known without importing it."""

from __future__ import annotations

import importlib
import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from .errors import (
    AlreadyExistsError,
    ImportFailedError,
    InvalidConfigError,
    InvalidNameError,
    NotFoundError,
    RegistryError,
    nearest_first,
)
from .metadata import capability_set
from .provider import Provider
from .redaction import secret_fields_of

__all__ = [
    "ENTRY_POINT_GROUP",
    "Family",
    "ProviderType",
    "ProviderTypes",
    "default_types",
    "register_provider",
]

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "purveyor.providers"
"""Entry points of this group, named ``family.type``, add provider types."""

ClassT = TypeVar("ClassT", bound=type)


@dataclass(frozen=True, slots=True)
class Family:
    """
    A group of providers with one interface.

    Args:
        name: As in the settings, the CLI and the container.
        fallback: Name of the provider that is the default where nothing else is set.
        aliases: Older names, accepted where a provider's ``type`` names its family.
    """

    name: str
    fallback: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProviderType:
    """
    One row of the catalogue; reading it imports nothing.

    Args:
        family: Name of the family.
        name: The type's name in the settings.
        path: Where the provider class is: ``package.module:Class``.
        description: One line for people.
        capabilities: What providers of this type can do.
        extra: The extra of this distribution that installs what the type needs.
        aliases: Other names for the type.
        embedded: Works with no settings at all, so that every application has it.
        metadata: Whatever else the type says of itself.
        well_known: Settings and the well-known variables they are taken from where environment
            discovery is on (``{"api_key": "ANTHROPIC_API_KEY"}``); the first one must be set.
        display_name: For people; the name when not given.
        distribution: Name of the installed distribution it comes from.
        origin: Where it was added from, for messages.
        provider_class: The class itself, where it is at hand already.
        config_model: The config model, where it is not the class's own.
    """

    family: str
    name: str
    path: str
    description: str = ""
    capabilities: frozenset[str] = frozenset()
    extra: str | None = None
    aliases: tuple[str, ...] = ()
    embedded: bool = False
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    well_known: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    display_name: str = ""
    distribution: str = "purveyor"
    origin: str = "built in"
    provider_class: type[Provider[Any]] | None = field(default=None, repr=False)
    config_model: type[BaseModel] | None = field(default=None, repr=False)

    @cached_property
    def loaded_class(self) -> type[Provider[Any]]:
        """
        The provider class, imported when first asked for.

        Raises:
            ImportFailedError: The module or the class is not there; the cause is kept.
        """
        if self.provider_class is not None:
            return self.provider_class
        module_path, _, attribute = self.path.partition(":")
        try:
            loaded = attrgetter(attribute)(importlib.import_module(module_path))
        except ImportFailedError:
            raise
        except Exception as error:
            remedy = ""
            if self.extra and isinstance(error, ModuleNotFoundError):
                remedy = f". Install it with: pip install '{self.distribution}[{self.extra}]'"
            raise ImportFailedError(
                f"The {self.family} provider type {self.name!r} ({self.path}, from {self.origin}) "
                f"cannot be imported: {type(error).__name__}: {error}{remedy}",
                context={"family": self.family, "type": self.name, "path": self.path},
            ) from error
        return _provider_class_of(loaded)

    @cached_property
    def config_class(self) -> type[BaseModel]:
        """The config model of the type."""
        if self.config_model is not None:
            return self.config_model
        found = getattr(self.loaded_class, "config_class", None)
        if found is None:
            raise ImportFailedError(
                f"The {self.family} provider type {self.name!r} has no config model: derive its "
                "class from its family's base with the model as type argument, "
                "class MyStorage(StorageProvider[MyConfig])."
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what the row says as JSON-safe data; that imports nothing either."""
        return {
            "family": self.family,
            "name": self.name,
            "display_name": self.display_name or self.name,
            "description": self.description,
            "capabilities": sorted(self.capabilities),
            "extra": self.extra,
            "aliases": list(self.aliases),
            "distribution": self.distribution,
            "version": self.version,
            "embedded": self.embedded,
            "metadata": dict(self.metadata),
        }

    @cached_property
    def settings_class(self) -> type[BaseModel]:
        """The config model with what every type of the family can be set to beside its own."""
        return self.loaded_class.settings_beside(self.config_class)

    @cached_property
    def secret_fields(self) -> frozenset[str]:
        """Names of the type's settings that are secret because of their type."""
        return secret_fields_of(self.config_class)

    @cached_property
    def version(self) -> str:
        """Version of the distribution the type comes from; empty where it is not installed."""
        try:
            return version(self.distribution)
        except (PackageNotFoundError, ValueError):  # the latter for no name at all
            return ""

    def same_as(self, other: ProviderType) -> bool:
        """Tell whether both rows name the very same class."""
        classes = {self.provider_class, other.provider_class} - {None}
        return self.path == other.path and len(classes) < 2


def _provider_class_of(loaded: Any) -> type[Provider[Any]]:
    """Return the provider class: ``loaded`` itself, or the one a holder class carries."""
    for candidate in (
        loaded,
        getattr(loaded, "provider_class", None),
        getattr(loaded, "storage_class", None),
    ):
        if isinstance(candidate, type) and issubclass(candidate, Provider):
            cls = cast("type[Provider[Any]]", candidate)
            if inspect.isabstract(cls):
                missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
                raise ImportFailedError(f"{cls!r} does not implement {missing}.")
            return cls
    raise ImportFailedError(
        f"{loaded!r} is no provider class: derive it from its family's base class "
        "(StorageProvider for storage), or give a holder with config_class and storage_class."
    )


class ProviderTypes:
    """
    A catalogue of provider types. Lookups take no lock; any thread may add types.

    The entry points of the group ``purveyor.providers`` are read when a type is asked for
    that is not known, or all are asked for; none of them is imported before it is used.
    """

    def __init__(self, *, scan_entry_points: bool = True) -> None:
        self._types: dict[tuple[str, str], ProviderType] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._families: dict[str, Family] = {}
        self._unscanned = scan_entry_points
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: object) -> ProviderTypes:
        """Stay the same: dependency-injector copies what a container is given."""
        return self

    def add_family(self, family: Family) -> Family:
        """Make a family known; the same one again is no error."""
        with self._lock:
            known = self._families.setdefault(family.name, family)
        if known != family:
            raise AlreadyExistsError(f"Family already registered with other traits: {family.name}")
        return family

    def family(self, name: str) -> Family:
        """
        Return a family by its name or an older one.

        Raises:
            NotFoundError: There is no such family; the message names those there are.
        """
        found = self._families.get(name)
        if found is None:
            found = next((one for one in self.families() if name in one.aliases), None)
        if found is None:
            names = ", ".join(nearest_first(name, self._families)) or "none"
            raise NotFoundError(
                f"Unknown provider type: {name}. There are these families: {names}."
            )
        return found

    def families(self) -> list[Family]:
        """Return all families, in the order they were added."""
        return list(self._families.values())

    def add(self, row: ProviderType) -> ProviderType:
        """
        Add a provider type; the very same class or path again is no error.

        Raises:
            AlreadyExistsError: Another type has that name; the message names both origins.
        """
        with self._lock:
            for name in (row.name, *row.aliases):
                taken = self._names.get((row.family, name))
                if taken is None:
                    continue
                known = self._types[row.family, taken]
                if known.same_as(row) and known.name == row.name:
                    if known.description or known.capabilities or row.provider_class is None:
                        return known
                    # An entry point names the class; its decorator says what it is.
                    row = replace(row, distribution=known.distribution, origin=known.origin)
                    continue
                raise AlreadyExistsError(
                    f"Provider type already registered: {row.family} type {name!r} is "
                    f"{known.path} from {_origin(known)}; refused is {row.path} from "
                    f"{_origin(row)}. Give one of them another name.",
                    context={"family": row.family, "type": name},
                )
            self._types[row.family, row.name] = row
            for name in (row.name, *row.aliases):
                self._names[row.family, name] = row.name
        return row

    def remove(self, family: str, name: str) -> None:
        """Forget a type; providers of it that are registered stay."""
        with self._lock:
            row = self._types.pop((family, self._names.get((family, name), name)), None)
            if row is not None:
                for known in (row.name, *row.aliases):
                    self._names.pop((family, known), None)

    def find(self, family: str, name: str) -> ProviderType | None:
        """Return a type by name or alias, None where there is none."""
        key = self._names.get((family, name))
        if key is None and self._unscanned:
            self._scan()
            key = self._names.get((family, name))
        return None if key is None else self._types.get((family, key))

    def get(self, family: str, name: str) -> ProviderType:
        """
        Return a type by name or alias.

        Raises:
            NotFoundError: No such type; the message lists those there are, nearest first.
        """
        found = self.find(family, name)
        if found is None:
            names = nearest_first(name, self.names(family))
            raise NotFoundError(
                f"Unknown {family} provider: {name}. "
                + (
                    f"There are these types: {', '.join(names)}."
                    if names
                    else f"No {family} provider type is installed."
                ),
                context={"family": family, "type": name, "available": names},
            )
        return found

    def names(self, family: str) -> list[str]:
        """Return the names of a family's types, A to Z."""
        return sorted(row.name for row in self.all(family))

    def all(self, family: str | None = None) -> list[ProviderType]:
        """Return all types, or a family's, in the order they were added."""
        if self._unscanned:
            self._scan()
        return [row for row in list(self._types.values()) if family in (None, row.family)]

    def embedded(self, family: str) -> list[ProviderType]:
        """Return the built-in types of a family that work with no settings at all."""
        rows = list(self._types.values())
        return [row for row in rows if row.family == family and row.embedded]

    def of_class(self, family: str, cls: type) -> ProviderType | None:
        """Return the type whose class or config model ``cls`` is, None if there is none."""
        for row in list(self._types.values()):
            if row.family != family:
                continue
            module = row.path.partition(":")[0]
            if row.provider_class is None and not cls.__module__.startswith(module):
                continue  # cannot be it, and asking would import it
            with suppress(ImportFailedError):  # then it is not the class at hand
                if cls in (row.loaded_class, row.config_class, row.settings_class):
                    return row
        return None

    def _scan(self) -> None:
        for point in entry_points(group=ENTRY_POINT_GROUP):
            try:
                self.add(_row_of(point))
            except RegistryError as error:  # one bad distribution must not hide the rest
                logger.error("Entry point %r adds no provider type: %s", point.name, error)
        self._unscanned = False


def _row_of(point: EntryPoint) -> ProviderType:
    distribution = point.dist.name if point.dist else ""
    release = point.dist.version if point.dist else ""
    origin = f"entry point {point.name!r} of {distribution} {release}"
    family, _, name = point.name.partition(".")
    if not name:
        raise InvalidNameError(f"{origin} ({point.value}) must be named family.type.")
    return ProviderType(
        family=family,
        name=name,
        path=f"{point.module}:{point.attr}",
        distribution=distribution,
        origin=origin,
    )


def _origin(row: ProviderType) -> str:
    if row.provider_class is None:
        return f"{row.origin} ({row.distribution} {row.version})"
    try:
        file = inspect.getsourcefile(row.provider_class)
        line = inspect.getsourcelines(row.provider_class)[1]
    except (OSError, TypeError):
        return row.origin
    return f"{row.origin} ({file}:{line})"


default_types = ProviderTypes()
"""The catalogue that everything uses which is not given another one."""


def register_provider(
    name: str,
    *,
    description: str = "",
    capabilities: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    family: str | None = None,
    display_name: str = "",
    extra: str | None = None,
    aliases: Iterable[str] = (),
    well_known: Mapping[str, str] | None = None,
    types: ProviderTypes | None = None,
) -> Callable[[ClassT], ClassT]:
    """
    Register a provider type: its class, its config model and what it says of itself, in one.

    Decorates a provider class, or a holder with ``config_class`` and ``storage_class`` (or
    ``provider_class``)::

        @register_provider("memory", description="Objects in memory", capabilities={"search"})
        class MemoryStorage(StorageProvider[MemoryConfig]): ...

    Args:
        name: The type's name in the settings.
        description: One line for people.
        capabilities: What providers of this type can do.
        metadata: Anything else; a flag ``supports_X: True`` is the capability ``X`` too.
        family: Needed only where the provider class does not name it.
        display_name: For people; the name when not given.
        extra: The extra that installs what the type needs.
        aliases: Other names for the type.
        well_known: Settings and the well-known variables they are taken from where environment
            discovery is on; the first one must be set.
        types: The catalogue to add it to; the default one when not given.

    Raises:
        AlreadyExistsError: Another type has that name.
        ImportFailedError: What is decorated is no provider class and holds none.
        InvalidConfigError: It is of no family.
    """
    row = ProviderType(
        family=family or "",
        name=name,
        path="",
        description=description,
        capabilities=capability_set(capabilities, metadata),
        extra=extra,
        aliases=tuple(aliases),
        metadata=MappingProxyType(dict(metadata or {})),
        well_known=MappingProxyType(dict(well_known or {})),
        display_name=display_name,
    )

    def decorate(cls: ClassT) -> ClassT:
        provider_class = _provider_class_of(cls)
        of_family = family or getattr(provider_class, "family", None)
        if not of_family:
            raise InvalidConfigError(
                f"Configuration invalid: provider type {name!r} ({cls.__qualname__}) is of no "
                "family. Derive it from its family's base class, or give family=..."
            )
        (types or default_types).add(
            replace(
                row,
                family=of_family,
                path=f"{cls.__module__}:{cls.__qualname__}",
                provider_class=provider_class,
                config_model=getattr(cls, "config_class", None),
                distribution=cls.__module__.partition(".")[0],
                origin=f"@register_provider in {cls.__module__}",
            )
        )
        return cls

    return decorate
