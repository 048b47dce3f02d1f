"""What a sync counts and tells while it runs."""

from __future__ import annotations

import logging

from ...providers.registry import RegistryError
from .errors import SyncError
from .events import BytesMoved, ObjectFailed, Observer, SyncEvent
from .result import FailedObject, SyncResult

__all__ = ["Account", "registry_error"]

logger = logging.getLogger(__name__)


class Account:
    """
    The result as it grows, and the observer who hears of it.

    Args:
        result: Where all is counted.
        observer: Called with each event. One that raises is logged; the sync goes on.
    """

    def __init__(self, result: SyncResult, observer: Observer | None) -> None:
        self.result = result
        self._observer = observer

    def tell(self, event: SyncEvent) -> None:
        """Tell the observer."""
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception:
            logger.exception("The observer of a sync raised; the sync goes on")

    def fail(self, key: str, error: Exception | None) -> None:
        """Count and tell an object that failed."""
        failure = registry_error(error)
        self.result.failed.append(FailedObject(key, failure.code, failure.message))
        self.tell(ObjectFailed(key, failure.code, failure.message))

    def warn(self, text: str) -> None:
        """Note what went otherwise than one may think."""
        logger.warning("%s", text)
        self.result.warnings.append(text)

    def moved(self, key: str, count: int) -> None:
        """Tell that bytes were read from the source."""
        if self._observer is not None:
            self.tell(BytesMoved(key, count))


def registry_error(error: Exception | None) -> RegistryError:
    """Return an error as one with a code and a message."""
    if isinstance(error, RegistryError):
        return error
    return SyncError("OBJECT_FAILED", str(error))
