"""
The names of blobs, letter for letter.

obstore lists paths, not names: it gives up a whole listing for one blob named ``a//b``, tells
of ``a`` where the blob is named ``a/``, and its prefixes are folders. So where that matters the
container is asked here, by the service's own ``List Blobs``.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import http.client
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit
from xml.etree import ElementTree

from ..registry.daemon import in_daemon_thread
from .azure_config import AzureAccount, AzureBlobConfig
from .azure_faults import ServiceError

__all__ = ["ListedBlob", "listed_by_name"]

_VERSION = "2021-12-02"
"""Of the protocol: the first that tells directories and odd names apart is older."""


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """A blob: its name in the container, its size in bytes, when it was written."""

    name: str
    size: int
    modified: datetime


async def listed_by_name(config: AzureBlobConfig, prefix: str) -> AsyncIterator[ListedBlob]:
    """
    Iterate over the blobs of the container whose name begins with ``prefix``, in its order.

    Raises:
        ServiceError: The service refused, or did not answer.
    """
    marker = ""
    while True:
        body = await _page(config, prefix, marker)
        blobs, marker = await in_daemon_thread(_parsed, body)
        for blob in blobs:
            yield blob
        if not marker:
            return


async def _page(config: AzureBlobConfig, prefix: str, marker: str) -> bytes:
    attempt = 0
    while True:
        try:
            return await in_daemon_thread(_ask, config, prefix, marker)
        except ServiceError as error:
            fleeting = error.status is None or error.status >= 500
            if not fleeting or error.timed_out or attempt >= config.max_retries:
                raise
        attempt += 1
        await asyncio.sleep(0.1 * 2**attempt)


def _ask(config: AzureBlobConfig, prefix: str, marker: str) -> bytes:
    query = {"comp": "list", "restype": "container"}
    if prefix:
        query["prefix"] = prefix
    if marker:
        query["marker"] = marker
    request = _signed(config.account, config.container, query)
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=config.timeout) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        with error:
            code = error.headers.get("x-ms-error-code")
        # Without its cause: its address may hold a signature.
        raise ServiceError(error.code, code) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ServiceError(None, timed_out=isinstance(reason, TimeoutError)) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is signed for one address is not sent to another."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _signed(account: AzureAccount, container: str, query: dict[str, str]) -> urllib.request.Request:
    url = f"{account.url}/{quote(container)}"
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": now, "x-ms-version": _VERSION}
    if account.key is not None:
        # learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
        lines = [f"{name}:{value}" for name, value in headers.items()]
        resource = f"/{account.name}{urlsplit(url).path}"
        parameters = [f"{name}:{value}" for name, value in sorted(query.items())]
        text = "\n".join(["GET", *[""] * 11, *lines, resource, *parameters])
        key = base64.b64decode(account.key.get_secret_value())
        signature = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
        headers["Authorization"] = f"SharedKey {account.name}:{signature}"
    pairs = [*query.items(), *account.sas_pairs]
    search = urlencode(pairs, quote_via=quote)
    # The settings admit http and https alone.
    return urllib.request.Request(f"{url}?{search}", headers=headers)  # noqa: S310


def _parsed(body: bytes) -> tuple[list[ListedBlob], str]:
    """Return the blobs of a page, less directories, and where the next begins, if there is one."""
    try:
        # The service's own answer; the parser does not follow external entities.
        page = ElementTree.fromstring(body)  # noqa: S314
        blobs = [
            ListedBlob(
                _name_of(blob),
                int(blob.findtext("Properties/Content-Length", "0")),
                parsedate_to_datetime(blob.findtext("Properties/Last-Modified", "")),
            )
            for blob in page.iterfind("Blobs/Blob")
            if blob.findtext("Properties/ResourceType") != "directory"
        ]
    except (ElementTree.ParseError, ValueError):
        raise ServiceError(200, "InvalidListing") from None
    return blobs, page.findtext("NextMarker") or ""


def _name_of(blob: ElementTree.Element) -> str:
    element = blob.find("Name")
    name = "" if element is None else element.text or ""
    encoded = element is not None and element.get("Encoded") == "true"
    return unquote(name) if encoded else name
