"""What an S3 service answers when something goes wrong, in the family's words."""

from __future__ import annotations

import re

from ..registry.provider import Call
from .base import not_found
from .errors import (
    InvalidKeyError,
    InvalidRangeError,
    ObjectExistsError,
    StorageConnectionError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageRootNotFoundError,
    StorageTimeoutError,
)

__all__ = ["explain", "http_status", "s3_code"]

REMEDIES = {
    "InvalidAccessKeyId": "The service does not know the access key: correct access_key.",
    "SignatureDoesNotMatch": "The secret does not belong to the access key: correct secret_key.",
    "ExpiredToken": "The session token has expired: get new credentials.",
    "InvalidToken": "The session token is not valid: get new credentials.",
    "RequestTimeTooSkewed": "This machine's clock is wrong: set it.",
    "PermanentRedirect": "The bucket is in another region: correct region.",
    "AuthorizationHeaderMalformed": "The bucket is in another region: correct region.",
    "SlowDown": "The service asks for fewer requests: try again later.",
    "EntityTooLarge": "The object is larger than the service takes in one request.",
    "NotImplemented": "The service does not know this kind of request.",
}
"""What to do, by S3's error code (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""
ROOT_CODES = frozenset(("NoSuchBucket",))
FULL_CODES = frozenset(("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"))
REFUSAL_CODES = frozenset(
    (
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    )
)


def s3_code(error: Exception) -> str | None:
    """Return the error code in a service's answer (``NoSuchBucket``), None where it has none."""
    match = re.search(r"<Code>\s*(\w+)\s*</Code>", str(error))
    return match[1] if match else None


def http_status(error: Exception) -> int | None:
    """Return the HTTP status of a service's answer, None where there was no answer."""
    match = re.search(r"status code: (\d{3})", str(error))
    return int(match[1]) if match else None


def explain(error: Exception, call: Call, *, bucket: str, place: str) -> StorageError:
    """
    Return the family's error for one of obstore's.

    Of the service's answer only status and code are told: the rest may repeat the access key
    and, on Amazon S3, the session token. For the same reason it is cut from ``error`` itself,
    which stays visible as the cause.
    """
    text, code, status = str(error), s3_code(error), http_status(error)
    error.args = (re.split(r"<|\n", text, maxsplit=1)[0].rstrip(" :"),)
    name = call.provider_name
    context: dict[str, object] = {"bucket": bucket}
    if code is not None:
        context["s3_code"] = code
    if status is not None:
        context["http_status"] = status

    def made(kind: type[StorageError], why: str, remedy: str = "") -> StorageError:
        what = f"{call.operation} on storage {name!r} failed: {why}."
        return kind(f"{what} {REMEDIES.get(code or '', remedy)}".rstrip(), name, context)

    answer = f"bucket {bucket!r} at {place} answered {code or status}"
    if code in ROOT_CODES:
        return made(
            StorageRootNotFoundError,
            f"there is no bucket {bucket!r} at {place} (NoSuchBucket)",
            "Create it, or correct the setting bucket.",
        )
    if isinstance(error, FileNotFoundError):
        missing = not_found(call.argument(0, "key") or call.argument(0, "source"), name)
        missing.context.update(context)
        return missing
    kind = type(error).__name__
    if kind in ("AlreadyExistsError", "PreconditionError"):
        key = call.argument(1, "target") if call.operation in ("copy", "move") else None
        key = key or call.argument(0, "key")
        return ObjectExistsError(
            f"There is already an object {key!r} in storage {name!r}; it is untouched.",
            name,
            context,
        )
    if re.search(r"https?://[^/ ]+/latest/(api/token|meta-data/)", text):  # the machine's own
        return made(
            StoragePermissionError,
            "no credentials were found",
            "Set access_key and secret_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if code in REFUSAL_CODES or status in (401, 403):
        return made(
            StoragePermissionError,
            answer,
            "Give the credentials the right to do this, or configure others.",
        )
    if code == "KeyTooLongError" or kind == "InvalidPathError":
        return made(InvalidKeyError, f"{answer if code else 'the key cannot be sent'}")
    if code == "InvalidRange":
        return made(InvalidRangeError, "the range starts past the object's end")
    if code in FULL_CODES or status == 507:
        return made(StorageFullError, answer, "Free space or choose another storage.")
    if code == "RequestTimeout" or re.search(r"kind: Timeout\b", text):
        return made(
            StorageTimeoutError,
            f"no answer in time from {place}",
            "Try again, or raise connect_timeout or request_timeout.",
        )
    if status is None and "HTTP error" in text:
        return made(
            StorageConnectionError,
            f"no connection to {place}, or it broke",
            "Check that the server is running and that endpoint_url is right.",
        )
    return made(StorageError, answer if code or status else str(error))
