"""Views of a registry that let a caller do so much and no more."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Generic, TypeVar

from .errors import PermissionDeniedError
from .registry import ProviderRegistry

__all__ = ["RegistryView", "Role"]

ProviderT = TypeVar("ProviderT")


class Role(IntEnum):
    """Who may do what; each role may do all that those before it may."""

    READER = 1
    """See what there is: names, infos, capabilities, health."""
    OPERATOR = 2
    """Use providers, start and stop them."""
    ADMIN = 3
    """Change what there is."""


_ROLE_OF: dict[str, Role] = {
    **dict.fromkeys(
        (
            "default_name", "family", "find_by_capability", "get_all_provider_health",
            "get_provider_health", "has", "health", "health_report", "holders", "info",
            "is_registered", "list", "moment", "names", "serves", "types", "on", "off",
        ),
        Role.READER,
    ),
    **dict.fromkeys(
        (
            "create", "dangling", "dispose", "get", "initialize", "initialize_all", "lease",
            "load", "providers", "reload", "require", "reset_breaker", "restart", "start",
            "start_all", "start_health_monitoring", "start_health_monitoring_all", "stop",
            "stop_all", "stop_health_monitoring", "stop_health_monitoring_all",
        ),
        Role.OPERATOR,
    ),
    **dict.fromkeys(
        (
            "add_init_hook", "config", "declare", "declare_default", "declared", "dispose_all",
            "get_default_config", "graceful_shutdown", "register",
            "register_instance", "register_nowait", "run_init_hooks", "set_default", "settings",
            "try_out", "unregister", "validate", "withdraw",
        ),
        Role.ADMIN,
    ),
}  # fmt: skip

_NAMED = {
    "config", "create", "dispose", "get", "get_provider_health", "has", "health", "holders",
    "info", "initialize", "is_registered", "lease", "moment", "reload", "require", "reset_breaker",
    "restart", "serves", "set_default", "settings", "start", "start_health_monitoring", "stop",
    "stop_health_monitoring", "unregister",
}  # fmt: skip
"""Calls about one provider, which a view for a pipeline allows for the pipeline's own only."""


_UNSEEN: dict[str, Any] = {"get": None, "has": False}
"""What a view for a pipeline answers of another's provider where asking is no mistake."""


class RegistryView(Generic[ProviderT]):
    """
    A registry as one role sees it, or one pipeline, or both.

    Every call of :class:`ProviderRegistry` is there under its name. It keeps honest callers
    from mistakes; it is no boundary against code in the same process.

    Args:
        registry: The registry behind it.
        role: What the holder of the view may do.
        pipeline: Only the providers assigned to this pipeline are visible.
    """

    def __init__(
        self, registry: ProviderRegistry[ProviderT], role: Role, *, pipeline: str | None = None
    ) -> None:
        self._registry = registry
        self._pipeline = pipeline
        self.role = role

    def __getattr__(self, call: str) -> Any:  # the type is that of the registry's own call
        needed = _ROLE_OF.get(call)
        if needed is None:
            raise AttributeError(f"A registry has no call {call!r}.")
        if needed > self.role:
            raise PermissionDeniedError(
                f"{call} needs the role {needed.name.lower()}; this view of the "
                f"{self._registry.family.name} registry has the role {self.role.name.lower()}.",
                context={"call": call, "role": self.role.name.lower()},
            )
        found = getattr(self._registry, call)
        if self._pipeline is None:
            return found
        return self._for_pipeline(call, found, self._pipeline)

    def _for_pipeline(self, call: str, function: Any, pipeline: str) -> Any:
        registry = self._registry
        if call in _NAMED:

            def named(name: str | None = None, *args: Any, **kwargs: Any) -> Any:
                if name is None and call != "set_default":
                    name = registry.default_name()
                if name is not None and registry.has(name) and not registry.serves(name, pipeline):
                    if call in _UNSEEN:
                        return _UNSEEN[call]
                    raise PermissionDeniedError(
                        f"Provider {name!r} is not assigned to the pipeline {pipeline!r}. Add the "
                        "pipeline to its pipelines setting.",
                        name,
                    )
                return function(name, *args, **kwargs)

            return named
        if call == "names":
            return lambda: registry.names(pipeline=pipeline)
        if call == "list":
            return lambda: [one for one in registry.list() if registry.serves(one.name, pipeline)]
        if call == "find_by_capability":

            def found(*wanted: str) -> list[str]:
                names = registry.find_by_capability(*wanted)
                return [name for name in names if registry.serves(name, pipeline)]

            return found
        if call == "providers":
            return lambda: {
                name: one
                for name, one in registry.providers().items()
                if registry.serves(name, pipeline)
            }
        return function

    def __repr__(self) -> str:
        of = f" for pipeline {self._pipeline!r}" if self._pipeline else ""
        return f"<{self.role.name.lower()} view of the {self._registry.family.name} registry{of}>"
