"""
The names of blobs, letter for letter.

obstore lists paths, not names: it gives up a whole listing for one blob named ``a//b``, tells
of ``a`` where the blob is named ``a/``, and its prefixes are folders. So where that matters the
container is asked here, by the service's own ``List Blobs``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote
from xml.etree import ElementTree

from ..registry.daemon import in_daemon_thread
from .config import AzureBlobConfig
from .faults import ServiceError
from .requests import Request, ask

__all__ = ["ListedBlob", "listed_by_name"]


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """A blob: its name after the configured prefix, its size in bytes, when it was written."""

    name: str
    size: int
    modified: datetime
    etag: str


async def listed_by_name(config: AzureBlobConfig, prefix: str) -> AsyncIterator[ListedBlob]:
    """
    Iterate over the blobs whose name, after the configured prefix, begins with ``prefix``.

    They come in the service's order.

    Raises:
        ServiceError: The service refused, or did not answer.
    """
    root = f"{config.prefix}/" if config.prefix else ""
    query = {"comp": "list", "restype": "container"}
    if root or prefix:
        query["prefix"] = root + prefix
    while True:
        page = (await ask(config, Request("GET", query))).body
        blobs, marker = await in_daemon_thread(_parsed, page, len(root))
        for blob in blobs:
            yield blob
        if not marker:
            return
        query = {**query, "marker": marker}


def _parsed(body: bytes, root: int) -> tuple[list[ListedBlob], str]:
    """Return the blobs of a page, less directories, and where the next begins, if there is one."""
    try:
        # It follows no external entities, and expat itself refuses what grows without measure.
        page = ElementTree.fromstring(body)  # noqa: S314
        blobs = [
            ListedBlob(
                _name_of(blob)[root:],
                int(blob.findtext("Properties/Content-Length", "0")),
                parsedate_to_datetime(blob.findtext("Properties/Last-Modified", "")),
                _quoted(blob.findtext("Properties/Etag", "")),
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


def _quoted(etag: str) -> str:
    return etag if etag.startswith('"') else f'"{etag}"'  # listings leave out what headers have
