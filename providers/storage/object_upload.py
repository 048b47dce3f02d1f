"""What goes up with an object: its content in parts, its metadata as HTTP headers."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

from .metadata import check_metadata

__all__ = ["UploadSource", "decoded", "headers_of"]


class UploadSource:
    """
    Chunks for obstore, which can be counted, looked at ahead, and stopped from outside.

    obstore aborts an upload in parts when its source fails, but not when the call is cancelled:
    so whoever cancels stops the source.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.size = 0
        """Bytes handed over so far."""
        self._chunks = chunks
        self._ahead: bytes | None = None
        self._step: asyncio.Task[Any] | None = None
        self._stopped = False

    async def read_ahead(self, limit: int) -> bytes | None:
        """Return the whole content if it is no more than ``limit`` bytes, else None."""
        ahead = bytearray()
        async for chunk in self._chunks:
            ahead += chunk
            if len(ahead) > limit:
                self._ahead = bytes(ahead)
                return None
        self.size = len(ahead)
        return bytes(ahead)

    def stop(self) -> None:
        """Let the step under way, or else the next one, fail."""
        self._stopped = True
        if self._step is not None:
            self._step.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._stopped:
            raise asyncio.CancelledError
        chunk, self._ahead = self._ahead, None
        if chunk is None:
            self._step = asyncio.current_task()
            try:
                chunk = await anext(self._chunks)
            finally:
                self._step = None
        self.size += len(chunk)
        return chunk


def headers_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata as obstore sends it."""
    return {name: _encoded(value) for name, value in check_metadata(metadata).items()}


def _encoded(value: str) -> str:
    """Return a header's value; what is no plain text goes as an encoded word (RFC 2047)."""
    if (
        value
        and value.isascii()
        and value.isprintable()
        and value == value.strip()
        and value[:2] != "=?"
    ):
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def decoded(value: str) -> str:
    """Return the value that came back as it was before :func:`headers_of`."""
    match = re.fullmatch(r"=\?UTF-8\?B\?([A-Za-z0-9+/=]*)\?=", value)
    return base64.b64decode(match[1]).decode(errors="replace") if match else value
