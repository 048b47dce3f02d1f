"""A plugin in a process of its own: its calls, its limits, and every way it can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import (
    ConnectionFailedError,
    ImportFailedError,
    InvalidConfigError,
    InvalidStateError,
    OperationTimeoutError,
    ProviderError,
    RegistryError,
    UnsupportedCapabilityError,
    guarded,
)
from purveyor.providers.registry.plugins.codec import MAX_JSON
from purveyor.providers.registry.plugins.wire import CHUNK, MAX_ITEM
from purveyor.providers.storage import (
    ObjectInfo,
    ObjectNotFoundError,
    Put,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
)
from tests.providers.registry.plugin_samples import (
    copy_example,
    provider_class,
    storage,
    write_plugin,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
SETTINGS = '[types.settings.token]\ntype = "secret"\n[types.settings.size]\ntype = "integer"\n'

Make = Callable[..., Any]


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    return tmp_path / "plugins"


@pytest.fixture
async def make(plugins: Path) -> AsyncIterator[Make]:
    """Write a plugin whose class has these methods; return an instance, closed in the end."""
    made: list[Any] = []

    def build(
        body: str,
        extra: str = "",
        *,
        config: dict[str, Any] | None = None,
        launch: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Any:
        name = f"sample{len(made)}"
        write_plugin(plugins, name, storage(body, extra), manifest=SETTINGS)
        cls = provider_class(plugins, name, **settings)
        if launch:
            cls.launch = replace(cls.launch, **launch)
        made.append(cls(cls.config_class(**(config or {}))))
        return made[-1]

    yield build
    for one in made:
        await one.dispose()


async def failing(call: Any, kind: type[RegistryError]) -> Any:
    with pytest.raises(kind) as caught:
        await call
    json.dumps(caught.value.to_dict())
    return caught.value


def children() -> set[int]:
    """Return the processes this one has started and not reaped, zombies too."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.add(int(path.parent.name))
    return found


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# -- calls -------------------------------------------------------------------------------


async def test_values_of_the_family_cross_both_ways(make: Make) -> None:
    plugin = make(
        """
        async def apply(self, changes):
            self.changes = changes
        async def stat(self, key):
            (put,) = self.changes
            assert type(put) is Put and type(put.data) is bytes, put
            from datetime import datetime, UTC
            return ObjectInfo(
                put.key, len(put.data), datetime(2026, 1, 2, tzinfo=UTC), metadata=put.metadata)
        async def search(self, query, *, limit=100):
            return [await self.stat("")] * limit
        """
    )
    async with plugin:
        put = Put("größe \ud800", bytes(range(256)) * 4000, metadata={"a": "ü\n\0"})
        await plugin.apply([put])
        info = await plugin.stat("any")
        assert info == ObjectInfo(put.key, 1_024_000, info.modified, metadata={"a": "ü\n\0"})
        assert info.modified.isoformat() == "2026-01-02T00:00:00+00:00"
        assert await plugin.search("x", limit=3) == [info] * 3


async def test_errors_of_family_and_registry_come_as_themselves(make: Make) -> None:
    plugin = make(
        """
        async def get(self, key, **_):
            raise ObjectNotFoundError(f"no {key}", context={"key": key, "odd": object()})
        async def stat(self, key):
            raise FileNotFoundError(2, "gone", key)
        async def delete(self, key):
            raise ZeroDivisionError("x" * 100_000)
        """
    )
    async with plugin:
        error = await failing(plugin.get("a"), ObjectNotFoundError)
        assert (error.message, error.code) == ("no a", "OBJECT_NOT_FOUND")
        assert "'a'" in (await failing(plugin.stat("a"), ObjectNotFoundError)).message
        error = await failing(plugin.delete("a"), StorageError)
        assert error.is_backend_failure
        assert error.message.startswith("Plugin 'sample0' failed: ZeroDivisionError: xxx")
        assert len(error.message) < 5000
        await failing(plugin.search("x"), UnsupportedCapabilityError)


async def test_a_thousand_calls_at_once_are_told_apart(make: Make) -> None:
    plugin = make(
        """
        async def get(self, key, *, start=0, end=None):
            await asyncio.sleep(0.001 * (hash(key) % 7))
            return key.encode() * 1000
        """
    )
    async with plugin:
        answers = await asyncio.gather(*(plugin.get(f"key{n}") for n in range(1000)))
    assert answers == [f"key{n}".encode() * 1000 for n in range(1000)]


async def test_an_answer_of_the_wrong_type_fails_its_call_alone(make: Make) -> None:
    plugin = make(
        """
        async def exists(self, key):
            return "perhaps"
        async def stat(self, key):
            return ObjectInfo(key, "large", 3)
        async def list(self, prefix=""):
            yield "a"
        async def stats(self):
            return object()
        async def get(self, key, **_):
            return b"right"
        """
    )
    async with plugin:
        pid = plugin.process.pid
        assert "exists" in (await failing(plugin.exists("a"), StorageError)).message
        assert "ObjectInfo.size" in (await failing(plugin.stat("a"), StorageError)).message
        assert "cannot cross" in (await failing(plugin.stats(), StorageError)).message
        with pytest.raises(StorageError, match="answer to list"):
            _ = [one async for one in plugin.list()]
        assert await plugin.get("a") == b"right"
        assert plugin.process.pid == pid


COUNTING = """
    count = 0
    ended = ""
    async def stream(self, key, *, start=0, end=None):
        try:
            for number in range(1000):
                self.count += 1
                yield bytes([number % 256]) * 1000
                if key == "fails" and number == 5:
                    raise ObjectNotFoundError("in the middle")
        finally:
            self.ended = "ended"
    async def get(self, key, *, start=0, end=None):
        return f"{self.count} {self.ended}".encode()
"""


async def test_a_stream_does_not_run_ahead_of_its_reader(make: Make) -> None:
    plugin = make(COUNTING)
    async with plugin, aclosing(plugin.stream("a")) as chunks:
        assert [len(await anext(chunks)) for _ in range(3)] == [1000] * 3
        count = int((await plugin.get("a")).split()[0])
        assert 3 <= count <= 3 + 9


async def test_a_stream_that_is_left_ends_in_the_plugin_too(make: Make) -> None:
    plugin = make(COUNTING)
    async with plugin:
        async with aclosing(plugin.stream("a")) as chunks:
            await anext(chunks)
        assert (await plugin.get("a")).endswith(b"ended")


async def test_an_error_in_mid_stream_comes_after_what_was_before(make: Make) -> None:
    plugin = make(COUNTING)
    got = 0
    async with plugin:
        with pytest.raises(ObjectNotFoundError, match="in the middle"):
            async for _ in plugin.stream("fails"):
                got += 1
    assert got == 6


READING = """
    async def put(self, key, data, **_):
        size = 0
        try:
            async for chunk in chunks_of(data):
                size += len(chunk)
                if key == "early":
                    raise StorageFullError("enough")
        except Exception as error:
            if key == "swallow":
                raise StorageFullError("something else") from error
            raise
        from datetime import datetime, UTC
        return ObjectInfo(key, size, datetime.now(UTC))
"""


@pytest.mark.parametrize("size", [0, 10, CHUNK - 1, CHUNK, 3 * CHUNK + 1])
async def test_every_kind_of_source_is_streamed(make: Make, tmp_path: Path, size: int) -> None:
    plugin = make(READING)
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)

    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, size, 100_000):
            yield data[begin : begin + 100_000]

    async with plugin:
        for source in (data, bytearray(data), memoryview(data), path, io.BytesIO(data), pieces()):
            assert (await plugin.put("key", source)).size == size, type(source)


async def test_what_is_wrong_with_a_source_is_the_callers_own_error(
    make: Make, tmp_path: Path
) -> None:
    plugin = make(READING)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise KeyError("mine")

    async with plugin:
        for key in ("key", "swallow"):
            with pytest.raises(KeyError, match="mine"):
                await plugin.put(key, broken())
        with pytest.raises(FileNotFoundError):
            await plugin.put("key", tmp_path / "missing")
        with pytest.raises(TypeError, match="cannot cross"):
            await plugin.put("key", tmp_path, metadata={"a": object()})
        for wrong in ("text", 5, None, io.StringIO("text")):
            with pytest.raises(TypeError):
                await plugin.put("key", wrong)


async def test_a_plugin_that_stops_reading_stops_the_source(make: Make) -> None:
    plugin = make(READING)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1000)

    async with plugin:
        await failing(plugin.put("early", endless()), StorageError)
        before = sent
        await asyncio.sleep(0.01)
        assert sent == before < 20


async def test_a_cancelled_call_is_cancelled_in_the_plugin(make: Make) -> None:
    plugin = make(
        """
        log = ""
        def __init__(self, config):
            super().__init__(config)
            self.begun = asyncio.Event()
        async def delete(self, key):
            self.log += "begun "
            self.begun.set()
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.05)
                self.log += "cleaned"
        async def get(self, key, **_):
            await self.begun.wait()
            return self.log.encode()
        """
    )
    async with plugin:
        call = asyncio.create_task(plugin.delete("a"))
        assert await plugin.get("a") == b"begun "
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await plugin.get("a") == b"begun cleaned"


# -- settings ----------------------------------------------------------------------------


async def test_the_plugin_gets_its_settings_with_secrets_revealed(make: Make) -> None:
    plugin = make(
        """
        async def get(self, key, **_):
            return f"{self.config.token.get_secret_value()} {self.config.size}".encode()
        """,
        config={"token": "hush-hush", "size": 7},
    )
    async with plugin:
        assert await plugin.get("a") == b"hush-hush 7"
    assert "hush-hush" not in repr(plugin) + repr(plugin.config)


async def test_the_plugins_own_model_has_the_last_word(plugins: Path) -> None:
    write_plugin(
        plugins,
        "sample",
        "from pydantic import Field\n"
        "class Config(ProviderConfig):\n    size: int = Field(1, le=3)\n    token: SecretStr = ''\n"
        + storage(),
        manifest='[types.settings.size]\ntype = "integer"\n[types.settings.token]\n',
    )
    cls = provider_class(plugins, "sample")
    error = await failing(cls(cls.config_class(size=9)).initialize(), InvalidConfigError)
    assert error.context["problems"] == [{"where": "size", "reason": "must be at most 3"}]
    error = await failing(cls(cls.config_class(token="hush")).initialize(), InvalidConfigError)
    assert 'the manifest must say type = "secret"' in error.message


@pytest.mark.requirement("S4.51")
async def test_secrets_are_masked_in_whatever_the_plugin_says(make: Make) -> None:
    secret = 'p@ss "word"/ü'
    plugin = make(
        """
        async def get(self, key, **_):
            token = self.config.token.get_secret_value()
            from urllib.parse import quote
            print("it is", token, quote(token, safe=""), file=sys.stderr, flush=True)
            raise ObjectNotFoundError(f"not with {token}", context={"token": token})
        async def delete(self, key):
            os._exit(3)
        """,
        config={"token": secret},
    )
    async with plugin:
        told = [await failing(plugin.get("a"), ObjectNotFoundError)]
        told.append(await failing(plugin.delete("a"), ConnectionFailedError))
    for error in told:
        text = str(error) + json.dumps(error.to_dict(), ensure_ascii=False)
        assert "word" not in text
        assert "**********" in text


# -- what goes wrong ---------------------------------------------------------------------


CRASHES = {
    "os._exit(7)": "ended with exit status 7",
    "sys.exit(3)": "ended with exit status 3",
    "sys.exit('a last word')": "a last word",
    "os.kill(os.getpid(), signal.SIGKILL)": "ended by signal SIGKILL",
    "os.abort()": "ended by signal SIGABRT",
    "import ctypes; ctypes.string_at(0)": "ended by signal SIGSEGV",
    "os.write(2, b'the last words'); os._exit(1)": "the last words",
}


@pytest.mark.requirement("S4.52")
async def test_a_crash_fails_all_calls_at_once_and_the_next_one_starts_anew(make: Make) -> None:
    plugin = make(
        """
        async def delete(self, key):
            exec(key)
        async def get(self, key, **_):
            if key == "wait":
                await asyncio.sleep(3600)
            return str(os.getpid()).encode()
        async def stream(self, key, **_):
            yield b"x"
            await asyncio.sleep(3600)
        """
    )
    async with plugin:
        for code, told in CRASHES.items():
            before = await plugin.get("a")
            chunks = plugin.stream("a")
            await anext(chunks)
            waiting = [asyncio.create_task(plugin.get("wait")) for _ in range(5)]
            await asyncio.sleep(0)
            calls = [plugin.delete(code), *waiting, anext(chunks)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
            for error in errors:
                assert isinstance(error, StorageConnectionError), error
                assert error.is_backend_failure
                assert "plugin 'sample0'" in str(error)
                assert told in str(error), code
            assert await plugin.get("a") != before, code


@pytest.mark.requirement("S4.52")
@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        ("sys.exit(3)", ImportFailedError, "SystemExit"),
        ("raise ValueError('no')", ImportFailedError, "ValueError: no"),
        ("from .sample0 import nothing_yet", ImportFailedError, "nothing_yet"),
        ("os._exit(3)", ConnectionFailedError, "ended with exit status 3"),
        ("while True: pass", OperationTimeoutError, "was not ready within 0.7 s"),
        ("time.sleep(3600)", OperationTimeoutError, "was not ready within 0.7 s"),
    ],
)
async def test_an_import_that_fails_or_never_ends(
    make: Make, code: str, kind: type[RegistryError], told: str
) -> None:
    hangs = kind is OperationTimeoutError
    plugin = make("", code, start_timeout=0.7 if hangs else 10)
    before = children()
    error = await failing(plugin.initialize(), kind)
    assert told in str(error)
    assert "sample0" in str(error)
    assert children() == before


@pytest.mark.requirement("S4.52")
async def test_a_process_that_no_longer_reacts_is_ended(make: Make) -> None:
    plugin = make(
        """
        async def delete(self, key):
            while True: pass
        async def get(self, key, **_):
            await asyncio.sleep(3600)
        """,
        launch={"patience": 0.3},
    )
    async with plugin:
        errors = await asyncio.gather(plugin.delete("a"), plugin.get("a"), return_exceptions=True)
    for error in errors:
        assert isinstance(error, StorageTimeoutError)
        assert "did not react for 0.3 s" in str(error)


@pytest.mark.requirement("S4.52")
async def test_slow_is_not_deaf(make: Make) -> None:
    plugin = make(
        """
        async def get(self, key, **_):
            await asyncio.sleep(0.4)
            return b"late"
        """,
        launch={"patience": 0.1},
    )
    async with plugin:
        assert await plugin.get("a") == b"late"


@pytest.mark.requirement("S4.52")
async def test_an_operations_timeout_ends_an_endless_loop(make: Make) -> None:
    instance = make(
        """
        async def delete(self, key):
            while True: pass
        async def get(self, key, **_):
            return b"again"
        """,
        launch={"cancel_grace": 0.2},
    )
    plugin = guarded(instance, name="mine", timeout=0.2)
    async with plugin:
        error = await failing(plugin.delete("a"), OperationTimeoutError)
        assert error.is_backend_failure
    async with guarded(type(instance)(instance.config), name="mine") as again:
        assert await again.get("a") == b"again"


async def test_a_call_that_ignores_its_cancellation_harms_no_other(make: Make) -> None:
    plugin = make(
        """
        async def delete(self, key):
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass
        async def get(self, key, **_):
            return str(os.getpid()).encode()
        """,
        launch={"cancel_grace": 0.2, "close_grace": 0.5},
    )
    async with plugin:
        pid = await plugin.get("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await plugin.delete("a")
        assert await plugin.get("a") == pid


async def test_a_close_that_hangs_is_cut_short(make: Make) -> None:
    plugin = make(
        """
        async def _close(self):
            time.sleep(3600)
        """,
        launch={"close_grace": 0.2, "cancel_grace": 0.1},
    )
    await plugin.initialize()
    before = time.monotonic()
    await failing(plugin.dispose(), OperationTimeoutError)
    assert time.monotonic() - before < 2
    assert plugin.process is None


async def test_what_closing_raises_is_told_and_the_process_ends(make: Make) -> None:
    plugin = make(
        """
        async def _close(self):
            raise StorageError("not now")
        """
    )
    await plugin.initialize()
    pid = plugin.process.pid
    await failing(plugin.dispose(), StorageError)
    assert pid not in children()


async def test_an_instance_that_is_not_connected_says_so(make: Make) -> None:
    plugin = make("async def stats(self): ...")
    await failing(plugin.stats(), InvalidStateError)
    async with plugin:
        pass
    await failing(plugin.stats(), InvalidStateError)


async def test_callers_share_one_start(make: Make) -> None:
    plugin = make(
        """
        async def get(self, key, **_):
            return str(os.getpid()).encode()
        async def delete(self, key):
            os._exit(1)
        """
    )
    async with plugin:
        await failing(plugin.delete("a"), ConnectionFailedError)
        assert len(set(await asyncio.gather(*(plugin.get("a") for _ in range(20))))) == 1


async def test_a_start_that_is_cancelled_leaves_nothing(make: Make) -> None:
    plugin = make("async def _connect(self):\n    await asyncio.sleep(3600)")
    before = children()
    for seconds in (0.0, 0.05, 0.5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await plugin.initialize()
        assert children() == before


# -- a hostile child ---------------------------------------------------------------------

HEAD = struct.Struct("!BBQI")
PIPE_OF_THE_WORKER = """
def pipe():
    import gc
    from purveyor.providers.registry.plugins.wire import Wire
    (wire,) = [one for one in gc.get_objects() if isinstance(one, Wire)]
    return wire._writer.transport.get_extra_info("pipe").fileno()

def say(data):
    os.set_blocking(pipe(), True)
    while data:
        data = data[os.write(pipe(), data):]
"""
NUMBER_OF_THE_CALL = """
import struct
from purveyor.providers.registry.plugins.wire import CHUNK, MAX_ITEM
from purveyor.providers.registry.plugins.worker import Worker

HEAD = struct.Struct("!BBQI")

def number_of_the_call():
    import gc
    (worker,) = [one for one in gc.get_objects() if isinstance(one, Worker)]
    return max(worker._calls)
"""


NO_FRAMES = (
    r"b'\xff' * 100",
    "HEAD.pack(4, 0, call, 0xFFFFFFFF)",
    "HEAD.pack(4, 0, call, CHUNK + 1) + bytes(CHUNK + 1)",
    r"HEAD.pack(4, 0, call, 4) + b'\xff\xff\xff\xff'",
    "HEAD.pack(4, 0, call, 3) + b'abc'",
    "HEAD.pack(4, 0, 999, 0)",
    "HEAD.pack(4, 0, call, 9) + struct.pack('!I', 5) + b'[1,2]'",
    "HEAD.pack(4, 0, call, 10_004) + struct.pack('!I', 10_000) + b'[' * 10_000",
    "HEAD.pack(4, 0, call, 10_008) + struct.pack('!I', 10_004) + b'1' * 10_000 + b',[]]'",
    "HEAD.pack(5, 0, call, 10) + struct.pack('!I', 6) + b'[7,[]]'",
    "HEAD.pack(8, 0, call, 13) + struct.pack('!I', 9) + b'[null,[]]'",
    "HEAD.pack(9, 0, call, 13) + struct.pack('!I', 9) + b'[null,[]]'",
    "HEAD.pack(12, 0, 0, 0)",
    "HEAD.pack(1, 0, 0, 13) + struct.pack('!I', 9) + b'[null,[]]'",
    "b''.join(HEAD.pack(4, 1, number, 0) for number in range(5000))",
    "(HEAD.pack(8, 1, call, CHUNK) + bytes(CHUNK)) * (MAX_ITEM // CHUNK + 1)",
)
"""What the plugin writes to its pipe; ``call`` is the number of the call that is waited for."""


@pytest.mark.requirement("S4.52")
async def test_a_frame_that_breaks_the_rules_ends_the_process(make: Make) -> None:
    plugin = make(
        """
        async def delete(self, key):
            say(eval(key, globals(), {"call": number_of_the_call()}))
            await asyncio.sleep(3600)
        async def get(self, key, **_):
            return str(os.getpid()).encode()
        """,
        PIPE_OF_THE_WORKER + NUMBER_OF_THE_CALL,
    )
    async with plugin:
        for frame in NO_FRAMES:
            before = await plugin.get("a")
            error = await failing(plugin.delete(frame), StorageConnectionError)
            assert "broke the protocol" in str(error), frame
            assert len(str(error)) < 1000
            assert await plugin.get("a") != before, frame


async def test_more_items_than_were_asked_for_end_the_process(make: Make) -> None:
    item = struct.pack("!I", 16) + b'[{"bytes":0},[]]'
    plugin = make(
        f"""
        async def stream(self, key, **_):
            yield b"x"
            say(b"".join([{HEAD.pack(8, 0, 3, 20)!r} + {item!r}] * 20))
            await asyncio.sleep(3600)
        """,
        PIPE_OF_THE_WORKER,
    )
    async with plugin:
        with pytest.raises(StorageConnectionError, match="broke the protocol"):
            async for _ in plugin.stream("a"):
                await asyncio.sleep(0.05)


async def test_a_pipe_closed_in_mid_stream(make: Make) -> None:
    plugin = make(
        """
        async def stream(self, key, **_):
            yield b"first"
            await asyncio.sleep(0.05)
            os.close(pipe())
            await asyncio.sleep(3600)
        """,
        PIPE_OF_THE_WORKER,
    )
    async with plugin:
        chunks = plugin.stream("a")
        assert await anext(chunks) == b"first"
        error = await failing(anext(chunks), StorageConnectionError)
    assert "closed its pipe" in str(error)


async def test_a_plugin_that_never_reads_its_pipe_blocks_nobody_for_ever(make: Make) -> None:
    plugin = make(
        """
        async def delete(self, key):
            time.sleep(3600)
        async def put(self, key, data, **_): ...
        """,
        launch={"patience": 0.3},
    )
    async with plugin:
        calls = [plugin.delete("a"), *(plugin.put("a", bytes(CHUNK - 1)) for _ in range(20))]
        errors = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, StorageTimeoutError) for error in errors)


async def test_printing_is_no_answer(make: Make) -> None:
    plugin = make(
        """
        async def get(self, key, **_):
            print("a" * 1000)
            os.write(1, b"b" * 1000)
            sys.stderr.write("c" * 1_000_000)
            assert sys.stdin.read() == ""
            return b"right"
        """
    )
    async with plugin:
        assert await plugin.get("a") == b"right"


async def test_an_answer_too_large_to_be_one_fails_its_call_alone(make: Make) -> None:
    plugin = make(
        f"""
        async def search(self, query, *, limit=100):
            from datetime import datetime, UTC
            return [ObjectInfo("x" * {MAX_JSON}, 1, datetime.now(UTC))]
        async def stream(self, key, **_):
            yield bytes({MAX_ITEM + 1})
        async def get(self, key, **_):
            return b"right"
        """
    )
    async with plugin:
        assert "too large" in str(await failing(plugin.search("x"), StorageError))
        with pytest.raises(StorageError, match="may cross at a time"):
            _ = [one async for one in plugin.stream("a")]
        assert await plugin.get("a") == b"right"


# -- limits ------------------------------------------------------------------------------

LOOKING = """
    async def get(self, key, **_):
        import json, resource
        from pathlib import Path
        return json.dumps({
            "environment": dict(os.environ),
            "descriptors": sorted(int(one) for one in os.listdir("/proc/self/fd")),
            "folder": os.listdir(), "cwd": os.getcwd(),
            "temporary": __import__("tempfile").gettempdir(),
            "limits": {name: resource.getrlimit(getattr(resource, name)) for name in (
                "RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_CORE")},
            "session": os.getsid(0) == os.getpid(),
            "status": Path("/proc/self/status").read_text(),
            "interfaces": sorted(os.listdir("/sys/class/net")),
            "uid": os.getuid(),
            "path": sys.path,
        }).encode()
"""


@LINUX
@pytest.mark.requirement("S4.52")
async def test_the_process_has_nothing_it_was_not_given(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_SECRET", "hush")
    plugin = make(LOOKING, memory=256 * 1024 * 1024, cpu_seconds=99, open_files=32)
    ours = socket.socket()
    os.set_inheritable(ours.fileno(), True)
    with ours:
        async with plugin:
            seen = json.loads(await plugin.get("a"))
            assert await asyncio.to_thread(os.listdir, seen["cwd"]) == []
    assert set(seen["environment"]) <= {"LC_CTYPE", "LD_LIBRARY_PATH"}
    # 0 to 2, the pipe's two ends, the event loop's three; one was open to list them.
    assert len(seen["descriptors"]) <= 9
    assert seen["limits"]["RLIMIT_AS"] == [256 * 1024 * 1024] * 2
    assert seen["limits"]["RLIMIT_CPU"] == [99, 100]
    assert seen["limits"]["RLIMIT_NOFILE"] == [32, 32]
    assert seen["limits"]["RLIMIT_CORE"] == [0, 0]
    assert seen["session"]
    assert seen["folder"] == []
    assert seen["temporary"] == seen["cwd"]
    assert seen["uid"] == os.getuid()
    assert "NoNewPrivs:\t1" in seen["status"]
    with pytest.raises(FileNotFoundError):
        await asyncio.to_thread(os.listdir, seen["cwd"])


@LINUX
@pytest.mark.requirement("S4.52")
async def test_the_process_has_no_network(make: Make) -> None:
    body = """
        async def get(self, key, **_):
            host, port = key.split(":")
            with socket.create_connection((host, int(port)), timeout=5):
                return b"connected"
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        closed, opened = make(body), make(body, network=True)
        async with closed, opened:
            if not closed.process.confinement["no_network"]:
                pytest.skip("this system lets no process without privileges leave the network")
            await failing(closed.get(place), StorageError)
            assert await opened.get(place) == b"connected"
            assert opened.process.confinement["no_network"] is False


@LINUX
@pytest.mark.requirement("S4.52")
async def test_the_process_sends_signals_to_its_own_only(make: Make) -> None:
    plugin = make(
        """
        async def exists(self, key):
            child = os.fork()
            if not child:
                time.sleep(3600)
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1] == signal.SIGKILL
        async def delete(self, key):
            os.kill(os.getppid(), 0)
        """
    )
    async with plugin:
        if not plugin.process.confinement["no_signals"]:
            pytest.skip("this kernel has no Landlock that scopes signals (6.12)")
        assert await plugin.exists("a")
        error = await failing(plugin.delete("a"), StorageError)
    assert "not permitted" in str(error)


@LINUX
async def test_the_process_has_no_powers_in_its_namespace(make: Make) -> None:
    plugin = make(LOOKING)
    async with plugin:
        seen = json.loads(await plugin.get("a"))
        if not plugin.process.confinement["own_user_namespace"]:
            pytest.skip("this system lets no process without privileges make a namespace")
    assert "CapEff:\t0000000000000000" in seen["status"]
    assert "CapPrm:\t0000000000000000" in seen["status"]


@LINUX
@pytest.mark.requirement("S4.52")
async def test_memory_is_bounded(make: Make) -> None:
    plugin = make(
        """
        async def get(self, key, **_):
            return bytes(400 * 1024 * 1024)[:1]
        async def exists(self, key):
            return True
        """,
        memory=256 * 1024 * 1024,
    )
    async with plugin:
        error = await failing(plugin.get("a"), StorageError)
        assert "MemoryError" in str(error)
        assert error.is_backend_failure
        assert await plugin.exists("a")


@LINUX
@pytest.mark.requirement("S4.52")
async def test_processor_time_is_bounded(make: Make) -> None:
    plugin = make("async def delete(self, key):\n    while True: pass", cpu_seconds=1)
    async with plugin:
        error = await failing(plugin.delete("a"), StorageConnectionError)
    assert "SIGXCPU" in str(error)


@LINUX
async def test_open_files_are_bounded(make: Make) -> None:
    plugin = make(
        "async def delete(self, key):\n    self.files = [open(os.devnull) for _ in range(100)]",
        open_files=32,
    )
    async with plugin:
        error = await failing(plugin.delete("a"), StorageError)
    assert "open files" in str(error)


@LINUX
async def test_what_the_plugin_started_ends_with_it(make: Make) -> None:
    plugin = make(
        """
        async def get(self, key, **_):
            pid = os.fork()
            if not pid:
                time.sleep(3600)
            return str(pid).encode()
        async def delete(self, key):
            os._exit(0)
        """
    )
    async with plugin:
        first = int(await plugin.get("a"))
        await failing(plugin.delete("a"), ConnectionFailedError)
        second = int(await plugin.get("a"))
    assert gone(first)
    assert gone(second)


@LINUX
def test_a_parent_that_is_killed_takes_the_plugin_along(plugins: Path, tmp_path: Path) -> None:
    body = "async def delete(self, key):\n    while True: pass"
    write_plugin(plugins, "sample", storage(body))
    program = f"""
        import asyncio, os, signal
        from pathlib import Path
        from tests.providers.registry.plugin_samples import provider_class
        async def main():
            cls = provider_class(Path({str(plugins)!r}), "sample")
            plugin = cls(cls.config_class())
            await plugin.initialize()
            print(plugin.process.pid, flush=True)
            call = asyncio.create_task(plugin.delete("a"))
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        import purveyor.providers.storage
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TMPDIR": str(tmp_path)},  # nobody is left to empty it
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == -9, done.stderr
    assert gone(int(done.stdout))


def gone(pid: int) -> bool:
    """Wait until a process has ended; whoever inherited it may be slow to reap it."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


# -- nothing is left ---------------------------------------------------------------------


@LINUX
async def test_a_dozen_starts_and_stops_leave_nothing(plugins: Path) -> None:
    copy_example(plugins)
    cls = provider_class(plugins, "memory")

    async def cycle(number: int) -> None:
        plugin = cls(cls.config_class())
        await plugin.initialize()
        await plugin.put("a", bytes(10))
        if number % 3 == 0:
            os.kill(plugin.process.pid, 9)
            with contextlib.suppress(ProviderError):
                await plugin.get("a")
        await plugin.dispose()

    await cycle(0)
    before = descriptors(), len(asyncio.all_tasks()), children()
    for start in range(1, 13, 4):
        await asyncio.gather(*(cycle(start + number) for number in range(4)))
    assert (descriptors(), len(asyncio.all_tasks()), children()) == before


@LINUX
def test_a_loop_that_ends_without_closing_leaves_no_process(plugins: Path) -> None:
    copy_example(plugins)
    cls = provider_class(plugins, "memory")
    pids: list[int] = []

    async def forgets() -> None:
        plugin = cls(cls.config_class())
        await plugin.initialize()
        pids.append(plugin.process.pid)

    asyncio.run(forgets())
    assert not children() & set(pids)
