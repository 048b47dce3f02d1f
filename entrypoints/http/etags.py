"""
Entity tags of providers: so that two operators cannot overwrite each other (RFC 9110, 13).

A tag has two parts. The first is the version of the registration in the catalogue, and all that
``If-Match`` looks at: health may change between reading and writing. The second is of everything
that is shown, for ``If-None-Match``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header

from .problem import Problem

__all__ = ["Conditions", "IfMatch", "IfNoneMatch", "PutConditions", "etag"]

_TAG = re.compile(r'(?:W/)?"([^"]*)"|([^\s,"]+)')


def etag(version: int | None, shown: bytes) -> str:
    """
    Return the tag of a provider.

    Args:
        version: Of its entry in the catalogue, None if it has none.
        shown: What the answer says.
    """
    digest = hashlib.sha256(shown).hexdigest()[:16]
    return f'"{version or 0}.{digest}"'


@dataclass(frozen=True, slots=True)
class Conditions:
    """
    What a request makes its effect depend on.

    Args:
        versions: Of ``If-Match``; None where there is no such header.
        any_version: ``If-Match: *``.
        only_new: ``If-None-Match: *``.
    """

    versions: frozenset[int] | None = None
    any_version: bool = False
    only_new: bool = False

    def version_of(self, target: str, there: int | None, *, needed: bool = False) -> int | None:
        """
        Return the version that may be changed or removed.

        Args:
            target: What is to be, for messages.
            there: The version there is now; None if there is no entry.
            needed: Refuse a request that names none.

        Raises:
            Problem: 412: there is another version now. 428: it has to name one.
        """
        if self.any_version and there is not None:
            return there
        if self.versions is not None:
            if there in self.versions:
                return there
            now = "it is not in the catalogue" if there is None else f"that is version {there} now"
            raise Problem(
                412,
                "CONFLICT",
                f"{target} is not the version that If-Match names: {now}. Get it anew, look at "
                "what changed, and send the request with the ETag of that.",
                context={"version": there},
            )
        if needed:
            raise Problem(
                428,
                "PRECONDITION_REQUIRED",
                f"{target} is there already, with other settings. To change it, get it first and "
                "send If-Match with its ETag: nobody's changes are overwritten unseen.",
                context={"version": there},
            )
        return None


async def _conditions(
    if_match: Annotated[
        str | None,
        Header(
            description="The ETag of the provider that was looked at; `*` for any.",
            max_length=1000,
        ),
    ] = None,
    if_none_match: Annotated[
        str | None,
        Header(description="`*`: only if there is no such provider yet.", max_length=1000),
    ] = None,
) -> Conditions:
    tags = None if if_match is None else _tags(if_match)
    versions = None if tags is None else frozenset(map(_version, tags)) - {None}
    return Conditions(
        versions=versions,  # pyright: ignore[reportArgumentType]  # None is taken out
        any_version=bool(tags and "*" in tags),
        only_new=if_none_match is not None and "*" in _tags(if_none_match),
    )


async def _match_only(
    if_match: Annotated[
        str | None,
        Header(
            description="The ETag of the provider that was looked at; `*` for any.",
            max_length=1000,
        ),
    ] = None,
) -> Conditions:
    return await _conditions(if_match)


async def _known(
    if_none_match: Annotated[
        str | None,
        Header(description="ETags of what the caller has already.", max_length=1000),
    ] = None,
) -> frozenset[str]:
    return frozenset(_tags(if_none_match or ""))


PutConditions = Annotated[Conditions, Depends(_conditions)]
"""If-Match and If-None-Match of a request that writes."""
IfMatch = Annotated[Conditions, Depends(_match_only)]
"""If-Match of a request that removes."""
IfNoneMatch = Annotated[frozenset[str], Depends(_known)]
"""The tags of what a reader has."""


def _tags(header: str) -> list[str]:
    return [quoted or bare for quoted, bare in _TAG.findall(header)]


def _version(tag: str) -> int | None:
    number = tag.partition(".")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None
