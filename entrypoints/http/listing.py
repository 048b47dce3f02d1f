"""Pages of providers: only what is on the page is made, and what did not change is kept."""

from __future__ import annotations

import base64
import binascii
import json
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...providers.registry import NotFoundError, ProviderInfo, ProviderRegistry
from ..plain import plain
from .problem import Problem

__all__ = ["Listing", "Page"]

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """
    Some rows, as JSON.

    Args:
        rows: Each by itself.
        next: Where the next page begins; None if there is none.
    """

    rows: list[bytes]
    next: str | None

    def to_json(self) -> bytes:
        """Return the page."""
        return b'{"items":[%b],"next":%b}' % (b",".join(self.rows), json.dumps(self.next).encode())


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was serialised, and the moment it tells of."""

    moment: tuple[object, ...] | None
    info: ProviderInfo
    json: bytes


class Listing:
    """
    The providers of all families in order of family and name, page by page.

    A row is serialised again only when what is to be told differs from the last time: it is
    compared, so that nothing can be stale.

    Args:
        registries: Gives the registries by family.
    """

    def __init__(self, registries: Callable[[], Mapping[str, ProviderRegistry[Any]]]) -> None:
        self._registries = registries
        self._rows: dict[Key, Row] = {}

    def page(
        self,
        limit: int,
        *,
        after: str | None = None,
        families: Collection[str] | None = None,
        wanted: Callable[[ProviderInfo], bool] | None = None,
    ) -> Page:
        """
        Return a page.

        Args:
            limit: Rows at most.
            after: The ``next`` of the page before. What comes and goes meanwhile moves nothing.
            families: Only these.
            wanted: Only what this says yes to.

        Raises:
            Problem: ``after`` is none of ours.
        """
        rows: list[bytes] = []
        last: Key | None = None
        for key, registry in self._places(None if after is None else _key(after), families):
            try:
                row = self._row(key, registry)
            except NotFoundError:  # it went this very moment
                continue
            if wanted is not None and not wanted(row.info):
                continue
            if len(rows) == limit and last is not None:
                return Page(rows, _cursor(last))
            rows.append(row.json)
            last = key
        return Page(rows, None)

    def _places(
        self, after: Key | None, families: Collection[str] | None
    ) -> Iterator[tuple[Key, ProviderRegistry[Any]]]:
        """Give family and name of each provider behind a place."""
        registries = self._registries()
        self._tidy(registries)
        for family in sorted(registries):
            if (families is not None and family not in families) or (after and family < after[0]):
                continue
            registry = registries[family]
            names = registry.names()
            start = bisect_right(names, after[1]) if after and after[0] == family else 0
            for name in names[start:]:
                yield (family, name), registry

    def _row(self, key: Key, registry: ProviderRegistry[Any]) -> Row:
        moment, known = registry.moment(key[1]), self._rows.get(key)
        if known is not None and moment is not None and known.moment == moment:
            return known
        info = registry.info(key[1], faulty=True)
        json_ = json.dumps(plain(info.to_dict()), ensure_ascii=False, separators=(",", ":"))
        self._rows[key] = row = Row(moment, info, json_.encode())
        return row

    def _tidy(self, registries: Mapping[str, ProviderRegistry[Any]]) -> None:
        """Forget rows of what is gone, once they are many."""
        if len(self._rows) > 1000:
            count = sum(len(registry.names()) for registry in registries.values())
            if len(self._rows) > 2 * count:
                self._rows.clear()


def _cursor(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _key(cursor: str) -> Key:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars="-_", validate=True)
        family, name = json.loads(text)
        if not isinstance(family, str) or not isinstance(name, str):
            raise ValueError
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise Problem(
            422,
            "INVALID_CURSOR",
            "The cursor is none of this API. Take `next` of a page, or begin without one.",
        ) from None
    return family, name
