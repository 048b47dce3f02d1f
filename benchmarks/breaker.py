"""
What a guarded operation costs beside the call itself: ``uv run --group bench python
benchmarks/breaker.py``.

Instructions, counted by callgrind (Debian package ``valgrind``): each candidate runs in a
process of its own, where a call of ``getppid`` before and one after tell callgrind to start a
new account. Two such accounts, of few and of many calls, make a difference that is the calls'.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from measure import verdict

WARM_UP, FEW, MANY = 1_000, 500, 2_500
BARE, WRAPPER, OURS, PEER = "bare call", "empty wrapper", "purveyor", "circuitbreaker"


class Backend:
    """What is called."""

    def ask(self, key: str, *, fresh: bool) -> str:
        """Answer at once."""
        return key

    async def ask_later(self, key: str, *, fresh: bool) -> str:
        """Answer at once, asynchronously."""
        return key


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method in nothing."""

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    return wrapper


def wrapped_later(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an asynchronous method in nothing."""

    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await function(self, *args, **kwargs)

    return wrapper


def derived(**methods: Any) -> Any:
    """Return a backend with other methods."""
    return type("Derived", (Backend,), methods)()


async def provided() -> Any:
    """Return a provider from a registry, connected, as users have it."""
    from purveyor.providers.registry import (
        Family,
        Provider,
        ProviderConfig,
        ProviderRegistry,
        ProviderTypes,
        operation,
        register_provider,
    )

    class Sample(Provider[ProviderConfig]):
        """The same backend, as a provider."""

        family = "storage"

        async def _connect(self) -> None: ...

        async def check_health(self) -> None: ...

        ask = operation(Backend.ask)
        ask_later = operation(Backend.ask_later)

    types = ProviderTypes(scan_entry_points=False)
    types.add_family(Family("storage", fallback="sample"))
    register_provider("sample", types=types)(Sample)
    registry = ProviderRegistry[Any]("storage", types=types)
    return await registry.register("sample", {"type": "sample"}, start="ready")


async def candidate(name: str) -> Any:
    """Return the backend as ``name`` has it."""
    if name == BARE:
        return Backend()
    if name == WRAPPER:
        return derived(ask=wrapped(Backend.ask), ask_later=wrapped_later(Backend.ask_later))
    if name == OURS:
        return await provided()
    if name == PEER:
        from circuitbreaker import circuit

        return derived(
            ask=circuit(failure_threshold=5, recovery_timeout=300)(Backend.ask),
            ask_later=circuit(failure_threshold=5, recovery_timeout=300)(Backend.ask_later),
        )
    if name == "pybreaker":
        from pybreaker import CircuitBreaker

        return derived(ask=CircuitBreaker(fail_max=5, reset_timeout=300)(Backend.ask))
    if name == "aiobreaker":
        from aiobreaker import CircuitBreaker

        guard = CircuitBreaker(fail_max=5, timeout_duration=timedelta(seconds=300))
        return derived(ask_later=guard(Backend.ask_later))
    if name == "purgatory":
        from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory

        factory: Any = AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=300)
        sync_factory: Any = SyncCircuitBreakerFactory(default_threshold=5, default_ttl=300)
        return derived(
            ask=sync_factory("backend")(Backend.ask),
            ask_later=factory("backend")(Backend.ask_later),
        )
    raise ValueError(name)


SYNC = (BARE, WRAPPER, OURS, PEER, "purgatory", "pybreaker")
ASYNC = (BARE, WRAPPER, OURS, PEER, "purgatory", "aiobreaker")


async def accounts(name: str, mode: str) -> None:
    """Call a candidate between marks: what runs under callgrind."""
    backend = await candidate(name)
    gc.disable()
    for calls in (WARM_UP, FEW, MANY):
        if mode == "sync":
            ask: Callable[..., str] = backend.ask
            for _ in range(calls):
                ask("a", fresh=True)
        else:
            ask_later: Callable[..., Awaitable[str]] = backend.ask_later
            for _ in range(calls):
                await ask_later("a", fresh=True)
        os.getppid()


def per_call(task: tuple[str, str]) -> float:
    """Return the instructions of one call."""
    name, mode = task
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "callgrind.out")
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--dump-before=getppid"),
                *(f"--callgrind-out-file={output}", sys.executable, __file__, mode, name),
            ],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            check=True,
            capture_output=True,
        )
        few, many = (counted(output.with_suffix(f".out.{part}")) for part in (2, 3))
    return (many - few) / (MANY - FEW)


def counted(account: Path) -> int:
    """Return the instructions of an account that callgrind wrote."""
    found = re.search(r"^(?:summary|totals): (\d+)", account.read_text(), re.MULTILINE)
    assert found is not None, "callgrind wrote no total"
    return int(found[1])


def compare(mode: str, figures: dict[str, float]) -> None:
    """Print what each candidate adds to the bare call, and how that is to be judged."""
    added = {name: figure - figures[BARE] for name, figure in figures.items() if name != BARE}
    print(f"{mode + ', a call':20}  {'instructions':>12}  {'above bare':>10}  {'ratio':>6}")
    print(f"{BARE:20}  {figures[BARE]:12.0f}")
    for name, figure in added.items():
        ratio = figure / added[WRAPPER]
        print(f"{name:20}  {figures[name]:12.0f}  {figure:10.0f}  {ratio:6.2f}")
    print()
    verdict(f"{mode}: guard and breaker over an empty wrapper", added[OURS] / added[WRAPPER], 1.6)
    verdict(f"{mode}: guard and breaker over {PEER}", added[OURS] / added[PEER], 0.35)
    print()


def main() -> None:
    """Compare with the peers, in one run."""
    if len(sys.argv) == 3:
        asyncio.run(accounts(mode=sys.argv[1], name=sys.argv[2]))
        return
    if shutil.which("valgrind") is None:
        sys.exit("There is no valgrind. Install the Debian package: apt install valgrind")
    tasks = [(name, mode) for mode, names in (("sync", SYNC), ("async", ASYNC)) for name in names]
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        figures = dict(zip(tasks, pool.map(per_call, tasks), strict=True))
    for mode in ("sync", "async"):
        compare(mode, {name: figure for (name, one), figure in figures.items() if one == mode})


if __name__ == "__main__":
    main()
