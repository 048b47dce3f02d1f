"""What the HTTP API is made of, wired as any application would wire it."""

from __future__ import annotations

from typing import Any

from dependency_injector import containers
from dependency_injector import providers as di

from ...providers.catalogue import AuditLog, Tokens
from ...services.chat import ModelList
from .event_log import EventLog
from .listing import Listing
from .rates import Refusals

__all__ = ["HttpContainer"]


class HttpContainer(containers.DeclarativeContainer):
    """
    The parts of the HTTP API, over the application container they serve.

    ``purveyor`` is an :class:`~purveyor.containers.ApplicationContainer`, or any container that
    has one's providers.
    """

    purveyor: Any = di.DependenciesContainer()
    settings: Any = purveyor.settings.provided.http
    tokens: di.Provider[Tokens] = di.ThreadSafeSingleton(Tokens, purveyor.catalogue)
    audit: di.Provider[AuditLog] = di.ThreadSafeSingleton(
        AuditLog, purveyor.catalogue, days=settings.audit_days
    )
    events: di.Provider[EventLog] = di.ThreadSafeSingleton(
        EventLog, purveyor.events, size=settings.event_history
    )
    refusals: di.Provider[Refusals] = di.ThreadSafeSingleton(Refusals)
    listing: di.Provider[Listing] = di.ThreadSafeSingleton(Listing, purveyor.registries.provider)
    models: di.Provider[ModelList] = di.ThreadSafeSingleton(ModelList, purveyor)
