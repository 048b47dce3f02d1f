"""The reading side of a registry: which providers there are, and which is the default."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from pydantic import BaseModel

from ...settings import ProviderSettings
from .errors import InvalidNameError, NotFoundError, RegistryError, nearest_first
from .metadata import ProviderInfo, Status, capability_set
from .registration import Declaration, Registration
from .report import LoadReport, LoadRow, Outcome
from .types import Family, ProviderTypes
from .validation import check_name

__all__ = ["Lookup"]

logger = logging.getLogger(__name__)

_ALIAS = "alias"
_ANY = "<NAME>"
"""The type of providers that are further names of others, in the families that have it."""

ProviderT = TypeVar("ProviderT")


class Lookup(Generic[ProviderT]):
    """
    The providers of one family, for reading.

    No lookup takes a lock: a lookup reads a dict, a listing iterates over a copy.
    """

    def __init__(
        self,
        family: Family,
        types: ProviderTypes,
        declared: Mapping[str, Declaration],
        default: str | None,
    ) -> None:
        self.family = family
        self.types = types
        self.handles: dict[str, ProviderT] = {}
        """What :meth:`require` gives, by name: for reading only."""
        self._registrations: dict[str, Registration] = {}
        self._declared = dict(declared)
        self._default = default
        self._implied: tuple[int, str | None] | None = None
        self._sorted: tuple[int, tuple[str, ...]] | None = None
        self._version: int = 0
        """Counts the changes, so that what is derived from the names can be kept."""

    def _resolve(self, name: str) -> Registration:
        """Return a registration that is not there yet, or raise why there is none."""
        raise self._not_found(name)

    def get(self, name: str) -> ProviderT | None:
        """Return a provider, None where there is none of that name."""
        try:
            return self.require(name)
        except NotFoundError:
            return None

    def require(self, name: str | None = None) -> ProviderT:
        """
        Return a provider, the default one when no name is given. Does no I/O.

        Raises:
            NotFoundError: There is none; the message lists those there are, nearest first.
            InvalidConfigError: The settings name it, but have faults.
        """
        if name is None:
            name = self.default_name()
        handle = self.handles.get(name)
        return self._resolve(name).handle if handle is None else handle

    def has(self, name: str) -> bool:
        """Tell whether there is a provider of that name, its settings faultless or not."""
        return name in self._registrations or self._is_declared(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def is_registered(self, name: str) -> bool:
        """Tell whether a provider is registered, rather than only declared."""
        return name in self._registrations

    def declared(self) -> list[str]:
        """Return the names of the providers that settings declare, disabled ones too."""
        return list(self._declared)

    def names(self, *, pipeline: str | None = None) -> Sequence[str]:
        """Return the names of all providers, or of those a pipeline may use, A to Z."""
        version, known = self._version, self._sorted
        if known is None or known[0] != version:
            names = set(self._registrations.copy())
            names.update(name for name in list(self._declared) if self._is_declared(name))
            self._sorted = known = (version, tuple(sorted(names)))
        if pipeline is None:
            return list(known[1])
        return [name for name in known[1] if self.serves(name, pipeline)]

    def providers(self) -> dict[str, ProviderT]:
        """Return all providers by name; those whose settings have faults are left out."""
        self._resolve_all()
        return self.handles.copy()

    def list(self) -> Sequence[ProviderInfo]:
        """Return what is known of each provider, A to Z, but of faulty ones (see :meth:`load`)."""
        self._resolve_all()
        default = self._default_or_none()
        return [
            registration.info(is_default=name == default)
            for name, registration in sorted(self._registrations.copy().items())
        ]

    def info(self, name: str, *, faulty: bool = False) -> ProviderInfo:
        """
        Return what is known of one provider.

        Args:
            name: The provider.
            faulty: Do not raise for one whose settings have faults (its status is ``error``), nor
                for one that is disabled (``disposed``): ``last_error`` tells it.

        Raises:
            NotFoundError: There is none of that name.
            RegistryError: Its settings have faults.
        """
        is_default = name == self._default_or_none()
        try:
            return self._find(name).info(is_default=is_default)
        except RegistryError as error:
            declaration = self._declared.get(name)
            if not faulty or declaration is None:
                raise
            return _faulty(self.family.name, name, declaration, error, is_default=is_default)

    def moment(self, name: str) -> tuple[object, ...] | None:
        """
        Return something that is equal to what it was as long as :meth:`info` is.

        It is cheap: who keeps what he made of an info asks whether it is still good. None for a
        provider that nobody needed yet, or whose settings have faults.
        """
        registration = self._registrations.get(name)
        if registration is None:
            return None
        return (name == self._default_or_none(), *registration.moment())

    def config(self, name: str) -> BaseModel | None:
        """Return a provider's settings, secrets typed and so masked; None for a plain object."""
        return self._find(name).config

    def settings(self, name: str) -> ProviderSettings:
        """Return what every registration takes (priority and the like), as it is of one."""
        return self._find(name).settings

    def holders(self, name: str) -> list[str]:
        """Name all who use a provider now: leases, calls in flight, instances of callers."""
        return self._find(name).holders()

    def find_by_capability(self, *capabilities: str) -> Sequence[str]:
        """Return the names of the providers that have all ``capabilities``: best priority first."""
        wanted = capability_set(capabilities)
        self._resolve_all()
        found = [one for one in self._registrations.copy().values() if wanted <= one.capabilities]
        return [one.name for one in sorted(found, key=lambda one: (-one.priority, one.name))]

    def serves(self, name: str, pipeline: str) -> bool:
        """Tell whether a pipeline may use a provider: its ``pipelines`` name it, or hold ``*``."""
        registration = self._registrations.get(name)
        if registration is not None:
            pipelines = registration.pipelines
        else:
            declaration = self._declared.get(name)
            pipelines = declaration.settings.pipelines if declaration else ()
        return "*" in pipelines or pipeline in pipelines

    # -- declared providers --------------------------------------------------------------

    def load(self, *, strict: bool = False) -> LoadReport:
        """
        Register every declared provider that is not registered yet.

        A failure is logged and a row of the report, never the end of the rest.

        Args:
            strict: Raise the first failure instead of reporting it.
        """
        report = self._resolve_all()
        if strict:
            report.raise_first()
        for row in report.failed:
            logger.error("Failed to create %s provider %s: %s", row.family, row.name, row.reason)
        return report

    def _resolve_all(self) -> LoadReport:
        rows: list[LoadRow] = []
        for name, declaration in list(self._declared.items()):
            row = functools.partial(LoadRow, self.family.name, name, origin=declaration.origin)
            if not declaration.settings.enabled:
                rows.append(row(Outcome.SKIPPED, reason="enabled is false"))
                continue
            try:
                self._find(name)
                rows.append(row(Outcome.REGISTERED))
            except RegistryError as error:
                rows.append(row(Outcome.FAILED, code=error.code, reason=error.message, error=error))
        return LoadReport(tuple(rows))

    def dangling(self) -> dict[str, NotFoundError]:
        """Return the providers that are made of one which is not there, each with the reason."""
        self._resolve_all()
        return {
            name: self._not_found(member)
            for name, registration in sorted(self._registrations.copy().items())
            for member in registration.members
            if not self.has(member)
        }

    # -- the default ---------------------------------------------------------------------

    def default_name(self) -> str:
        """
        Return the name of the default provider.

        It is the one that was set; else the only one anybody registered or configured, aliases
        of it apart; else the family's fallback (``filesystem`` for storage).

        Raises:
            NotFoundError: None of these; the message says how to set it.
        """
        name = self._default_or_none()
        if name is not None:
            return name
        chosen = [name for name in self.names() if not self._is_embedded(name)]
        chosen = [name for name in chosen if self._type_name(name) != _ALIAS] or chosen
        if chosen:
            variable = f"PURVEYOR_{self.family.name.upper()}__DEFAULT"
            raise NotFoundError(
                f"Provider not found: the {self.family.name} family has no default among "
                f"{', '.join(chosen)}. Name one, or set {variable}."
            )
        raise NotFoundError(
            f"Provider not found: the {self.family.name} family has no provider yet. "
            f"{self._how_to_add(_ANY)}"
        )

    def _implied_default(self) -> str | None:
        """Return the default that follows from what there is; it looks at no more than it must."""
        fallback = self.family.fallback
        own = self._first_two(aliases=False) or self._first_two(aliases=True)
        if len(own) == 1:
            return own[0]
        if fallback is None or not self.has(fallback) or (own and self._is_embedded(fallback)):
            return None
        return fallback

    def _first_two(self, *, aliases: bool) -> Sequence[str]:
        """Return two of those that somebody registered or configured, less if there are less."""
        names = itertools.chain(
            list(self._registrations),
            (name for name in list(self._declared) if self._is_declared(name)),
        )
        own = (
            name
            for name in names
            if not self._is_embedded(name) and (self._type_name(name) == _ALIAS) is aliases
        )
        found = next(own, None)
        other = next((name for name in own if name != found), None)
        return [name for name in (found, other) if name is not None]

    # -- inside --------------------------------------------------------------------------

    def _find(self, name: str) -> Registration:
        return self._registrations.get(name) or self._resolve(name)

    def _is_declared(self, name: str) -> bool:
        declaration = self._declared.get(name)
        return declaration is not None and declaration.settings.enabled

    def _is_embedded(self, name: str) -> bool:
        registration = self._registrations.get(name)
        if registration is not None:
            return registration.source == "builtin"
        declaration = self._declared.get(name)
        return declaration is not None and declaration.source == "builtin"

    def _type_name(self, name: str) -> str | None:
        registration = self._registrations.get(name)
        if registration is not None:
            return registration.provider_type.name if registration.provider_type else None
        declaration = self._declared.get(name)
        return (declaration.settings.type or name) if declaration else None

    def _default_or_none(self) -> str | None:
        if self._default is not None:
            return self._default
        version, implied = self._version, self._implied
        if implied is None or implied[0] != version:
            self._implied = implied = (version, self._implied_default())
        return implied[1]

    def _not_found(self, name: str) -> NotFoundError:
        family = self.family.name
        declaration = self._declared.get(name)
        if declaration is not None and not declaration.settings.enabled:
            return NotFoundError(
                f"Provider not found: {name} is disabled ({declaration.origin}). Set its enabled "
                "to true.",
                name,
            )
        names = nearest_first(name, self.names())
        if name == self._default:
            default = f"PURVEYOR_{family}__DEFAULT".upper()
            name_it = f"It is named as the default provider: set {default} to one of them. "
        else:
            name_it = ""
        there_are = (
            f"There are these {family} providers: {', '.join(names)}. "
            if names
            else (f"There is no {family} provider yet. ")
        )
        return NotFoundError(
            f"Provider not found: {name}. {there_are}{name_it}{self._how_to_add(name)}",
            name,
            {"family": family, "available": names},
        )

    def _how_to_add(self, name: str) -> str:
        types = ", ".join(nearest_first(name, self.types.names(self.family.name)))
        if not types:
            return f"No provider type of the family {self.family.name} is installed."
        if name != _ANY:
            try:
                check_name(name)
            except InvalidNameError as error:
                return error.message
        variable = f"PURVEYOR_{self.family.name}__PROVIDERS__{name}__TYPE".upper()
        return f"To add it, set {variable} to a type: {types}."


def _faulty(
    family: str, name: str, declaration: Declaration, error: RegistryError, *, is_default: bool
) -> ProviderInfo:
    settings = declaration.settings
    return ProviderInfo(
        name=name,
        family=family,
        type=settings.type or name,
        display_name=name,
        version="",
        description="",
        capabilities=frozenset(),
        status=Status.ERROR if settings.enabled else Status.DISPOSED,
        source=declaration.source,
        origin=declaration.origin,
        registered_at=None,
        is_default=is_default,
        instance_count=0,
        lease_count=0,
        priority=settings.priority,
        required=settings.required,
        pipelines=tuple(settings.pipelines),
        metadata=settings.metadata,
        last_error=error.message,
    )
