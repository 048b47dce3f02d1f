"""Models on this machine: any server that speaks OpenAI's protocol, running or started."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from ...settings.branches import Seconds
from ..registry.provider import is_shared
from ..web.config import is_local
from .errors import OverloadedError, ServiceConnectionError, ServiceTimeoutError
from .openai import MODELS, ChatProvider, OpenAIConfig
from .process import ServerProcess, free_port
from .wire import Wire

__all__ = ["LocalConfig", "LocalProvider"]

PORT = "{port}"
PAUSE = 0.05


def _words(value: Any) -> Any:
    """Take a list, a JSON list, or one text, which is split as a shell would and read by none."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("begins like a JSON list and is not well-formed") from None
    try:
        return shlex.split(value)
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {error}") from None


class LocalConfig(OpenAIConfig):
    """Which server of this machine; started, if there is a command."""

    base_url: str = Field(
        default="http://127.0.0.1:11434/v1",
        description="Address of the server, which must be one of this machine; the port is chosen "
        "where the command has {port}.",
    )
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = Field(
        default="max_tokens", description="What the server calls the limit of an answer."
    )
    command: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        default=(),
        description="What starts the server, with {port} where its port stands; empty: it runs.",
    )
    start_timeout: Seconds = Field(
        default=25.0,
        description="Seconds until a started server must list its models; the registry's "
        "init_timeout must be longer.",
    )
    stop_timeout: Seconds = Field(
        default=10.0, description="Seconds a started server has to end by itself."
    )

    @field_validator("command")
    @classmethod
    def _is_the_operators(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and is_shared(info):
            raise ValueError(
                "starts a program, which only who runs this process may: set it in the "
                "environment or in a configuration file, not in the catalogue"
            )
        return value

    @model_validator(mode="after")
    def _is_here(self) -> LocalConfig:
        if not is_local(self.base_url):
            raise ValueError(
                "base_url must be an address of this machine (127.0.0.1, ::1 or localhost); for "
                "another one use the type openai"
            )
        if self.command and not self.command[0]:
            raise ValueError("command must begin with a program")
        return self


class LocalProvider(ChatProvider[LocalConfig]):
    """
    The models of a server on this machine.

    A server it starts belongs to it and ends with it: when it is closed or dropped, and when this
    process ends, however that happens.
    """

    remedy: ClassVar[str] = (
        "Start it (`ollama serve`, for example), set command so that it is started, or correct "
        "base_url."
    )

    def __init__(self, config: LocalConfig) -> None:
        super().__init__(config)
        self._server: ServerProcess | None = None

    async def _connect(self) -> None:
        if not self.config.command:
            await super()._connect()
            return
        config = self.config
        command = config.command
        if any(PORT in word for word in command):
            port = free_port()
            command = tuple(word.replace(PORT, str(port)) for word in command)
            host, path = "127.0.0.1", urlsplit(config.base_url).path
            config = config.model_copy(update={"base_url": f"http://{host}:{port}{path}"})
        self._server = ServerProcess(command, grace=config.stop_timeout)
        self._wire = self._transport(config)
        await self._started(self._server, config)

    async def _close(self) -> None:
        try:
            await super()._close()
        finally:
            server, self._server = self._server, None
            if server is not None:
                await server.end()

    def _connected(self) -> Wire:
        if self._server is not None:
            self._server.check()
        return super()._connected()

    async def _started(self, server: ServerProcess, config: LocalConfig) -> None:
        """Wait until the server lists its models."""
        place = urlsplit(config.base_url)
        try:
            async with asyncio.timeout(config.start_timeout):
                while not await _listens(place.hostname or "", place.port or 80):
                    server.check()
                    await asyncio.sleep(PAUSE)
                while True:
                    try:
                        await self._connected().get(MODELS)
                    except (OverloadedError, ServiceConnectionError):  # a model is being loaded
                        server.check()
                        await asyncio.sleep(PAUSE)
                    else:
                        return
        except TimeoutError:
            raise ServiceTimeoutError(
                f"{config.command[0]!r} was started and did not list its models at "
                f"{config.base_url} within {config.start_timeout:g} s (start_timeout)."
            ) from None


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
