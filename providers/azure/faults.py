"""What goes wrong with Azure Blob Storage: told apart, in words, for any family to raise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from .config import AzureBlobConfig

__all__ = ["Fault", "Kind", "ServiceError", "fault_of"]

Kind = Literal[
    "no-container",
    "no-blob",
    "exists",
    "changed",
    "past-end",
    "invalid-name",
    "refused",
    "timeout",
    "unreachable",
    "service",
]

_KEY_CODES = frozenset(
    ("AuthenticationFailed", "AuthorizationFailure", "InvalidAuthenticationInfo")
)
_RIGHTS = (
    "The credentials lack a right: to read and to list are needed, and for a storage to create, to "
    "write and to delete."
)
_NAME_CODES = frozenset(("InvalidResourceName", "InvalidUri", "OutOfRangeInput"))
_REFUSAL_CODES = frozenset(
    ("BlobImmutableDueToPolicy", "LeaseIdMissing", "PublicAccessNotPermitted", *_KEY_CODES)
)
_REMEDIES = {
    "AccountIsDisabled": "Enable the account in the portal.",
    "AuthorizationPermissionMismatch": _RIGHTS,
    "AuthorizationProtocolMismatch": "The credentials are for https:// alone: correct the address.",
    "AuthorizationResourceTypeMismatch": "The SAS token is not for containers and their blobs: "
    "get one that is (srt=co).",
    "AuthorizationServiceMismatch": "The SAS token is not for blobs: get one that is (ss=b).",
    "AuthorizationSourceIPMismatch": "The account or the SAS token does not admit this machine's "
    "address.",
    "InsufficientAccountPermissions": _RIGHTS,
    "InvalidListing": "It seems not to be Azure Blob Storage: correct the address.",
    "KeyBasedAuthenticationNotPermitted": "The account takes no keys: set sas_token.",
    "PublicAccessNotPermitted": "The account has no public containers: set account_key or "
    "sas_token.",
    "ServerBusy": "The service asks for fewer requests: try again later.",
    "BlockCountExceedsLimit": "It has more than 50,000 blocks: raise part_size.",
    "BlockListTooLong": "It has more than 50,000 blocks: raise part_size.",
    "BlobArchived": "The blob is archived: have it rehydrated first.",
    "BlobImmutableDueToPolicy": "A policy of the container keeps the blob as it is.",
    "LeaseIdMissing": "Somebody holds a lease of the blob: wait for its end, or break it.",
}
"""What to do, by Azure's error code (learn.microsoft.com/rest/api/storageservices/
common-rest-api-error-codes)."""


class ServiceError(Exception):
    """
    An answer, or none, to a request that did not go through obstore.

    Args:
        status: The answer's HTTP status; None: there was none.
        code: Azure's error code in it.
        timed_out: There was no answer in time.
    """

    def __init__(
        self, status: int | None, code: str | None = None, *, timed_out: bool = False
    ) -> None:
        super().__init__(f"{code or status or 'no answer'}")
        self.status = status
        self.code = code
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong (``kind``, ``why``), what to do (``remedy``), and JSON-safe details."""

    kind: Kind
    why: str
    remedy: str
    context: dict[str, object]


def fault_of(error: Exception, config: AzureBlobConfig) -> Fault:
    """
    Return what one of obstore's errors, or a :class:`ServiceError`, means.

    Of the service's answer only status and code are told: the rest repeats what was signed, and
    in places the signature. For the same reason it is cut from ``error`` itself and from what it
    came of, which stay visible as the cause.
    """
    text = str(error)
    if isinstance(error, ServiceError):
        status, code, timed_out = error.status, error.code, error.timed_out
    else:
        _cut_chain(error)
        # The second is how obstore tells what a batch answered for one of its blobs.
        number = re.search(r"(?:status code: |\(code: )(\d{3})", text)
        found = re.search(r"<Code>\s*(\w+)\s*</Code>", text)
        status, code = number and int(number[1]), found and found[1]
        timed_out = re.search(r"kind: Timeout\b|\bTimedOut\b", text) is not None
    account, container = config.account, config.container
    context: dict[str, object] = {"container": container}
    if code is not None:
        context["azure_code"] = code
    if status is not None:
        context["http_status"] = status

    def made(kind: Kind, why: str, remedy: str = "") -> Fault:
        return Fault(kind, why, _REMEDIES.get(code or "", remedy), context)

    answer = f"container {container!r} at {account.url} answered {code or status}"
    kind = type(error).__name__
    anonymous = account.key is None and account.sas is None
    if code in ("ContainerNotFound", "ContainerBeingDeleted"):
        return made(
            "no-container",
            f"there is no container {container!r} at {account.url} ({code})",
            "Create it, or correct the setting container.",
        )
    if anonymous and (
        status in (401, 403)
        or code in ("ResourceNotFound", "NoAuthenticationInformation", "PublicAccessNotPermitted")
    ):
        return made(
            "refused",
            f"{answer}: it is not public, or does not exist",
            "Set account_key or sas_token, or correct the setting container.",
        )
    if code == "ResourceNotFound" or (status == 404 and code is None and "list request" in text):
        return made("no-container", answer, "Correct the setting container.")
    if isinstance(error, FileNotFoundError) or status == 404:
        return made("no-blob", "there is no such blob")
    if status in (401, 403) or code in _REFUSAL_CODES:
        return made("refused", answer, _credentials_remedy(config, code))
    if code == "BlobAlreadyExists" or kind == "AlreadyExistsError":
        return made("exists", "there is such a blob already")
    if status == 412 or code == "InvalidBlockList" or kind == "PreconditionError":
        return made("changed", "the blob was replaced meanwhile", "Try again.")
    if status == 416:
        return made("past-end", "the range starts past the blob's end")
    if code in _NAME_CODES:
        return made("invalid-name", answer)
    if kind == "InvalidPathError" or (isinstance(error, ValueError) and "parse path" in text):
        return made("invalid-name", "the service has no such names")
    if timed_out or status == 504 or code == "OperationTimedOut":
        return made(
            "timeout",
            f"no answer in time from {account.url}",
            "Try again, or raise connect_timeout or timeout.",
        )
    if status is None and (isinstance(error, ServiceError) or "HTTP error" in text):
        why, remedy = f"no connection to {account.url}, or it broke", "Check that it is reachable"
        if "dns error" in text:
            why, remedy = f"the host of {account.url} is not known", "Correct the account's name"
        elif "certificate" in text.lower():
            why = f"the certificate of {account.url} is not trusted"
        return made("unreachable", why, f"{remedy}, and that the address is right.")
    return made("service", answer if code or status else _first_line(text))


def _credentials_remedy(config: AzureBlobConfig, code: str | None) -> str:
    account = config.account
    within = "" if config.connection_string is None else " in connection_string"
    if account.sas is not None:
        expiry = account.sas_expiry
        if expiry is not None and expiry <= datetime.now(UTC):
            return f"The SAS token expired at {expiry:%Y-%m-%d %H:%M} UTC: set a new one{within}."
        if code in _KEY_CODES:
            return f"The SAS token is not valid for this container: set another one{within}."
    elif code in _KEY_CODES:
        return (
            f"The key is not the account's, or this machine's clock is wrong: correct it{within}."
        )
    return f"{_RIGHTS} Give them to the credentials, or set others."


def _cut_chain(error: BaseException | None) -> None:
    """Cut what the service answered from an error, and from those that came before it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (_first_line(error.args[0]),)
        error = error.__cause__ or error.__context__


def _first_line(text: str) -> str:
    line = re.split(r"<|\n", text, maxsplit=1)[0].rstrip(" :")
    return re.sub(r"\?\S+", "", line)  # a query may hold a signature
