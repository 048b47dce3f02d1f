"""AI providers that say what they were asked, for what stands before real ones."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Unpack

from purveyor.providers.ai import (
    AIConfig,
    AIProvider,
    Chunk,
    Completion,
    FinishReason,
    ModelInfo,
    Prompt,
    RequestOptions,
    Usage,
)
from purveyor.providers.ai.base import Request
from purveyor.providers.ai.types import AI_TYPES
from purveyor.providers.families import FAILOVER_TYPES, FAMILIES
from purveyor.providers.registry import ProviderTypes, register_provider


class ParrotConfig(AIConfig):
    base_url: str = "http://127.0.0.1:1"


class Parrot(AIProvider[ParrotConfig]):
    """Says which model it is, unless it is to fail."""

    family = "ai"

    def __init__(self, config: ParrotConfig) -> None:
        super().__init__(config)
        self.asked: list[Request] = []
        self.errors: deque[Exception] = deque()
        """What the next calls fail with, and the next health checks."""
        self.breaks_off: Exception | None = None
        """What a stream fails with after its first piece."""
        self.checks = 0

    def _ask(self, request: Request) -> Completion:
        self.asked.append(request)
        if self.errors:
            raise self.errors.popleft()
        return Completion(request.model, request.model, FinishReason.STOP, Usage(1_000_000, 0))

    async def _complete(self, request: Request) -> Completion:
        return self._ask(request)

    async def _stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        answer = self._ask(request)
        yield Chunk(answer.text)
        if self.breaks_off is not None:
            raise self.breaks_off
        yield Chunk(completion=answer)

    async def models(self) -> Sequence[ModelInfo]:
        return [ModelInfo(self.config.model)]

    async def count_tokens(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> int:
        return len(self._request(prompt, options).model)

    async def check_health(self) -> None:
        self.checks += 1
        if self.errors:
            raise self.errors.popleft()


class Seeing(Parrot):
    """A parrot with eyes."""


def parrot_types() -> ProviderTypes:
    """Return a catalogue with the parrots and the types that are made of others."""
    catalogue = ProviderTypes(scan_entry_points=False)
    for family in FAMILIES:
        catalogue.add_family(family)
    for row in (*AI_TYPES, *FAILOVER_TYPES):
        if row.family == "ai" and row.name in ("alias", "failover"):
            catalogue.add(row)
    register_provider("parrot", types=catalogue, capabilities={"streaming"})(Parrot)
    register_provider("seeing", types=catalogue, capabilities={"streaming", "vision"})(Seeing)
    return catalogue


def instance_of(handle: Any) -> Parrot:
    """Return the parrot behind its guard."""
    found = handle._guard.peek()
    assert isinstance(found, Parrot)
    return found
