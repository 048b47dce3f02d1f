"""
The shared catalogue: registrations that outlive a process, and reach every replica.

SQLAlchemy, which the extra ``catalogue`` installs, is imported when there is something to read.
"""

from __future__ import annotations

from .catalogue import Catalogue
from .entry import Entry
from .errors import CatalogueError, CatalogueUnavailableError, ConflictError
from .rotation import KeyStatus, Rotation, key_status, rotate

__all__ = [
    "Catalogue",
    "CatalogueError",
    "CatalogueUnavailableError",
    "ConflictError",
    "Entry",
    "KeyStatus",
    "Rotation",
    "key_status",
    "rotate",
]
