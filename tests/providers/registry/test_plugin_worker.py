"""The plugin's side of the pipe, run in this process: what it answers to what it is asked."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import pytest

from purveyor.providers.registry import ImportFailedError, InvalidConfigError
from purveyor.providers.registry.plugins.calls import PluginCalls
from purveyor.providers.registry.plugins.codec import Codec
from purveyor.providers.registry.plugins.importing import uninstall
from purveyor.providers.registry.plugins.launch import Mask
from purveyor.providers.registry.plugins.wire import CHUNK, Kind, Wire
from purveyor.providers.registry.plugins.worker import Worker, _told
from purveyor.providers.storage import ObjectNotFoundError, StorageError
from tests.providers.registry.plugin_samples import provider_class, storage, write_plugin

BODY = """
async def put(self, key, data, **_):
    content = b"".join([chunk async for chunk in chunks_of(data)])
    from datetime import datetime, UTC
    return ObjectInfo(key, len(content), datetime.now(UTC))
async def get(self, key, **_):
    if key == "wait":
        await asyncio.sleep(3600)
    if key == "file":
        raise FileNotFoundError(2, "gone")
    if key == "odd":
        raise StorageError("odd", context={"odd": object()})
    return key.encode()
async def stream(self, key, **_):
    for number in range(100):
        yield bytes([number])
"""


class Pair:
    """Both ends of a pipe in one event loop."""

    def __init__(self, plugins: Path, extra: str = "") -> None:
        write_plugin(plugins, "sample", storage(BODY, extra))
        self.launch = provider_class(plugins, "sample").launch
        self.operations = self.launch.shape.operations
        self.calls: Any = None

    async def __aenter__(self) -> Self:
        self.ours, self.theirs = socket.socketpair()
        reader, self.writer = await asyncio.open_connection(sock=self.ours)
        wire = Wire(reader, self.writer, Codec(self.launch.shape.values), 2**30)
        self.calls = PluginCalls(self.launch, wire, Mask(), lambda _: None)
        worker = Worker(*await asyncio.open_connection(sock=self.theirs))
        self.running = asyncio.create_task(worker.run({"no_network": False}))
        self.worker = worker
        assert (await wire.receive())[0] is Kind.HELLO

        async def listen() -> None:
            while True:
                self.calls.dispatch(*await wire.receive())

        self.listening = asyncio.create_task(listen())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.writer.close()
        await self.running
        self.worker._wire.close()
        self.calls.fail(lambda: self.launch.failure("it is gone"))
        self.listening.cancel()
        await asyncio.wait([self.listening])
        uninstall("sample")

    async def start(self, **config: Any) -> None:
        launch = self.launch
        await self.calls.start(
            {
                "plugin": "sample",
                "path": launch.path,
                "files": launch.files,
                "secrets": frozenset(),
                "shape": launch.shape.to_wire(),
                "config": config,
                "context": {"name": "mine"},
            }
        )

    async def call(self, name: str, *args: Any) -> Any:
        return await self.calls.call((name, args, {}), self.operations.get(name))


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with Pair(tmp_path / "plugins") as made:
        yield made


async def test_calls_streams_and_sources(pair: Pair) -> None:
    await pair.start()
    await pair.call("_connect")
    assert await pair.call("get", "a") == b"a"
    assert (await pair.call("put", "a", bytes(5 * CHUNK))).size == 5 * CHUNK
    chunks = pair.calls.stream(pair.operations["stream"], ("stream", ("a",), {}))
    assert [chunk async for chunk in chunks] == [bytes([number]) for number in range(100)]
    async with aclosing(
        pair.calls.stream(pair.operations["stream"], ("stream", ("a",), {}))
    ) as chunks:
        assert await anext(chunks) == b"\0"
    await pair.call("_close")


async def test_a_cancelled_call(pair: Pair) -> None:
    await pair.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await pair.call("get", "wait")
    assert await pair.call("get", "a") == b"a"


async def test_errors(pair: Pair) -> None:
    await pair.start()
    with pytest.raises(ObjectNotFoundError, match="in storage 'mine'"):
        await pair.call("get", "file")
    with pytest.raises(StorageError) as caught:
        await pair.call("get", "odd")
    assert caught.value.context == {}

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await pair.call("put", "a", broken())


def test_an_error_without_a_text() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert _told(BrokenError()) == ["BrokenError", None, "(no text)", {}]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_process_lowers_its_limits_for_good() -> None:
    program = """
        import json, os, resource, sys
        from purveyor.providers.registry.plugins.confine import confine
        told = confine({
            "memory": 2**30, "cpu_seconds": 50, "open_files": 99, "network": False,
            "parent": os.getppid(),
        })
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        except ValueError:
            told["raised"] = False
        print(json.dumps(told | {"files": resource.getrlimit(resource.RLIMIT_NOFILE)}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["files"] == [99, 99]
    if told["own_user_namespace"]:
        assert told["no_network"]
        assert told["raised"] is False
    else:
        assert told["why"]


async def test_settings_that_are_refused(pair: Pair) -> None:
    with pytest.raises(InvalidConfigError, match="size: must be a whole number"):
        await pair.start(size="large")
    with pytest.raises(InvalidConfigError, match="the manifest must say"):
        await pair.start(token="hush")


async def test_an_import_that_fails(tmp_path: Path) -> None:
    async with Pair(tmp_path / "plugins", extra="raise SystemExit(3)") as pair:
        with pytest.raises(ImportFailedError, match="SystemExit"):
            await pair.start()


async def test_a_parent_that_goes_away_cancels_what_is_under_way(tmp_path: Path) -> None:
    async with Pair(tmp_path / "plugins") as pair:
        await pair.start()
        waiting = asyncio.create_task(pair.call("get", "wait"))
        await asyncio.sleep(0)
    with pytest.raises(StorageError, match="it is gone"):
        await waiting
