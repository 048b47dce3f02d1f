"""A connection that is made when it is needed, and again when it has broken."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .smb_config import SMBConfig
    from .smb_connection import Channel

__all__ = ["Link"]


class Link:
    """
    A :class:`Channel` for any thread of one storage, and for no other storage: a login counts for
    who made it only.
    """

    def __init__(self, config: SMBConfig) -> None:
        self._config = config
        # Held while connecting: who waits for it waits for the connection.
        self._connecting = threading.Lock()
        self._channel: Channel | None = None
        self._ended = False

    def channel(self) -> Channel:
        """
        Return the connection, made if there is none that stands.

        Raises:
            ConnectionResetError: The storage is being closed.
        """
        channel = self._channel
        if channel is not None and channel.is_open:
            return channel
        from .smb_connection import Channel  # which imports the library

        with self._connecting:
            channel = self._channel
            if channel is not None:
                if channel.is_open:
                    return channel
                channel.release()
            channel = self._channel = Channel(self._config)
            if self._ended:
                raise ConnectionResetError("the storage is being closed")
            try:
                channel.open()
            except BaseException:
                channel.release()
                raise
            return channel

    def abort(self) -> None:
        """Break the connection for good, without waiting: steps under way end with an error."""
        self._ended = True
        if self._channel is not None:
            self._channel.abort()

    def release(self) -> None:
        """Give back what the connection holds, also of one that is just being made."""
        with self._connecting:
            if self._channel is not None:
                self._channel.release()
