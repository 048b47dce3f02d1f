"""What goes wrong with images, beside what goes wrong with any service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...registry.errors import ProviderError
from ...web.errors import ServiceError

if TYPE_CHECKING:
    from .base import GeneratedImage

__all__ = ["ImageNotWrittenError", "IncompleteImagesError"]


class _PaidError(ProviderError):
    """Pictures came, and with them something went wrong: they are in :attr:`images`."""

    is_backend_failure = False
    images: tuple[GeneratedImage, ...] = ()
    """The pictures that came, which are paid for; they are not pickled with the error."""

    def __init__(
        self,
        message: str,
        provider_name: str | None = None,
        context: Mapping[str, object] | None = None,
        *,
        images: Sequence[GeneratedImage] = (),
    ) -> None:
        """
        Args:
            message: For people.
            provider_name: The provider it happened to.
            context: JSON-safe details.
            images: The pictures that came.
        """
        super().__init__(message, provider_name, context)
        self.images = tuple(images)


class IncompleteImagesError(_PaidError, ServiceError):
    """
    Some of the pictures came, and some did not: why, is the error's cause.

    Those that came are in ``images``, and written where a path was given. Does not count for the
    circuit breaker: a service that makes pictures works.
    """

    default_code = "INCOMPLETE"
    is_backend_failure = False


class ImageNotWrittenError(_PaidError, OSError):
    """The pictures came and one cannot be written; all of them are in ``images``."""

    default_code = "NOT_WRITTEN"
