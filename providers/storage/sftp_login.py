"""Logging in to an SSH server: who we are, and whether it is who it should be."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..registry.errors import RegistryError
from ..registry.extras import import_extra
from .base import reason_of
from .errors import (
    StorageConnectionError,
    StorageError,
    StoragePermissionError,
    StorageTimeoutError,
)
from .sftp_config import SFTPConfig
from .sftp_errors import HostKeyChangedError, HostKeyUnknownError

if TYPE_CHECKING:
    import asyncssh

__all__ = ["Login"]

CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""First the one that costs least; then what asyncssh prefers."""
KEEPALIVE = 30.0
"""Seconds of silence after which a server is asked whether it is still there."""
_LARGEST = 16 * 1024 * 1024
"""Bytes of a file of keys."""
DEFAULT_FILES = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")


class Login:
    """
    Makes connections that are logged in.

    The settings' files are read at each login: a key that is added counts from then on.
    """

    def __init__(self, config: SFTPConfig) -> None:
        self._config = config

    async def connect(self) -> asyncssh.SSHClientConnection:
        """
        Return a new connection.

        Raises:
            HostKeyUnknownError: The server's key is not known.
            HostKeyChangedError: It is another one than is known.
            StoragePermissionError: The server refuses the login, or the key cannot be used.
            StorageConnectionError: No SSH server answers there.
            StorageTimeoutError: It does not in time.
        """
        # Importing takes a second, opening an encrypted key a tenth.
        library = await asyncio.to_thread(import_extra, "asyncssh", extra="sftp")
        ssh: Any = library
        config = self._config
        judge = _Judge(ssh, config)
        try:
            async with asyncio.timeout(config.connect_timeout):
                known, credentials = await asyncio.to_thread(self._read, ssh, judge)
                return await ssh.connect(
                    config.host,
                    config.port,
                    username=config.username,
                    client_factory=judge.make_client,
                    known_hosts=known,
                    config=None,
                    gss_host=None,
                    encryption_algs=CIPHERS,
                    compression_algs=["none", "zlib@openssh.com"],
                    keepalive_interval=KEEPALIVE,
                    **credentials,
                )
        except RegistryError:
            raise
        except TimeoutError:
            raise StorageTimeoutError(
                f"No login at {config.place} within {config.connect_timeout:g} s. Check that the "
                "server is running and its address is right, or raise connect_timeout."
            ) from None
        except ssh.HostKeyNotVerifiable as error:
            raise judge.error(reason_of(error)) from error
        except ssh.PermissionDenied as error:
            raise self._refused() from error
        except ssh.Error as error:
            raise StorageConnectionError(
                f"No SSH connection to {config.place}: {reason_of(error)}. Check that it is an SSH "
                "server and that its address is right."
            ) from error
        except OSError as error:
            raise StorageConnectionError(
                f"No connection to {config.place}: {reason_of(error)}. Check that the server is "
                "running and that its address is right."
            ) from error

    def _read(self, ssh: Any, judge: _Judge) -> tuple[Any, dict[str, Any]]:
        return judge.known_hosts(), self._credentials(ssh)

    def _credentials(self, ssh: Any) -> dict[str, Any]:
        """Return what asyncssh is told of who we are; the secrets are in clear."""
        config = self._config
        if config.password is None and config.private_key is None:
            return {}
        key = None if config.private_key is None else self._key(ssh, config.private_key)
        return {
            "password": None if config.password is None else config.password.get_secret_value(),
            "client_keys": None if key is None else [key],
            "agent_path": None,
        }

    def _key(self, ssh: Any, given: Any) -> Any:
        secret: str = given.get_secret_value()
        passphrase = self._config.passphrase
        if secret.lstrip().startswith("-----BEGIN"):
            data = secret.strip() + "\n"
        else:
            try:
                data = _text_of(Path(secret).expanduser())
            except (OSError, RuntimeError) as error:
                raise StoragePermissionError(
                    f"The file that private_key names cannot be read: {reason_of(error)}. Give the "
                    "path of a private key, or its text."
                ) from None
        try:
            return ssh.import_private_key(data, passphrase and passphrase.get_secret_value())
        except (ssh.KeyImportError, ssh.KeyEncryptionError) as error:
            raise StoragePermissionError(
                f"private_key cannot be used: {reason_of(error)}. Give a private key in OpenSSH's "
                "or PEM format, and as passphrase what it is encrypted with, if it is."
            ) from None

    def _refused(self) -> StoragePermissionError:
        config = self._config
        tried = [name for name in ("private_key", "password") if getattr(config, name) is not None]
        if tried:
            remedy = f"Correct username or {' or '.join(tried)}"
        else:
            tried = ["the keys of the SSH agent and of ~/.ssh"]
            remedy = "Set password or private_key"
        return StoragePermissionError(
            f"{config.place} refused the login of {config.username!r} (tried: {', '.join(tried)}). "
            f"{remedy}, or allow it on the server."
        )


def _text_of(file: Path) -> str:
    """Return what a file holds, which may be none that ends (``/dev/zero``)."""
    with file.open("rb") as opened:
        data = opened.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return data.decode(errors="replace")


class _Judge:
    """Tells whether the key a server shows is the right one, and if not, why."""

    def __init__(self, ssh: Any, config: SFTPConfig) -> None:
        self._ssh = ssh
        self._config = config
        self._shown: Any = None
        self._expected: list[Any] = []
        self._known: Any = None

    def known_hosts(self) -> Any:
        """Return what asyncssh is told of the keys to trust; None: any."""
        config = self._config
        if not config.host_key_checking:
            return None
        if config.host_key is None:
            text = "".join(map(self._text_of, self._files()))
            try:
                self._known = self._ssh.import_known_hosts(text)
            except ValueError:  # repeats the line, and the file may be any
                files = ", ".join(map(str, self._files()))
                raise StoragePermissionError(
                    f"A line of {files} is none of known host keys. Correct it, or set known_hosts "
                    "to another file."
                ) from None
            return self._known
        if config.host_key.startswith("SHA256:"):
            return [], [], []
        self._expected = [self._ssh.import_public_key(config.host_key)]
        return self._expected, [], []

    def _files(self) -> list[Path]:
        given = self._config.known_hosts
        return [Path(name).expanduser() for name in DEFAULT_FILES] if given is None else [given]

    def _text_of(self, file: Path) -> str:
        try:
            return _text_of(file) + "\n"
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise StoragePermissionError(
                f"The file of known hosts {str(file)!r} cannot be read: {reason_of(error)}. Give "
                "the account access to it, or set known_hosts to another file."
            ) from error

    def make_client(self) -> Any:
        """Return asyncssh's client, which asks here about a key that is not known."""
        judge = self

        class Client(self._ssh.SSHClient):
            def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:
                return judge.accepts(host, addr, port, key)

        return Client()

    def accepts(self, host: str, address: str, port: int, key: Any) -> bool:
        """Tell whether a key is the pinned one; note it for the error."""
        self._shown = key
        if self._known is not None:
            port = 0 if port == 22 else port
            self._expected = self._known.match(host, address, port or None)[0]
        return key.get_fingerprint() == self._config.host_key

    def error(self, reason: str) -> StorageError:
        """Return the error for a key that was not accepted."""
        config, shown = self._config, self._shown
        if shown is None:  # revoked, or a certificate
            return HostKeyChangedError(f"{config.place} was not trusted: {reason}.")
        fingerprint = shown.get_fingerprint()
        line = f"{config.host} {shown.get_algorithm()}"
        context: dict[str, object] = {"host": config.place, "fingerprint": fingerprint}
        shows = f"{config.place} shows the host key {fingerprint} ({line.split()[1]})"
        warning = "Do not log in before you know why: somebody may be in between."
        if config.host_key is not None:
            return HostKeyChangedError(
                f"{shows}, and host_key pins another. {warning} If the server's key was changed "
                "on purpose, set host_key to the new one.",
                context=context,
            )
        file = str(self._files()[0])
        context["known_hosts"] = file
        if self._expected:
            known = ", ".join(sorted(key.get_fingerprint() for key in self._expected))
            return HostKeyChangedError(
                f"{shows}, but {file} knows another: {known}. {warning} If the server's key was "
                f"changed on purpose, remove the old one (ssh-keygen -R {_entry(config)} -f "
                f"{file}) and add the new one.",
                context=context,
            )
        return HostKeyUnknownError(
            f"{shows}, which {file} does not know. Compare it with what the server's operator "
            f"tells you; if it is the same, add it (ssh-keyscan -p {config.port} {config.host} >> "
            f"{file}) or set host_key to {fingerprint}.",
            context=context,
        )


def _entry(config: SFTPConfig) -> str:
    return config.host if config.port == 22 else f"'[{config.host}]:{config.port}'"
