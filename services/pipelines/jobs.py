"""What a pipeline is asked to make, and what it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from ...providers.media.audio import AudioProvider, Sex
from ...providers.media.images import ImageOptions, ImageProvider

__all__ = ["ImageJob", "Job", "Product", "PronunciationJob"]


@dataclass(frozen=True, slots=True)
class Product:
    """
    What was made: a file.

    Args:
        data: Its bytes; empty where the job had it written to ``path``.
        media_type: ``image/png``, ``audio/mpeg`` or the like.
        cost: What it cost when it was made, None where that is not known.
        details: What else is known, JSON-safe: the model and the size of a picture, the speaker
            and the attribution of a recording.
        path: Where it was written, if it was.
    """

    data: bytes = field(repr=False)
    media_type: str
    cost: Decimal | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    path: Path | None = None

    @property
    def suffix(self) -> str:
        """The suffix of a file of this type, ``.png`` say."""
        return _SUFFIXES.get(self.media_type, f".{self.media_type.rpartition('/')[2]}")


_SUFFIXES = {"image/jpeg": ".jpg", "audio/mpeg": ".mp3", "audio/x-wav": ".wav"}


@dataclass(frozen=True, slots=True)
class Job(ABC):
    """
    One item of a batch.

    Args:
        key: The caller's own mark, which is in the result.
        provider: Whom to ask; the pipeline's preferred provider when not given.
        path: The file to write to, whole or not at all.
    """

    family: ClassVar[str]
    matters: ClassVar[frozenset[str]]
    """The settings of a provider that change what it makes."""

    key: str
    provider: str | None = field(default=None, kw_only=True)
    path: Path | None = field(default=None, kw_only=True)

    @abstractmethod
    def wish(self) -> Mapping[str, Any]:
        """Return what is asked for, JSON-safe: the same wish has the same result."""

    @abstractmethod
    def price(self, provider: Any) -> Decimal | None:
        """Return what it will cost, None where that is not known; asks nobody."""

    @abstractmethod
    async def make(self, provider: Any) -> Product:
        """Have it made."""

    def may_be_kept(self, capabilities: frozenset[str]) -> bool:
        """Tell whether a provider with these capabilities lets its results be kept."""
        return True


@dataclass(frozen=True, slots=True)
class ImageJob(Job):
    """
    A picture.

    Args:
        prompt: What is to be seen.
        options: See :class:`~purveyor.providers.media.images.ImageOptions`.
    """

    family: ClassVar[str] = "images"
    matters: ClassVar[frozenset[str]] = frozenset(
        {*ImageOptions.__annotations__, "base_url", "members", "steps", "cfg_scale"}
    )

    prompt: str
    options: ImageOptions = field(default_factory=ImageOptions)

    def wish(self) -> Mapping[str, Any]:
        """Return the prompt and the options."""
        return {"prompt": self.prompt, **self.options}

    def price(self, provider: ImageProvider[Any]) -> Decimal | None:
        """Return the provider's own estimate."""
        return provider.estimate_cost(**self.options)

    async def make(self, provider: ImageProvider[Any]) -> Product:
        """Have one picture made."""
        image = (await provider.generate(self.prompt, **self.options))[0]
        details = {
            "model": image.model,
            "width": image.width,
            "height": image.height,
            "revised_prompt": image.revised_prompt,
            "seed": image.seed,
        }
        return Product(image.data, image.media_type, image.cost, details)


@dataclass(frozen=True, slots=True)
class PronunciationJob(Job):
    """
    How a word is pronounced; see
    :meth:`~purveyor.providers.media.audio.AudioProvider.pronounce` for the arguments.

    A recording is kept only where the service's terms allow it: its type has the capability
    ``caching-allowed``.
    """

    family: ClassVar[str] = "audio"
    matters: ClassVar[frozenset[str]] = frozenset(
        {"country", "sex", "min_votes", "base_url", "members"}
    )

    word: str
    language: str
    country: str | None = None
    sex: Sex | None = None
    min_votes: int | None = None

    def wish(self) -> Mapping[str, Any]:
        """Return the word, the language, and what was said of the speaker."""
        given = {"country": self.country, "sex": self.sex, "min_votes": self.min_votes}
        said = {name: value for name, value in given.items() if value is not None}
        return {"word": self.word, "language": self.language, **said}

    def price(self, provider: AudioProvider[Any]) -> Decimal | None:
        """Return nothing: a recording counts against a quota, and has no price of its own."""
        return Decimal(0)

    async def make(self, provider: AudioProvider[Any]) -> Product:
        """Have the best recording fetched."""
        found = await provider.pronounce(
            self.word,
            self.language,
            country=self.country,
            sex=self.sex,
            min_votes=self.min_votes,
        )
        recording = found.recording
        details = {
            "id": recording.id,
            "speaker": recording.speaker,
            "country": recording.country,
            "sex": recording.sex,
            "votes": recording.votes,
            "attribution": recording.attribution,
        }
        return Product(found.data, found.media_type, None, details)

    def may_be_kept(self, capabilities: frozenset[str]) -> bool:
        """Tell whether the service's terms allow it."""
        return "caching-allowed" in capabilities
