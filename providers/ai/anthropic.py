"""Anthropic: the Claude models, through the Messages interface."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Self, Unpack
from urllib.parse import urlsplit

from pydantic import Field

from ..registry.errors import InvalidStateError, UnsupportedCapabilityError
from ..registry.provider import operation
from ..registry.redaction import MASK
from ..web.transport import Answer, Transport
from .anthropic_errors import explain
from .anthropic_messages import MessageReducer, body_of, completion_of, countable
from .base import AIConfig, AIProvider, Request
from .errors import AccessDeniedError, AuthenticationError, BadResponseError, ServiceError
from .model import Chunk, Completion, ModelInfo, Prompt, RequestOptions
from .wire import ClientWire, TransportWire, Wire, chunks_of

__all__ = ["AnthropicConfig", "AnthropicProvider"]

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
MODELS = "/v1/models"
OWN_HOST = "api.anthropic.com"
PAGE = 1000
OWN_FIELDS = frozenset(("id", "display_name", "created_at", "type"))


class AnthropicConfig(AIConfig):
    """Where Anthropic is, and which version of its interface is spoken."""

    base_url: str = Field(
        default=f"https://{OWN_HOST}", description="Address of the service, before /v1."
    )
    version: str = Field(
        default="2026-10-21",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="The version of the interface: the header anthropic-version.",
    )


class AnthropicProvider(AIProvider[AnthropicConfig]):
    """
    The models of Anthropic, or of a service that speaks as it does.

    What stands on the wire is in :mod:`.anthropic_messages`; what is particular to the service in
    docs/anthropic.md.
    """

    _calls: Mapping[str, Callable[..., Any]] | None = None

    def __init__(self, config: AnthropicConfig) -> None:
        super().__init__(config)
        self._wire: Wire | None = None

    @classmethod
    def from_client(cls, client: Any, config: AnthropicConfig | None = None) -> Self:
        """
        Return a provider that goes through a client of the ``anthropic`` library.

        Its address, login, version and timeouts hold, whatever the settings say of those; so
        services with a login of their own can be had. Nothing is sent again, by it or by
        Purveyor. Closing the provider leaves it open.

        Args:
            client: An ``AsyncAnthropic``, ``AsyncAnthropicBedrock``, ``AsyncAnthropicVertex`` or
                the like.
            config: The settings: the model, the prices and so on; ``version`` is the one the
                client sends.
        """
        provider = cls(config or AnthropicConfig())
        once = client.with_options(max_retries=0)
        calls = {MESSAGES: once.messages.create, COUNT_TOKENS: once.messages.count_tokens}
        provider._calls = {**calls, MODELS: once.models.list} if hasattr(once, "models") else calls
        return provider

    async def _connect(self) -> None:
        config = self.config
        if self._calls is not None:
            self._wire = ClientWire(self._calls, self._explain)
            return
        if not self._key and urlsplit(config.base_url).hostname == OWN_HOST:
            raise AuthenticationError(
                "There is no key for Anthropic: set api_key, or the variable ANTHROPIC_API_KEY "
                "where environment discovery is on."
            )
        # The newer way, Authorization: Bearer, is not known to all that speak the protocol.
        key = {"x-api-key": self._key} if self._key else {}
        headers = {**key, "anthropic-version": config.version}
        self._wire = TransportWire(
            Transport(config, headers=lambda: headers, explain=self._explain, extra="anthropic")
        )

    async def _close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def check_health(self) -> None:
        """
        List one model, which is free; a key that may not do so has reached the service as well.

        A client that cannot list them is asked nothing.
        """
        if self._has_models:
            with suppress(AccessDeniedError):
                await self._connected().get(MODELS, limit=1)

    @operation
    async def models(self) -> Sequence[ModelInfo]:
        """
        Return the models the service has for this key, the newest first.

        Raises:
            UnsupportedCapabilityError: It goes through a client that has no such list.
        """
        if not self._has_models:
            raise UnsupportedCapabilityError(
                "The client this provider goes through has no list of models: see the service's "
                "own documentation."
            )
        found: list[ModelInfo] = []
        after: dict[str, str] = {}
        while True:
            page = await self._connected().get(MODELS, limit=PAGE, **after)
            try:
                found += [_model(row) for row in page["data"]]
            except (KeyError, TypeError, ValueError):
                raise BadResponseError(
                    "The service's list of models is not what the protocol says. Check base_url."
                ) from None
            last = page.get("last_id")
            if not page.get("has_more") or not last or last == after.get("after_id"):
                return found
            after = {"after_id": str(last)}

    @operation
    async def count_tokens(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> int:
        """Return how many tokens a prompt has for its model, as the service estimates it; free."""
        body = countable(body_of(self._request(prompt, options), self.config.version))
        counted = (await self._connected().complete(COUNT_TOKENS, body)).get("input_tokens")
        if not isinstance(counted, int):
            raise BadResponseError("The service counted no tokens. Check base_url.")
        return counted

    async def _complete(self, request: Request) -> Completion:
        body = body_of(request, self.config.version)
        return completion_of(await self._connected().complete(MESSAGES, body))

    def _stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        body = {**body_of(request, self.config.version), "stream": True}
        return chunks_of(self._connected().stream(MESSAGES, body), MessageReducer())

    # -- the way there -------------------------------------------------------------------

    def _connected(self) -> Wire:
        if self._wire is None:
            raise InvalidStateError(
                f"This {type(self).__name__} is not connected: use it with `async with`, or "
                "take it from a container."
            )
        return self._wire

    @property
    def _has_models(self) -> bool:
        return self._calls is None or MODELS in self._calls

    @property
    def _key(self) -> str:
        key = self.config.api_key
        return key.get_secret_value() if key is not None else ""

    def _explain(self, answer: Answer) -> ServiceError:
        if self._key:  # a service may quote it
            body = answer.body.replace(self._key.encode(), MASK.encode())
            answer = Answer(answer.status, answer.headers, body)
        return explain(answer)


def _model(row: Mapping[str, Any]) -> ModelInfo:
    created = row.get("created_at")
    return ModelInfo(
        id=row["id"],
        name=row.get("display_name") or "",
        created=datetime.fromisoformat(created) if created else None,
        details={name: value for name, value in row.items() if name not in OWN_FIELDS},
    )
