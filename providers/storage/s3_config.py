"""The settings of S3 storage, and what obstore is told of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from ..registry.provider import ProviderConfig
from .keys import check_key
from .metadata import UNTYPED

__all__ = ["S3Config"]

MIB = 1024 * 1024
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class S3Config(ProviderConfig):
    """
    Which bucket, where, and who asks.

    Without ``access_key`` and ``secret_key`` the credentials come from the usual AWS sources,
    in this order: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` (with
    ``AWS_SESSION_TOKEN``), a web identity (``AWS_WEB_IDENTITY_TOKEN_FILE``, ``AWS_ROLE_ARN``),
    the container's (``AWS_CONTAINER_CREDENTIALS_*_URI``), the machine's (instance metadata).
    The profiles in ``~/.aws`` are not read: export one with
    ``eval "$(aws configure export-credentials --format env)"``.
    ``region`` and ``endpoint_url`` too come from ``AWS_REGION`` and ``AWS_ENDPOINT_URL`` when
    they are not set here.
    """

    aliases: ClassVar[Mapping[str, str]] = {"bucket_name": "bucket"}

    bucket: str
    """The bucket; it must exist."""
    region: str = "us-east-1"
    endpoint_url: str | None = None
    """``http(s)://host[:port]`` of a service other than Amazon's."""
    access_key: SecretStr | None = Field(default=None, min_length=1)
    secret_key: SecretStr | None = Field(default=None, min_length=1)
    session_token: SecretStr | None = Field(default=None, min_length=1)
    storage_class: str | None = None
    """Storage class of what is put (``STANDARD_IA``); copies get the bucket's default."""
    prefix: str = ""
    """Folder of the bucket that holds all objects; callers do not see it."""
    path_style: bool | None = None
    """``host/bucket/key`` rather than ``bucket.host/key``. By default so with an
    ``endpoint_url``, and where the bucket's name has a dot, which TLS does not bear."""
    connect_timeout: float = Field(default=5.0, gt=0, le=300)
    """Seconds."""
    request_timeout: float = Field(default=60.0, gt=0, le=3600)
    """Seconds in which a request must be answered; a long answer may go on for as long as it
    never pauses so long. On a slow line, ``part_size`` times ``max_concurrency`` bytes must get
    through in that time."""
    max_retries: int = Field(default=2, ge=0, le=10)
    """How often a request that failed on the way or with a server error is sent again."""
    part_size: int = Field(default=8 * MIB, ge=5 * MIB, le=5 * 1024 * MIB)
    """Bytes of one part of a large upload. S3 allows 10,000 parts: 80 GiB with the default."""
    max_concurrency: int = Field(default=4, ge=1, le=64)
    """Parts on their way at once; a large put holds that many in memory."""

    @field_validator("bucket")
    @classmethod
    def _check_bucket(cls, bucket: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}", bucket):
            raise ValueError(
                "a bucket name is 3 to 255 letters, digits, '.', '_' and '-', "
                "and begins with a letter or digit; give the name alone, no URL and no path"
            )
        return bucket

    @field_validator("region")
    @classmethod
    def _check_region(cls, region: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", region):  # it becomes a part of the address
            raise ValueError("a region is letters, digits, '-', '_' and '.', such as eu-west-1")
        return region

    @field_validator("endpoint_url")
    @classmethod
    def _check_endpoint(cls, url: str | None) -> str | None:
        if url is None:
            return None
        fault = _endpoint_fault(url)
        if fault:
            raise ValueError(f"{fault}; the form is http(s)://host[:port]")
        return url.rstrip("/")

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        prefix = prefix.strip("/")
        return check_key(prefix) if prefix else prefix

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        for given, missing in (("access_key", "secret_key"), ("secret_key", "access_key")):
            if getattr(self, given) is not None and getattr(self, missing) is None:
                raise ValueError(
                    f"{missing} is missing: {given} is set, and they belong together. Set both, "
                    "or neither to use the credentials of the environment or the machine"
                )
        if self.session_token is not None and self.access_key is None:
            raise ValueError(
                "session_token is set without access_key and secret_key; set all three"
            )
        return self

    @property
    def endpoint(self) -> str | None:
        """Where the service is; None: Amazon's, in the region."""
        variables = (os.environ.get(name) for name in ENDPOINT_VARIABLES)
        return self.endpoint_url or next(filter(None, variables), None)

    def store_arguments(self) -> dict[str, Any]:
        """Return the arguments of obstore's ``S3Store``; the secrets are in clear."""
        endpoint, path_style = self.endpoint, self.path_style
        if path_style is None:
            path_style = endpoint is not None or "." in self.bucket
        options: dict[str, object] = {
            "virtual_hosted_style_request": not path_style,
            # Copies take the condition of a PUT. (obstore's other way, "multipart", loses the
            # metadata, and is not atomic on every server.)
            "copy_if_not_exists": "header:if-none-match:*",
        }
        if "region" in self.model_fields_set:
            options["region"] = self.region
        if endpoint is not None:
            scheme, _, host = endpoint.partition("://")
            # This name wins over AWS_ENDPOINT_URL_S3.
            options["aws_endpoint_url_s3"] = (
                endpoint if path_style else f"{scheme}://{self.bucket}.{host}"
            )
        if self.access_key is not None and self.secret_key is not None:
            token = self.session_token
            options["access_key_id"] = self.access_key.get_secret_value()
            options["secret_access_key"] = self.secret_key.get_secret_value()
            # Said even where it is nothing, or the environment's would go with these keys.
            options["session_token"] = token.get_secret_value() if token else ""
            options["skip_signature"] = False
        return {
            "bucket": self.bucket,
            "prefix": self.prefix or None,
            "config": options,
            "client_options": {
                "allow_http": endpoint is not None and endpoint.startswith("http://"),
                "default_content_type": UNTYPED,
                "connect_timeout": timedelta(seconds=self.connect_timeout),
                "read_timeout": timedelta(seconds=self.request_timeout),
                "timeout": timedelta(days=7),  # of a whole transfer: none, as long as it moves
            },
            "retry_config": {
                "max_retries": self.max_retries,
                "retry_timeout": timedelta(seconds=self.request_timeout),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
        }


def _endpoint_fault(url: str) -> str | None:
    """Tell what is wrong with an endpoint, without repeating it: it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return "the address cannot be parsed"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "the address does not begin with http:// or https:// and a host"
    if "@" in parts.netloc:
        return "credentials do not belong into the address, set access_key and secret_key"
    if parts.path.strip("/") or parts.query or parts.fragment:
        return "the address goes on after the host, set the bucket as bucket"
    return None
