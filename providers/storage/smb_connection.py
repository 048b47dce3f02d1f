"""One connection to a share: logged in, and its answers never waited for without an end."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, cast

from smbprotocol.connection import Ciphers, Connection, Dialects, SigningAlgorithms
from smbprotocol.exceptions import SMBException, SMBResponseException
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from .base import CHUNK_SIZE, reason_of
from .errors import StorageConnectionError, StoragePermissionError
from .smb_errors import LOST, StatusError
from .smb_messages import PAYLOAD, WINDOW
from .smb_transport import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smbprotocol.connection import Request

    from .smb_config import SMBConfig
    from .smb_messages import Message

__all__ = ["Channel"]


CREDITS = 2048
"""How many a connection asks for: each pays for 64 KiB on their way."""
PENDING = 0x103
_LOOK = 0.5
"""Seconds between two looks whether a connection still moves."""


class _Connection(Connection):
    """smbprotocol's, with our transport and our patience."""

    def __init__(self, config: SMBConfig) -> None:
        self.config = config
        super().__init__(uuid.uuid4(), config.host, config.port, require_signing=True)

    @property
    def transport(self) -> Transport | None:
        return self._transport

    @transport.setter
    def transport(self, transport: object) -> None:
        config = self.config
        self._transport: Transport | None = None
        if transport is not None:  # which is one of the library's, set by its connect()
            self._transport = Transport(
                config.host, config.port, config.connect_timeout, config.request_timeout
            )

    def receive(
        self,
        request: Any,
        wait: bool = True,
        timeout: float | None = None,
        resolve_symlinks: bool = True,
    ) -> Any:
        """Wait for an answer, as the library does itself while it connects and logs in."""
        response = self.answer(request, timeout or self.config.connect_timeout)
        if response["status"].get_value():
            raise SMBResponseException(response)
        return response

    def answer(self, request: Any, timeout: float) -> Any:
        """
        Return the header of an answer, whatever its status.

        Raises:
            TimeoutError: Nothing moved on the connection for so many seconds.
        """
        transport, asked = self._transport, time.monotonic()
        assert transport is not None  # noqa: S101
        while True:
            while not request.response_event.wait(min(_LOOK, timeout / 8)):
                self._check_worker_running()
                stalled = time.monotonic() - max(asked, transport.moved)
                if stalled >= timeout:
                    transport.close()
                    raise TimeoutError(f"nothing came or went for {timeout:g} s")
            with request.response_event_lock:
                response = request.response
                if response is None:
                    self._check_worker_running()
                elif response["status"].get_value() != PENDING:
                    waiting = cast("dict[int, Any]", self.outstanding_requests)  # pyright: ignore[reportUnknownMemberType]
                    waiting.pop(request.message["message_id"].get_value(), None)
                    return response
                request.response_event.clear()

    def _check_worker_running(self) -> None:
        transport, error = self._transport, self._t_exc
        if error is not None:
            raise ConnectionAbortedError(
                f"what the server sent is not accepted: {reason_of(error)}"
            ) from error
        if transport is None or not transport.connected:
            raise ConnectionResetError("the connection is closed")

    def _calculate_credit_charge(self, message: Any) -> int:
        charge: int | None = getattr(message, "charge", None)
        if charge is not None:
            return charge
        return super()._calculate_credit_charge(message)  # pyright: ignore[reportUnknownMemberType]


def _refused(error: Any) -> StatusError:
    return StatusError(error.status)


class Channel:
    """
    A connection with a login and a share; it ends when it breaks.

    Any thread may use it. Files opened on it are its own.

    Args:
        config: Where, and who asks.
    """

    def __init__(self, config: SMBConfig) -> None:
        self._config = config
        self._connection: Any = _Connection(config)  # the library has no types
        self._ready = False

    @property
    def is_open(self) -> bool:
        """Whether it is, as far as is known."""
        transport = self._connection.transport
        return self._ready and transport is not None and transport.connected

    def open(self) -> None:
        """
        Connect, log in and take the share.

        Raises:
            StatusError: The server refuses.
            StoragePermissionError: It takes the user for a guest.
            StorageConnectionError: It cannot encrypt, or speaks no SMB 3.1.1.
            OSError: It cannot be reached.
        """
        config, connection = self._config, self._connection
        try:
            self._negotiate()
            session: Any = Session(
                connection,
                config.account,
                config.password.get_secret_value() if config.password else None,
                require_encryption=config.encrypt,
                auth_protocol="kerberos" if config.kerberos else "ntlm",
            )
            session.connect()
            tree: Any = TreeConnect(session, config.place)
            tree.connect()
            tree.is_dfs_share = False  # paths are the share's own: links of DFS are not followed
            granted = connection.echo(session.session_id, credit_request=CREDITS)
        except SMBResponseException as error:
            raise _refused(error) from error
        except SMBException as error:
            if "guest" not in str(error):
                raise
            raise StoragePermissionError(
                f"{config.host} does not know the user and lets only a guest in, whose requests "
                "cannot be signed. Correct username, domain and password."
            ) from error
        self._ids = session.session_id, tree.tree_connect_id
        # No thread may ask for more than its part of what the server grants.
        part = max(1, granted // config.threads // (WINDOW + 1))
        sizes = connection.max_read_size, connection.max_write_size, connection.max_transact_size
        self.chunk: int = min(*sizes, CHUNK_SIZE, part * PAYLOAD)
        """Bytes of one request to read or write."""
        self._margin = min(granted // 4, config.threads * 8)
        self._ready = True

    def _negotiate(self) -> None:
        config, connection = self._config, self._connection
        host = f"{config.host}:{config.port}"
        try:
            connection.connect(
                Dialects.SMB_3_1_1,
                timeout=config.connect_timeout,
                preferred_encryption_algos=[
                    Ciphers.AES_128_GCM,
                    Ciphers.AES_256_GCM,
                    Ciphers.AES_128_CCM,
                    Ciphers.AES_256_CCM,
                ],
                preferred_signing_algos=[SigningAlgorithms.AES_GMAC, SigningAlgorithms.AES_CMAC],
            )
        except SMBResponseException as error:
            raise StorageConnectionError(
                f"{host} does not speak SMB 3.1.1. Enable it there (Windows 10, Windows Server "
                "2016, Samba 4.3 or later have it), or use another server."
            ) from error
        if config.encrypt and not connection.supports_encryption:
            raise StorageConnectionError(
                f"{host} cannot encrypt, and encrypt is set. Enable encryption at the server "
                "(Samba: 'server smb encrypt'), or, if the network is safe, set encrypt = false."
            )

    def send(self, *messages: Message) -> list[Request]:
        """Send requests, several as a chain in one packet; a chain is about one file."""
        session, tree = self._ids
        charge = sum(message.charge for message in messages)
        self._wait_for_credits(charge)
        return self._connection.send_compound(messages, session, tree, related=len(messages) > 1)

    def _wait_for_credits(self, charge: int) -> None:
        """Wait until the server takes so much; there is a lack only when it grants less again."""
        window: dict[str, int] = self._connection.sequence_window
        started = time.monotonic()
        while window["high"] - window["low"] < charge + self._margin:
            if time.monotonic() - started > self._config.request_timeout:
                raise TimeoutError("the server takes no more requests")
            time.sleep(0.01)

    def statuses(self, requests: Sequence[Request]) -> list[tuple[int, bytes]]:
        """Wait for the answers to what was sent; return status and body of each."""
        timeout = self._config.request_timeout
        headers = [self._connection.answer(request, timeout) for request in requests]
        found = [(one["status"].get_value(), one["data"].get_value()) for one in headers]
        if any(status in LOST for status, _ in found):
            self.abort()
        return found

    def bodies(self, requests: Sequence[Request]) -> list[bytes]:
        """
        Wait for the answers to what was sent; return the body of each.

        Raises:
            StatusError: The first that is none of success.
        """
        found = self.statuses(requests)
        for status, _ in found:
            if status:
                raise StatusError(status)
        return [body for _, body in found]

    def ask(self, *messages: Message) -> list[bytes]:
        """Send requests and return the answers, as :meth:`bodies` does."""
        return self.bodies(self.send(*messages))

    def abort(self) -> None:
        """Break the connection, from any thread, without waiting: the server drops its files."""
        if self._connection.transport is not None:
            self._connection.transport.close()

    def release(self) -> None:
        """Break the connection and give back what it holds."""
        self.abort()
        if self._connection.transport is not None:
            self._connection.disconnect(close=False)
            self._connection.transport.release()
