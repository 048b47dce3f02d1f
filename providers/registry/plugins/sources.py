"""What a caller gives to be streamed into a plugin's process, in pieces that fit a frame."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, cast

from .wire import CHUNK

__all__ = ["chunks", "is_source"]


def is_source(name: str, value: object) -> bool:
    """
    Tell whether an argument is to be streamed; a few bytes are sent with the call.

    Raises:
        TypeError: It is nothing that could be.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return memoryview(cast(bytes, value)).nbytes >= CHUNK
    if not isinstance(value, os.PathLike | AsyncIterable) and not hasattr(value, "read"):
        raise TypeError(
            f"{name} cannot be {type(value).__name__!r}: give bytes, a path (os.PathLike), a "
            "file open in binary mode, or an async iterator of bytes."
        )
    return True


async def chunks(source: Any) -> AsyncIterator[bytes]:
    """
    Iterate over a source; files are read in a thread.

    Raises:
        TypeError: It yields something else than bytes.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(cast(bytes, source)).cast("B")
        for begin in range(0, len(view), CHUNK):
            yield bytes(view[begin : begin + CHUNK])
    elif isinstance(source, AsyncIterable):
        async for chunk in cast("AsyncIterable[Any]", source):
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise TypeError(f"The source yields {type(chunk).__name__!r}, not bytes.")
            async for piece in chunks(chunk):
                yield piece
    elif isinstance(source, os.PathLike):
        file = await asyncio.to_thread(open, os.fspath(cast("os.PathLike[str]", source)), "rb")
        try:
            async for chunk in _chunks_of_file(file):
                yield chunk
        finally:
            file.close()
    else:
        async for chunk in _chunks_of_file(source):
            yield chunk


async def _chunks_of_file(file: Any) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK):
        if not isinstance(chunk, bytes):
            raise TypeError("The file to put is open in text mode; open it with mode 'rb'.")
        yield chunk
