"""The settings of Azure Blob Storage, and what obstore is told of them."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)

from ..registry.provider import ProviderConfig

__all__ = ["AzureAccount", "AzureBlobConfig"]

_FORMS = "https://<account>.blob.core.windows.net, or http://127.0.0.1:10000/<account>"
_PARTS = {
    name.lower(): name
    for name in (
        "AccountKey",
        "AccountName",
        "BlobEndpoint",
        "DefaultEndpointsProtocol",
        "EndpointSuffix",
        "SharedAccessSignature",
    )
}
_OTHER_PARTS = re.compile(r"(Blob|Dfs|File|Queue|Table)(Secondary)?Endpoint", re.IGNORECASE)


class AzureAccount(BaseModel):
    """An account of Azure Storage: its name, where it is, and who asks."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    name: str
    url: str
    key: SecretStr | None = None
    sas: SecretStr | None = None

    @property
    def sas_pairs(self) -> list[tuple[str, str]]:
        """The parameters of the shared access signature, decoded: the secret is in clear."""
        return _pairs_of(self.sas.get_secret_value()) if self.sas else []

    @property
    def sas_expiry(self) -> datetime | None:
        """When the shared access signature ends; None where it does not say."""
        try:
            expiry = datetime.fromisoformat(dict(self.sas_pairs)["se"])
        except (KeyError, ValueError):
            return None
        return expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)


class AzureBlobConfig(ProviderConfig):
    """
    Which container, where, and who asks.

    Either ``connection_string`` says where and who, or ``account_url`` with ``account_key``,
    with ``sas_token``, or with neither for a container that is public. Nothing is taken from
    ``AZURE_...`` variables.
    """

    aliases: ClassVar[Mapping[str, str]] = {"container_name": "container"}

    container: str
    """The container; it must exist."""
    connection_string: SecretStr | None = Field(default=None, min_length=1)
    """``AccountName=...;AccountKey=...``, as the portal shows it."""
    account_url: str | None = None
    """``https://<account>.blob.core.windows.net``"""
    account_key: SecretStr | None = Field(default=None, min_length=1)
    sas_token: SecretStr | None = Field(default=None, min_length=1)
    """A shared access signature, ``sv=...&sig=...``, with the rights to read and to list."""
    prefix: str = ""
    """Folder of the container that holds all blobs; callers do not see it."""
    allow_http: bool = False
    """Speak to another machine without TLS: everybody on the way reads along."""
    connect_timeout: float = Field(default=5.0, gt=0, le=300)
    """Seconds."""
    timeout: float = Field(default=30.0, gt=0, le=3600)
    """Seconds in which a request must be answered; a long answer may go on for as long as it
    never pauses so long."""
    max_retries: int = Field(default=2, ge=0, le=5)
    """How often a request that failed on the way or with a server error is sent again."""

    _account: AzureAccount = PrivateAttr()

    @field_validator("container")
    @classmethod
    def _check_container(cls, container: str) -> str:
        if not re.fullmatch(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*|\$(root|web|logs)", container):
            raise ValueError(
                "a container's name is 3 to 63 lower-case letters, digits and single '-' "
                "between them; give the name alone, no URL and no path"
            )
        return container

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        prefix = prefix.strip("/")
        if prefix and {"", ".", ".."} & set(prefix.split("/")):
            raise ValueError("no part of a prefix is empty, '.' or '..'")
        return prefix

    @field_validator("account_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        return key and _checked_key(key.get_secret_value())

    @field_validator("sas_token")
    @classmethod
    def _check_sas(cls, token: SecretStr | None) -> SecretStr | None:
        return token and _checked_sas(token.get_secret_value())

    @model_validator(mode="after")
    def _find_account(self) -> Self:
        if self.connection_string is None:
            if self.account_url is None:
                raise ValueError(
                    "connection_string or account_url is missing: set one of them; the form of "
                    f"account_url is {_FORMS}"
                )
            if self.account_key is not None and self.sas_token is not None:
                raise ValueError("account_key and sas_token are both set; set only one of them")
            try:
                account = _account_of(self.account_url, key=self.account_key, sas=self.sas_token)
            except ValueError as error:
                raise ValueError(f"account_url: {error}") from None
        else:
            for name in ("account_url", "account_key", "sas_token"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"connection_string and {name} are both set; "
                        f"set connection_string alone, or leave it out"
                    )
            try:
                account = _parsed(self.connection_string.get_secret_value())
            except ValueError as error:
                raise ValueError(f"connection_string: {error}") from None
        if account.url.startswith("http:") and not (self.allow_http or _is_loopback(account.url)):
            raise ValueError(
                "the address begins with http:// and is not on this machine: data and "
                "credentials would travel in clear. Use https://, or set allow_http to true"
            )
        self._account = account
        return self

    @property
    def account(self) -> AzureAccount:
        """The account, whichever setting it came from."""
        return self._account

    def store_arguments(self) -> dict[str, Any]:
        """Return the arguments of obstore's ``AzureStore``; the secrets are in clear."""
        account = self.account
        # Each is said even where it is nothing, or the environment's would be taken.
        options: dict[str, object] = {
            "account_name": account.name,
            "endpoint": account.url,
            "use_emulator": False,
            "use_fabric_endpoint": False,
            "skip_signature": False,
        }
        if account.key is not None:
            options["account_key"] = account.key.get_secret_value()
            options["credential_type"] = "access_key"
        elif account.sas is not None:
            options["sas_key"] = account.sas.get_secret_value()
            options["credential_type"] = "sas_token"
        else:
            options["skip_signature"] = True
        return {
            "container_name": self.container,
            "prefix": self.prefix or None,
            "config": options,
            "client_options": {
                "allow_http": account.url.startswith("http:"),
                "connect_timeout": timedelta(seconds=self.connect_timeout),
                "read_timeout": timedelta(seconds=self.timeout),
                "timeout": timedelta(days=7),  # of a whole transfer: none, as long as it moves
            },
            "retry_config": {
                "max_retries": self.max_retries,
                "retry_timeout": timedelta(seconds=self.timeout),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
        }


def _parsed(text: str) -> AzureAccount:
    """Return the account a connection string tells of; no fault repeats a value."""
    parts: dict[str, str] = {}
    for number, part in enumerate(filter(str.strip, text.split(";")), start=1):
        name, sign, value = part.strip().partition("=")
        known = _PARTS.get(name.strip().lower())
        if known is None:
            if sign and _OTHER_PARTS.fullmatch(name.strip()):
                continue
            if name.strip().lower() == "usedevelopmentstorage":
                raise ValueError(
                    "UseDevelopmentStorage does not say where and who: give the emulator's whole "
                    "connection string, with AccountName, AccountKey and BlobEndpoint"
                )
            # What stands there is not told: it may be a piece of a key.
            raise ValueError(
                f"its part {number} is none of {', '.join(sorted(_PARTS.values()))}; the form is "
                "Name=value;Name=value"
            )
        if known in parts:
            raise ValueError(f"{known} is in it twice")
        if not value.strip():
            raise ValueError(f"{known} has no value")
        parts[known] = value.strip()
    key, sas = parts.get("AccountKey"), parts.get("SharedAccessSignature")
    if (key is None) == (sas is None):
        which = "neither" if key is None else "both"
        raise ValueError(
            f"it has {which} of AccountKey and SharedAccessSignature, and one is needed "
            "(for a public container set account_url alone)"
        )
    url, name = parts.get("BlobEndpoint"), parts.get("AccountName")
    if url is None:
        if name is None:
            raise ValueError("it has neither AccountName nor BlobEndpoint, and one is needed")
        if not re.fullmatch(r"[a-z0-9]{3,24}", name):
            raise ValueError("AccountName is 3 to 24 lower-case letters and digits")
        scheme = parts.get("DefaultEndpointsProtocol", "https").lower()
        if scheme not in ("http", "https"):
            raise ValueError("DefaultEndpointsProtocol is http or https")
        url = f"{scheme}://{name}.blob.{parts.get('EndpointSuffix', 'core.windows.net')}"
    where = "AccountKey"
    try:
        checked_key = key and _checked_key(key)
        where = "SharedAccessSignature"
        checked_sas = sas and _checked_sas(sas)
        where = "BlobEndpoint"
        return _account_of(url, name, key=checked_key or None, sas=checked_sas or None)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _account_of(
    url: str, name: str | None = None, *, key: SecretStr | None, sas: SecretStr | None
) -> AzureAccount:
    """Return the account at an address, without repeating it: it may hold a signature."""
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # raises where it is no number
    except ValueError:
        raise ValueError("the address cannot be parsed") from None
    fault = _fault_of(parts)
    if fault:
        raise ValueError(f"{fault}; the form is {_FORMS}")
    path = parts.path.strip("/")
    labels = (parts.hostname or "").split(".")
    return AzureAccount(
        name=name or path or labels[0],
        url=f"{parts.scheme}://{parts.netloc}/{path}".rstrip("/"),
        key=key,
        sas=sas,
    )


def _fault_of(parts: SplitResult) -> str | None:
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        return "the address does not begin with http:// or https:// and a host"
    if "@" in parts.netloc:
        return "credentials do not belong into the address"
    if parts.query or parts.fragment:
        return "the address goes on after the path: a signature is set as sas_token"
    path = parts.path.strip("/")
    labels = host.split(".")
    if "dfs" in labels[1:]:
        return "this is the address of Data Lake's own protocol: write blob in place of dfs"
    if "/" in path or (path and "blob" in labels[1:]):
        return "the address goes on after the account: the container is set as container"
    if not path and (len(labels) == 1 or _is_address(host)):
        return "the address does not name the account"
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if _is_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _checked_key(key: str) -> SecretStr:
    key = key.strip()
    try:
        raw = base64.b64decode(key, validate=True)
        # Python forgives a last character that is not quite right, and obstore does not.
        valid = bool(raw) and base64.b64encode(raw).decode() == key
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise ValueError("the key is not in base64: copy it whole, as the portal shows it")
    return SecretStr(key)


def _checked_sas(token: str) -> SecretStr:
    token = token.strip().removeprefix("?")
    pieces = token.split("&")
    if not all("=" in piece for piece in pieces) or re.search(r"[\s\x00-\x20\x7f#]", token):
        raise ValueError("a SAS token has the form sv=...&sig=...: give that alone, no URL")
    names = {name for name, _ in _pairs_of(token)}
    if not {"sig", "sv"} <= names:
        raise ValueError("a SAS token has at least sv=... and sig=...: copy it whole")
    return SecretStr(token)


def _pairs_of(token: str) -> list[tuple[str, str]]:
    # Not parse_qsl: a signature may come with "+" in it, which is no space.
    pieces = (piece.partition("=") for piece in token.split("&"))
    return [(unquote(name), unquote(value)) for name, _, value in pieces]
