"""A batch under way: many items at a time, within a cost limit, each result kept at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ...providers.media.files import check_target, write_file
from ...providers.registry import (
    CircuitOpenError,
    ConnectionFailedError,
    CreationFailedError,
    ImportFailedError,
    InvalidConfigError,
    OperationTimeoutError,
    RegistryError,
    ShuttingDownError,
)
from ...providers.web.errors import (
    ApplicationNotRunningError,
    AuthenticationError,
    BadResponseError,
    QuotaExhaustedError,
)
from .errors import PipelineError
from .jobs import Job, Product
from .kept import Kept
from .result import BatchEvent, ItemFinished, ItemOutcome, ItemResult, ItemStarted, Observer

if TYPE_CHECKING:
    from .pipeline import Assigned

__all__ = ["Batch", "Task"]

logger = logging.getLogger(__name__)

_TAKES_NO_MORE = (
    ApplicationNotRunningError,
    AuthenticationError,
    CircuitOpenError,
    CreationFailedError,
    ImportFailedError,
    InvalidConfigError,
    QuotaExhaustedError,
    ShuttingDownError,
)
"""After these the next item would fail alike."""


_MAY_BE_PAID = (BadResponseError, ConnectionFailedError, OperationTimeoutError)
"""After these nobody knows whether the service has done its work, and will be paid."""


@dataclass(frozen=True, slots=True)
class Task:
    """A job, whom it is for, what tells its result apart, and whether that may be kept."""

    job: Job
    provider: Assigned
    digest: str
    keeps: bool

    def price(self) -> Decimal | None:
        """Return what it will cost, None where nobody knows."""
        try:
            return self.job.price(self.provider.handle)
        except RegistryError:  # told when it is made
            return None


class NotDoneError(Exception):
    """Within a batch: an item is not tried."""

    def __init__(self, error: RegistryError) -> None:
        super().__init__(error.message)
        self.error = error


class Batch:
    """
    One batch; see :meth:`~purveyor.services.pipelines.Pipeline.run`.

    Args:
        tasks: Finds the providers of jobs.
        kept: Where results are kept, None for nowhere.
        concurrency: Items under way at most.
        max_cost: What it may cost in all.
        observer: Hears of each item.
    """

    def __init__(
        self,
        tasks: Callable[[Sequence[Job]], list[Task]],
        kept: Kept | None,
        concurrency: int,
        max_cost: Decimal | None,
        observer: Observer | None,
    ) -> None:
        self.spent = Decimal(0)
        """What it cost so far, as far as that is known."""
        self.warnings: list[str] = []
        self._tasks = tasks
        self._kept = kept
        self._concurrency = concurrency
        self._limit = max_cost
        self._observer = observer
        self._reserved = self._lost = Decimal(0)
        self._reached = False
        self._one_at_a_time = asyncio.Semaphore(1)
        self._ended: dict[str, RegistryError] = {}
        """Why a provider is asked no further."""
        self._done = self._total = 0

    async def run(self, jobs: Sequence[Job]) -> list[ItemResult]:
        """
        Make what the jobs ask for; return one result for each, in their order.

        Raises:
            RegistryError: A job's provider is not to be had.
            OSError: A job's file cannot be written; nothing was asked for.
        """
        tasks = self._tasks(jobs)
        alike: dict[str, list[int]] = {}
        for index, task in enumerate(tasks):
            if task.job.path is not None:
                check_target(task.job.path)
            alike.setdefault(task.digest, []).append(index)
        self._total += len(tasks)
        results: dict[int, ItemResult] = {}

        async def work(groups: Iterable[list[int]]) -> None:
            for indexes in groups:  # shared by all: each takes the next one
                found = await self._result(tasks[indexes[0]])
                for number, index in enumerate(indexes):
                    results[index] = await self._delivered(tasks[index], found, again=number > 0)

        groups = iter(alike.values())
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(alike))):
                group.create_task(work(groups))
        return [results[index] for index in range(len(tasks))]

    # -- one item ------------------------------------------------------------------------

    async def _result(self, task: Task) -> ItemResult:
        made = ItemResult(task.job.key, ItemOutcome.MADE, task.provider.name, task.digest)
        kept = self._kept if task.keeps else None
        try:
            product = await kept.get(task.digest) if kept is not None else None
        except RegistryError as error:  # the storage's, not the provider's
            return _without(made, ItemOutcome.FAILED, error)
        try:
            if product is not None:
                return replace(made, outcome=ItemOutcome.KEPT, product=product)
            product, cost = await self._made(task)
        except NotDoneError as not_done:
            return _without(made, ItemOutcome.NOT_DONE, not_done.error)
        except Exception as error:  # a fault of one item, whatever it is, ends no other
            return _without(made, ItemOutcome.FAILED, self._noted(task, error))
        if kept is not None:
            try:
                await _even_if_cancelled(kept.put(task.digest, product))
            except Exception as error:  # what was made is there all the same
                self._warn(f"{task.job.key} was made and could not be kept: {error}")
        return replace(made, product=product, cost=cost)

    async def _made(self, task: Task) -> tuple[Product, Decimal | None]:
        """Return what was made and what it cost."""
        price = task.price()
        async with self._allowed(task, price):
            self._tell(ItemStarted(task.job.key, task.provider.name))
            try:
                product = await task.job.make(task.provider.handle)
            except _MAY_BE_PAID as error:
                if not isinstance(error, ApplicationNotRunningError):
                    self._lost += price or 0
                raise
            cost = price if product.cost is None else product.cost
            self.spent += cost or 0
            if cost is None and self._limit is not None:
                self._end(
                    task.provider.name,
                    PipelineError(
                        "COST_UNKNOWN",
                        f"Provider {task.provider.name!r} does not tell what a picture costs, so "
                        "that the cost limit cannot be held. Set its prices, or leave out the "
                        "limit.",
                        task.provider.name,
                    ),
                )
            return product, cost

    @asynccontextmanager
    async def _allowed(self, task: Task, price: Decimal | None) -> AsyncGenerator[None]:
        """
        Let an item be made if its provider is to be asked, and it can be paid.

        Raises:
            NotDoneError: It is not, or cannot.
        """
        if price is None and self._limit is not None:
            async with self._one_at_a_time:
                too_much = self.spent + self._lost + self._reserved >= self._limit
                self._check(task, free=False, too_much=too_much)
                yield
            return
        reserved = price or Decimal(0)
        after = self.spent + self._lost + self._reserved + reserved
        too_much = self._limit is not None and after > self._limit
        self._check(task, free=not reserved, too_much=bool(reserved) and too_much)
        self._reserved += reserved
        try:
            yield
        finally:
            self._reserved -= reserved

    def _check(self, task: Task, *, free: bool, too_much: bool) -> None:
        if task.provider.name in self._ended:
            raise NotDoneError(self._ended[task.provider.name])
        self._reached = self._reached or too_much
        if self._reached and not free:
            raise NotDoneError(
                PipelineError(
                    "COST_LIMIT",
                    f"The cost limit of {self._limit} is reached. Raise it, and run the batch "
                    "again to go on.",
                )
            )

    def _noted(self, task: Task, error: Exception) -> RegistryError:
        """Return an item's error as one with a code, and end its provider if need be."""
        if isinstance(error, RegistryError):
            if isinstance(error, _TAKES_NO_MORE):
                self._end(task.provider.name, error)
            return error
        logger.error("Item %s of a batch failed", task.job.key, exc_info=error)
        return PipelineError("ITEM_FAILED", f"{type(error).__name__}: {error}")

    def _end(self, provider: str, error: RegistryError) -> None:
        if provider not in self._ended:
            self._ended[provider] = error
            self._warn(f"Provider {provider!r} was asked no further: {error.message}")

    # -- telling -------------------------------------------------------------------------

    async def _delivered(self, task: Task, found: ItemResult, *, again: bool) -> ItemResult:
        """Return a result for one of the jobs that asked for it alike, its file written."""
        result = replace(found, key=task.job.key)
        if again and found.outcome is ItemOutcome.MADE:
            result = replace(result, outcome=ItemOutcome.KEPT, cost=Decimal(0))
        product, path = result.product, task.job.path
        if product is not None and path is not None:
            try:
                await write_file(path, product.data)
                result = replace(result, product=replace(product, data=b"", path=path))
            except OSError as error:
                result = _without(result, ItemOutcome.FAILED, _not_written(error))
        self._done += 1
        self._tell(ItemFinished(result, self._done, self._total, self.spent))
        return result

    def _tell(self, event: BatchEvent) -> None:
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception:
            logger.exception("The observer of a batch raised; the batch goes on")

    def _warn(self, text: str) -> None:
        logger.warning("%s", text)
        self.warnings.append(text)


def _not_written(error: OSError) -> PipelineError:
    return PipelineError("NOT_WRITTEN", f"The file cannot be written: {error}")


async def _even_if_cancelled(work: Coroutine[Any, Any, None]) -> None:
    """Do what must be done; who is cancelled meanwhile is so afterwards."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody else will ask for it
        raise


def _without(result: ItemResult, outcome: ItemOutcome, error: RegistryError) -> ItemResult:
    return replace(result, outcome=outcome, product=None, code=error.code, reason=error.message)
