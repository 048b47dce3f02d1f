"""SFTP servers in this process, for what OpenSSH cannot be told to do."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any, Self

import asyncssh

__all__ = ["Account", "PythonSFTP"]


class Account(asyncssh.SSHServer):
    """One account with a password; it may also have to be typed in answer to a question."""

    username = "ada"
    password = "correct horse"

    def __init__(self, interactive: bool = False) -> None:
        self._interactive = interactive

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return not self._interactive

    def kbdint_auth_supported(self) -> bool:
        return self._interactive

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> asyncssh.KbdIntChallenge:
        return "", "", "", [("Password:", False)]

    def validate_kbdint_response(self, username: str, responses: asyncssh.KbdIntResponse) -> bool:
        return self.validate_password(username, *responses)

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (self.username, self.password)


class PythonSFTP:
    """
    asyncssh's server on a free port of 127.0.0.1, for an account with a password.

    Args:
        root: The folder it serves as ``/``.
        kind: How it treats files.
        interactive: It asks for the password, in place of taking it.
    """

    def __init__(
        self,
        root: Path,
        kind: type[asyncssh.SFTPServer] = asyncssh.SFTPServer,
        *,
        interactive: bool = False,
    ) -> None:
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self._factory = partial(_served, kind, str(root))
        self._interactive = interactive
        self._connections: set[asyncssh.SSHServerConnection] = set()

    async def __aenter__(self) -> Self:
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: Account(self._interactive),
            server_host_keys=[self._key],
            sftp_factory=self._factory,
            acceptor=self._connections.add,
        )
        self.port: int = self._acceptor.get_port()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        for connection in self._connections:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in self._connections))
        await self._acceptor.wait_closed()

    @property
    def login(self) -> dict[str, Any]:
        """The settings of an :class:`SFTPConfig`."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "username": Account.username,
            "password": Account.password,
            "host_key": self._key.get_fingerprint(),
        }


def _served(
    kind: type[asyncssh.SFTPServer], root: str, channel: asyncssh.SSHServerChannel[bytes]
) -> asyncssh.SFTPServer:
    return kind(channel, chroot=root.encode())
