"""
The shared catalogue: registrations that outlive a process, and reach every replica.

SQLAlchemy, which the extra ``catalogue`` installs, is imported when there is something to read.
"""

from __future__ import annotations

from .audit import ANONYMOUS, CLI, AuditLog, AuditRecord
from .catalogue import Catalogue
from .entry import Entry
from .errors import CatalogueError, CatalogueUnavailableError, ConflictError, TokenRefusedError
from .rotation import KeyStatus, Rotation, key_status, rotate
from .tokens import Token, Tokens

__all__ = [
    "ANONYMOUS",
    "CLI",
    "AuditLog",
    "AuditRecord",
    "Catalogue",
    "CatalogueError",
    "CatalogueUnavailableError",
    "ConflictError",
    "Entry",
    "KeyStatus",
    "Rotation",
    "Token",
    "TokenRefusedError",
    "Tokens",
    "key_status",
    "rotate",
]
