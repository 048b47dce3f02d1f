"""Failover images: several services as one, each call answered by the first that can."""

from __future__ import annotations

from typing import Any

from ...registry.failover import FailoverConfig
from ...web.failover import FailoverService
from .base import ImageProvider
from .errors import ImageNotWrittenError, IncompleteImagesError

__all__ = ["FailoverImages"]


class FailoverImages(FailoverService, ImageProvider[FailoverConfig]):
    """
    Services of images that stand in for each other; see :class:`FailoverService`.

    A call's options go to whichever member is asked, so leave what only one of them understands,
    its model's name above all, to the members' own settings. Pictures that came are not made
    again by another member, though others are missing or a file cannot be written.
    ``estimate_cost`` is what the member says that would be asked first.
    """

    def _moves_on(self, error: Exception, member: Any) -> bool:
        if isinstance(error, (IncompleteImagesError, ImageNotWrittenError)):
            return False
        return super()._moves_on(error, member)
