"""Failover source: several data sources as one, each call answered by the first that can."""

from __future__ import annotations

from ..registry.failover import Failover, FailoverConfig
from .base import DataSource

__all__ = ["FailoverSource"]


class FailoverSource(Failover, DataSource[FailoverConfig]):
    """Data sources that stand in for each other, replicas of one database say."""
