"""A sync whose copying is done by the workers of a Dask cluster, on this machine or on many."""

from __future__ import annotations

from .cluster import Cluster
from .copier import DaskCopier
from .ranges import RangeDone, RangeTask
from .sync import sync_on_dask

__all__ = ["Cluster", "DaskCopier", "RangeDone", "RangeTask", "sync_on_dask"]
