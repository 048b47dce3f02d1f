"""The settings that every provider of a web service has."""

from __future__ import annotations

import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import Field, SecretStr, field_validator

from ...settings.branches import Count, Seconds
from ..registry.provider import ProviderConfig

__all__ = ["WebConfig", "is_local", "proxy_of", "read_table"]


class WebConfig(ProviderConfig):
    """Where a service is, and how long and how often it is asked."""

    base_url: str = Field(description="Address of the service, up to the paths of its interface.")
    connect_timeout: Seconds = Field(
        default=10.0, description="Seconds until a connection must stand."
    )
    first_byte_timeout: Seconds = Field(
        default=60.0,
        description="Seconds until a stream's first byte, and between two of its pieces.",
    )
    request_timeout: Seconds = Field(
        default=600.0, description="Seconds until an answer is whole, a stream's too."
    )
    max_connections: Count = Field(
        default=100, ge=1, le=10_000, description="Connections at a time; more calls wait."
    )
    retries: Count = Field(
        default=2,
        ge=0,
        le=10,
        description="How often a request is made again that the service did not take.",
    )
    max_retry_wait: Seconds = Field(
        default=30.0,
        description="Seconds to wait for a retry at most; a longer wait is the caller's.",
    )

    @field_validator("api_key", check_fields=False)
    @classmethod
    def _is_one_line(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        key = value.get_secret_value().strip()  # a file ends with a line's end
        if not key.isprintable():
            raise ValueError("must be one line of printable characters")
        return SecretStr(key)

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        form = "must be an address such as https://host/path"
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise ValueError(f"{form}; it is not well-formed") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(form)
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"{form}, without user or password: a key has a setting of its own")
        if parts.query or parts.fragment:
            raise ValueError(f"{form}, without ? or #")
        return value.rstrip("/")


def read_table(value: Any, form: str) -> Any:
    """
    Return a table for the JSON of one, as a variable of the environment has it.

    Raises:
        ValueError: It is a text, and no JSON; ``form`` shows what it should look like.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(f"must be a table, or JSON such as {form}") from None


def proxy_of(url: str) -> str | None:
    """
    Return the proxy that ``HTTPS_PROXY`` and its like name for an address, if they do.

    (What aiohttp calls ``trust_env`` would read passwords from ``~/.netrc`` too, and send them.)
    """
    parts = urlsplit(url)
    if is_local(url) or proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


def is_local(url: str) -> bool:
    """Tell whether an address is one of this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
