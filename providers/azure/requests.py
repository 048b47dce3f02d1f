"""Signed requests to the service itself, for what obstore has no call for."""

from __future__ import annotations

import asyncio
import base64
import functools
import hmac
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ..registry.daemon import in_daemon_thread, leave_behind
from .config import AzureBlobConfig
from .faults import ServiceError

__all__ = ["Answer", "Request", "ask", "blob_url", "commit", "signing_order"]

_VERSION = "2021-12-02"
"""Of the protocol: the first that tells directories and odd names apart is older."""
COMMIT_TIMEOUT = 5.0
"""Seconds that a cancelled request may take to its end, if it makes something visible."""
_SLICE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """
    What to ask of a container, or of one of its blobs.

    Args:
        method: HTTP method.
        query: Parameters, not encoded.
        blob: Name of the blob, after the configured prefix; empty: the container itself.
        headers: ``x-ms-...`` headers in lower case, and ``If-None-Match``.
        body: What to send.
    """

    method: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    blob: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """Headers, whatever the case of their names, and the body of an answer without a fault."""

    headers: Mapping[str, str]
    body: bytes


async def ask(config: AzureBlobConfig, request: Request) -> Answer:
    """
    Send a request and return the answer; one without a condition is sent again as configured.

    Raises:
        ServiceError: The service refused, or did not answer.
    """
    attempt = 0
    while True:
        try:
            return await in_daemon_thread(_send, config, request)
        except ServiceError as error:
            fleeting = error.status is None or error.status >= 500
            # A condition may be broken by the first attempt, whose answer was lost.
            again = fleeting and not error.timed_out and "If-None-Match" not in request.headers
            if not again or attempt >= config.max_retries:
                raise
        attempt += 1
        await asyncio.sleep(0.1 * 2**attempt)


async def commit(config: AzureBlobConfig, request: Request) -> Answer:
    """
    Send a request that makes something visible, and await its end also when cancelled.

    It would go on by itself, and could overtake a later one.

    Raises:
        ServiceError: The service refused, or did not answer.
    """
    task = asyncio.ensure_future(ask(config, request))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=COMMIT_TIMEOUT)
        leave_behind(task)
        task.cancel()
        raise


def signing_order(header: str) -> str:
    """
    Return what to sort headers by where they are signed with an account key.

    The service puts ``_`` before digits, and obstore after them: what it signs so is refused.
    """
    return header.replace("_", " ")


def blob_url(config: AzureBlobConfig, blob: str) -> str:
    """Return where a blob is, or for an empty name the container, without a signature."""
    path = "/".join(filter(None, (config.container, blob and config.prefix, blob)))
    return f"{config.account.url}/{quote(path)}"


def _send(config: AzureBlobConfig, request: Request) -> Answer:
    try:
        with _opener().open(_signed(config, request), timeout=config.timeout) as answer:
            return Answer(answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            code = error.headers.get("x-ms-error-code")
        fault = ServiceError(error.code, code)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        fault = ServiceError(None, timed_out=isinstance(reason, TimeoutError))
    # Only here, or the error above would hang on it, whose address may hold a signature; some
    # libraries pickle also what "from None" hides.
    raise fault


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    # One for all: each would read the certificates of this machine anew.
    tls = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    return urllib.request.build_opener(_NoRedirects, tls)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is signed for one address is not sent to another."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _signed(config: AzureBlobConfig, request: Request) -> urllib.request.Request:
    account, url, body = config.account, blob_url(config, request.blob), request.body
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {**request.headers, "x-ms-date": now, "x-ms-version": _VERSION}
    if request.method == "PUT":
        # Said even where nothing is sent, or urllib would say something else.
        headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
    if account.key is not None:
        # learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
        kind, none_match = headers.get("Content-Type", ""), headers.get("If-None-Match", "")
        plain = ["", "", str(len(body) or ""), "", kind, "", "", "", none_match, "", ""]
        named = sorted((name for name in headers if name.startswith("x-ms-")), key=signing_order)
        lines = [f"{name}:{headers[name]}" for name in named]
        resource = f"/{account.name}{urlsplit(url).path}"
        parameters = [f"{name}:{value}" for name, value in sorted(request.query.items())]
        text = "\n".join([request.method, *plain, *lines, resource, *parameters])
        key = base64.b64decode(account.key.get_secret_value())
        signature = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
        headers["Authorization"] = f"SharedKey {account.name}:{signature}"
    search = urlencode([*request.query.items(), *account.sas_pairs], quote_via=quote)
    # In slices, since the timeout is for each by itself. The settings admit http and https alone.
    view = memoryview(body)
    data = [view[at : at + _SLICE] for at in range(0, len(view), _SLICE)] or None
    return urllib.request.Request(  # noqa: S310 - see above
        f"{url}?{search}" if search else url,
        data,  # pyright: ignore[reportArgumentType]
        headers,
        method=request.method,
    )
