"""What goes wrong with an audio service beside what goes wrong with any."""

from __future__ import annotations

from ...web.errors import ServiceError

__all__ = ["WordNotFoundError"]


class WordNotFoundError(ServiceError, LookupError):
    """The service has no recording of the word, or none of the kind asked for."""

    default_code = "WORD_NOT_FOUND"
    is_backend_failure = False
