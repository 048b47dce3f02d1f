"""The type local: a server of this machine, running or started, and never left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.ai.errors import ApplicationNotRunningError, ServiceTimeoutError
from purveyor.providers.ai.local import LocalConfig, LocalProvider
from purveyor.providers.registry import guarded
from purveyor.testing.conformance.ai_case import drained, until
from purveyor.testing.doubles import OpenAIDouble

SERVER = """
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, folder, *how = sys.argv[1:]
open(os.path.join(folder, "pid"), "w").write(str(os.getpid()))
print("starting on", port, flush=True)
if "family" in how:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    open(os.path.join(folder, "child"), "w").write(str(child.pid))
if "fails" in how:
    sys.exit("no model here")
if "sleeps" in how:
    time.sleep(60)
if "stubborn" in how:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
asked = 0

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        global asked
        asked += 1
        if "loads" in how and asked < 3:
            self.answer(503, {"error": {"message": "Loading model", "code": 503}})
        else:
            self.answer(200, {"object": "list", "data": [{"id": "llama"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["messages"][-1]["content"] == "die":
            os._exit(7)
        message = {"role": "assistant", "content": "Moo"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.answer(200, {"model": body["model"], "choices": [choice]})

    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


def started(folder: Path, *how: str, **changes: Any) -> LocalConfig:
    script = folder / "server.py"
    script.write_text(SERVER)
    command = [sys.executable, str(script), "{port}", str(folder), *how]
    return LocalConfig.model_validate(
        {"command": command, "model": "llama", "start_timeout": 15, "stop_timeout": 2, **changes}
    )


def pid_in(folder: Path, name: str = "pid") -> int:
    return int((folder / name).read_text())


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


def soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


# -- settings ----------------------------------------------------------------------------


def test_nothing_must_be_set():
    settings = LocalConfig()
    assert settings.base_url == "http://127.0.0.1:11434/v1"
    assert (settings.api_key, settings.command) == (None, ())


@pytest.mark.parametrize(
    "url", ["http://[::1]:8080/v1", "http://localhost:1234", "http://127.1.2.3"]
)
def test_every_address_of_this_machine_is_local(url: str):
    assert LocalConfig.model_validate({"base_url": url}).base_url == url


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "http://192.168.1.7:11434/v1"])
def test_another_machine_is_not_local(url: str):
    with pytest.raises(ValidationError, match="for another one use the type openai"):
        LocalConfig.model_validate({"base_url": url})


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "--port", "{port}", "a b"],
        'serve --port {port} "a b"',
        '["serve", "--port", "{port}", "a b"]',
    ],
)
def test_a_command_is_a_list_or_a_text_no_shell_reads(command: Any):
    settings = LocalConfig.model_validate({"command": command})
    assert settings.command == ("serve", "--port", "{port}", "a b")


@pytest.mark.parametrize("command", ['serve "', '["serve"', [""]])
def test_what_is_no_command_is_refused(command: Any):
    with pytest.raises(ValidationError, match="command"):
        LocalConfig.model_validate({"command": command})


# -- attached ----------------------------------------------------------------------------


async def test_a_running_server_needs_no_key():
    with OpenAIDouble(max_tokens_field="max_tokens") as double:
        double.key = "none"
        settings = LocalConfig(base_url=double.base_url, model="model-a", max_tokens=5)
        async with guarded(LocalProvider(settings), name="local") as model:
            with pytest.raises(PermissionError):  # the double does
                await model.complete("Hello")
    assert "Authorization" not in double.last.headers


async def test_no_server_is_told_with_what_to_do():
    with OpenAIDouble() as gone:
        pass
    settings = LocalConfig(base_url=gone.base_url, model="m", retries=0)
    async with guarded(LocalProvider(settings), name="local") as model:
        for call in (lambda: model.complete("Hello"), lambda: drained(model.stream("Hello"))):
            with pytest.raises(ApplicationNotRunningError, match="`ollama serve`") as caught:
                await call()
            assert gone.base_url in str(caught.value)


# -- started -----------------------------------------------------------------------------


async def test_a_server_is_started_on_a_free_port_and_ended(tmp_path: Path):
    async with guarded(LocalProvider(started(tmp_path)), name="local") as model:
        assert [info.id for info in await model.models()] == ["llama"]
        assert (await model.complete("Hello")).text == "Moo"
        assert not is_gone(pid_in(tmp_path))
    assert is_gone(pid_in(tmp_path))


async def test_two_of_them_are_two(tmp_path: Path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    first, second = (LocalProvider(started(folder)) for folder in folders)
    await asyncio.gather(first.initialize(), second.initialize())
    await first.dispose()
    assert (await second.complete("Hello")).text == "Moo"
    await second.dispose()
    assert is_gone(pid_in(folders[0]))
    assert is_gone(pid_in(folders[1]))


async def test_a_model_that_is_being_loaded_is_waited_for(tmp_path: Path):
    async with LocalProvider(started(tmp_path, "loads", retries=0)) as model:
        assert (await model.complete("Hello")).text == "Moo"


async def test_an_early_end_is_told_with_status_and_output(tmp_path: Path):
    with pytest.raises(ApplicationNotRunningError, match="ended with status 1") as caught:
        await LocalProvider(started(tmp_path, "fails")).initialize()
    assert "starting on" in str(caught.value)
    assert "no model here" in str(caught.value)
    assert caught.value.context["exit_status"] == 1


async def test_a_late_end_is_told_too(tmp_path: Path):
    async with guarded(LocalProvider(started(tmp_path, retries=0)), name="local") as model:
        with pytest.raises(ConnectionError):
            await model.complete("die")
        await until(lambda: is_gone(pid_in(tmp_path)), "it is gone")
        with pytest.raises(ConnectionError):
            await model.complete("Hello")
        await until(lambda: model._server._process.poll() is not None, "its guard is gone")  # type: ignore[union-attr]
        with pytest.raises(ApplicationNotRunningError, match="ended with status 7"):
            await model.complete("Hello")


async def test_what_does_not_get_ready_is_ended(tmp_path: Path):
    with pytest.raises(ServiceTimeoutError, match=r"within 0\.5 s \(start_timeout\)"):
        await LocalProvider(started(tmp_path, "sleeps", start_timeout=0.5)).initialize()
    assert is_gone(pid_in(tmp_path))


async def test_who_is_cancelled_while_it_starts_leaves_nothing(tmp_path: Path):
    task = asyncio.create_task(LocalProvider(started(tmp_path, "sleeps")).initialize())
    await until((tmp_path / "pid").exists, "it runs")
    await until(lambda: bool((tmp_path / "pid").read_text()), "it has a number")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert soon(lambda: is_gone(pid_in(tmp_path)))


async def test_what_does_not_end_is_made_to(tmp_path: Path):
    async with LocalProvider(started(tmp_path, "stubborn", stop_timeout=0.2)) as model:
        assert await model.models()
    assert is_gone(pid_in(tmp_path))


@pytest.mark.parametrize("how", ["closed", "dies"])
async def test_what_a_server_has_started_ends_with_it(tmp_path: Path, how: str):
    async with LocalProvider(started(tmp_path, "family", retries=0)) as model:
        assert await model.models()
        assert not is_gone(pid_in(tmp_path, "child"))
        if how == "dies":
            with pytest.raises(ConnectionError):
                await model.complete("die")
            await until(lambda: is_gone(pid_in(tmp_path, "child")), "its child is gone")
    assert soon(lambda: is_gone(pid_in(tmp_path, "child")))


async def test_no_such_program_is_told(tmp_path: Path):
    settings = LocalConfig(command=("no-such-program-here", "{port}"))
    with pytest.raises(ApplicationNotRunningError, match="no program 'no-such-program-here'"):
        await LocalProvider(settings).initialize()


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
async def test_a_dropped_provider_leaves_no_server(tmp_path: Path):
    model = LocalProvider(started(tmp_path))
    await model.initialize()
    await model._wire.close()  # type: ignore[union-attr] - of the server alone is the question
    del model
    gc.collect()
    assert soon(lambda: is_gone(pid_in(tmp_path)))


OWNER = """
import asyncio, sys
from pathlib import Path
from purveyor.providers.ai.local import LocalConfig, LocalProvider
async def main():
    model = LocalProvider(LocalConfig.model_validate_json(sys.argv[1]))
    await model.initialize()
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_a_server_ends_with_who_started_it_however_that_ends(tmp_path: Path):
    settings = started(tmp_path).model_dump_json(exclude_unset=True)
    with subprocess.Popen([sys.executable, "-c", OWNER, settings], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        os.kill(owner.pid, signal.SIGKILL)
    assert soon(lambda: is_gone(pid_in(tmp_path)))
