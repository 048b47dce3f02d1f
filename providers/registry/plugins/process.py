"""A plugin's process, seen from the parent: start, speak, limits, end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import struct
import sys
import tempfile
from asyncio.subprocess import PIPE, SubprocessStreamProtocol
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from ....settings import PluginSettings
from ..errors import ConnectionFailedError, OperationTimeoutError, ProviderError
from .calls import PluginCalls
from .codec import Codec
from .launch import Mask, PluginLaunch
from .wire import CHUNK, Kind, Wire

__all__ = ["PluginLaunch", "PluginProcess"]

logger = logging.getLogger(__name__)

BOOT = """
import importlib.util, json, os, struct, sys
def read(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data
boot = json.loads(read(*struct.unpack("!I", read(4))))
sys.path[:] = boot["path"]
spec = importlib.util.spec_from_file_location(
    "purveyor", boot["init"], submodule_search_locations=boot["package"])
sys.modules["purveyor"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from purveyor.providers.registry.plugins.worker import main
main(boot)
"""
"""What the child runs: no site, no environment, only what the parent says over the pipe."""

STDERR_KEPT = 16 * 1024
STDERR_SHOWN = 2_000
REAP = 5.0
"""Seconds the system has to end a process that was killed."""
REST = 0.5
"""Seconds to read what a process that has ended left in its pipes."""


class PluginProcess:
    """
    One process, which holds one instance of a plugin's provider class.

    Belongs to the event loop that starts it. Whatever ends it, all calls under way fail at
    once, its process group is killed, and it is reaped.

    Args:
        launch: What to run.
        config: The provider's settings, secrets revealed.
        secrets: The values of the secret ones.
        context: What the config model is validated with: the provider's name and its home.
    """

    def __init__(
        self,
        launch: PluginLaunch,
        config: Mapping[str, Any],
        *,
        secrets: frozenset[str] = frozenset(),
        context: Mapping[str, Any] | None = None,
    ) -> None:
        self._launch = launch
        self._config = config
        self._context = dict(context or {})
        self._mask = Mask(secrets)
        self._calls: PluginCalls | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._life: asyncio.Task[None] | None = None
        self._verdict: tuple[type[ProviderError], str] | None = None
        self._ending = False
        self._stderr = bytearray()
        self.confinement: Mapping[str, Any] = {}
        """What the child says of its limits; from before any of the plugin's code ran."""

    @property
    def pid(self) -> int | None:
        """The child's process id, None before it is started."""
        return None if self._transport is None else self._transport.get_pid()

    @property
    def alive(self) -> bool:
        """Whether it takes calls."""
        return self._life is not None and not self._life.done() and self._verdict is None

    # -- start ---------------------------------------------------------------------------

    async def start(self) -> None:
        """
        Start the process and have it import the plugin and build the instance.

        Raises:
            OperationTimeoutError: It was not ready within ``start_timeout``.
            ConnectionFailedError: It ended.
            ImportFailedError: The plugin cannot be imported.
            InvalidConfigError: The plugin's own config model refuses the settings.
        """
        seconds = self._launch.settings.start_timeout
        try:
            async with asyncio.timeout(seconds):
                calls = await self._spawn()
                await calls.start(self._bundle())
        except TimeoutError as error:
            if not isinstance(error, ProviderError):
                self._condemn(OperationTimeoutError, f"was not ready within {seconds:g} s")
            await self.end()
            raise self.failure() from None
        except BaseException:
            await self.end()
            raise

    async def _spawn(self) -> PluginCalls:
        loop = asyncio.get_running_loop()
        exited = asyncio.Event()
        folder = tempfile.mkdtemp(prefix="purveyor-plugin-")
        try:
            transport, protocol = await loop.subprocess_exec(
                lambda: _Protocol(exited, loop),
                *(sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", BOOT),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=folder,
                env=_environment(),
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._transport = transport
        stdin = cast(asyncio.StreamWriter, protocol.stdin)
        codec = Codec(self._launch.shape.values)
        wire = Wire(
            cast(asyncio.StreamReader, protocol.stdout), stdin, codec, self._launch.settings.memory
        )
        self._calls = PluginCalls(self._launch, wire, self._mask, self._on_deaf)
        boot = json.dumps(_boot(self._launch.settings)).encode()
        stdin.write(struct.pack("!I", len(boot)) + boot)
        life = self._live(self._calls, wire, transport, protocol, exited, folder)
        self._life = loop.create_task(life, name=f"plugin {self._launch.plugin}")
        return self._calls

    def _bundle(self) -> dict[str, Any]:
        launch = self._launch
        return {
            "plugin": launch.plugin,
            "path": launch.path,
            "files": launch.files,
            "secrets": launch.secrets,
            "shape": launch.shape.to_wire(),
            "config": self._config,
            "context": self._context,
        }

    # -- life ----------------------------------------------------------------------------

    async def _live(
        self,
        calls: PluginCalls,
        wire: Wire,
        transport: asyncio.SubprocessTransport,
        protocol: SubprocessStreamProtocol,
        exited: asyncio.Event,
        folder: str,
    ) -> None:
        """Own everything the process has, from its start to its burial."""
        listening = asyncio.create_task(self._listen(calls, wire))
        watching = asyncio.create_task(self._watch(calls))
        collecting = asyncio.create_task(self._collect(cast(Any, protocol.stderr)))
        exiting = asyncio.create_task(exited.wait())
        tasks = [listening, watching, collecting, exiting]
        try:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait([listening, watching, exiting], return_when=first)
            # Its last words may still be in the pipe, or the news of its end on the way.
            await asyncio.wait([listening, exiting], timeout=REST)
            if not exited.is_set():
                self._condemn(ConnectionFailedError, "was ended, for it closed its pipe")
        finally:
            self._ending = True
            self._kill()
            await _through(asyncio.wait_for(exited.wait(), REAP))
            await _through(asyncio.wait([collecting], timeout=REST))
            for task in tasks:
                task.cancel()
            self._condemn(ConnectionFailedError, f"ended {self._manner()}")
            wire.close()
            transport.close()
            calls.fail(self.failure)
            await _through(asyncio.wait(tasks))
            # In a thread: nobody knows how much the plugin left there.
            await _through(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    async def _listen(self, calls: PluginCalls, wire: Wire) -> None:
        try:
            while True:
                kind, number, data = await wire.receive()
                if kind is Kind.HELLO and not self.confinement:
                    self._note_confinement(wire.codec.loads(data))
                else:
                    calls.dispatch(kind, number, data)
        except (EOFError, ConnectionError):
            return
        except Exception as error:  # whatever a hostile process sends must end only itself
            told = self._mask(str(error))[:500]
            self._condemn(ConnectionFailedError, f"was ended, for it broke the protocol: {told}")

    async def _watch(self, calls: PluginCalls) -> None:
        self._on_deaf(await calls.watch())

    def _on_deaf(self, seconds: float) -> None:
        self._condemn(OperationTimeoutError, f"was ended, for it did not react for {seconds:g} s")
        self._kill()

    async def _collect(self, stderr: asyncio.StreamReader) -> None:
        while data := await stderr.read(64 * 1024):
            self._stderr += data
            del self._stderr[:-STDERR_KEPT]

    def _note_confinement(self, told: Any) -> None:
        self.confinement = dict(told)
        if not self._launch.settings.network and not self.confinement["no_network"]:
            logger.warning(
                "Plugin %r can use the network: this system lets no process without privileges "
                "cut itself off (%s).",
                self._launch.plugin,
                self.confinement.get("why", "it is not Linux"),
            )

    # -- calls ---------------------------------------------------------------------------

    async def call(
        self, name: str, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """
        Have the instance run an operation, or ``_connect``, ``_close``, ``check_health``.

        Raises:
            RegistryError: What the plugin raised, or what became of its process.
        """
        operation = self._launch.shape.operations.get(name)
        return await self._started().call((name, args, dict(kwargs or {})), operation)

    def stream(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Iterate over what an operation yields; leaving early ends it in the plugin too."""
        operation = self._launch.shape.operations[name]
        return self._started().stream(operation, (name, args, dict(kwargs)))

    def _started(self) -> PluginCalls:
        if self._calls is None or self._verdict is not None:
            raise self.failure()
        return self._calls

    # -- the end -------------------------------------------------------------------------

    async def close(self) -> None:
        """
        Have the instance close itself, then end the process, whatever became of that.

        Raises:
            RegistryError: What the plugin raised while closing.
        """
        seconds = self._launch.close_grace
        try:
            if self.alive:
                async with asyncio.timeout(seconds):
                    await self.call("_close")
        except TimeoutError as error:
            if isinstance(error, ProviderError):
                raise
            self._condemn(OperationTimeoutError, f"did not close within {seconds:g} s")
            raise self.failure() from None
        finally:
            await self.end()

    async def end(self) -> None:
        """End the process at once and wait until nothing is left of it."""
        if self._life is None:
            return
        self._condemn(ConnectionFailedError, "was closed")
        if not self._ending:
            self._life.cancel()
        await asyncio.wait([self._life])

    def failure(self) -> ProviderError:
        """Return a new error that says why the process takes no calls, and what it said last."""
        kind, what = self._verdict or (ConnectionFailedError, "is not running")
        said = self._mask(self._stderr.decode("utf-8", "replace"))[-STDERR_SHOWN:].strip()
        return self._launch.shape.error_class(kind)(
            f"The process of plugin {self._launch.plugin!r} {what}."
            + (f" It said last:\n{said}" if said else ""),
            context={"plugin": self._launch.plugin, "exit": self._manner(), "stderr": said},
        )

    def _condemn(self, kind: type[ProviderError], what: str) -> None:
        """Note why it ends; the first reason is the one that counts."""
        if self._verdict is None:
            self._verdict = kind, what

    def _kill(self) -> None:
        """Kill the whole group: what the plugin started goes with it."""
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _manner(self) -> str:
        status = None if self._transport is None else self._transport.get_returncode()
        if status is None or status >= 0:
            return f"with exit status {status}"
        try:
            return f"by signal {signal.Signals(-status).name}"
        except ValueError:
            return f"by signal {-status}"


class _Protocol(SubprocessStreamProtocol):
    """Streams of the child, and the news that it has ended."""

    def __init__(self, exited: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=CHUNK, loop=loop)
        self._exited = exited

    def process_exited(self) -> None:
        self._exited.set()
        super().process_exited()


async def _through(waiting: Coroutine[Any, Any, Any]) -> None:
    """Await what must be gone through even while this task is being cancelled."""
    with suppress(asyncio.CancelledError, TimeoutError):
        await waiting


def _environment() -> dict[str, str]:
    """Return the little that starting Python may need, where it lies in an odd place."""
    names = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ}


def _boot(settings: PluginSettings) -> dict[str, Any]:
    package = sys.modules[__name__.partition(".")[0]]
    return {
        "path": [str(Path(one).absolute()) for one in sys.path],
        "init": str(Path(cast(str, package.__file__)).absolute()),
        "package": [str(Path(one).absolute()) for one in package.__path__],
        "parent": os.getpid(),
        "memory": settings.memory,
        "cpu_seconds": settings.cpu_seconds,
        "open_files": settings.open_files,
        "network": settings.network,
    }
