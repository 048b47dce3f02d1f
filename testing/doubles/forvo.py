"""Forvo's service, as strict as it is: the key in the path, errors as arrays, links that end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from .base import Double

__all__ = ["MP3", "ForvoDouble", "Spoken"]

MP3 = b"ID3\x04\x00\x00\x00\x00\x00\x00" + b"\xff\xfb\x90\x00" + bytes(413)
"""A very short recording."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A recording there is."""

    id: int
    word: str
    language: str
    country: str = "United States"
    sex: str = "m"
    username: str = "ada"
    votes: int = 0
    against: int = 0
    added: str = "2010-01-01 00:00:00"
    audio: bytes = MP3


class ForvoDouble(Double):
    """
    Forvo with some recordings.

    Args:
        key: The one that it accepts.
        spoken: The recordings.
        quota: Requests that are left for the day, links included; None: any number.
        links_last: Seconds until a link ends.
        host: Whose links it gives, ``http://HOST:PORT``; its own if empty.
        errors_as: The status of its errors: 400, or 200.
    """

    def __init__(
        self,
        key: str,
        spoken: Sequence[Spoken] = (),
        *,
        quota: int | None = None,
        links_last: float = 7200.0,
        host: str = "",
        errors_as: int = 400,
    ) -> None:
        super().__init__()
        self.key = key
        self.spoken = list(spoken)
        self.quota = quota
        self.links_last = links_last
        self.host = host
        self.errors_as = errors_as
        self._links: dict[str, tuple[float, bytes]] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the service."""
        return [
            web.get("/key/{rest:.*}", self._serve_action),
            web.get("/audio/{token}", self._serve_link),
        ]

    def _refused(self, text: str, status: int | None = None) -> web.Response:
        return web.json_response([text], status=status or self.errors_as)

    def _spend(self) -> bool:
        if self.quota is not None:
            if self.quota == 0:
                return False
            self.quota -= 1
        return True

    async def _serve_action(self, request: web.Request) -> web.Response:
        # Split before it is decoded: a slash within a word is no separator.
        segments = [unquote(part) for part in request.raw_path.partition("?")[0].split("/")[1:]]
        given = dict(zip(segments[::2], segments[1::2], strict=False))
        if len(segments) % 2 or given.get("format") != "json":
            return self._refused("Incorrect request.")
        if given["key"] != self.key:
            return self._refused(f"The API key {given['key']} is incorrect.")
        if not self._spend():
            return self._refused("Limit/day reached.")
        match given.get("action"):
            case "language-list":
                items: list[Any] = [{"id": 39, "code": "en", "en": "English"}]
            case "word-pronunciations" if given.get("word") and given.get("language"):
                items = [
                    self._item(one)
                    for one in self.spoken
                    if (one.word, one.language) == (given["word"], given["language"])
                ]
            case _:
                return self._refused("Invalid value for parameter action.")
        return web.json_response({"attributes": {"total": len(items)}, "items": items})

    def _item(self, one: Spoken) -> dict[str, Any]:
        token = secrets.token_hex(16)
        self._links[token] = (time.monotonic() + self.links_last, one.audio)
        link = f"{self.host or self.url}/audio/{token}"
        return {
            "id": one.id,
            "word": one.word,
            "original": one.word,
            "addtime": one.added,
            "hits": 100,
            "username": one.username,
            "sex": one.sex,
            "country": one.country,
            "code": one.language,
            "langname": one.language,
            "pathmp3": link,
            "pathogg": link,
            "rate": one.votes - one.against,
            "num_votes": one.votes + one.against,
            "num_positive_votes": one.votes,
        }

    async def _serve_link(self, request: web.Request) -> web.Response:
        until, audio = self._links.get(request.match_info["token"], (0.0, b""))
        if until < time.monotonic():
            return self._refused("The link is not valid any more.", 404)
        if not self._spend():
            return self._refused("Limit/day reached.", 200)
        return web.Response(body=audio, content_type="audio/mpeg")
