"""What stands in the parent for a provider class that runs in a plugin's process."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import (
    ConfigDict,
    PrivateAttr,
    SecretBytes,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from ..errors import InvalidStateError
from ..provider import Provider, ProviderConfig
from .launch import PluginLaunch
from .manifest import PluginType
from .process import PluginProcess
from .shape import Operation

__all__ = ["IsolatedConfig", "IsolatedProvider", "isolated_class"]


class IsolatedConfig(ProviderConfig):
    """Base of the settings of an isolated type: those its manifest declares."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    _context: dict[str, Any] = PrivateAttr(default_factory=dict[str, Any])

    @model_validator(mode="after")
    def _keep_context(self, info: ValidationInfo) -> IsolatedConfig:
        given = cast("Mapping[str, Any] | None", info.context) or {}
        # The plugin's process has another current folder.
        home = Path(given.get("home", ".purveyor")).absolute()
        self._context |= {"home": home, "name": given.get("name", "")}
        return self

    def revealed(self) -> tuple[dict[str, Any], frozenset[str]]:
        """Return the settings as the plugin needs them, and the values that are secret."""
        values: dict[str, Any] = {}
        secrets: set[str] = set()
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr | SecretBytes):
                value = value.get_secret_value()
                secrets.add(value if isinstance(value, str) else value.decode("utf-8", "replace"))
            elif isinstance(value, Path):
                value = value.absolute()
            if value is not None:
                values[name] = value
        return values, frozenset(secrets)

    @property
    def context(self) -> Mapping[str, Any]:
        """What the plugin's own model is validated with: the provider's name and its home."""
        return self._context


class IsolatedProvider(Provider[IsolatedConfig]):
    """
    A provider whose work is done by a plugin's class in a process of its own.

    A process that died is started anew by the next call; what it held in memory is gone.
    """

    launch: ClassVar[PluginLaunch]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._process: PluginProcess | None = None
        self._starting: asyncio.Task[PluginProcess] | None = None
        self._connected = False

    @property
    def process(self) -> PluginProcess | None:
        """The process, once there is one."""
        return self._process

    async def _connect(self) -> None:
        self._connected = True
        await self._running()

    async def _close(self) -> None:
        self._connected = False
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        process, self._process = self._process, None
        if process is not None:
            await process.close()

    async def check_health(self) -> None:
        """Ask the plugin's own check."""
        await (await self._running()).call("check_health")

    async def _running(self) -> PluginProcess:
        """Return a process that takes calls, started if need be, once however many ask."""
        process = self._process
        if process is not None and process.alive:
            return process
        if not self._connected:
            raise InvalidStateError(
                f"The plugin {self.launch.plugin!r} is not running: connect the provider first."
            )
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._started)
        return await asyncio.shield(self._starting)

    async def _start(self) -> PluginProcess:
        values, secrets = self.config.revealed()
        process = PluginProcess(self.launch, values, secrets=secrets, context=self.config.context)
        if self._process is not None:  # it died; see it buried
            await self._process.end()
        await process.start()
        try:
            await process.call("_connect")
        except BaseException:
            await process.end()
            raise
        self._process = process
        return process

    def _started(self, task: asyncio.Task[PluginProcess]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # perhaps nobody waits any more


def isolated_class(entry: PluginType, launch: PluginLaunch) -> type[Provider[Any]]:
    """Return the class that stands for a type: its family's, with every operation forwarded."""
    shape = launch.shape
    namespace: dict[str, Any] = {
        "__doc__": entry.description or f"The type {entry.type!r} of plugin {launch.plugin!r}.",
        "__module__": __name__,
        "launch": launch,
        "config_class": entry.config_model(IsolatedConfig),
    }
    for name, operation in shape.operations.items():
        namespace[name] = _streamed(operation) if operation.is_stream else _called(operation)
    name = entry.path.partition(":")[2]
    return cast("type[Provider[Any]]", type(name, (IsolatedProvider, shape.base), namespace))


def _called(operation: Operation) -> Any:
    @functools.wraps(operation.function)
    async def call(self: IsolatedProvider, /, *args: Any, **kwargs: Any) -> Any:
        process = await self._running()
        return await process.call(operation.name, args, kwargs)

    return call


def _streamed(operation: Operation) -> Any:
    @functools.wraps(operation.function)
    async def stream(self: IsolatedProvider, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        process = await self._running()
        async with aclosing(process.stream(operation.name, args, kwargs)) as items:
            async for item in items:
                yield item

    return stream
