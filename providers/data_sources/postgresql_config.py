"""The settings of a PostgreSQL source, and what asyncpg is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlencode

from pydantic import Field, SecretStr, field_validator, model_validator

from ..registry.provider import ProviderConfig
from .postgresql_dsn import Address, parse_dsn

__all__ = ["PostgreSQLConfig"]


class PostgreSQLConfig(ProviderConfig):
    """
    Which database, who asks, and how much of it at once.

    Either ``dsn``, or ``host``, ``database`` and the rest on their own; what the DSN leaves out
    may be set beside it. A password comes from here alone: neither ``PGPASSWORD`` nor
    ``~/.pgpass`` is read, so that no server gets one that was not meant for it.
    """

    aliases: ClassVar[Mapping[str, str]] = {"connection_string": "dsn"}

    dsn: SecretStr | None = None
    """``postgresql://user:password@host:port/database?sslmode=require``; user and password
    percent-encoded. Several hosts, with commas between, are tried in turn."""
    host: str | None = Field(default=None, min_length=1)
    """Name or address; or the folder of a Unix socket, which begins with ``/``."""
    port: int = Field(default=5432, ge=1, le=65535)
    database: str | None = Field(default=None, min_length=1)
    """Default: the user's name."""
    user: str | None = Field(default=None, min_length=1)
    """Default: that of the account this process runs under."""
    password: SecretStr | None = None
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = (
        None
    )
    """What TLS must give; ``prefer`` by default. Only ``verify-full`` keeps out who stands
    between."""
    sslrootcert: Path | None = None
    """File of the certificates that sign the server's, for ``verify-ca`` and ``verify-full``."""
    pool_size: int = Field(default=5, ge=1, le=100)
    """Connections at most."""
    connect_timeout: float = Field(default=10.0, gt=0, le=300)
    """Seconds."""
    query_timeout: float = Field(default=30.0, gt=0, le=86_400)
    """Seconds a query may take. A fetch may take longer, as long as it never stands still for
    that long."""
    max_result_rows: int = Field(default=10_000, ge=1, le=10_000_000)
    """Rows of an answer that is held in memory."""
    read_only: bool = True
    """Queries run in a read-only transaction. False allows :meth:`PostgreSQLSource.query` to
    change what the user may change; everything else stays read-only."""
    schemas: tuple[str, ...] | None = None
    """Whose tables are items; by default all but the system's."""

    @field_validator("dsn")
    @classmethod
    def _check_dsn(cls, dsn: SecretStr | None) -> SecretStr | None:
        if dsn is not None:
            try:
                parse_dsn(dsn.get_secret_value())
            except ValueError as error:
                raise ValueError(
                    f"this is no connection string that can be read: {error}"
                ) from None
        return dsn

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str | None) -> str | None:
        if host is not None and not host.startswith("/") and set(host) & set("/@?#, \t\n"):
            raise ValueError("give the name or address alone; a connection string is set as dsn")
        return host

    @field_validator("host", "database", "user")
    @classmethod
    def _check_text(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("it holds a null character")
        return value

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.dsn is None:
            if self.host is None:
                raise ValueError("set dsn, or host, database, user and password")
            return self
        said, own = parse_dsn(self.dsn.get_secret_value()), self._parts()
        different = [
            name
            for name in ("host", "port", "database", "user", "password")
            if getattr(own, name) is not None
            and getattr(said, name) not in (None, getattr(own, name))
        ]
        different += [
            name for name, value in own.options.items() if said.options.get(name, value) != value
        ]
        if different:
            names = ", ".join(different)
            raise ValueError(f"dsn and {names} are both set and differ; set only one of them")
        return self

    def _parts(self) -> Address:
        """Return what is set beside the DSN."""
        own_port = self.dsn is None or "port" in self.model_fields_set
        options = {
            name: str(value)
            for name in ("sslmode", "sslrootcert")
            if (value := getattr(self, name)) is not None
        }
        return Address(
            host=self.host,
            port=str(self.port) if own_port else None,
            user=self.user,
            password=self.password.get_secret_value() if self.password else None,
            database=self.database,
            options=options,
        )

    @property
    def address(self) -> Address:
        """Where the database is; the password is in clear."""
        own = self._parts()
        if self.dsn is None:
            return own
        said = parse_dsn(self.dsn.get_secret_value())
        return replace(
            said,
            **{
                name: getattr(said, name) or getattr(own, name)
                for name in ("host", "port", "user", "password", "database")
            },
            options={**own.options, **said.options},
        )

    @property
    def place(self) -> str:
        """Database and server, for messages."""
        address = self.address
        host, port = address.host or "the local socket", address.port or "5432"
        where = host if host.startswith(("/", "the ")) else f"{host}:{port}"
        return f"{address.database!r} at {where}" if address.database else where

    def connect_arguments(self) -> dict[str, Any]:
        """Return the arguments of asyncpg's ``connect``; the password is in clear."""
        address = self.address
        hosts = address.host.split(",") if address.host else None
        ports = [int(port) for port in (address.port or "5432").split(",")]
        options = {"application_name": "purveyor", **address.options}
        return {
            # The rest of the string is never given to asyncpg, whose errors may repeat it.
            "dsn": f"postgresql://?{urlencode(options)}",
            "host": hosts,
            "port": ports if len(ports) > 1 else ports[0],
            "user": address.user,
            "password": address.password or "",
            "database": address.database,
            "timeout": self.connect_timeout,
            # Plans would outlive changes of tables, and not pass a pooler like PgBouncer.
            "statement_cache_size": 0,
        }
