"""Registering and unregistering: how a provider gets into its registry, and out of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Literal, TypeVar, cast

from ...settings import RegistrySettings
from .breaker import BreakerState, CircuitBreaker, Transition
from .build import Builder, Config
from .errors import (
    AlreadyExistsError,
    HookFailedError,
    InUseError,
    InvalidStateError,
    NotFoundError,
    RegistrationFailedError,
    RegistryError,
    ShuttingDownError,
)
from .events import (
    CircuitBreakerClosed,
    CircuitBreakerHalfOpened,
    CircuitBreakerOpened,
    Events,
    ProviderErrorOccurred,
    ProviderRegistered,
    ProviderUnregistered,
)
from .guard import Guard
from .lifecycle import Lifecycle, Peers
from .monitor import HealthMonitor
from .observed import Observer
from .redaction import scrub
from .registration import Declaration, Registration, calling_place
from .types import Family, ProviderTypes, default_types
from .validation import check_name

__all__ = ["InitHook", "Registering"]

logger = logging.getLogger(__name__)

ProviderT = TypeVar("ProviderT")
InitHook = Callable[[str], Awaitable[None] | None]


class Registering(Lifecycle[ProviderT]):
    """
    The providers of one family, which come and go.

    Lookups take no lock and any thread may make them, register and unregister; calls that
    wait are coroutines. No foreign code (class, hook, listener, import, validator) runs under
    the registry's lock. A provider registers without I/O unless asked otherwise, and connects
    at its first operation.

    Args:
        family: The family, or its name in ``types``.
        types: The provider types there are; the default catalogue when not given.
        declared: Providers that settings name: each is validated and registered when first
            needed, or all by :meth:`load`.
        default: Name of the default provider.
        home: Folder below which types keep their data by default.
        settings: What holds for all registries: times, circuit breakers, health.
        events: Where to tell of changes; its own when not given.
        monitor: Does the checks in the background; its own when not given.
        peers: Gives the registries of all families, for dependencies between them.
        clock: Seconds that only grow, for the circuit breakers.
        observer: Told of every operation of the providers; nobody when not given.
    """

    def __init__(
        self,
        family: Family | str,
        *,
        types: ProviderTypes | None = None,
        declared: Mapping[str, Declaration] | None = None,
        default: str | None = None,
        home: Path = Path(".purveyor"),
        settings: RegistrySettings | None = None,
        events: Events | None = None,
        monitor: HealthMonitor | None = None,
        peers: Peers | None = None,
        clock: Callable[[], float] = monotonic,
        observer: Observer | None = None,
    ) -> None:
        types = types or default_types
        if isinstance(family, str):
            family = types.family(family)
        super().__init__(
            family, types, declared or {}, default, settings or RegistrySettings(), monitor, peers
        )
        self.events = events or Events()
        self._builder = Builder(
            family,
            types,
            home,
            settings=lambda: self._settings,
            lookup=self.require,
            prepare=self._prepare,
            on_failure=self._tell_failure,
            on_transition=self._tell_transition,
            clock=clock,
            siblings=self,
            observer=observer,
        )
        self._reserved: dict[str, str] = {}
        self._hooks: tuple[InitHook, ...] = ()
        self._lock = threading.Lock()
        if observer is not None:
            observer.know(cast(Any, self))

    # -- registering ---------------------------------------------------------------------

    async def register(
        self,
        name: str,
        config: Config = None,
        *,
        type: str | None = None,
        source: str = "api",
        start: Literal["lazy", "test", "ready"] = "lazy",
    ) -> ProviderT:
        """
        Register a provider, run the initialisation hooks, then make it visible.

        Args:
            name: The provider's name.
            config: The type's settings, flat beside ``type`` and the rest of the envelope as
                in a configuration file; or an instance of the type's config model.
            type: The provider type; the name is the type where neither says otherwise.
            source: ``config``, ``environment``, ``plugin`` or ``api``.
            start: ``lazy`` connects at the first operation, ``ready`` before this returns,
                ``test`` also checks its health. A failure registers nothing.

        Raises:
            InvalidNameError: The name is empty or not usable.
            AlreadyExistsError: The name is taken; the message names both origins.
            NotFoundError: No such provider type.
            InvalidConfigError: The settings have faults; all of them are named.
            HookFailedError: A hook raised.
            RegistrationFailedError: It could not be started; the cause is kept.
        """
        origin = calling_place()
        with self._reserve(name, origin):
            registration = self._builder.registration(
                name, config, type=type, source=source, origin=origin
            )
            return await self._admit(registration, start)

    def register_nowait(
        self, name: str, config: Config = None, *, type: str | None = None, source: str = "api"
    ) -> ProviderT:
        """
        Register a provider where nothing can be awaited; it starts lazily.

        Raises:
            InvalidStateError: There are initialisation hooks, which must be awaited.
            RegistryError: As :meth:`register`.
        """
        if self._hooks:
            raise InvalidStateError(
                f"The {self.family.name} registry has initialisation hooks, which must be "
                f"awaited: use await register({name!r}, ...).",
                name,
            )
        origin = calling_place()
        with self._reserve(name, origin):
            registration = self._builder.registration(
                name, config, type=type, source=source, origin=origin
            )
            return self._publish(registration)

    async def register_instance(
        self,
        name: str,
        instance: ProviderT,
        *,
        capabilities: Iterable[str] | None = None,
        source: str = "api",
        metadata: Mapping[str, Any] | None = None,
    ) -> ProviderT:
        """
        Register an object that exists already, and return what callers will get.

        A provider is guarded like any other; any other object is handed out as it is.

        Raises:
            RegistryError: As :meth:`register`.
        """
        origin = calling_place()
        with self._reserve(name, origin):
            registration = self._builder.wrapped(
                name,
                instance,
                source=source,
                origin=origin,
                capabilities=capabilities,
                metadata=metadata,
            )
            return await self._admit(registration, "lazy")

    async def unregister(
        self,
        name: str,
        *,
        mode: Literal["refuse", "drain", "force"] = "refuse",
        timeout: float | None = None,
    ) -> None:
        """
        Remove a provider and dispose its instance. Instances from :meth:`create` stay their
        owners' affair.

        Args:
            name: The provider.
            mode: ``refuse`` raises while anybody uses it, ``drain`` refuses new work and
                waits for the rest, ``force`` waits for nothing.
            timeout: Seconds ``drain`` waits; ``registry.lifecycle.graceful_shutdown_timeout``
                when not given.

        Raises:
            NotFoundError: There is no such provider.
            InUseError: It is in use (or still is after ``timeout``): the provider stays as it was.
        """
        if self._forget_declared(name):
            self._tell_removed(name)
            return
        registration = self._find(name)
        guard = registration.guard
        holders = registration.holders()
        if mode == "refuse" and (holders or (guard and not await guard.close_to_new_work())):
            raise self._in_use(registration)
        with self._lock:
            now = self._registrations.get(name)
            there = now is not None and now.handle is registration.handle
            declaration = self._declared.pop(name, None) if there else None
            was_default = there and self._default == name
            if was_default:
                self._default = None
            if there:
                registration = self._registrations.pop(name)  # perhaps renewed meanwhile
                del self.handles[name]
                self._version += 1
                self._reserved[name] = registration.origin  # nobody takes it before it is free
        if not there:  # it is gone, or has become of another type
            await self.unregister(name, mode=mode, timeout=timeout)
            return
        try:
            if mode == "drain" and guard is not None:
                limit = (
                    self._settings.lifecycle.graceful_shutdown_timeout
                    if timeout is None
                    else timeout
                )
                drained = False
                try:
                    drained = await guard.drain(limit)
                finally:
                    if not drained:  # too late, or cancelled: it stays as it was
                        guard.stop_draining()
                        with self._lock:
                            self._insert(registration)
                            if declaration is not None:
                                self._declared[name] = declaration
                            self._default = name if was_default else self._default
                if not drained:
                    raise self._in_use(registration)
            if guard is not None:
                await guard.dispose()
        finally:
            with self._lock:
                self._reserved.pop(name, None)
        self._forget_health(name)
        self._tell_removed(name)

    # -- hooks and events ----------------------------------------------------------------

    def add_init_hook(self, hook: InitHook) -> None:
        """Await ``hook(name)`` for each provider registered from now on, before it is visible."""
        with self._lock:
            self._hooks = (*self._hooks, hook)

    async def run_init_hooks(self, name: str) -> None:
        """
        Run all hooks for a provider, in the order they were added.

        Raises:
            HookFailedError: A hook raised; those after it did not run.
        """
        for hook in self._hooks:
            try:
                answer = hook(name)
                if answer is not None:
                    await answer
            except Exception as error:
                label = getattr(hook, "__qualname__", repr(hook))
                raise HookFailedError(
                    f"Failed to register provider {name!r}: the initialisation hook {label} "
                    f"raised {type(error).__name__}: {error}",
                    name,
                ) from scrub(error)

    # -- inside --------------------------------------------------------------------------

    def _resolve(self, name: str) -> Registration:
        """Register a declared provider now that it is needed; two threads may both build it."""
        registration = self._registrations.get(name)
        if registration is not None:
            return registration
        declaration = self._declared.get(name)
        if declaration is None or not declaration.settings.enabled:
            raise self._not_found(name)
        built = self._built(name, declaration)
        try:
            self._publish(built, declaration)
        except (AlreadyExistsError, NotFoundError):
            # Another thread was faster: it registered it, or declared it anew.
            known = self._declared.get(name)
            if name not in self._registrations and (known is None or known is declaration):
                raise
        return self._registrations.get(name) or self._resolve(name)

    def _built(self, name: str, declaration: Declaration) -> Registration:
        return self._builder.registration(
            check_name(name),
            declaration.settings,
            source=declaration.source,
            origin=declaration.origin,
            where=declaration.where,
            shared=declaration.shared,
        )

    @contextmanager
    def _reserve(self, name: str, origin: str) -> Generator[None]:
        """Hold a name while its provider is being made, so that only one can be."""
        check_name(name)
        with self._lock:
            self._refuse_closed(name)
            self._refuse_taken(name, origin)
            self._reserved[name] = origin
        try:
            yield
        except RegistryError as error:
            logger.error("Failed to register provider '%s': %s", name, error)
            raise
        finally:
            with self._lock:
                self._reserved.pop(name, None)

    def _refuse_taken(self, name: str, origin: str) -> None:
        registration = self._registrations.get(name)
        declaration = self._declared.get(name)
        if registration is not None:
            taken = f"{registration.source}, {registration.origin}"
        elif name in self._reserved:
            taken = self._reserved[name]
        elif declaration is not None and declaration.settings.enabled:
            taken = f"{declaration.source}, {declaration.origin}"
        else:
            return
        raise AlreadyExistsError(
            f"Provider already registered: {name}. The {self.family.name} provider of that name "
            f"comes from {taken}; refused is the one from {origin}. Choose another name, or "
            "unregister the first.",
            name,
        )

    async def _admit(
        self, registration: Registration, start: Literal["lazy", "test", "ready"]
    ) -> ProviderT:
        """Run the hooks, start what is to be started, publish; a failure leaves nothing."""
        name, guard = registration.name, registration.guard
        await self.run_init_hooks(name)
        if start == "lazy" or guard is None:
            return self._publish(registration)
        try:
            await registration.handle.initialize()
            if start == "test":
                await guard.check_health()
            return self._publish(registration)
        except BaseException as error:
            try:
                await guard.dispose()
            except Exception as second:  # must not hide the first
                logger.error("Closing provider %s failed: %s", name, second)
            if isinstance(error, ShuttingDownError) or not isinstance(error, Exception):
                raise
            raise RegistrationFailedError(
                f"Failed to register provider '{name}': {error}",
                name,
                {"cause": error.code} if isinstance(error, RegistryError) else None,
            ) from error

    def _publish(
        self, registration: Registration, declaration: Declaration | None = None
    ) -> ProviderT:
        name = registration.name
        self._refuse_cycle(registration)
        with self._lock:
            self._refuse_closed(name)
            wanted = declaration is None or self._declared.get(name) is declaration
            if wanted:
                if name in self._registrations:
                    self._refuse_taken(name, registration.origin)
                self._insert(registration)
        if not wanted:
            raise self._not_found(name)  # unregistered while it was being built
        row = registration.provider_type
        type_name = row.name if row else "object"
        logger.info("Registered %s provider: %s (type %s)", self.family.name, name, type_name)
        if self.events.wanted(ProviderRegistered):
            info = registration.info(is_default=name == self._default_or_none())
            self.events.emit(ProviderRegistered(self.family.name, name, info))
        return registration.handle

    def _insert(self, registration: Registration) -> None:
        self._registrations[registration.name] = registration
        self.handles[registration.name] = registration.handle
        self._version += 1

    def _forget_declared(self, name: str) -> bool:
        """Drop a declared provider that nobody needed yet; its settings may be at fault."""
        with self._lock:
            if name in self._registrations or not self._is_declared(name):
                return False
            del self._declared[name]
            self._version += 1
            if self._default == name:
                self._default = None
            return True

    def _tell_removed(self, name: str) -> None:
        if self.events.wanted(ProviderUnregistered):
            self.events.emit(ProviderUnregistered(self.family.name, name))

    def _tell_failure(self, guard: Guard, error: RegistryError) -> None:
        if self.events.wanted(ProviderErrorOccurred):
            self.events.emit(ProviderErrorOccurred(self.family.name, guard.name, error))

    def _tell_transition(self, breaker: CircuitBreaker, turn: Transition) -> None:
        label = f"circuit breaker of {self.family.name} provider {breaker.name}"
        if turn.after is BreakerState.OPEN:
            logger.warning("The %s opened: %s", label, turn.reason)
            if self.events.wanted(CircuitBreakerOpened):
                self.events.emit(
                    CircuitBreakerOpened(
                        self.family.name, breaker.name, turn.reason, turn.failures, turn.wait
                    )
                )
            return
        logger.info("The %s is %s: %s", label, turn.after, turn.reason)
        kind = CircuitBreakerClosed
        if turn.after is BreakerState.HALF_OPEN:
            kind = CircuitBreakerHalfOpened
        if self.events.wanted(kind):
            self.events.emit(kind(self.family.name, breaker.name, turn.reason))

    def _in_use(self, registration: Registration) -> InUseError:
        holders = registration.holders()
        return InUseError(
            f"Provider {registration.name} has {len(holders)} active instances: "
            f"{', '.join(holders)}. Wait for them, or unregister with mode='drain' or "
            "mode='force'.",
            registration.name,
            {"count": len(holders), "holders": holders},
        )
