"""A pipeline: the providers that are assigned to it, and what they are asked to make."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ...providers.registry import (
    NotFoundError,
    PermissionDeniedError,
    ProviderRegistry,
)
from ...providers.registry.errors import nearest_first
from ..sync import Place, parse_place
from .batch import Batch, Task
from .jobs import Job
from .kept import Kept
from .result import BatchResult, Estimate, Observer

if TYPE_CHECKING:
    from ...containers import ApplicationContainer

__all__ = ["Assigned", "Pipeline"]


@dataclass(frozen=True, slots=True)
class Assigned:
    """A provider that a pipeline may use: its name, what callers hold, and what is known of it."""

    family: str
    name: str
    handle: Any
    type: str
    capabilities: frozenset[str]
    config: BaseModel | None = field(repr=False, default=None)

    def settings(self, names: Iterable[str]) -> dict[str, Any]:
        """Return those of its settings that are set and named here, JSON-safe."""
        if self.config is None:
            return {}
        return self.config.model_dump(mode="json", include=set(names), exclude_none=True)


class Pipeline:
    """
    Makes many pictures and recordings, with the providers whose ``pipelines`` name it.

    Args:
        name: As the providers' ``pipelines`` setting has it; those with ``*`` serve all.
        container: Gives the providers.
        keep: Where results are kept, so that a batch that was interrupted goes on where it was: a
            place as ``sync`` takes them, ``NAME:key``, ``:key`` or a folder. None keeps nothing.
        concurrency: Items under way at most.
    """

    def __init__(
        self,
        name: str,
        container: ApplicationContainer,
        *,
        keep: str | os.PathLike[str] | Place | None = ":pipelines/",
        concurrency: int = 4,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}: it must be at least 1")
        self.name = name
        self.concurrency = concurrency
        self._container = container
        self._keep = None if keep is None else parse_place(keep)

    # -- whom it may ask -----------------------------------------------------------------

    def names(self, family: str) -> Sequence[str]:
        """Return the names of the providers that are assigned to it, A to Z."""
        return self._registry(family).names(pipeline=self.name)

    def provider(self, family: str, name: str | None = None) -> Assigned:
        """
        Return a provider that is assigned to the pipeline.

        Without a name it is the family's default, if that is assigned to it; else the assigned
        one of the highest priority.

        Raises:
            NotFoundError: There is none of that name, or none is assigned to the pipeline.
            PermissionDeniedError: It is not assigned to the pipeline.
            InvalidConfigError: The settings name it, but have faults.
        """
        registry = self._registry(family)
        if name is None:
            name = self._preferred(family)
        elif registry.has(name) and not registry.serves(name, self.name):
            raise PermissionDeniedError(
                f"Pipeline {self.name!r}: the {family} provider {name!r} is not assigned to it. "
                f"{self._has(family, name)} Add {self.name!r} to its pipelines setting.",
                name,
                {"pipeline": self.name},
            )
        try:
            handle = getattr(self._container, registry.family.name)(name)
        except NotFoundError as error:
            raise NotFoundError(
                f"Pipeline {self.name!r}: {error.message} {self._has(family, name)}",
                name,
                {**error.context, "pipeline": self.name},
            ) from None
        if registry.handles.get(name) is not handle:  # it is overridden
            capabilities = frozenset[str](getattr(handle, "capabilities", ()))
            kind, config = type(handle).__name__, getattr(handle, "config", None)
            return Assigned(registry.family.name, name, handle, kind, capabilities, config)
        info = registry.info(name)
        return Assigned(
            registry.family.name,
            name,
            handle,
            info.type or type(handle).__name__,
            info.capabilities,
            registry.config(name),
        )

    def _preferred(self, family: str) -> str:
        registry = self._registry(family)
        try:
            name = registry.default_name()
            if registry.serves(name, self.name):
                return name
        except NotFoundError:
            pass
        for name in registry.find_by_capability():
            if registry.serves(name, self.name):
                return name
        assigned = self.names(family)
        if assigned:  # their settings have faults, which selecting one tells
            return assigned[0]
        there_are = ", ".join(registry.names())
        raise NotFoundError(
            f"Provider not found: no {family} provider is assigned to the pipeline {self.name!r}. "
            + (
                f"Add it to the pipelines setting of one of them: {there_are}."
                if there_are
                else f"There is none yet: set PURVEYOR_{family.upper()}__PROVIDERS__<NAME>__TYPE."
            ),
            context={"pipeline": self.name},
        )

    def _registry(self, family: str) -> ProviderRegistry[Any]:
        return getattr(self._container, self._container.types().family(family).name).registry

    def _has(self, family: str, near: str) -> str:
        names = nearest_first(near, self.names(family))
        return f"The pipeline has these {family} providers: {', '.join(names) or 'none'}."

    # -- what it is asked for ------------------------------------------------------------

    async def estimate(self, jobs: Sequence[Job]) -> Estimate:
        """
        Return what a batch will cost; no service is asked.

        Raises:
            RegistryError: A job's provider is not to be had, or the place of what is kept.
        """
        async with AsyncExitStack() as stack:
            kept = await self._open(stack)
            return await self._estimate(jobs, kept)

    async def _estimate(self, jobs: Sequence[Job], kept: Kept | None) -> Estimate:
        tasks = self._tasks(jobs)
        calls: dict[str, int] = {}
        cost, unknown, there = Decimal(0), 0, 0
        known: dict[str, bool] = {}
        for task in tasks:
            if task.digest not in known:
                known[task.digest] = kept is not None and task.keeps and await kept.has(task.digest)
                if not known[task.digest]:
                    calls[task.provider.name] = calls.get(task.provider.name, 0) + 1
                    price = task.price()
                    cost, unknown = cost + (price or 0), unknown + (price is None)
            there += known[task.digest]
        return Estimate(len(tasks), there, calls, cost, unknown)

    async def run(
        self,
        jobs: Sequence[Job],
        *,
        max_cost: Decimal | None = None,
        observer: Observer | None = None,
    ) -> BatchResult:
        """
        Make what the jobs ask for, many at a time.

        An item that fails is a row of the result, and stops no other. A provider that takes no
        more (its quota is used up, its key refused, its circuit breaker open) is asked no
        further: its other items are not done. When the batch is cancelled, what was made is kept.

        Args:
            jobs: What to make; what several ask for alike is made once.
            max_cost: What it may cost, in the currency of the prices. Before it would cost more
                it ends: what is left is not done. Where a price is not known before, items are
                made one at a time, so that the last one alone may exceed it.
            observer: Called with each event, at once, on the event loop. One that raises is
                logged; the batch goes on.

        Returns:
            One result for each job, in their order.

        Raises:
            RegistryError: A job's provider is not to be had, or the place of what is kept; then
                nothing was asked for.
            OSError: A job's file cannot be written; nothing was asked for.
        """
        async with self.batch(max_cost=max_cost, observer=observer) as batch:
            return BatchResult(await batch.run(jobs), batch.warnings)

    @asynccontextmanager
    async def batch(
        self, *, max_cost: Decimal | None = None, observer: Observer | None = None
    ) -> AsyncGenerator[Batch]:
        """
        Give a batch whose jobs come little by little; the arguments are those of :meth:`run`.

        The limit holds for all of them together, and a provider that takes no more is asked no
        further by any of them.
        """
        async with AsyncExitStack() as stack:
            kept = await self._open(stack)
            yield Batch(self._tasks, kept, self.concurrency, max_cost, observer)

    async def _open(self, stack: AsyncExitStack) -> Kept | None:
        return None if self._keep is None else await Kept.open(self._keep, self, stack)

    def _tasks(self, jobs: Sequence[Job]) -> list[Task]:
        providers: dict[tuple[str, str | None], Assigned] = {}
        tasks: list[Task] = []
        for job in jobs:
            whom = (job.family, job.provider)
            if whom not in providers:
                providers[whom] = self.provider(*whom)
            assigned = providers[whom]
            digest = _digest(job, assigned)
            tasks.append(Task(job, assigned, digest, job.may_be_kept(assigned.capabilities)))
        return tasks


def _digest(job: Job, assigned: Assigned) -> str:
    """Return the digest of what is asked for, and of whom."""
    asked: Mapping[str, Any] = {
        "version": 1,
        "family": job.family,
        "provider": assigned.name,
        "type": assigned.type,
        "wish": {**assigned.settings(job.matters), **job.wish()},
    }
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
