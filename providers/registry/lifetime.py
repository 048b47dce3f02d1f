"""The lifetime of an application's registries, as one resource of its container."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic

from .daemon import within
from .discovery import ProviderDiscovery
from .lifecycle import graceful_shutdown
from .log_masking import masked_logs

__all__ = ["lifetime"]


async def lifetime(
    discovery: ProviderDiscovery, *, monitor: bool = True
) -> AsyncIterator[ProviderDiscovery]:
    """
    Register what can be found and take work; in the end close everything within one deadline.

    Until then known secret values are masked in all log records, providers in use are checked,
    changes that others make to the catalogue are heard of, and settings are looked at for changes,
    as the settings say. An async generator of one step, which is what dependency-injector takes for
    a resource.

    Args:
        discovery: Of the registries to begin and end.
        monitor: Whether to work in the background: check health, if the settings say so too, and
            hear of changes.
    """
    with masked_logs():
        registries = discovery.registries
        for registry in registries.values():
            registry.reopen()
        try:
            await discovery.discover_all()
            settings = discovery.settings.registry
            if monitor and settings.health.monitor:
                for registry in registries.values():
                    registry.start_health_monitoring_all(in_use_only=True)
            if monitor:
                discovery.listen()
            if settings.discovery.auto_refresh_interval is not None:
                discovery.start_auto_refresh()
            yield discovery
        finally:
            limit = discovery.settings.registry.lifecycle.graceful_shutdown_timeout
            deadline = monotonic() + limit
            await discovery.stop_auto_refresh(limit / 3)
            with suppress(TimeoutError):
                await within(limit / 6, discovery.close())
        await graceful_shutdown(list(registries.values()), deadline - monotonic())
