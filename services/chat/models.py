"""The models that can be asked, by the names they are asked by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...containers import ApplicationContainer
from ...providers.ai import ModelInfo
from ...providers.ai.local import LocalConfig
from ...providers.registry import ProviderInfo, Status
from ...providers.registry.cache import TTLCache

__all__ = ["ListedModel", "ModelList"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListedModel:
    """
    A name by which a model can be asked: ``PROVIDER`` or ``PROVIDER:MODEL``.

    Args:
        id: The name.
        provider: The provider.
        created: Since when there is that model, or that provider (UTC).
    """

    id: str
    provider: str
    created: datetime | None


class ModelList:
    """
    Lists the names by which models can be asked.

    Those are the providers' own, aliases and failover groups among them, and the models of each
    service that lists them. A service that does not answer in time, or answers with an error, is
    left out, and fails nothing; its answer, or that there was none, holds for a while. How long
    that is, and how long a service has, say the settings ``chat.models_*``.

    Args:
        container: Has the AI providers and the settings.
    """

    def __init__(self, container: ApplicationContainer) -> None:
        settings = container.settings().chat
        self._container = container
        self._timeout = settings.models_timeout
        self._known: TTLCache[tuple[str, datetime | None], Sequence[ModelInfo]] = TTLCache(
            settings.models_age
        )

    async def all(self) -> Sequence[ListedModel]:
        """Return all names, by provider; asks the services at the same time."""
        registry = self._container.ai.registry
        providers = registry.list()
        asked = await asyncio.gather(*map(self._models, providers))
        listed: list[ListedModel] = []
        for provider, models in zip(providers, asked, strict=True):
            since = provider.registered_at
            listed.append(ListedModel(provider.name, provider.name, since))
            listed += [
                ListedModel(f"{provider.name}:{one.id}", provider.name, one.created or since)
                for one in models
            ]
        return listed

    async def get(self, id: str) -> ListedModel | None:
        """Return a name if it is one of :meth:`all`; asks the one service at most."""
        name, colon, model = id.partition(":")
        for provider in self._container.ai.registry.list():
            if provider.name != name:
                continue
            if not colon:
                return ListedModel(id, name, provider.registered_at)
            for one in await self._models(provider):
                if one.id == model:
                    return ListedModel(id, name, one.created or provider.registered_at)
        return None

    async def _models(self, provider: ProviderInfo) -> Sequence[ModelInfo]:
        async def ask() -> Sequence[ModelInfo]:
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._container.ai(provider.name).models()
            except Exception as error:
                logger.info("The models of %s are not listed: %s", provider.name, error)
                return ()

        if self._is_left_out(provider):
            return ()
        return await self._known.get_or_make((provider.name, provider.registered_at), ask)

    def _is_left_out(self, provider: ProviderInfo) -> bool:
        """Tell whether a provider's models are others' too, or cost the start of a program."""
        config: Any = self._container.ai.registry.config(provider.name)
        if isinstance(config, LocalConfig) and config.command:
            return provider.status is not Status.READY
        return provider.type in ("alias", "failover")
