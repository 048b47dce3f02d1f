"""Where the catalogue is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote, unquote

from pydantic import SecretStr

from ...settings import Settings
from ..registry.extras import import_extra

__all__ = ["Address"]

_CONNECT = 10.0
"""Seconds a connection may take."""
_COMMAND = 10.0
"""Seconds the server may take to answer."""


@dataclass(frozen=True, slots=True)
class Address:
    """
    A file, or a PostgreSQL server.

    Args:
        path: The SQLite file.
        dsn: Of the server, in asyncpg's form.
        shown: For messages; without user, password and parameters.
    """

    path: Path | None
    dsn: SecretStr
    shown: str

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the address that settings name, or that of ``catalogue.db`` below ``home``."""
        url = settings.catalogue.url
        if url is None:
            path = settings.home / "catalogue.db"
            return cls(path, SecretStr(""), f"catalogue {path}")
        scheme, _, rest = url.get_secret_value().partition("://")
        if scheme == "sqlite":
            path = Path(unquote(rest[1:])).expanduser()
            return cls(path, SecretStr(""), f"catalogue {path}")
        # A password may hold what should be quoted: it ends at the last @ there is.
        login, at, place = rest.rpartition("@")
        user, colon, password = login.partition(":")
        login = f"{_quoted(user)}{colon}{_quoted(password)}"
        shown = re.split("[?#]", place)[0]
        return cls(
            None, SecretStr(f"postgresql://{login}{at}{place}"), f"catalogue postgresql://{shown}"
        )

    async def connect(self) -> Any:  # asyncpg's types are partial
        """Return a connection to the server, for the caller to close."""
        import_extra("asyncpg", extra="postgresql")
        import asyncpg

        return await cast(Any, asyncpg).connect(
            self.dsn.get_secret_value(),
            timeout=_CONNECT,
            command_timeout=_COMMAND,
            server_settings={"application_name": "purveyor"},
        )


def _quoted(text: str) -> str:
    return quote(unquote(text), safe="")
