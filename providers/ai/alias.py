"""An alias: a provider and a model of it under one name, with defaults of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Unpack, cast

from pydantic import Field

from ...settings.branches import Count, Factor
from ..registry.errors import InvalidConfigError, NotFoundError, RegistryError
from ..registry.metadata import HealthStatus
from ..registry.provider import Composite, ProviderConfig, operation
from .base import AIProvider
from .model import Chunk, Completion, ModelInfo, Prompt, RequestOptions

__all__ = ["AliasAI", "AliasConfig"]


class AliasConfig(ProviderConfig):
    """Whom an alias asks, and for what where a call does not say."""

    provider: str = Field(min_length=1, description="The provider that is asked.")
    model: str = Field(
        default="", description="The model that is asked; the provider's own when not given."
    )
    max_tokens: Count | None = Field(
        default=None, ge=1, description="Tokens of an answer at most where a call does not say."
    )
    temperature: Annotated[Factor, Field(ge=0)] | None = Field(
        default=None, description="How freely the model chooses where a call does not say."
    )
    system: str = Field(
        default="", description="Instructions above the conversation where a call gives none."
    )

    @property
    def defaults(self) -> RequestOptions:
        """What a call is given that does not say otherwise."""
        given = {
            "model": self.model or None,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "system": self.system or None,
        }
        return cast(RequestOptions, {key: one for key, one in given.items() if one is not None})


class AliasAI(Composite[AliasConfig], AIProvider[AliasConfig]):
    """
    Another provider by a name of its own, asked for a model and with defaults of its own.

    What a call says itself comes before them. All else is the provider's: its errors, its health,
    its capabilities, its circuit breaker, what it costs.
    """

    @classmethod
    def members_of(cls, config: AliasConfig) -> Sequence[str]:
        """Return the name of the provider."""
        return (config.provider,)

    @property
    def capabilities(self) -> frozenset[str]:
        """What the provider can do, if it is there; connects nothing."""
        try:
            siblings = self._siblings
            return siblings.info(self.config.provider).capabilities if siblings else frozenset()
        except RegistryError:  # told when it is needed
            return frozenset()

    async def check_health(self) -> HealthStatus | None:
        """Ask the provider for its health."""
        return await self._provider.check_health()

    @operation
    async def complete(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Completion:
        """Return the answer; see :meth:`AIProvider.complete`."""
        return await self._provider.complete(prompt, **{**self.config.defaults, **options})

    @operation
    async def stream(
        self, prompt: Prompt, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[Chunk]:
        """Yield the answer as it comes; see :meth:`AIProvider.stream`."""
        chunks = self._provider.stream(prompt, **{**self.config.defaults, **options})
        async with aclosing(cast(Any, chunks)):
            async for chunk in chunks:
                yield chunk

    @operation
    async def models(self) -> Sequence[ModelInfo]:
        """Return the models the provider has."""
        return await self._provider.models()

    @operation
    async def count_tokens(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> int:
        """Return how many tokens a prompt has; see :meth:`AIProvider.count_tokens`."""
        return await self._provider.count_tokens(prompt, **{**self.config.defaults, **options})

    @property
    def _provider(self) -> AIProvider[Any]:
        try:
            return self.member(self.config.provider)
        except NotFoundError as error:
            origin = f" ({self._siblings.info(self._name).origin})" if self._siblings else ""
            raise InvalidConfigError(
                f"Configuration invalid: alias {self._name!r}{origin} names a provider that is "
                f"not there. {error.message}",
                self._name,
                error.context,
            ) from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.config.provider}:{self.config.model}>"
