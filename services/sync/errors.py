"""What goes wrong in a sync that is no storage's own error."""

from __future__ import annotations

from ...providers.registry import RegistryError

__all__ = ["SourceChangedError", "StopError", "SyncError", "VerificationError"]


class SyncError(RegistryError):
    """A sync that cannot be done as asked."""


class SourceChangedError(SyncError):
    """An object of the source changed while it was read."""

    def __init__(self, key: str) -> None:
        super().__init__(
            "SOURCE_CHANGED",
            f"{key!r} changed while it was copied, twice. Copy it again when nothing writes to it.",
            context={"key": key},
        )


class VerificationError(SyncError):
    """What the target holds is not what was read from the source."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(
            "VERIFICATION_FAILED",
            f"{key!r} did not arrive as it was sent, twice: {reason}. The bad copy was removed.",
            context={"key": key, "reason": reason},
        )


class StopError(Exception):
    """Within a sync: the whole cannot go on."""

    def __init__(self, error: RegistryError) -> None:
        super().__init__(error.message)
        self.error = error
