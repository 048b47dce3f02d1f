"""Failover flashcards: another collection, where the first one is not open at all."""

from __future__ import annotations

from typing import Any

from ...registry.failover import FailoverConfig
from ...web.errors import ApplicationNotRunningError, ServiceError
from ...web.failover import FailoverService
from .base import FlashcardProvider
from .errors import CollectionNotOpenError

__all__ = ["FailoverFlashcards"]


class FailoverFlashcards(FailoverService, FlashcardProvider[FailoverConfig]):
    """
    Collections that stand in for each other, of one AnkiWeb account say; see :class:`Failover`.

    Another collection has other notes, and would take them a second time. So a call moves on only
    from a member that certainly did nothing: that is not running, has no collection open, or was
    not asked. After anything else, a time-out say, the error comes through.
    """

    def _moves_on(self, error: Exception, member: Any) -> bool:
        if isinstance(error, ServiceError):
            absent = isinstance(error, ApplicationNotRunningError | CollectionNotOpenError)
            return absent and "notes_done" not in error.context
        return super()._moves_on(error, member)
