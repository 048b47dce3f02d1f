"""The audio interface: how a word is pronounced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from ...registry.provider import ConfigT, Provider, operation

__all__ = ["AudioProvider", "Pronunciation", "Recording", "Sex"]

Sex: TypeAlias = Literal["female", "male"]


@dataclass(frozen=True, slots=True)
class Recording:
    """
    A recording a service has of a word, not fetched yet.

    Args:
        id: The service's own mark.
        word: What is said.
        language: Its code, ``en`` say.
        country: Where the speaker is from, as the service names it.
        sex: Of the speaker, where it is told.
        speaker: The speaker's name there.
        votes: Votes for it, less those against.
        attribution: What has to be said where it is used.
    """

    id: str
    word: str
    language: str
    country: str = ""
    sex: Sex | None = None
    speaker: str = ""
    votes: int = 0
    attribution: str = ""


@dataclass(frozen=True, slots=True)
class Pronunciation:
    """A recording, fetched: the file's bytes, ``audio/mpeg`` or the like, and where it was put."""

    recording: Recording
    data: bytes = field(repr=False)
    media_type: str
    path: Path | None = None


class AudioProvider(Provider[ConfigT]):
    """
    A service that has recordings of words.

    Errors are those of :mod:`.errors`, whatever the service.
    """

    family: ClassVar[str] = "audio"

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
            language: Its code, ``en`` say.
            country: Only speakers from there, as the service names it.
            sex: Only such speakers.
            min_votes: Only recordings with at least so many votes.

        Raises:
            ServiceError: The service, the key, the quota or the network is to blame.
        """
        raise NotImplementedError

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
            path: The file to write it to, whole or not at all.

        Raises:
            WordNotFoundError: There is none, or none of that kind; the message says which.
            ServiceError: As :meth:`recordings`.
            OSError: The file cannot be written.
        """
        raise NotImplementedError
