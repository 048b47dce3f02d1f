"""The registry: the providers of one family, by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar, cast

from pydantic import BaseModel

from ...settings import ProviderSettings, RegistrySettings
from .build import Config, settings_of
from .errors import AlreadyExistsError, InvalidConfigError, RegistryError
from .events import EventT, LeaseDenied, Listener, ProviderReloaded
from .guard import Guard, Lease
from .health import check
from .metadata import HealthResult
from .registering import Registering
from .registration import Declaration, Registration, calling_place
from .report import Outcome

__all__ = ["ProviderRegistry"]

logger = logging.getLogger(__name__)

ProviderT = TypeVar("ProviderT")


class ProviderRegistry(Registering[ProviderT]):
    """
    The providers of one family, by name: the one object that knows all of them.

    Looking up is in :class:`Lookup`, checking in :class:`Checking`, starting and stopping in
    :class:`Lifecycle`, registering, with the arguments, in :class:`Registering`; here is what
    changes providers that are there, and what callers ask of them.
    """

    # -- changing what is there ----------------------------------------------------------

    async def reload(self, name: str, config: Config = None) -> None:
        """
        Put new settings of a provider in force, or a new instance of the same; no call fails by it.

        The new settings are validated first. If the provider is in use, a new instance is
        connected and asked for its health before it takes the place of the old one; calls under
        way end on the old one, which is closed after the last of them. What callers hold stays
        good, also if the type is another.

        Args:
            name: The provider.
            config: As for :meth:`register`; the present settings when not given.

        Raises:
            NotFoundError: There is none of that name.
            RegistryError: The new settings have faults, or what they name cannot be connected or
                is not well: everything stays as it was.
        """
        self._refuse_closed(name)
        before = self._find(name)
        nothing = config is None and before.config is None
        if before.guard is None or before.provider_type is None or nothing:
            raise InvalidConfigError(
                f"Configuration invalid: provider {name!r} was registered as an object; there are "
                "no settings to build it from. Unregister it and register another one.",
                name,
            )
        settings = settings_of(name, config, None) if isinstance(config, Mapping) else None
        if settings is not None and settings.type is None:
            settings = settings.model_copy(update={"type": before.provider_type.name})
        after = self._builder.registration(
            name,
            before.config if config is None else config,
            settings=settings or before.settings,
            source=before.source,
            origin=before.origin,
        )
        await self._renew(before, after)

    async def _renew(
        self, before: Registration, after: Registration, *, keep: bool = False
    ) -> None:
        """Put a registration in the place of another; ``keep``: the instance, if it would do."""
        name, guard, fresh = before.name, before.guard, after.guard
        if guard is None or fresh is None:
            raise self._not_found(name)
        self._refuse_cycle(after)
        same_class = after.handle.__class__ is before.handle.__class__

        def commit() -> None:
            with self._lock:
                self._refuse_closed(name)
                now = self._registrations.get(name)
                if now is not None and now.guard is guard:
                    after._instances = now._instances
                    if same_class:
                        after.stand_for(now)
                    self._insert(after)
                    return
            raise self._not_found(name)  # unregistered meanwhile

        if (
            keep
            and same_class
            and before.config == after.config
            and before.depends_on == after.depends_on
        ):
            commit()
        elif not await guard.swap(fresh.connection, commit, None if same_class else after.handle):
            await self._renew(self._find(name), after)  # it has become of another type
            return
        if same_class:
            guard.timeout = after.settings.timeout
            guard.breaker.configure(fresh.breaker.settings)
        self._watch_again(name)
        logger.info("Reloaded %s provider: %s", self.family.name, name)
        if self.events.wanted(ProviderReloaded):
            info = after.info(is_default=name == self._default_or_none())
            self.events.emit(ProviderReloaded(self.family.name, name, info))

    async def declare(self, name: str, declaration: Declaration) -> Outcome:
        """
        Take what settings say of a provider, now or again.

        A new one is registered when first needed or by :meth:`load`; one that is registered
        already is reloaded if its settings changed.

        Returns:
            ``REGISTERED``, ``RELOADED``, ``REMOVED``, ``SKIPPED`` (disabled) or ``UNCHANGED``.

        Raises:
            AlreadyExistsError: Somebody registered another one of that name by hand.
            RegistryError: The settings have faults; one that is there already stays as it was.
        """
        known = self._declared.get(name)
        registration = self._registrations.get(name)
        if not self._is_declared(name):  # then whoever has it, or is about to, did so by hand
            self._refuse_taken(name, declaration.origin)
        if not declaration.settings.enabled:
            removed = registration is not None and await self.withdraw(name)
            self._take(name, declaration)
            return Outcome.REMOVED if removed else Outcome.SKIPPED
        outcome = Outcome.REGISTERED if registration is None else Outcome.UNCHANGED
        same = known is not None and known.settings == declaration.settings
        if registration is not None:
            if same and not self._is_outdated(registration):
                registration.source, registration.origin = declaration.source, declaration.origin
            else:
                await self._renew(registration, self._built(name, declaration), keep=True)
                outcome = Outcome.RELOADED
        if registration is not None or not same:
            self._take(name, declaration)
        self._find(name)
        return outcome

    def _take(self, name: str, declaration: Declaration) -> None:
        with self._lock:
            self._declared[name] = declaration
            self._version += 1

    def _is_outdated(self, registration: Registration) -> bool:
        """Tell whether its type, a plugin's, is another by now or gone."""
        row = registration.provider_type
        now = self.types.find(self.family.name, row.name) if row else None
        return row is not None and (now is None or now.loaded_class is not row.loaded_class)

    async def withdraw(self, name: str) -> bool:
        """
        Forget what settings said of a provider; one that is registered ends its work first.

        Returns:
            Whether there was something to forget.

        Raises:
            InUseError: It is leased, or its work did not end in time; it stays as it was.
        """
        if self._forget_declared(name):
            self._tell_removed(name)
            return True
        if not self._is_declared(name):
            return self._declared.pop(name, None) is not None
        await self.unregister(name, mode="drain")
        return True

    def apply(self, settings: RegistrySettings) -> None:
        """Put other settings for all providers in force; what is under way keeps its state."""
        self._settings = settings
        for name in self._wishes.copy():
            self._watch_again(name)
        for registration in self._registrations.copy().values():
            if registration.breaker is not None:
                overrides = registration.settings.circuit_breaker
                registration.breaker.configure(settings.circuit_breaker.with_overrides(overrides))

    def _watch_again(self, name: str) -> None:
        """Let its health be checked as the settings say now, if it is checked at all."""
        wish = self._wishes.get(name)
        if wish is not None:
            self._watch(name, wish)

    # -- the default ---------------------------------------------------------------------

    def set_default(self, name: str | None) -> None:
        """
        Make a provider the default one; None goes back to the rule of :meth:`default_name`.

        Raises:
            NotFoundError: There is no such provider.
        """
        with self._lock:  # or it could be unregistered between the question and the answer
            there = name is None or self.has(name)
            if there:
                self._default = name
        if name is not None and not there:
            raise self._not_found(name)

    def declare_default(self, name: str | None) -> None:
        """Take what settings say of the default provider, which need not be there yet."""
        with self._lock:
            self._default = name

    def validate(self, name: str, declaration: Declaration) -> None:
        """
        Find out whether a declared provider could be registered; registers nothing.

        Raises:
            RegistryError: Its settings have faults; all of them are named.
        """
        self._refuse_cycle(self._built(name, declaration))

    async def try_out(self, name: str, declaration: Declaration) -> HealthResult:
        """
        Find out whether a provider would answer: connect it, check its health, and close it.

        Nothing is registered, and a provider of that name which is there is not concerned.

        Args:
            name: What it would be called.
            declaration: Its settings.

        Raises:
            RegistryError: Its settings have faults; all of them are named.
        """
        built = self._built(name, declaration)
        self._refuse_cycle(built)
        guard = cast(Guard, built.guard)  # only objects have none
        guard.on_failure = None  # no failure of the one that is registered
        limit = self._health_settings(built.settings).timeout
        try:
            result, _ = await check(name, guard.check_health, timeout=limit)
        finally:
            try:
                await guard.dispose()
            except Exception as error:  # must not hide what was found
                logger.error("Closing provider %s after a try failed: %s", name, error)
        return result

    def get_default_config(self, name: str) -> BaseModel:
        """Return the settings a type has when none are given (S1's ``get_default_config``)."""
        row = self.types.get(self.family.name, name)
        return self._builder.model(name, row, {}, ProviderSettings())

    # -- instances of the caller's own, and leases ---------------------------------------

    def create(
        self, name: str, config: Config = None, *, instance_id: str | None = None
    ) -> ProviderT:
        """
        Build one more instance of a provider, for the caller to own and dispose.

        It is guarded, connects at its first operation, and is tracked weakly: while it lives
        the provider cannot be unregistered unless drained or forced.

        Args:
            name: A provider, or a type of the family, which is then used with ``config``.
            config: Settings in place of the registered ones.
            instance_id: A name for it in lists and messages.

        Raises:
            AlreadyExistsError: A living instance has that id.
            RegistryError: As :meth:`register`.
        """
        self._refuse_closed(name)
        registration = self._find(name)
        instance = self._builder.another(registration, config)
        with self._lock:
            tracked = registration.track(instance, instance_id)
        if not tracked:
            raise AlreadyExistsError(
                f"Provider {name!r} already has a living instance {instance_id!r}. Dispose it "
                "first, or choose another instance_id.",
                name,
            )
        return cast(ProviderT, instance)

    def lease(self, name: str | None = None, *, holder: str | None = None) -> Lease:
        """
        Note that somebody uses a provider, until the ``with`` or ``async with`` block ends.

        Args:
            name: The provider; the default one when not given.
            holder: Who, for the message that refuses to remove it; the caller's file and line
                when not given.
        """
        registration = self._find(self.default_name() if name is None else name)
        holder = holder or calling_place()
        try:
            return Lease(registration.handle, registration.guard, holder)
        except RegistryError as error:
            if self.events.wanted(LeaseDenied):
                self.events.emit(LeaseDenied(self.family.name, registration.name, holder, error))
            raise

    def on(self, event: type[EventT] | str, listener: Listener) -> None:
        """Subscribe to an event by class or name; see :meth:`Events.on`."""
        self.events.on(event, listener)

    def off(self, event: type[EventT] | str, listener: Listener) -> None:
        """Undo :meth:`on`."""
        self.events.off(event, listener)
