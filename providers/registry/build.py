"""Making a registration: which type, which settings, and the guard that stands for it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Secret, ValidationError

from ...settings import BreakerSettings, ProviderSettings, RegistrySettings, explain
from .breaker import CircuitBreaker, Transition
from .connection import AnyProvider, Blueprint
from .errors import InvalidConfigError, RegistryError, nearest_first
from .guard import Guard
from .guarded import Guarded, guarded_class
from .metadata import capability_set
from .observed import Observer, observed_class
from .provider import Composite, Provider, Siblings
from .redaction import remember
from .registration import Registration
from .types import Family, ProviderType, ProviderTypes
from .validation import refuse_masks, validated_config

__all__ = ["Builder", "Config", "settings_of"]

Config = Mapping[str, Any] | BaseModel | None
"""Settings of a provider: a mapping as in a configuration file, or the type's config model."""

_NO_BREAKER = BreakerSettings(enabled=False)
"""For providers made of others, each of which has a circuit breaker of its own."""


@dataclass(frozen=True, slots=True)
class Builder:
    """
    Makes the registrations of one registry; starts nothing and publishes nothing.

    Args:
        family: The family they are of.
        types: The provider types there are.
        home: Folder below which types keep their data by default.
        settings: Tells the settings in force for all registries.
        lookup: Finds a provider of the family by name, for those made of others.
        prepare: Starts what a provider of that name depends on.
        on_failure: Told of the failures of every instance made here.
        on_transition: Told of what the circuit breakers do.
        clock: Seconds that only grow, for the circuit breakers.
        siblings: The registry, for providers made of others.
        observer: Told of every operation of the providers made here.
    """

    family: Family
    types: ProviderTypes
    home: Path
    settings: Callable[[], RegistrySettings]
    lookup: Callable[[str], Any]
    prepare: Callable[[str, Iterable[str]], Awaitable[None]]
    on_failure: Callable[[Guard, RegistryError], None]
    on_transition: Callable[[CircuitBreaker, Transition], None]
    clock: Callable[[], float]
    siblings: Siblings | None = None
    observer: Observer | None = None

    def registration(
        self,
        name: str,
        config: Config,
        *,
        source: str,
        origin: str,
        type: str | None = None,
        settings: ProviderSettings | None = None,
        where: Callable[[tuple[str, ...]], str] | None = None,
        shared: bool = False,
    ) -> Registration:
        """
        Return the registration of a provider, its settings validated.

        ``settings`` are its envelope where ``config`` does not tell it.

        Raises:
            NotFoundError: No such provider type.
            InvalidConfigError: The settings have faults; all of them are named.
            ImportFailedError: The type's module cannot be imported.
        """
        settings = settings or settings_of(name, config, type)
        if not isinstance(config, BaseModel):
            config = settings
        row = self._type_of(name, settings, config)
        model = self.model(name, row, config, settings, where, shared=shared)
        row = self.types.find(self.family.name, row.name) or row  # its import may tell more of it
        if issubclass(row.loaded_class, Composite) and settings.circuit_breaker is None:
            settings = settings.model_copy(update={"circuit_breaker": _NO_BREAKER})
        guard = self.guard(self.blueprint(name, row, model, settings), settings)
        return Registration(
            name=name,
            family=self.family.name,
            provider_type=row,
            config=model,
            handle=self._outside(row.loaded_class.class_for(model), guard, row.name),
            guard=guard,
            settings=_envelope(settings),
            capabilities=row.capabilities | row.loaded_class.capabilities_by(model),
            source=source,
            origin=origin,
            registered_at=datetime.now(UTC),
            members=members_of(row, model),
        )

    def wrapped(
        self,
        name: str,
        instance: Any,
        *,
        source: str,
        origin: str,
        capabilities: Iterable[str] | None,
        metadata: Mapping[str, Any] | None,
    ) -> Registration:
        """Return the registration of an object that exists; only a provider gets a guard."""
        cls = cast("type[Any]", instance.__class__)
        row = self.types.of_class(self.family.name, cls)
        guard: Guard | None = None
        handle: Any = instance
        if issubclass(cls, Guarded):
            guard = instance._guard
        elif issubclass(cls, Provider):
            guard = self.guard(self._blueprint(name, lambda _: instance), ProviderSettings())
            handle = self._outside(cast("Any", cls), guard, row.name if row else cls.__name__)
        of_type: frozenset[str] = row.capabilities if row else frozenset()
        known: frozenset[str] = getattr(instance, "capabilities", of_type)
        return Registration(
            name=name,
            family=self.family.name,
            provider_type=row,
            config=None,
            handle=handle,
            guard=guard,
            settings=ProviderSettings(metadata=dict(metadata or {})),
            capabilities=capability_set(known if capabilities is None else capabilities),
            source=source,
            origin=origin,
            registered_at=datetime.now(UTC),
        )

    def another(self, registration: Registration, config: Config) -> Guarded:
        """
        Return one more instance of a registered provider, with ``config`` if that is given.

        Raises:
            InvalidConfigError: The settings have faults, or there are none to build from.
        """
        name, row, model = registration.name, registration.provider_type, registration.config
        if row is None or model is None:
            raise InvalidConfigError(
                f"Configuration invalid: provider {name!r} was registered as an object; there "
                "are no settings to build another one from.",
                name,
            )
        settings, breaker = registration.settings, registration.breaker
        if config is not None:  # perhaps of another backend, whose failures are its own
            model = self.model(name, row, config, settings_of(name, config, None))
            breaker = None
        guard = self.guard(self.blueprint(name, row, model, settings), settings, breaker)
        return self._outside(row.loaded_class.class_for(model), guard, row.name)

    def _outside(self, cls: type[AnyProvider], guard: Guard, provider_type: str) -> Guarded:
        """Return what callers hold of a guard: observed, if anybody observes."""
        if self.observer is None:
            return guarded_class(cls)(guard)
        return observed_class(cls)(guard, self.observer, provider_type)

    def model(
        self,
        name: str,
        row: ProviderType,
        config: Config,
        settings: ProviderSettings,
        where: Callable[[tuple[str, ...]], str] | None = None,
        *,
        shared: bool = False,
    ) -> BaseModel:
        """Return the type's config model of whatever form of config was given."""
        if isinstance(config, BaseModel) and not isinstance(config, ProviderSettings):
            if not isinstance(config, row.config_class):
                raise InvalidConfigError(
                    f"Configuration invalid: {self.family.name} type {row.name!r} takes "
                    f"{row.config_class.__name__}, not {config.__class__.__name__}.",
                    name,
                )
            refuse_masks(row, config, name=name, where=where)
        else:
            options = settings.options.get_secret_value()
            config = validated_config(
                row, options, name=name, home=self.home, where=where, shared=shared
            )
        remember(config)
        return config

    def _type_of(self, name: str, settings: ProviderSettings, config: Config) -> ProviderType:
        family, wanted = self.family, settings.type
        if wanted is None and isinstance(config, BaseModel):
            row = self.types.of_class(family.name, config.__class__)
            if row is not None:
                return row
        if wanted is not None and wanted != family.name and wanted not in family.aliases:
            return self.types.get(family.name, wanted)
        row = self.types.find(family.name, name)
        if row is None:
            names = ", ".join(nearest_first(name, self.types.names(family.name)))
            raise InvalidConfigError(
                f"Configuration invalid: {family.name} provider {name!r} names no type, and no "
                f"type has its name. Set its type to one of: {names or 'none is installed'}.",
                name,
            )
        return row

    def blueprint(
        self, name: str, row: ProviderType, config: BaseModel, settings: ProviderSettings
    ) -> Blueprint:
        """Return what an instance of a provider is made from."""
        build: Callable[[Any], AnyProvider] = row.loaded_class.class_for(config)
        if issubclass(row.loaded_class, Composite):
            build = functools.partial(_composed, row.loaded_class, name, self.lookup, self.siblings)
        prepare = None
        if settings.depends_on:
            prepare = functools.partial(self.prepare, name, settings.depends_on)
        return self._blueprint(name, build, config, prepare)

    def _blueprint(
        self,
        name: str,
        build: Callable[[Any], AnyProvider],
        config: BaseModel | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> Blueprint:
        limits = self.settings().lifecycle
        return Blueprint(
            name,
            self.family.name,
            build,
            config,
            init_timeout=limits.init_timeout,
            dispose_timeout=limits.dispose_timeout,
            prepare=prepare,
        )

    def guard(
        self,
        blueprint: Blueprint,
        settings: ProviderSettings,
        breaker: CircuitBreaker | None = None,
    ) -> Guard:
        """Return the guard of an instance, with the breaker given or one of its own."""
        breaker = breaker or CircuitBreaker(
            blueprint.name,
            self.settings().circuit_breaker.with_overrides(settings.circuit_breaker),
            listener=self.on_transition,
            clock=self.clock,
        )
        return Guard(
            blueprint, breaker=breaker, timeout=settings.timeout, on_failure=self.on_failure
        )


def members_of(row: ProviderType, config: BaseModel) -> Sequence[str]:
    """Return the names of the providers that one is made of; none for most."""
    cls = row.loaded_class
    return cls.members_of(config) if issubclass(cls, Composite) else ()


def _composed(
    cls: type[Composite[Any]],
    name: str,
    lookup: Callable[[str], Any],
    siblings: Siblings | None,
    config: Any,
) -> AnyProvider:
    return cls(config).bind(name, lookup, siblings)


def _envelope(settings: ProviderSettings) -> ProviderSettings:
    """Return settings without what is the type's own, which the config model has."""
    if settings.model_fields_set <= {"type", "options"}:
        return _plain(settings.type)
    return settings.model_copy(update={"options": Secret(dict[str, Any]())})


@functools.lru_cache(maxsize=256)
def _plain(type: str | None) -> ProviderSettings:
    return ProviderSettings(type=type)


def settings_of(name: str, config: Config, type: str | None) -> ProviderSettings:
    """
    Return the envelope and raw options of whatever form of config was given.

    Raises:
        InvalidConfigError: The envelope has faults, or two types are named.
    """
    if isinstance(config, ProviderSettings):
        settings = config
    elif config is None or isinstance(config, BaseModel):
        settings = ProviderSettings()
    else:
        try:
            settings = ProviderSettings.model_validate(dict(config))
        except ValidationError as error:
            problems = [
                {"where": ".".join(path), "reason": reason}
                for path, reason in explain(error, ProviderSettings)
            ]
            lines = "".join(f"\n  {one['where']}: {one['reason']}" for one in problems)
            raise InvalidConfigError(
                f"Configuration invalid: provider {name!r}{lines}", name, {"problems": problems}
            ) from None
    if type is None or settings.type == type:
        return settings
    if settings.type is not None:
        raise InvalidConfigError(
            f"Configuration invalid: provider {name!r} is given the types {type!r} and "
            f"{settings.type!r}; name one.",
            name,
        )
    return settings.model_copy(update={"type": type})
