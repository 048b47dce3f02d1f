"""Failover storage: several storages as one, each call answered by the first that can."""

from __future__ import annotations

from typing import Any

from ..registry.errors import UnsupportedCapabilityError
from ..registry.failover import Failover, FailoverConfig
from .base import StorageProvider
from .errors import StorageRootNotFoundError

__all__ = ["FailoverStorage"]


class FailoverStorage(Failover, StorageProvider[FailoverConfig]):
    """
    Storages that stand in for each other; see :class:`Failover`.

    It copies nothing from one member to another: what was put while the first one was away is
    with the one that answered. What a member lacks is not asked of the next one either, which
    would search among other objects, or keep this one out of the first one's sight.
    """

    def _moves_on(self, error: Exception, member: Any) -> bool:
        if isinstance(error, UnsupportedCapabilityError):
            return False
        return isinstance(error, StorageRootNotFoundError) or super()._moves_on(error, member)
