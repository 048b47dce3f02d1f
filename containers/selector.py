"""The selector: a DI provider that is called with a provider's name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from dependency_injector import providers as di

from ..providers.registry import Composite, ProviderRegistry

__all__ = ["ProviderOverride", "ProviderSelector"]

ProviderT = TypeVar("ProviderT")

if TYPE_CHECKING:
    _Base = di.ThreadSafeSingleton[Any]
else:
    _Base = di.ThreadSafeSingleton


class ProviderSelector(_Base, Generic[ProviderT]):
    """
    Selects a provider by name: ``container.storage("backups")``; without a name, the default.

    Selecting is synchronous and does no I/O. To dependency-injector the selector is a
    delegated singleton provider of its family's registry: injected into another provider, or
    by ``Provider[...]``, it arrives as itself, to be called with names; by ``Provide[...]``
    the default provider arrives. ``override`` replaces the whole selector and
    :meth:`override_provider` one entry.

    Args:
        provides: Makes the :class:`ProviderRegistry`; the other arguments are its own, as for
            any singleton provider.
    """

    __IS_DELEGATED__ = True

    def __init__(self, provides: Any = None, *args: Any, **kwargs: Any) -> None:
        self._ready: dict[str, ProviderT] = {}
        """What can be handed out without a further look: the registry's handles, or nothing
        while anything is overridden."""
        self._overrides: dict[str, tuple[ProviderOverride, ...]] = {}
        self._override_lock = threading.Lock()
        super().__init__(provides, *args, **kwargs)

    def __call__(self, name: str | None = None) -> ProviderT:  # pyright: ignore[reportIncompatibleMethodOverride]
        """
        Return the provider ``name``, or the default one.

        Raises:
            NotFoundError: There is none; the message lists those there are, nearest first.
            InvalidConfigError: The settings name it, but have faults.
        """
        found = self._ready.get(name)  # pyright: ignore[reportArgumentType]
        return self._select(name) if found is None else found

    def _select(self, name: str | None) -> ProviderT:
        overriding: Any = cast(Any, self).last_overriding
        if overriding is not None:
            return overriding() if name is None else overriding(name)
        if self._overrides:
            if name is None:
                name = self.registry.default_name()
            if replacements := self._overrides.get(name):
                return replacements[-1].replacement()
            return self._with_overrides(self.registry.require(name))
        self._ready = self.registry.handles
        return self.registry.require(name)

    def _with_overrides(self, found: ProviderT) -> ProviderT:
        """Return a provider made of others as one that selects them here."""
        if not isinstance(found, Composite):
            return found
        composite: Any = cast(Any, found)._guard.peek()
        return type(composite)(composite.config).bind(composite._name, self, composite._siblings)

    @property
    def registry(self) -> ProviderRegistry[ProviderT]:
        """The family's registry, made when first needed."""
        return cast(Any, self)._provide((), {})

    def entry(self, name: str) -> di.Callable[ProviderT]:
        """Return one provider as a DI provider, to be injected into others by reference."""
        return di.Callable(self, name)

    def __getattr__(self, name: str) -> di.Callable[ProviderT]:
        """Make ``Provide["storage.backups"]`` find a provider that is there when it is wired."""
        if not name.startswith("_") and self._has(name):
            return self.entry(name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _has(self, name: str) -> bool:
        return self.registry.has(name)

    # -- overriding ----------------------------------------------------------------------

    def override_provider(self, name: str, replacement: Any) -> ProviderOverride:
        """
        Replace one provider, at once and until the returned context ends.

        ::

            with container.storage.override_provider("backups", FakeStorage()):
                ...

        Args:
            name: The provider. It need not be configured, so a test needs no settings.
            replacement: What is selected in its place, handed out as it is; or a DI provider
                that makes it.
        """
        override = ProviderOverride(self, name, replacement)
        with self._override_lock:
            self._overrides = {
                **self._overrides,
                name: (*self._overrides.get(name, ()), override),
            }
        self._look_again()
        return override

    def _restore(self, override: ProviderOverride) -> None:
        name = override.name
        with self._override_lock:
            left = tuple(one for one in self._overrides.get(name, ()) if one is not override)
            others = {key: value for key, value in self._overrides.items() if key != name}
            self._overrides = {**others, name: left} if left else others
        self._look_again()

    def override(self, provider: Any) -> Any:
        """Replace the whole selector, as for any DI provider."""
        context: Any = cast(Any, super()).override(provider)
        self._look_again()
        return context

    def reset_last_overriding(self) -> None:
        """Undo the last :meth:`override`."""
        super().reset_last_overriding()
        self._look_again()

    def reset_override(self) -> None:
        """Undo every override, of the whole and of single providers."""
        super().reset_override()
        with self._override_lock:
            self._overrides = {}
        self._look_again()

    def reset(self) -> Any:
        """Forget the registry; the next selection makes a new one from the settings."""
        context: Any = cast(Any, super()).reset()
        self._look_again()
        return context

    def _look_again(self) -> None:
        self._ready = {}

    # -- as a DI provider ----------------------------------------------------------------

    @property
    def related(self) -> Iterator[di.Provider[Any]]:
        """The DI providers this one refers to, the overriding ones among them."""
        yield from cast(Any, super()).related
        for overrides in self._overrides.values():
            yield from (one.replacement for one in overrides)

    def __deepcopy__(self, memo: dict[Any, Any] | None) -> ProviderSelector[ProviderT]:
        copied: Any = cast(Any, super()).__deepcopy__(memo)
        for name, overrides in self._overrides.items():
            for one in overrides:
                copied.override_provider(name, di.deepcopy(one.replacement, memo))
        return copied


class ProviderOverride:
    """An override of one provider; leaving its ``with`` block restores what was there."""

    def __init__(self, selector: ProviderSelector[Any], name: str, replacement: Any) -> None:
        self.name = name
        self.replacement: di.Provider[Any] = (
            replacement if di.is_provider(replacement) else di.Object(replacement)
        )
        self._selector = selector

    def restore(self) -> None:
        """End the override; ending it twice is no error."""
        self._selector._restore(self)

    def __enter__(self) -> Any:
        return self.replacement()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.restore()
