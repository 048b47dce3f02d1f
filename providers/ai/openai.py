"""OpenAI's models, and whatever speaks its protocol: chat completions at any address."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field

from ..registry.errors import InvalidStateError
from ..registry.provider import operation
from ..registry.redaction import MASK
from ..web.openai import explain
from ..web.transport import Answer, Transport
from .base import AIConfig, AIProvider, Request
from .errors import AccessDeniedError, AuthenticationError, ServiceError
from .model import Chunk, Completion, ModelInfo
from .openai_chat import ChatReducer, body_of, completion_of, models_of
from .wire import ClientWire, TransportWire, Wire, chunks_of

__all__ = ["OpenAIConfig", "OpenAIProvider"]

CHAT = "/chat/completions"
MODELS = "/models"
OWN_HOST = "api.openai.com"

OpenAIConfigT = TypeVar("OpenAIConfigT", bound="OpenAIConfig")


class OpenAIConfig(AIConfig):
    """Where the models are, and whose they are."""

    base_url: str = Field(
        default=f"https://{OWN_HOST}/v1",
        description="Address of the service; of a compatible one it usually ends with /v1 too.",
    )
    organization: str | None = Field(
        default=None, description="The organization that pays, where a key has several."
    )
    project: str | None = Field(
        default=None, description="The project that pays, where a key has several."
    )
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = Field(
        default="max_completion_tokens",
        description="What the service calls the limit of an answer; older servers: max_tokens.",
    )
    stream_usage: bool = Field(
        default=True,
        description="Whether streams are asked for their usage; off for servers that refuse it.",
    )


class ChatProvider(AIProvider[OpenAIConfigT]):
    """What every type has that speaks OpenAI's chat completions."""

    remedy: ClassVar[str] = "Start it, or correct base_url."

    def __init__(self, config: OpenAIConfigT) -> None:
        super().__init__(config)
        self._wire: Wire | None = None
        self._key = "" if config.api_key is None else config.api_key.get_secret_value()

    async def _connect(self) -> None:
        self._wire = self._transport(self.config)

    async def _close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def check_health(self) -> None:
        """List the models, which is free; a key that may not list them has reached it as well."""
        try:
            await self._connected().get(MODELS)
        except AccessDeniedError:
            return

    @operation
    async def models(self) -> Sequence[ModelInfo]:
        """Return the models the service has for this key."""
        return models_of(await self._connected().get(MODELS))

    async def _complete(self, request: Request) -> Completion:
        return completion_of(await self._connected().complete(CHAT, self._body(request)))

    def _stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        body = self._body(request, stream=True)
        return chunks_of(self._connected().stream(CHAT, body), ChatReducer())

    # -- the way there -------------------------------------------------------------------

    def _body(self, request: Request, *, stream: bool = False) -> dict[str, Any]:
        return body_of(
            request,
            stream=stream,
            max_tokens_field=self.config.max_tokens_field,
            stream_usage=self.config.stream_usage,
        )

    def _connected(self) -> Wire:
        if self._wire is None:
            raise InvalidStateError(
                f"This {type(self).__name__} is not connected: use it with `async with`, or "
                "take it from a container."
            )
        return self._wire

    def _transport(self, config: OpenAIConfig) -> Wire:
        return TransportWire(
            Transport(
                config,
                headers=lambda: self._headers,
                explain=self._explain,
                extra="openai",
                remedy=self.remedy,
            )
        )

    @property
    def _headers(self) -> Mapping[str, str]:
        config = self.config
        given = {
            "Authorization": f"Bearer {self._key}" if self._key else None,
            "OpenAI-Organization": config.organization,
            "OpenAI-Project": config.project,
        }
        return {name: value for name, value in given.items() if value}

    def _explain(self, answer: Answer) -> ServiceError:
        if self._key:  # a service may quote it
            body = answer.body.replace(self._key.encode(), MASK.encode())
            answer = Answer(answer.status, answer.headers, body)
        return explain(answer)


class OpenAIProvider(ChatProvider[OpenAIConfig]):
    """The models of OpenAI, or of a service that speaks its protocol."""

    _calls: Mapping[str, Callable[..., Any]] | None = None

    @classmethod
    def from_client(cls, client: Any, config: OpenAIConfig | None = None) -> Self:
        """
        Return a provider that goes through a client of the ``openai`` library.

        Its address, login and timeouts hold, whatever the settings say of those; so services
        with a login of their own can be had. Nothing is sent again, by it or by Purveyor. Closing
        the provider leaves it open.

        Args:
            client: An ``AsyncOpenAI``, ``AsyncAzureOpenAI`` or the like.
            config: The settings: the model, the prices and so on.
        """
        provider = cls(config or OpenAIConfig())
        once = client.with_options(max_retries=0)
        provider._key = str(getattr(client, "api_key", ""))
        provider._calls = {CHAT: once.chat.completions.create, MODELS: once.models.list}
        return provider

    async def _connect(self) -> None:
        config = self.config
        if self._calls is not None:
            self._wire = ClientWire(self._calls, self._explain)
            return
        if not self._key and urlsplit(config.base_url).hostname == OWN_HOST:
            raise AuthenticationError(
                "There is no key for OpenAI: set api_key, or the variable OPENAI_API_KEY where "
                "environment discovery is on."
            )
        await super()._connect()
