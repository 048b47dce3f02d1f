"""The settings of SFTP storage."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from ..registry.provider import ProviderConfig

__all__ = ["SFTPConfig"]


class SFTPConfig(ProviderConfig):
    """
    Where the server is, how to log in, and by what to recognise it.

    Without ``password`` and ``private_key`` the keys of the SSH agent (``SSH_AUTH_SOCK``) and the
    usual ones of the account (``~/.ssh/id_ed25519``, ...) are offered. ``~/.ssh/config`` is not
    read.
    """

    aliases: ClassVar[Mapping[str, str]] = {"remote_path": "root"}

    host: str = Field(min_length=1)
    """Name or address of the server."""
    port: int = Field(default=22, ge=1, le=65535)
    username: str = Field(min_length=1)
    password: SecretStr | None = Field(default=None, min_length=1)
    private_key: SecretStr | None = Field(default=None, min_length=1)
    """The text of a private key (``-----BEGIN ...``), or the path of its file."""
    passphrase: SecretStr | None = Field(default=None, min_length=1)
    """What ``private_key`` is encrypted with."""
    root: str = Field(default=".", min_length=1)
    """Folder on the server that holds all objects; it must exist. A relative path is taken from
    where the server puts the account."""
    host_key_checking: bool = True
    """Whether the server must show a known key. Without it, anyone on the way may read the password
    and everything that is stored."""
    known_hosts: Path | None = None
    """File of known host keys, as OpenSSH keeps it; by default ``~/.ssh/known_hosts`` and
    ``/etc/ssh/ssh_known_hosts``. It is only ever read."""
    host_key: str | None = None
    """The one key the server may show, in place of ``known_hosts``: its fingerprint
    (``SHA256:...``) or the public key (``ssh-ed25519 AAAA...``)."""
    connect_timeout: float = Field(default=10.0, gt=0, le=300)
    """Seconds until a connection must be made and logged in."""
    request_timeout: float = Field(default=60.0, gt=0, le=3600)
    """Seconds after which a connection on which nothing moves is given up. A transfer that moves
    may take as long as it needs."""
    connections: int = Field(default=2, ge=1, le=16)
    """Most connections, opened as the load asks for them."""
    channels: int = Field(default=2, ge=1, le=10)
    """Most SFTP sessions of one connection. OpenSSH allows 10 (``MaxSessions``)."""

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if not re.fullmatch(r"[^\s/@\x00-\x1f]+", host) or "://" in host:
            raise ValueError(
                "give the name or the address alone, such as files.example.com; user, port and "
                "folder have settings of their own: username, port, root"
            )
        return host

    @field_validator("root")
    @classmethod
    def _check_root(cls, root: str) -> str:
        if "\0" in root:
            raise ValueError("must not hold a null character")
        return root

    @field_validator("known_hosts")
    @classmethod
    def _expand(cls, path: Path | None) -> Path | None:
        try:
            return None if path is None else path.expanduser()
        except RuntimeError:
            raise ValueError("begins with '~' and an account that has no home folder") from None

    @field_validator("host_key")
    @classmethod
    def _check_host_key(cls, key: str | None) -> str | None:
        if key is None:
            return None
        key = key.strip()
        if re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}=?", key):
            return key.rstrip("=")
        parts = key.split()
        if len(parts) >= 2 and _is_public_key(parts[0], parts[1]):
            return f"{parts[0]} {parts[1]}"
        raise ValueError(
            "must be a fingerprint (SHA256: and 43 characters, as ssh-keygen -l shows it) or a "
            "public key (ssh-ed25519 AAAA..., as ssh-keyscan shows it)"
        )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.passphrase is not None and self.private_key is None:
            raise ValueError("passphrase is set without private_key; set both")
        if not self.host_key_checking and (self.host_key or self.known_hosts):
            raise ValueError(
                "host_key_checking is off, so host_key and known_hosts would do nothing; take "
                "them out, or leave host_key_checking on"
            )
        if self.host_key and self.known_hosts:
            raise ValueError("host_key and known_hosts are both set; set one")
        return self

    @property
    def place(self) -> str:
        """The server's address, as messages show it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _is_public_key(kind: str, encoded: str) -> bool:
    """Tell whether the key begins with its kind, as RFC 4253, section 6.6, has it."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    length = int.from_bytes(data[:4], "big")
    return data[4 : 4 + length] == kind.encode()
