"""Forvo: words as people who speak the language say them."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote

from pydantic import Field, SecretStr

from ...registry.metadata import HealthStatus
from ...registry.provider import operation
from ...registry.redaction import knowing, remember, scrub
from ...web.config import WebConfig
from ...web.download import Downloads
from ...web.errors import (
    AccessDeniedError,
    AuthenticationError,
    BadResponseError,
    InvalidRequestError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceError,
)
from ...web.limit import Limiter, RateLimit
from ...web.retry import retry_after
from ...web.transport import Answer, Transport
from ..files import check_target, write_file
from .base import AudioProvider, Pronunciation, Recording, Sex
from .errors import WordNotFoundError

__all__ = ["Forvo", "ForvoConfig"]

LARGEST = 16 * 1024 * 1024
"""Bytes of a recording; a word has some thousands."""
RESET_HOUR = 22
"""Of UTC, when a day's requests begin anew (https://api.forvo.com)."""
SEXES: Mapping[object, Sex] = {"f": "female", "m": "male"}
_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,15}")


class ForvoConfig(WebConfig):
    """The key, and which recordings are wanted where a call does not say."""

    base_url: str = Field(
        default="https://apifree.forvo.com",
        description="Address of the service; paid plans have others.",
    )
    api_key: SecretStr | None = Field(
        default=None, min_length=8, description="The key of your account at Forvo."
    )
    country: str | None = Field(
        default=None, description="Only speakers from there, as Forvo names it."
    )
    sex: Sex | None = Field(default=None, description="Only female or only male speakers.")
    min_votes: int | None = Field(
        default=None, description="Only recordings with at least so many votes."
    )
    rate_limit: RateLimit | None = Field(
        default=None, description="How often Forvo is asked at most, 60/minute say."
    )
    health_check: Literal["none", "languages"] = Field(
        default="none",
        description="How health is checked: not at all, since each question counts; or by asking "
        "for the languages, which is one of the day's requests.",
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """A recording, with what stays in here: when it was added, and where its file is."""

    recording: Recording
    added: str
    link: str


@dataclass(frozen=True, slots=True)
class _Wish:
    """Which recordings are wanted."""

    country: str | None
    sex: Sex | None
    min_votes: int | None

    def tests(self, one: Recording) -> dict[str, bool]:
        """Tell what a recording meets, by what is to be said of it."""
        met: dict[str, bool] = {}
        if self.country is not None:
            there = one.country.casefold() == self.country.casefold()
            met[f"from {self.country!r}"] = there
        if self.sex is not None:
            met[f"by a {self.sex} speaker"] = one.sex == self.sex
        if self.min_votes is not None:
            met[f"with at least {self.min_votes} votes"] = one.votes >= self.min_votes
        return met


class Forvo(AudioProvider[ForvoConfig]):
    """
    Recordings of Forvo's speakers.

    Each call to :meth:`recordings` is one of the day's requests, and to :meth:`pronounce` two.
    The key is part of each address, so no address is ever shown. Nothing is kept here: Forvo's
    terms allow no cache of its recordings, and want to be named where they are used
    (:attr:`Recording.attribution`).
    """

    _transport: Transport | None = None
    _downloads: Downloads | None = None

    async def _connect(self) -> None:
        remember(self.config)
        self._limiter = Limiter(self.config.rate_limit, extra="media")
        self._transport = Transport(self.config, headers=dict, explain=_explain, extra="media")
        self._downloads = Downloads(self.config, extra="media", max_bytes=LARGEST)

    async def _close(self) -> None:
        for one in (self._transport, self._downloads):
            if one is not None:
                await one.close()

    async def check_health(self) -> HealthStatus | None:
        """
        Ask nothing, and say that nothing is known: Forvo has no question that is free.

        With ``health_check = "languages"`` ask for the languages, which counts as one request.
        """
        if self.config.health_check == "none":
            return HealthStatus.UNKNOWN
        await self._asked("language-list")
        return None

    @operation
    async def recordings(
        self,
        word: str,
        language: str,
        *,
        country: str | None = None,
        sex: Sex | None = None,
        min_votes: int | None = None,
    ) -> Sequence[Recording]:
        """
        Return the recordings of a word, the best first: by votes, then the oldest.

        Args:
            word: A word or a phrase.
            language: Forvo's code, ``en`` say.
            country: Only speakers from there, as Forvo names it: ``Spain``.
            sex: Only such speakers.
            min_votes: Only recordings with at least so many votes, less those against.

        Raises:
            QuotaExhaustedError: The day's requests are spent; it says when there are new ones.
            InvalidRequestError: The word or the language is none.
            ServiceError: The service, the key or the network is to blame.
        """
        wish = self._wish(country, sex, min_votes)
        found = await self._found(word, language)
        return [one.recording for one in found if all(wish.tests(one.recording).values())]

    @operation
    async def pronounce(
        self,
        word: str,
        language: str,
        *,
        country: str | None = None,
        sex: Sex | None = None,
        min_votes: int | None = None,
        path: str | Path | None = None,
    ) -> Pronunciation:
        """
        Return the best recording of a word; the arguments are those of :meth:`recordings`.

        Args:
            path: The file to write it to, whole or not at all; one that is there is replaced.

        Raises:
            WordNotFoundError: There is none, or none of that kind; the message says which.
            ServiceError: As :meth:`recordings`.
            OSError: The file cannot be written.
        """
        if path is not None:
            check_target(path)  # before anything is spent
        wish = self._wish(country, sex, min_votes)
        found = await self._found(word, language)
        for best in found:
            if all(wish.tests(best.recording).values()):
                data, media_type = await self._loaded(best.link)
                written = None if path is None else await write_file(path, data)
                return Pronunciation(best.recording, data, media_type, written)
        raise _not_found(word, language, [one.recording for one in found], wish)

    # -- asking --------------------------------------------------------------------------

    def _wish(self, country: str | None, sex: Sex | None, min_votes: int | None) -> _Wish:
        config = self.config
        if sex not in (None, "female", "male"):
            raise InvalidRequestError(f"sex must be female or male, not {sex!r:.50}.")
        return _Wish(
            country or config.country,
            sex or config.sex,
            config.min_votes if min_votes is None else min_votes,
        )

    async def _found(self, word: str, language: str) -> list[_Found]:
        if not word.strip() or not word.isprintable():
            raise InvalidRequestError(f"{word!r:.50} is no word: give one with letters.")
        if not _LANGUAGE.fullmatch(language):
            raise InvalidRequestError(f"{language!r:.50} is no language's code, such as en or pt.")
        answer = await self._asked("word-pronunciations", word=word, language=language)
        items: Any = answer.get("items")
        if not isinstance(items, list):
            raise BadResponseError("Forvo's answer has no list of recordings. Check base_url.")
        found = [_read(item, language) for item in cast("list[object]", items)]
        return sorted(found, key=lambda one: (-one.recording.votes, one.added, one.recording.id))

    async def _asked(self, action: str, **parameters: str) -> Mapping[str, Any]:
        key = self.config.api_key
        if key is None:
            raise AuthenticationError(
                "There is no key for Forvo. Set api_key, or FORVO_API_KEY and environment "
                "discovery."
            )
        segments = ["key", key.get_secret_value(), "format", "json", "action", action]
        for name, value in parameters.items():
            segments += [name, value]
        assert self._transport is not None  # noqa: S101 - connected before any operation
        await self._limiter.wait()
        with _unseen():
            answer = await self._transport.send("GET", "".join(map(_segment, segments)))
            found = answer.json()
            if isinstance(found, dict):
                return cast("dict[str, Any]", found)
            raise _refusal(answer) or BadResponseError(
                "Forvo answered with something else than it should. Check base_url."
            )

    async def _loaded(self, link: str) -> tuple[bytes, str]:
        """Return a recording and what it is; who knows the link has it, so it is a secret."""
        assert self._downloads is not None  # noqa: S101 - connected before any operation
        await self._limiter.wait()
        with _unseen(link):
            answer = await self._downloads.get(link)
            if answer.status != 200:
                raise _explain(answer)
            if media_type := _media_type(answer.body):
                return answer.body, media_type
            raise _refusal(answer) or BadResponseError(
                f"Forvo sent {answer.media_type or 'something'} of {len(answer.body)} bytes that "
                "is no recording. Try again."
            )


@contextmanager
def _unseen(*secrets: str) -> Generator[None]:
    """Rid errors of the key, and of other secrets, wherever they or their causes have them."""
    with knowing(secrets):
        try:
            yield
        except ServiceError as error:
            scrub(error)
            raise


def _segment(text: str) -> str:
    # A dot is never encoded, and two of them would be the folder above.
    return "/" + (quote(text, safe="") if text.strip(".") else text.replace(".", "%2E"))


def _read(item: object, language: str) -> _Found:
    if not isinstance(item, dict):
        raise BadResponseError("Forvo's list of recordings has something that is none.")
    told = cast("dict[str, Any]", item)
    speaker, country = str(told.get("username") or ""), str(told.get("country") or "")
    in_favour, all_votes = _number(told.get("num_positive_votes")), _number(told.get("num_votes"))
    recording = Recording(
        id=str(told.get("id", "")),
        word=str(told.get("word") or ""),
        language=str(told.get("code") or language),
        country=country,
        sex=SEXES.get(told.get("sex")),
        speaker=speaker,
        votes=2 * in_favour - all_votes,
        attribution=f"Pronounced by {speaker or 'a speaker'} at Forvo (https://forvo.com)",
    )
    return _Found(recording, str(told.get("addtime") or ""), str(told.get("pathmp3") or ""))


def _number(value: object) -> int:
    try:
        return int(cast("Any", value))
    except (TypeError, ValueError):
        return 0


def _media_type(data: bytes) -> str:
    """Return what a file is by its first bytes, whatever it was called; empty if no sound."""
    if data.startswith(b"ID3") or (data[:1] == b"\xff" and data[1:2] >= b"\xe0"):
        return "audio/mpeg"
    return "audio/ogg" if data.startswith(b"OggS") else ""


def _not_found(
    word: str, language: str, recordings: Sequence[Recording], wish: _Wish
) -> WordNotFoundError:
    if not recordings:
        return WordNotFoundError(
            f"Forvo has no recording of {word!r} in {language!r}. Check the spelling and the "
            "language's code."
        )
    met = [wish.tests(one) for one in recordings]
    told = ", ".join(f"{sum(one[test] for one in met)} {test}" for test in met[0])
    return WordNotFoundError(
        f"Forvo has no recording of {word!r} in {language!r} of the kind asked for. Of "
        f"{len(recordings)} there are {told}. Ask for less."
    )


# -- errors ------------------------------------------------------------------------------


def until_reset(now: datetime) -> float:
    """Return the seconds until a day's requests begin anew."""
    reset = now.astimezone(UTC).replace(hour=RESET_HOUR, minute=0, second=0, microsecond=0)
    if reset <= now:
        reset += timedelta(days=1)
    return (reset - now).total_seconds()


def _refusal(answer: Answer) -> ServiceError | None:
    """Return the error that an answer is: an array of texts; None if it is none."""
    found: Any = None
    if answer.body[:1] in (b"[", b'"'):
        found = answer.json()
    texts = [found] if isinstance(found, str) else cast("list[object]", found or [])
    if not texts or not all(isinstance(text, str) for text in texts):
        return None
    told = "; ".join(map(str, texts)).rstrip(".")[:300]
    lower = told.lower()
    if "limit" in lower or "quota" in lower:
        return QuotaExhaustedError(
            f"The day's requests to Forvo are spent ({told}). There are new ones from "
            f"{RESET_HOUR}:00 UTC on.",
            retry_after=until_reset(datetime.now(UTC)),
        )
    if "domain" in lower:
        return AccessDeniedError(
            f"Forvo does not let this key be used from here: {told}. See its settings at Forvo."
        )
    if "key" in lower or "authori" in lower or answer.status == 401:
        return AuthenticationError(f"Forvo does not accept the key: {told}. Check api_key.")
    if answer.status == 400 or "invalid" in lower:
        return InvalidRequestError(f"Forvo does not take the request: {told}.")
    return ServiceError(f"Forvo refuses: {told}.")


def _explain(answer: Answer) -> ServiceError:
    if answer.status == 429:
        return RateLimitedError(
            "Forvo is asked too often. Set rate_limit.", retry_after=retry_after(answer.headers)
        )
    if answer.status >= 500:
        return OverloadedError(
            f"Forvo cannot serve now ({answer.status}). Try again later.",
            retry_after=retry_after(answer.headers),
        )
    try:
        refusal = _refusal(answer)
    except BadResponseError:
        refusal = None
    if refusal is not None:
        return refusal
    if answer.status == 401:
        return AuthenticationError("Forvo does not accept the key. Check api_key.")
    if answer.status == 403:
        return AccessDeniedError("Forvo does not let this key do this. See its plan at Forvo.")
    return BadResponseError(
        f"Forvo answered {answer.status}, and nothing that it should. Check base_url."
    )
