"""Bytes on their way: cut into blocks, worked on by threads, in order and in bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar, TypeVarTuple

__all__ = ["BLOCK_SIZE", "Chunks", "after", "blocks", "in_order", "joined", "trimmed", "worked"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
ArgsT = TypeVarTuple("ArgsT")

Chunks = AsyncGenerator[bytes, None]

BLOCK_SIZE = 1024 * 1024
"""Bytes of content that are worked on at a time."""
_WORTH_A_THREAD = 64 * 1024
"""Bytes; less is done sooner than a thread is woken."""


async def blocks(chunks: Chunks, size: int) -> AsyncGenerator[tuple[bytes, bool], None]:
    """
    Yield bytes in blocks of ``size``, each with whether it is the last.

    The last one may be shorter, and is empty only if there is nothing at all.
    """
    held: list[memoryview] = []
    length = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            view = memoryview(chunk)
            while length + len(view) > size:
                missing = size - length
                yield _whole([*held, view[:missing]]), False
                view, held, length = view[missing:], [], 0
            held.append(view)
            length += len(view)
    yield _whole(held), True


def _whole(parts: list[memoryview]) -> bytes:
    """Return parts as one; copied only if they are not one as they came."""
    parts = [part for part in parts if part]
    if len(parts) == 1 and isinstance(parts[0].obj, bytes) and len(parts[0].obj) == len(parts[0]):
        return parts[0].obj
    return b"".join(parts)


async def in_order(
    items: AsyncGenerator[ItemT, None], function: Callable[[ItemT], Awaitable[ResultT]], width: int
) -> AsyncGenerator[ResultT, None]:
    """Yield what ``function`` makes of each item, ``width`` of them under way at once."""
    under_way: deque[asyncio.Future[ResultT]] = deque()
    try:
        async with aclosing(items):
            async for item in items:
                under_way.append(asyncio.ensure_future(function(item)))
                if len(under_way) >= width:
                    yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for one in under_way:
            one.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def worked(
    function: Callable[[bytes, *ArgsT], ResultT], data: bytes, *args: *ArgsT
) -> ResultT:
    """Return ``function(data, ...)``, computed in a thread where that is worth it."""
    if len(data) < _WORTH_A_THREAD:
        return function(data, *args)
    return await asyncio.to_thread(function, data, *args)


async def joined(chunks: AsyncIterable[bytes]) -> bytes:
    """Return all of it."""
    return b"".join([chunk async for chunk in chunks])


async def after(head: bytes, chunks: Chunks) -> Chunks:
    """Yield ``head``, and then what is left of ``chunks``."""
    if head:
        yield head
    async for chunk in chunks:
        yield chunk


async def trimmed(chunks: Chunks, start: int, end: int | None) -> Chunks:
    """Yield what of the bytes is from ``start`` up to ``end``."""
    place = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            begin = max(0, start - place)
            part = chunk[begin : None if end is None else max(0, end - place)]
            place += len(chunk)
            if part:
                yield part
            if end is not None and place >= end:
                return
