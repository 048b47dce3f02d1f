"""A service with models behind it, and OpenAI's own client before it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.providers.registry import Role
from purveyor.settings import Settings
from purveyor.testing.doubles import AnthropicDouble, OpenAIDouble

from ....providers.ai.conftest import Judge, published
from ..conftest import Served

__all__ = ["Judge", "published"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Role, str]]:
    """A folder with a catalogue that has a token of each role, and the tokens."""
    home = tmp_path_factory.mktemp("prepared")

    async def prepare() -> dict[Role, str]:
        container = ApplicationContainer(settings=Settings(home=home), monitoring=False)
        async with container.lifespan():
            tokens = create_app(container).state.parts.tokens()
            return {role: (await tokens.create(role.name, role))[1] for role in Role}

    return home, asyncio.run(prepare())


@pytest.fixture
def tokens(prepared: tuple[Path, dict[Role, str]]) -> dict[Role, str]:
    """A token of each role."""
    return prepared[1]


@pytest.fixture
def openai() -> Iterator[OpenAIDouble]:
    """The service behind the providers ``chat`` and ``quick``."""
    with OpenAIDouble() as double:
        yield double


@pytest.fixture
def anthropic() -> Iterator[AnthropicDouble]:
    """The service behind the provider ``wise``."""
    with AnthropicDouble() as double:
        yield double


@pytest.fixture
def files(folder: Path) -> Path:
    """The folder of the data source ``files``, with two tables."""
    made = folder / "files"
    made.mkdir()
    (made / "may.csv").write_text("day,sold\n1,3\n")
    (made / "june.csv").write_text("day,sold\n1,7\n")
    return made


@pytest.fixture
async def container(
    home: Path,
    files: Path,
    openai: OpenAIDouble,
    anthropic: AnthropicDouble,
    prepared: tuple[Path, dict[Role, str]],
) -> AsyncGenerator[ApplicationContainer]:
    """
    Providers, running: ``chat``, which is the default, ``wise``, and those made of them; ``hasty``
    waits not long, ``frail`` is given up soon.
    """
    shutil.copytree(prepared[0], home)
    chat: dict[str, Any] = {"type": "openai", "base_url": openai.base_url, "api_key": openai.key}
    wise = {"type": "anthropic", "base_url": anthropic.url, "api_key": anthropic.key}
    settings = Settings(
        home=home,
        ai={
            "default": "chat",
            "providers": {
                "chat": {
                    **chat,
                    "model": "model-a",
                    "prices": {"*": {"input": 2, "output": 10}},
                    "first_byte_timeout": 5,
                    "retries": 0,
                },
                "hasty": {**chat, "model": "model-a", "request_timeout": 0.3, "retries": 0},
                "frail": {
                    **chat,
                    "model": "model-a",
                    "retries": 0,
                    "circuit_breaker": {"failure_threshold": 1},
                },
                "quick": {"type": "alias", "provider": "chat", "model": "model-b"},
                "wise": {**wise, "model": anthropic.models[0], "retries": 0},
                "safe": {"type": "failover", "members": ["chat", "wise"]},
            },
        },
        data_sources={
            "default": "files",
            "providers": {"files": {"type": "local_file", "root": str(files)}},
        },
        chat={"models_timeout": 1},
    )
    made = ApplicationContainer(settings=settings, monitoring=False)
    async with made.lifespan():
        yield made


@pytest.fixture
def app(container: ApplicationContainer) -> FastAPI:
    """The application, which nobody may use without a token."""
    return create_app(container)


@pytest.fixture
def token(tokens: dict[Role, str]) -> str:
    """The token of an operator."""
    return tokens[Role.OPERATOR]


@pytest.fixture
async def models(app: FastAPI, token: str) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client, in this process."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        AsyncOpenAI(
            base_url="http://127.0.0.1/v1", api_key=token, http_client=http, max_retries=0
        ) as client,
    ):
        yield client


@pytest.fixture
async def live(served: Served, token: str) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client, whose service is served on a port."""
    async with AsyncOpenAI(
        base_url=f"{served.base_url}/v1", api_key=token, max_retries=0, timeout=20
    ) as client:
        yield client
