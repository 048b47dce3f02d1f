"""
What asking a model costs beside the official SDKs: ``uv run python benchmarks/ai.py``.

CPU of this process for one ``complete`` call, and for a stream of 1,000 pieces, by our provider
and by the SDK's asynchronous client, in turn, against a server on loopback in a process of its own
that has its answers ready. LiteLLM beside it where that is installed. Then what importing a
provider type adds to a process that has Purveyor, over importing the SDK there; and with aiohttp,
which is imported when the provider connects.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from aiohttp import web
from measure import ratio, rounds, table, verdict
from pydantic import SecretStr

from purveyor.providers.ai import AIProvider
from purveyor.providers.ai.anthropic import AnthropicConfig, AnthropicProvider
from purveyor.providers.ai.openai import OpenAIConfig, OpenAIProvider
from purveyor.providers.registry import guarded

ROUNDS = 7
CALLS = 100
STREAMS = 5
PIECES = 1_000
KEY = "sk-benchmark"
WORDS = [f"wave {number:04}, " for number in range(PIECES)]  # LiteLLM refuses to hear one twice
PROMPT = "Tell me of the sea."
TEXT, ALL = "".join(WORDS[:80]), sum(map(len, WORDS))

Asking = Callable[[], Awaitable[object]]


# -- the services, with all they say made beforehand -------------------------------------


def _event(data: Mapping[str, Any], name: str = "") -> bytes:
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(data)}\n\n".encode()


def _anthropic() -> tuple[bytes, list[bytes]]:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 200},
    }
    begun = {**message, "content": [], "stop_reason": None}
    block = {"type": "text", "text": ""}
    deltas = [{"type": "text_delta", "text": word} for word in WORDS]
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    data: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *[{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": PIECES}},
        {"type": "message_stop"},
    ]
    return json.dumps(message).encode(), [_event(one, one["type"]) for one in data]


def _openai() -> tuple[bytes, list[bytes]]:
    usage = {"prompt_tokens": 9, "completion_tokens": 200, "total_tokens": 209}
    top = {"id": "chatcmpl-1", "created": 1, "model": "m"}
    said = {"role": "assistant", "content": TEXT, "refusal": None}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": "stop"}
    answer = {**top, "object": "chat.completion", "choices": [choice], "usage": usage}

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**top, "object": "chat.completion.chunk", "choices": [choice]})

    last = _event({**top, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    pieces = [chunk({"content": word}) for word in WORDS]
    first = chunk({"role": "assistant", "content": ""})
    return json.dumps(answer).encode(), [
        first,
        *pieces,
        chunk({}, "stop"),
        last,
        b"data: [DONE]\n\n",
    ]


def _serve(pipe: Connection) -> None:
    async def run() -> None:
        application = web.Application()
        for path, (answer, events) in {
            "/v1/messages": _anthropic(),
            "/v1/chat/completions": _openai(),
        }.items():
            application.router.add_post(path, _handler(answer, events))
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


def _handler(answer: bytes, events: list[bytes]) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.StreamResponse:
        if not (await request.json()).get("stream"):
            return web.Response(body=answer, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(event)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    return handle


# -- who asks ----------------------------------------------------------------------------


async def _ours(provider: AIProvider[Any]) -> tuple[Asking, Asking]:
    async def complete() -> None:
        answer = await provider.complete(PROMPT)
        assert len(answer.text) == len(TEXT)

    async def stream() -> None:
        count = 0
        async for chunk in provider.stream(PROMPT):
            count += len(chunk.text)
        assert count == ALL

    return complete, stream


def _anthropic_sdk(url: str) -> tuple[Asking, Asking]:
    import anthropic

    client = anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0)
    asked: dict[str, Any] = {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": PROMPT}],
    }

    async def complete() -> None:
        answer = await client.messages.create(**asked)
        assert len(answer.content[0].text) == len(TEXT)

    async def stream() -> None:
        count = 0
        async for event in await client.messages.create(**asked, stream=True):
            if event.type == "content_block_delta":
                count += len(event.delta.text)
        assert count == ALL

    return complete, stream


def _openai_sdk(url: str) -> tuple[Asking, Asking]:
    import openai

    client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0)
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
    return _chat(client.chat.completions.create, asked)


def _litellm(url: str, service: str) -> tuple[Asking, Asking]:
    import litellm  # pyright: ignore[reportMissingImports] - if it is there

    litellm.suppress_debug_info = True

    base = f"{url}/v1" if service == "openai" else url
    asked: dict[str, Any] = {
        "model": f"{service}/m",
        "messages": [{"role": "user", "content": PROMPT}],
        "api_base": base,
        "api_key": KEY,
    }
    return _chat(litellm.acompletion, asked)


def _chat(create: Callable[..., Any], asked: Mapping[str, Any]) -> tuple[Asking, Asking]:
    async def complete() -> None:
        answer = await create(**asked)
        assert len(answer.choices[0].message.content) == len(TEXT)

    async def stream() -> None:
        count = 0
        async for chunk in await create(**asked, stream=True):
            if chunk.choices:
                count += len(chunk.choices[0].delta.content or "")
        assert count == ALL

    return complete, stream


# -- measuring ---------------------------------------------------------------------------


async def _calls(url: str) -> None:
    anthropic = AnthropicProvider(AnthropicConfig(base_url=url, api_key=SecretStr(KEY), model="m"))
    openai = OpenAIProvider(OpenAIConfig(base_url=f"{url}/v1", api_key=SecretStr(KEY), model="m"))
    ours = {"anthropic": guarded(anthropic, name="a"), "openai": guarded(openai, name="o")}
    sdks = {"anthropic": _anthropic_sdk, "openai": _openai_sdk}
    for service, provider in ours.items():
        askers = {"purveyor": await _ours(provider), "SDK": sdks[service](url)}
        if importlib.util.find_spec("litellm"):
            askers["LiteLLM"] = _litellm(url, service)
        for what, place, times in (("a call", 0, CALLS), (f"{PIECES} pieces", 1, STREAMS)):
            asking = {name: pair[place] for name, pair in askers.items()}
            figures = await _rounds(asking, times)
            print(f"\n{service}: {what}")
            table(figures, "ms of CPU", "SDK")
            verdict(f"{service}, {what}, over the SDK", ratio(figures, "purveyor", "SDK"), 0.5)
        await provider.dispose()


async def _rounds(asking: Mapping[str, Asking], times: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in asking}
    for number in range(ROUNDS + 1):
        for name, ask in asking.items():
            started = time.process_time()
            for _ in range(times):
                await ask()
            if number:
                figures[name].append(1000 * (time.process_time() - started) / times)
    return figures


def _cpu_of(code: str) -> Callable[[], float]:
    """Return a measurement of the CPU milliseconds of ``code`` in a process that has Purveyor."""
    program = (
        f"import time, purveyor.containers\nbegun = time.process_time()\n{code}\n"
        "print(1000 * (time.process_time() - begun))"
    )

    def measure() -> float:
        ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
        return float(ran.stdout)

    return measure


def _imports() -> None:
    for service in ("anthropic", "openai"):
        ours = f"import purveyor.providers.ai.{service}"
        candidates = {
            "the type": ours,
            "and aiohttp": f"{ours}, aiohttp",
            "the SDK": f"import {service}",
        }
        figures = rounds({name: _cpu_of(code) for name, code in candidates.items()}, ROUNDS)
        print(f"\n{service}: imports")
        table(figures, "ms of CPU", "the SDK")
        found = ratio(figures, "the type", "the SDK")
        verdict(f"{service}, import of the type over the SDK", found, 0.15)


def main() -> None:
    """Measure calls, streams and imports."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs,), daemon=True
    )
    server.start()
    try:
        asyncio.run(_calls(f"http://127.0.0.1:{ours.recv()}"))
    finally:
        server.terminate()
        server.join()
    _imports()


if __name__ == "__main__":
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    main()
