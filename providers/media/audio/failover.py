"""Failover audio: several audio services as one, each call answered by the first that can."""

from __future__ import annotations

from ...registry.failover import FailoverConfig
from ...web.failover import FailoverService
from .base import AudioProvider

__all__ = ["FailoverAudio"]


class FailoverAudio(FailoverService, AudioProvider[FailoverConfig]):
    """
    Audio services that stand in for each other; see :class:`FailoverService`.

    A word that one of them has no recording of is not asked of the next one: that is an answer.
    """
