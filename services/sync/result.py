"""What became of a sync."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...providers.registry import RegistryError

__all__ = ["FailedObject", "SyncResult"]


@dataclass(frozen=True, slots=True)
class FailedObject:
    """An object that could not be copied, and why."""

    key: str
    code: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return the same as JSON-safe data."""
        return {"key": self.key, "code": self.code, "reason": self.reason}


@dataclass(slots=True)
class SyncResult:
    """
    What became of a sync.

    Args:
        source: Where from.
        target: Where to.
        dry_run: Nothing was written; ``files`` and ``bytes`` are what would have been.
        files: Objects copied.
        bytes: Their bytes.
        skipped: Objects that were there already.
        deleted: Objects removed from the target, where they were beyond the source.
        ignored: What lies in the source and is no object (symbolic links, sockets).
        failed: Objects that could not be copied.
        verified: How many copies were compared by what.
        error: Why the whole ended early, if it did.
        note: Why nothing was to be done: the provider is disabled.
        warnings: What went otherwise than one may think, and made nothing wrong.
        seconds: How long it took.
    """

    source: str
    target: str
    dry_run: bool = False
    files: int = 0
    bytes: int = 0
    skipped: int = 0
    deleted: int = 0
    ignored: int = 0
    failed: list[FailedObject] = field(default_factory=list[FailedObject])
    verified: dict[str, int] = field(default_factory=dict[str, int])
    error: RegistryError | None = None
    note: str | None = None
    warnings: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    @property
    def success(self) -> bool:
        """Whether everything is at the target now (or would be, in a dry run)."""
        return self.error is None and not self.failed

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        return {
            "success": self.success,
            "source": self.source,
            "target": self.target,
            "dry_run": self.dry_run,
            "files": self.files,
            "bytes": self.bytes,
            "skipped": self.skipped,
            "deleted": self.deleted,
            "ignored": self.ignored,
            "failed": [one.to_dict() for one in self.failed],
            "verified": dict(self.verified),
            "error": None if self.error is None else self.error.message,
            "error_code": None if self.error is None else self.error.code,
            "note": self.note,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }
