"""The settings of SMB storage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from ..registry.provider import ProviderConfig
from .smb_names import check_path

__all__ = ["SMBConfig"]


class SMBConfig(ProviderConfig):
    """Which share of which server, and who asks."""

    aliases: ClassVar[Mapping[str, str]] = {
        "share_name": "share",
        "user": "username",
        "pass": "password",
    }

    host: str = Field(min_length=1)
    """Name or address of the server; Kerberos needs the name."""
    port: int = Field(default=445, ge=1, le=65535)
    share: str
    """The share; it must exist."""
    username: str | None = Field(default=None, min_length=1)
    """Who logs in; `DOMAIN\\user` and `user@domain` name a domain too."""
    password: SecretStr | None = Field(default=None, min_length=1)
    domain: str | None = Field(default=None, min_length=1)
    """The domain of the account, unless the user name names it."""
    root: str = ""
    """Folder of the share that holds all objects; it is made if it is not there."""
    encrypt: bool = False
    """Whether everything must be encrypted. Signed it always is; a server may ask for
    encryption by itself."""
    kerberos: bool = False
    """Log in by Kerberos instead of NTLM: as `username` with `password`, or with the ticket the
    process has (`kinit`). Needs `pip install 'smbprotocol[kerberos]'`."""
    connect_timeout: float = Field(default=10.0, gt=0, le=300)
    """Seconds until a connection stands."""
    request_timeout: float = Field(default=60.0, gt=0, le=3600)
    """Seconds in which a waiting call must see something move on its connection; a slow transfer
    may go on for as long as it never pauses so long."""
    threads: int = Field(default=8, ge=1, le=64)
    """How many calls work at the same time; more of them wait."""

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if re.search(r"[\\/@\s]", host):
            raise ValueError(
                "is the name or address of a server alone: no '//', no share, no user; "
                "set port, share and username instead"
            )
        return host

    @field_validator("share")
    @classmethod
    def _check_share(cls, share: str) -> str:
        if not re.fullmatch(r"[^\\/:*?\"<>|\x00-\x1f\x7f]{1,80}", share):
            raise ValueError(
                "is the name of a share alone, 1 to 80 characters without slashes; set root for "
                "a folder in it"
            )
        return share

    @field_validator("root", mode="before")
    @classmethod
    def _check_root(cls, root: Any) -> Any:
        if not isinstance(root, str):
            return root
        root = root.replace("\\", "/").strip("/")
        return check_path(root) if root else root

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if self.kerberos:
            if self.password is not None and self.username is None:
                raise ValueError("password is set without username; set both, or neither")
        elif self.username is None or self.password is None:
            raise ValueError(
                "username and password are needed, for what a guest sends cannot be signed; "
                "or set kerberos to log in with a ticket"
            )
        return self

    @property
    def account(self) -> str | None:
        """The user's name with the domain, as a login takes it."""
        if self.username is None or self.domain is None or re.search(r"[\\@]", self.username):
            return self.username
        return f"{self.domain}\\{self.username}"

    @property
    def place(self) -> str:
        """Share and server as messages name them."""
        return rf"\\{self.host}\{self.share}"
