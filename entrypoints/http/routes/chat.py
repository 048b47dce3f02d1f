"""Asking models, and which there are, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from typing_extensions import TypedDict

from ....containers import ApplicationContainer
from ....providers.ai import AIProvider
from ....providers.ai.alias import AliasConfig
from ....providers.ai.openai import OpenAIConfig
from ....providers.registry import NotFoundError, ProviderRegistry
from ....providers.registry.failover import FailoverConfig
from ....services.chat import Briefing, ListedModel, brief
from ..chat.answer import Answering, ChatChunk, ChatCompletion
from ..chat.attend import CallerGoneError, EventStream, attended
from ..chat.errors import ErrorAnswer, as_json
from ..chat.request import ChatRequest
from ..identity import Operator, Reader
from ..parts import Container, Parts
from ..problem import Problem

__all__ = ["router"]

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request cannot be answered as it is."},
    "5XX": {"model": ErrorAnswer, "description": "The provider, or this service, failed."},
}

_EVENT = {
    "type": "object",
    "description": "An event; the last one is `[DONE]`, or an error.",
    "properties": {"data": {"type": "string", "description": "A `chat.completion.chunk`."}},
    "required": ["data"],
}

router = APIRouter(prefix="/v1", tags=["chat"], responses=_ERRORS)


class Model(TypedDict):
    """A name by which a model can be asked; ``owned_by`` is its provider."""

    id: str
    object: str
    created: int
    owned_by: str


class Models(TypedDict):
    """All names by which models can be asked."""

    object: str
    data: list[Model]


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses={
        200: {
            "description": "The answer; with `stream` as server-sent events.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        }
    },
)
async def complete(
    asked: ChatRequest, request: Request, container: Container, _: Operator
) -> Response:
    """
    Ask a model; the data that is asked about is fetched first.

    The shape is that of OpenAI's chat completions, whatever the provider.
    """
    chat = _Chat(asked, container)
    if asked.stream:
        return EventStream(chat.stream(), getattr(request.app.state, "stopping", None))
    try:
        return as_json(await attended(chat.complete(), request.receive))
    except CallerGoneError:
        return Response(status_code=499)


@router.get("/models", response_model=Models)
async def models(parts: Parts, _: Reader) -> Any:
    """List the names by which models can be asked: providers, and the models of their services."""
    return {"object": "list", "data": [_model(one) for one in await parts.models().all()]}


@router.get("/models/{id:path}", response_model=Model)
async def model(id: str, parts: Parts, container: Container, _: Reader) -> Any:
    """Tell what is known of one of these names."""
    found = await parts.models().get(id)
    if found is None:
        names = ", ".join(container.ai.registry.names()) or "none"
        raise _not_there(
            f"There is no model {id!r}, or its service does not tell. The providers are: {names}."
        )
    return _model(found)


class _Chat:
    """One question: whom it is for, and what is asked."""

    def __init__(self, asked: ChatRequest, container: ApplicationContainer) -> None:
        self._container = container
        self._model, self._provider = _provider(asked.model, container)
        self._asked = asked
        self._wanted = asked.wanted()
        self._prompt = asked.prompt()
        name = self._model.partition(":")[0]
        self._options = asked.options(speaks_openai=_speaks_openai(container.ai.registry, name))

    async def complete(self) -> ChatCompletion:
        """Fetch, ask, and return the whole answer."""
        told = await self._brief()
        answer = await self._provider.complete(told.before(self._prompt), **self._options)
        return Answering(self._model, told).whole(answer)

    async def stream(self) -> AsyncGenerator[ChatChunk]:
        """Fetch, ask, and yield the answer as it comes."""
        told = await self._brief()
        stream: Any = self._provider.stream(told.before(self._prompt), **self._options)
        async with aclosing(stream) as chunks:
            answering = Answering(self._model, told)
            async for chunk in answering.chunks(chunks, usage=self._asked.wants_usage):
                yield chunk

    async def _brief(self) -> Briefing:
        try:
            return await brief(self._wanted, container=self._container)
        except NotFoundError as error:  # not the model is missing, which 404 says here
            raise Problem(400, "NO_SUCH_SOURCE", error.message, param="data_sources") from None


def _provider(model: str, container: ApplicationContainer) -> tuple[str, AIProvider[Any]]:
    """Return the provider that a model's name means, and that name with the provider in it."""
    name, colon, its_model = model.partition(":")
    try:
        if not name or (name == "default" and not container.ai.registry.has(name)):
            name = container.ai.registry.default_name()
        full = f"{name}:{its_model}" if its_model else name
        if colon and not its_model:
            raise _not_there(f"{model!r} names no model after its colon.")
        return full, container.ai(full)
    except NotFoundError as error:
        raise _not_there(f"{error.message} A model is named PROVIDER or PROVIDER:MODEL.") from None


def _speaks_openai(registry: ProviderRegistry[Any], name: str) -> bool:
    """Tell whether a provider's service, or that of all it stands for, speaks OpenAI's protocol."""
    try:
        config = registry.config(name)
    except NotFoundError:
        return False
    if isinstance(config, AliasConfig):
        return _speaks_openai(registry, config.provider)
    if isinstance(config, FailoverConfig):
        return all(_speaks_openai(registry, member) for member in config.members)
    return isinstance(config, OpenAIConfig)


def _not_there(message: str) -> Problem:
    return Problem(404, "MODEL_NOT_FOUND", message, param="model")


def _model(listed: ListedModel) -> Model:
    return {
        "id": listed.id,
        "object": "model",
        "created": int(listed.created.timestamp()) if listed.created else 0,
        "owned_by": listed.provider,
    }
