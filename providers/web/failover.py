"""Failover services: several web services as one, each call answered by the first that can."""

from __future__ import annotations

from typing import Any, ClassVar

from ..registry.errors import PermissionDeniedError
from ..registry.failover import Failover
from .errors import ModelNotFoundError, QuotaExhaustedError, RateLimitedError

__all__ = ["FailoverService"]


class FailoverService(Failover):
    """
    Services that stand in for each other; see :class:`Failover`.

    A call moves on also from a service that takes no more for now, or that lacks the model. A key
    that is refused comes through, whenever that is found out: it would stay refused unseen.
    """

    comes_through: ClassVar[tuple[type[Exception], ...]] = (PermissionDeniedError,)

    def _moves_on(self, error: Exception, member: Any) -> bool:
        limits = RateLimitedError, QuotaExhaustedError, ModelNotFoundError
        return isinstance(error, limits) or super()._moves_on(error, member)
