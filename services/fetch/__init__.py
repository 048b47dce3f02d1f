"""Fetching items of several data sources into one workspace, all or nothing."""

from __future__ import annotations

from .engine import Observer, fetch
from .errors import FetchError
from .manifest import MANIFEST, Manifest, ManifestItem, read_manifest
from .plan import Query, Wanted, parse_wanted

__all__ = [
    "MANIFEST",
    "FetchError",
    "Manifest",
    "ManifestItem",
    "Observer",
    "Query",
    "Wanted",
    "fetch",
    "parse_wanted",
    "read_manifest",
]
