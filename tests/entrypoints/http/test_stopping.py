"""How streams learn that the service ends."""

from __future__ import annotations

import asyncio

import pytest

from purveyor.entrypoints.http.stopping import Stopping


async def test_whoever_waits_is_told_and_whoever_comes_later_does_not_wait() -> None:
    stopping = Stopping()
    streams = [asyncio.create_task(stopping.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not stopping.is_set()
    stopping.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*streams)
        await stopping.wait()
    assert stopping.is_set()


async def test_streams_of_another_event_loop_are_told_too() -> None:
    stopping, waits = Stopping(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def stream() -> None:
        loop.call_soon_threadsafe(waits.set)
        await asyncio.wait_for(stopping.wait(), 5)

    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, stream()))
    await waits.wait()
    stopping.set()
    await asyncio.wait_for(thread, 5)


async def test_a_stream_whose_client_has_gone_is_forgotten() -> None:
    stopping = Stopping()
    stream = asyncio.create_task(stopping.wait())
    await asyncio.sleep(0)
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert stopping._waiting == set()


async def test_a_service_that_starts_again_is_not_ending() -> None:
    stopping = Stopping()
    stopping.set()
    stopping.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stopping.wait(), 0.01)
