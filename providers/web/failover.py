"""Failover services: several web services as one, each call answered by the first that can."""

from __future__ import annotations

from typing import Any, ClassVar

from ..registry.errors import InvalidConfigError, PermissionDeniedError
from ..registry.failover import Failover
from .errors import ModelNotFoundError, QuotaExhaustedError, RateLimitedError

__all__ = ["FailoverService"]


class FailoverService(Failover):
    """
    Services that stand in for each other; see :class:`Failover`.

    A call moves on also from a service that takes no more for now, that lacks the model, or whose
    alias leads nowhere. A key that is refused comes through, whenever that is found out: it would
    stay refused unseen.
    """

    comes_through: ClassVar[tuple[type[Exception], ...]] = (PermissionDeniedError,)

    def _moves_on(self, error: Exception, member: Any) -> bool:
        return isinstance(error, _CURABLE) or super()._moves_on(error, member)


_CURABLE = (RateLimitedError, QuotaExhaustedError, ModelNotFoundError, InvalidConfigError)
