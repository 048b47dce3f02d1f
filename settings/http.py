"""What the environment may say of the HTTP API."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from .branches import Count, Names, OptionalPath, Seconds, _Branch

__all__ = ["HttpSettings"]


class HttpSettings(_Branch):
    """The HTTP API and the dashboard: ``purveyor serve``, and the application it runs."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The address to listen at; another than this machine's own needs a token.",
    )
    port: Count = Field(default=8080, ge=0, le=65535, description="The port; 0 takes a free one.")
    root_path: str = Field(
        default="", description="The path below which a proxy shows it, such as `/purveyor`."
    )
    trusted_proxies: Names = Field(
        default=(),
        description="Addresses of proxies that may say whom they speak for (X-Forwarded-*).",
    )
    cors_origins: Names = Field(
        default=(),
        description="Origins of other pages that may call the API: `https://app.example.com`.",
    )
    max_body: Count = Field(default=1024 * 1024, ge=1024, description="Bytes a request may have.")
    body_timeout: Seconds = Field(
        default=10.0, description="Seconds a request's body may take to arrive."
    )
    rate_limit: Count = Field(
        default=1000, ge=1, description="Requests a second of one caller; more are refused."
    )
    max_streams: Count = Field(
        default=500, ge=1, description="Streams of events that may be open at the same time."
    )
    event_history: Count = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Events that are kept, for streams that resume and for the dashboard.",
    )
    audit_days: Count = Field(
        default=90, ge=1, le=36_500, description="Days that records of changes are kept."
    )
    check_all: bool = Field(
        default=True,
        description="Whether `purveyor serve` checks all providers, also those nobody uses.",
    )
    dashboard: bool = Field(default=True, description="Whether there is a dashboard at `/`.")
    tls_certificate: OptionalPath = Field(
        default=None, description="The file of the certificate, with its chain; HTTPS with it."
    )
    tls_key: OptionalPath = Field(
        default=None, description="The file of its key, if it is not in the same one."
    )
    shutdown_timeout: Seconds = Field(
        default=10.0, description="Seconds that requests under way have when the service ends."
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"https?://[^\s/?#*@]+", one) for one in origins):
            raise ValueError(
                "must be origins: each http:// or https:// and a host, without a path or a wildcard"
            )
        return tuple(one.lower() for one in origins)

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, path: str) -> str:
        path = path.rstrip("/")
        if path and not re.fullmatch(r"(/[\w.~-]+)+", path):
            raise ValueError(
                "must begin with a slash, and have letters, digits, - . _ ~ and slashes"
            )
        return path

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for one in proxies:
                if one != "*":
                    ip_network(one, strict=False)
        except ValueError:
            raise ValueError(
                "must be IP addresses or networks, such as 10.0.0.0/8: names are not looked up"
            ) from None
        return proxies

    @field_validator("tls_key")
    @classmethod
    def _has_its_certificate(cls, key: Path | None, told: ValidationInfo) -> Path | None:
        if key is not None and told.data.get("tls_certificate", ...) is None:
            raise ValueError("is of no use alone: set tls_certificate, too")
        return key
