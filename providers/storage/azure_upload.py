"""A large blob, put in blocks that become one blob all at once."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Mapping

from ..azure.requests import Answer, Request, ask, commit
from .azure_config import AzureBlobStorageConfig

__all__ = ["put_blocks"]


async def put_blocks(
    config: AzureBlobStorageConfig,
    key: str,
    chunks: AsyncIterator[bytes],
    headers: Mapping[str, str],
) -> Answer:
    """
    Send blocks, then the list that makes a blob of them, with ``headers``.

    Not by obstore, whose uploads in blocks know no condition. What a put that fails has sent is
    seen by nobody; Azure drops it after a week, or when another put of the key is through.

    Raises:
        ServiceError: The service refused, or did not answer.
    """
    upload = secrets.token_hex(8)  # two puts of one key at once share no blocks
    names: list[str] = []
    free = asyncio.Semaphore(config.max_concurrency)

    async def send(name: str, block: bytes) -> None:
        try:
            await ask(config, Request("PUT", {"comp": "block", "blockid": name}, key, body=block))
        finally:
            free.release()

    try:
        async with asyncio.TaskGroup() as group:
            async for block in _blocks(chunks, config.part_size):
                await free.acquire()
                names.append(base64.b64encode(f"{upload}-{len(names):05}".encode()).decode())
                group.create_task(send(names[-1], block))
    except BaseExceptionGroup as failures:
        first = failures.exceptions[0]
        raise first from first.__cause__
    # Not "Uncommitted", which they are no longer if this has to be sent twice.
    parts = "".join(f"<Latest>{name}</Latest>" for name in names)
    body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{parts}</BlockList>'.encode()
    return await commit(config, Request("PUT", {"comp": "blocklist"}, key, headers, body))


async def _blocks(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Join chunks into blocks of at most ``size`` bytes, in which only large chunks are cut."""
    waiting: list[bytes] = []
    room = size
    async for chunk in chunks:
        for at in range(0, len(chunk), size):
            piece = chunk[at : at + size]
            if len(piece) > room:
                yield b"".join(waiting)
                waiting, room = [], size
            waiting.append(piece)
            room -= len(piece)
    yield b"".join(waiting)
