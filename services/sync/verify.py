"""Verification: whether two places hold the same, object by object."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, cast

from ...providers.registry import RegistryError
from .ends import Source
from .filters import Filters
from .manifest import joined, read_manifest
from .merge import Entry, merged
from .options import SyncOptions
from .places import Place, parse_place
from .transfer import CopyError, Transfer

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["Difference", "VerifyResult", "verify"]

QUEUE = 1024


@dataclass(frozen=True, slots=True)
class Difference:
    """
    An object that is not the same at both places.

    Args:
        path: Its key below each place.
        kind: ``missing`` at the second place, ``extra`` there, of another ``size`` or
            ``content``, or one that could not be read (``error``).
        reason: The same for people.
    """

    path: str
    kind: Literal["missing", "extra", "size", "content", "error"]
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return the same as JSON-safe data."""
        return {"path": self.path, "kind": self.kind, "reason": self.reason}


@dataclass(slots=True)
class VerifyResult:
    """
    What two places have in common.

    Args:
        one: The first place.
        other: The second.
        same: Objects that are the same at both.
        bytes: Their bytes.
        differences: Those that are not.
        warnings: What went otherwise than one may think, and made nothing wrong.
        error: Why the whole ended early, if it did.
        seconds: How long it took.
    """

    one: str
    other: str
    same: int = 0
    bytes: int = 0
    differences: list[Difference] = field(default_factory=list[Difference])
    warnings: list[str] = field(default_factory=list[str])
    error: RegistryError | None = None
    seconds: float = 0.0

    @property
    def success(self) -> bool:
        """Whether both hold the same, and nothing else."""
        return self.error is None and not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data."""
        return {
            "success": self.success,
            "one": self.one,
            "other": self.other,
            "same": self.same,
            "bytes": self.bytes,
            "differences": [one.to_dict() for one in self.differences],
            "warnings": list(self.warnings),
            "error": None if self.error is None else self.error.message,
            "error_code": None if self.error is None else self.error.code,
            "seconds": round(self.seconds, 3),
        }


async def verify(
    one: str | os.PathLike[str] | Place,
    other: str | os.PathLike[str] | Place,
    *,
    container: ApplicationContainer | None = None,
    filters: Filters | None = None,
    jobs: int = 16,
    full: bool = False,
) -> VerifyResult:
    """
    Compare all that lies below two places by size and content; nothing is changed.

    Content is compared by checksums where both places have them: an etag that is the content's
    MD5, or what a sync has noted of an object that has not changed since. Where one is missing,
    the content is read.

    Args:
        one: A place; see :func:`~purveyor.services.sync.sync`.
        other: Another one.
        container: Gives the providers by name; two local places need none.
        filters: What takes part.
        jobs: Objects compared at the same time.
        full: Read the content at both places, whatever they say of it.

    Raises:
        NotFoundError: No such provider.
        InvalidConfigError: A provider's settings have faults.
        SyncError: A place is empty, or in a provider and there is no container.
    """
    started = perf_counter()
    left, right = parse_place(one), parse_place(other)
    result = VerifyResult(str(left), str(right))
    async with AsyncExitStack() as stack:
        try:
            first = await Source.open(left, container, stack)
            second = await Source.open(right, container, stack)
            await _Run(first, second, result, filters or Filters(), full=full).run(max(1, jobs))
        except RegistryError as error:
            result.error = error
    result.differences.sort(key=lambda difference: difference.path)
    result.seconds = perf_counter() - started
    return result


class _Run:
    """One comparison under way."""

    def __init__(
        self, one: Source, other: Source, result: VerifyResult, filters: Filters, *, full: bool
    ) -> None:
        self._one = one
        self._other = other
        self._result = result
        self._filters = filters
        self._full = full
        options = SyncOptions(compare="checksum")
        self._transfer = Transfer(one.end, other.end, options, lambda key, count: None)

    async def run(self, jobs: int) -> None:
        queue: asyncio.Queue[tuple[Entry, Entry] | None] = asyncio.Queue(QUEUE)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(jobs):
                    group.create_task(self._work(queue))
                await self._pair(queue)
                for _ in range(jobs):
                    await queue.put(None)
        except* RegistryError as errors:
            first = errors.exceptions[0]
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None

    def _entries(self, side: Source) -> AsyncGenerator[Entry]:
        entries = side.entries()
        if self._one.name is not None and self._other.name is not None:
            return _renamed(entries, self._one.name)  # two objects, whatever they are called
        if side.name is not None or self._full or side.end.is_here:
            return entries
        manifest = read_manifest(side.end.storage, side.end.prefix)
        return joined(entries, manifest, self._result.warnings.append)

    async def _pair(self, queue: asyncio.Queue[tuple[Entry, Entry] | None]) -> None:
        pairs = cast(
            "AsyncGenerator[tuple[Entry | None, Entry | None]]",
            merged(self._entries(self._one), self._entries(self._other)),
        )
        async with aclosing(pairs):
            async for one, other in pairs:
                path = one.path if one is not None else other.path if other is not None else ""
                if not self._filters.admit(path):
                    continue
                if other is None:
                    if one is not None and one.ignored is None:
                        self._differ(path, "missing", f"only in {self._result.one}")
                elif one is None:
                    if other.ignored is None:
                        self._differ(path, "extra", f"only in {self._result.other}")
                elif one.info is None or other.info is None:
                    fault = one.fault or other.fault
                    self._differ(path, "error", fault.message if fault else "it is no object")
                elif one.info.size != other.info.size:
                    sizes = f"{one.info.size} and {other.info.size} bytes"
                    self._differ(path, "size", sizes)
                else:
                    await queue.put((one, other))

    async def _work(self, queue: asyncio.Queue[tuple[Entry, Entry] | None]) -> None:
        while (pair := await queue.get()) is not None:
            one, other = pair
            try:
                same = await self._transfer.is_same(one, other, full=self._full)
            except CopyError as failed:
                self._differ(one.path, "error", str(failed))
                continue
            if not same:
                self._differ(one.path, "content", "same size, other content")
            elif one.info is not None:
                self._result.same += 1
                self._result.bytes += one.info.size

    def _differ(
        self,
        path: str,
        kind: Literal["missing", "extra", "size", "content", "error"],
        reason: str,
    ) -> None:
        self._result.differences.append(Difference(path, kind, reason))


async def _renamed(entries: AsyncGenerator[Entry], name: str) -> AsyncGenerator[Entry]:
    async with aclosing(entries):
        async for entry in entries:
            yield replace(entry, path=name)
