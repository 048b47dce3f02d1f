"""Changing the keys of an encrypted storage: every object's own key, wrapped anew."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from ..providers.registry import RegistryError, UnsupportedCapabilityError
from ..providers.storage import ObjectInfo, StorageProvider
from ..providers.storage.layers.flow import in_order
from ..providers.storage.layers.storage import LayeredStorage, Rewrapped

__all__ = ["RewrapResult", "rewrap"]


@dataclass(slots=True)
class RewrapResult:
    """How many objects were encrypted anew, how many need not be, and which could not be."""

    changed: int = 0
    current: int = 0
    replaced: int = 0
    failures: dict[str, RegistryError] = field(default_factory=dict[str, RegistryError])

    @property
    def ok(self) -> bool:
        """Whether every object can be read with the present keys."""
        return not self.failures


async def rewrap(
    storage: StorageProvider[Any],
    prefix: str = "",
    *,
    dry_run: bool = False,
    concurrency: int = 8,
    on_object: Callable[[str, Rewrapped | RegistryError], None] | None = None,
) -> RewrapResult:
    """
    Encrypt the objects of a storage to its present recipients; contents are not encrypted anew.

    Whatever way it ends, each object can be read with the old keys or the new ones, and calling it
    again goes on where it ended: an object that is done costs one small request.

    Args:
        storage: An encrypted storage, its settings with the new keys and the old ones.
        prefix: What the keys of the objects begin with.
        dry_run: Only tell what would become of them.
        concurrency: Objects under way at once.
        on_object: Told of each object what became of it.

    Raises:
        UnsupportedCapabilityError: The storage is not encrypted.
        RegistryError: It cannot be listed. An object that fails is in the result.
    """
    if not hasattr(storage, "rewrap"):
        raise UnsupportedCapabilityError(
            "The storage is not encrypted: there are no keys to change. Set encryption for it.",
            context={"capability": "encryption"},
        )
    of_layers = cast(LayeredStorage, storage)
    result = RewrapResult()

    async def one(info: ObjectInfo) -> tuple[str, Rewrapped | RegistryError]:
        try:
            return info.key, await of_layers.rewrap(info.key, dry_run=dry_run)
        except UnsupportedCapabilityError:
            raise
        except RegistryError as error:
            return info.key, error

    listing = cast("AsyncGenerator[ObjectInfo, None]", storage.list(prefix))
    async with aclosing(in_order(listing, one, concurrency)) as done:
        async for key, outcome in done:
            if isinstance(outcome, RegistryError):
                result.failures[key] = outcome
            else:
                setattr(result, outcome.value, getattr(result, outcome.value) + 1)
            if on_object is not None:
                on_object(key, outcome)
    return result
