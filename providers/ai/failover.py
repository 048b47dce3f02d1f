"""Failover AI: several AI services as one, each call answered by the first that can."""

from __future__ import annotations

from ..registry.failover import FailoverConfig
from ..web.failover import FailoverService
from .base import AIProvider

__all__ = ["FailoverAI"]


class FailoverAI(FailoverService, AIProvider[FailoverConfig]):
    """
    AI services that stand in for each other; see :class:`FailoverService`.

    A model that the call names is asked of every member by that name; without one each member
    answers with its own, which is what an ``alias`` among the members is for.
    """
