"""The AI interface: ask a model, whole or as a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Unpack

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from ...settings.branches import Count
from ..registry.errors import UnsupportedCapabilityError
from ..registry.provider import ConfigT, Provider, operation
from ..registry.types import default_types
from ..web.config import WebConfig, read_table
from .errors import InvalidOutputError, InvalidRequestError
from .model import (
    Chunk,
    Completion,
    Image,
    Message,
    ModelInfo,
    Prompt,
    RequestOptions,
    Schema,
    Text,
    Tool,
    ToolResult,
    Usage,
)

__all__ = ["AIConfig", "AIProvider", "Price", "Request"]

Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
MILLION = 1_000_000


class Price(BaseModel):
    """What a million tokens cost, in a currency of the operator's choice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Amount
    output: Amount
    cached: Amount | None = None

    def of(self, usage: Usage) -> Decimal:
        """Return what a call costs that used so much."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.input_tokens - usage.cached_tokens
        tokens = fresh * self.input + usage.cached_tokens * cached
        return (tokens + usage.output_tokens * self.output) / MILLION


class AIConfig(WebConfig):
    """The settings that every AI provider has."""

    api_key: SecretStr | None = None
    model: str = Field(default="", description="The model that is asked where a call names none.")
    max_tokens: Count | None = Field(
        default=None, ge=1, description="Tokens of an answer at most where a call does not say."
    )
    prices: dict[str, Price] = Field(
        default_factory=dict[str, Price],
        description="What a million tokens cost, by model: {NAME: {input, output, cached}}.",
    )

    @field_validator("prices", mode="before")
    @classmethod
    def _read_prices(cls, value: Any) -> Any:
        return read_table(value, '{"MODEL": {"input": 3, "output": 15}}')

    def price(self, model: str) -> Price | None:
        """Return what a model costs: the price of its name, or of ``*``."""
        return self.prices.get(model) or self.prices.get("*")


@dataclass(frozen=True, slots=True)
class Request:
    """
    What a provider type is asked, in order: checked, and completed from its settings.

    ``messages`` has no ``system`` turns: those are in ``system``, an empty text if there are none.
    ``schema`` is a JSON schema, ``answer_model`` the pydantic model it was made of, if it was.
    """

    model: str
    messages: Sequence[Message]
    system: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    stop: Sequence[str] = ()
    tools: Sequence[Tool] = ()
    tool_choice: str | None = None
    schema: Mapping[str, Any] | None = None
    answer_model: type[BaseModel] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, prompt: Prompt, options: RequestOptions, config: AIConfig) -> Request:
        """
        Return the request a call makes.

        Raises:
            InvalidRequestError: It says nothing, contradicts itself, or names no model.
        """
        unknown = options.keys() - RequestOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"There is no option {', '.join(sorted(unknown))}.")
        given: dict[str, Any] = {**options}
        model = given.pop("model", None) or config.model
        if not model:
            raise InvalidRequestError(
                "No model is named. Name one with the call, or set the provider's model."
            )
        turns = [Message("user", prompt)] if isinstance(prompt, str) else list(prompt)
        system = [given.pop("system", None) or ""]
        for turn in turns:
            if turn.role == "system":
                system += [part.text for part in turn.parts if isinstance(part, Text)]
        messages = [turn for turn in turns if turn.role != "system"]
        schema, answer_model = _schema_of(given.pop("schema", None))
        request = cls(
            model=model,
            messages=messages,
            system="\n\n".join(filter(None, system)),
            max_tokens=given.pop("max_tokens", config.max_tokens),
            schema=schema,
            answer_model=answer_model,
            **given,  # pyright: ignore[reportArgumentType] - the rest is named alike
        )
        request._check()
        return request

    def _check(self) -> None:
        def refuse(fault: str) -> None:
            raise InvalidRequestError(fault)

        if not self.messages:
            refuse("The prompt is empty: give a text, or at least one message of the user.")
        for message in self.messages:
            if not message.content:
                refuse(f"A message of the {message.role} is empty: leave it out, or fill it.")
        if self.max_tokens is not None and self.max_tokens < 1:
            refuse(f"max_tokens is {self.max_tokens}: it must be at least 1.")
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            refuse("Two tools have the same name: rename one of them.")
        if self.tool_choice is not None and not self.tools:
            refuse("tool_choice says which tool to use, and there are no tools: give tools=[...].")
        if self.tool_choice not in (None, "auto", "none", "required", *names):
            refuse(
                f"tool_choice {self.tool_choice!r} is no tool: give auto, none, required, or one "
                f"of {', '.join(names)}."
            )

    @property
    def has_images(self) -> bool:
        """Whether a picture is among the parts."""
        return any(isinstance(part, Image) for turn in self.messages for part in turn.parts)

    @property
    def has_tools(self) -> bool:
        """Whether tools are offered, or their results told."""
        told = any(isinstance(part, ToolResult) for turn in self.messages for part in turn.parts)
        return bool(self.tools) or told


class AIProvider(Provider[ConfigT]):
    """
    A service that completes prompts.

    Errors are those of :mod:`purveyor.providers.ai.errors`, whatever the service. A type
    implements ``_complete``, ``_stream`` and ``models``, from a :class:`Request` that is in order.
    """

    family: ClassVar[str] = "ai"

    @operation
    async def complete(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Completion:
        """
        Return the model's answer to ``prompt``.

        Args:
            prompt: A text, or a conversation.
            options: See :class:`RequestOptions`.

        Raises:
            InvalidRequestError: The service, the model or this interface does not take that.
            ContextTooLongError: The prompt is more than the model takes.
            ModelNotFoundError: The service has no such model.
            ContentRefusedError: The service refuses the content.
            InvalidOutputError: The model's tool call, or its answer to a schema, is unusable.
            UnsupportedCapabilityError: The type does not have what is asked for.
            ServiceError: Anything else the service, the key or the network is to blame for.
        """
        request = self._request(prompt, options)
        return self._finished(request, await self._complete(request))

    @operation
    async def stream(
        self, prompt: Prompt, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[Chunk]:
        """
        Yield the model's answer as it comes; the last chunk has it whole, in ``completion``.

        Args and errors are those of :meth:`complete`, and:

        Raises:
            StreamInterruptedError: It broke off; what had come is in ``partial``.
        """
        request = self._request(prompt, options)
        chunks = self._stream(request)
        try:
            async for chunk in chunks:
                if chunk.completion is None:
                    yield chunk
                else:
                    yield Chunk(chunk.text, self._finished(request, chunk.completion))
        finally:
            await chunks.aclose()

    @operation
    async def models(self) -> Sequence[ModelInfo]:
        """Return the models the service has for this key."""
        raise NotImplementedError

    @operation
    async def count_tokens(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> int:
        """
        Return how many tokens a prompt has, as the service counts them; free of charge.

        Raises:
            UnsupportedCapabilityError: The service does not count: no capability
                ``token-counting``.
        """
        raise self._unsupported("token-counting")

    # -- for types -----------------------------------------------------------------------

    async def _complete(self, request: Request) -> Completion:
        raise NotImplementedError

    def _stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        raise NotImplementedError

    def _unsupported(self, capability: str) -> UnsupportedCapabilityError:
        return UnsupportedCapabilityError(
            f"{type(self).__name__} does not have the capability {capability!r}. "
            f"Choose a provider that has it: purveyor providers find {capability}",
            context={"capability": capability},
        )

    # -- for all of them -----------------------------------------------------------------

    def _request(self, prompt: Prompt, options: RequestOptions) -> Request:
        config = self.config
        assert isinstance(config, AIConfig)  # noqa: S101 - failover and alias do not come here
        request = Request.of(prompt, options, config)
        row = default_types.of_class("ai", type(self))
        if row is not None:
            needs = {
                "vision": request.has_images,
                "tools": request.has_tools,
                "json-schema": request.schema is not None,
            }
            for capability, needed in needs.items():
                if needed and capability not in row.capabilities:
                    raise self._unsupported(capability)
        return request

    def _finished(self, request: Request, completion: Completion) -> Completion:
        """Complete an answer by what it costs and, with a schema, by what it says."""
        config = self.config
        assert isinstance(config, AIConfig)  # noqa: S101
        changes: dict[str, Any] = {}
        price = config.price(completion.model) or config.price(request.model)
        usage = completion.usage
        if price is not None and (usage.input_tokens or usage.output_tokens):
            changes["usage"] = replace(usage, cost=price.of(usage))
        if request.schema is not None and completion.data is None and not completion.tool_calls:
            changes["data"] = _read(request, completion)
        return replace(completion, **changes) if changes else completion


def _schema_of(
    given: Schema | None,
) -> tuple[Mapping[str, Any] | None, type[BaseModel] | None]:
    if isinstance(given, type):
        return given.model_json_schema(), given
    return given, None


def _read(request: Request, completion: Completion) -> Any:
    def refusal(fault: str) -> InvalidOutputError:
        return InvalidOutputError(
            f"The model's answer is not what the schema asks for: {fault}. It ended with "
            f"{completion.finish_reason.value!r}.",
            context={"output": completion.text, "finish_reason": completion.finish_reason.value},
        )

    try:
        data = json.loads(completion.text)
        if request.answer_model is None:
            return data
        return request.answer_model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        fault = f"{place}: {first['msg']}" if place else first["msg"]
    except ValueError:
        fault = "it is no JSON"
    raise refusal(fault)
