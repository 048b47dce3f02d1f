"""Which metadata an object can have: one rule for every storage type that keeps any."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import InvalidMetadataError

__all__ = ["STANDARD_HEADERS", "UNTYPED", "check_metadata"]

STANDARD_HEADERS = frozenset(
    (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "storage-class",
    )
)
"""Names that object stores take for headers of their own, whatever the case of their letters."""

UNTYPED = "binary/octet-stream"
"""The type that an object without one has in an object store; sent, or a service may guess."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """
    Return metadata as a dict of its own if an object can have it.

    Names are lower-case letters, digits, ``.``, ``_`` and ``-``, the first a letter or digit, since
    object stores send them as HTTP headers; values are any text.

    Raises:
        InvalidMetadataError: The message names the entry and the rule it breaks.
    """
    for name, value in (metadata or {}).items():
        if name in STANDARD_HEADERS:
            raise InvalidMetadataError(
                f"Invalid metadata name {name!r}: it is the name of a standard header. Choose "
                "another; the media type goes as content_type."
            )
        if not _NAME.fullmatch(name):
            raise InvalidMetadataError(
                f"Invalid metadata name {name!r}: names are lower-case letters, digits, '.', '_' "
                "and '-', the first a letter or digit."
            )
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidMetadataError(
                f"Invalid metadata: the value of {name!r} is {type(value).__name__}, not text."
            )
    return dict(metadata or {})
