"""Results kept by what was asked for, so that nothing is paid for twice."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from ...providers.storage import ObjectNotFoundError
from ..sync import LocalPlace, Place, local_storage
from .jobs import Product

if TYPE_CHECKING:
    from ...providers.storage import StorageProvider
    from .pipeline import Pipeline

__all__ = ["Kept"]

logger = logging.getLogger(__name__)


class Kept:
    """
    The results below a place, one object for each digest.

    An object is a line of JSON (what is known of the result, and the SHA-256 of its bytes) and
    then the bytes. One that is not whole counts as not there.
    """

    def __init__(self, storage: StorageProvider[Any], prefix: str) -> None:
        """
        Args:
            storage: Where they are.
            prefix: Of their keys.
        """
        self._storage = storage
        self._prefix = prefix

    @classmethod
    async def open(cls, place: Place, pipeline: Pipeline, stack: AsyncExitStack) -> Kept:
        """
        Return the results at a place; what has to be closed is left to ``stack``.

        Raises:
            RegistryError: Its provider is not to be had, or not well.
        """
        if isinstance(place, LocalPlace):
            storage, prefix = local_storage(place.path.expanduser()), ""
            stack.push_async_callback(storage.dispose)
        else:
            storage = pipeline.provider("storage", place.provider).handle
            prefix = place.key if place.key.endswith("/") or not place.key else f"{place.key}/"
        await storage.check_health()
        return cls(storage, prefix)

    async def has(self, digest: str) -> bool:
        """Tell whether a result is there."""
        return await self._storage.exists(self._key(digest))

    async def get(self, digest: str) -> Product | None:
        """Return a result, None if it is not there or not whole."""
        try:
            stored = await self._storage.get(self._key(digest))
        except ObjectNotFoundError:
            return None
        head, _, data = stored.partition(b"\n")
        try:
            known = cast("dict[str, Any]", json.loads(head))
            if known["sha256"] == hashlib.sha256(data).hexdigest():
                cost = known["cost"]
                return Product(
                    data,
                    known["media_type"],
                    None if cost is None else Decimal(cost),
                    known["details"],
                )
        except (ValueError, KeyError, TypeError, ArithmeticError):
            pass
        logger.warning("%s is no whole result of a pipeline; it is made anew", self._key(digest))
        return None

    async def put(self, digest: str, product: Product) -> None:
        """Keep a result."""
        head = {
            "media_type": product.media_type,
            "cost": None if product.cost is None else str(product.cost),
            "details": dict(product.details),
            "sha256": hashlib.sha256(product.data).hexdigest(),
        }
        await self._storage.put(self._key(digest), json.dumps(head).encode() + b"\n" + product.data)

    def _key(self, digest: str) -> str:
        return f"{self._prefix}{digest[:2]}/{digest}"
