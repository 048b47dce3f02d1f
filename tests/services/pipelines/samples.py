"""An image, an audio and a flashcard service in memory, which do as the test says."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Unpack

from pydantic import SecretStr

from purveyor.providers.families import FAILOVER_TYPES, FAMILIES
from purveyor.providers.media.audio import (
    AudioProvider,
    Pronunciation,
    Recording,
    Sex,
    WordNotFoundError,
)
from purveyor.providers.media.files import write_file
from purveyor.providers.media.flashcards import (
    Duplicates,
    FlashcardProvider,
    Note,
    NoteOutcome,
    NoteResult,
    NoteType,
)
from purveyor.providers.media.images import GeneratedImage, ImageOptions, ImageProvider
from purveyor.providers.registry import ProviderConfig, ProviderTypes, register_provider
from purveyor.providers.storage import STORAGE_TYPES

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class World:
    """What the services were asked, and what goes wrong with them."""

    prompts: list[str] = field(default_factory=list[str])
    words: list[str] = field(default_factory=list[str])
    notes: dict[int, Note] = field(default_factory=dict[int, Note])
    pushes: list[int] = field(default_factory=list[int])
    faults: dict[str, Exception] = field(default_factory=dict[str, Exception])
    under_way: int = 0
    most: int = 0
    together: asyncio.Barrier | None = None
    before: Callable[[str], None] = lambda _: None

    async def work(self, what: str) -> None:
        """Be busy with something for a few turns of the loop, or fail."""
        self.before(what)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.together is not None:
                await self.together.wait()
            for _ in range(3):
                await asyncio.sleep(0)
            if what in self.faults:
                raise self.faults[what]
        finally:
            self.under_way -= 1


WORLD = World()
"""What stands behind all providers of a test; a fixture makes it new."""


class PainterConfig(ProviderConfig):
    api_key: SecretStr | None = None
    model: str = "brush"
    price: Decimal | None = Decimal("0.25")
    tells_cost: bool = True


class Painter(ImageProvider[PainterConfig]):
    """Paints what it is told; the bytes say what, and how often it was told anything before."""

    async def generate(
        self,
        prompt: str,
        *,
        count: int = 1,
        path: str | Path | None = None,
        **options: Unpack[ImageOptions],
    ) -> Sequence[GeneratedImage]:
        WORLD.prompts.append(prompt)
        await WORLD.work(prompt)
        config = self.config
        cost = (config.price or Decimal("0.5")) if config.tells_cost else None
        made = [
            GeneratedImage(
                PNG + f"{prompt} {len(WORLD.prompts)}".encode(),
                "image/png",
                options.get("model", config.model),
                64,
                64,
                cost=cost,
            )
            for _ in range(count)
        ]
        if path is not None:
            await write_file(path, made[0].data)
            made = [
                GeneratedImage(one.data, "image/png", one.model, 64, 64, one.cost, path=Path(path))
                for one in made
            ]
        return made

    def estimate_cost(self, *, count: int = 1, **options: Unpack[ImageOptions]) -> Decimal | None:
        price = self.config.price
        return None if price is None else price * count


class SpeakerConfig(ProviderConfig):
    api_key: SecretStr | None = None


class Speaker(AudioProvider[SpeakerConfig]):
    """Says every word but ``xyzzy``."""

    async def recordings(
        self,
        word: str,
        language: str,
        *,
        country: str | None = None,
        sex: Sex | None = None,
        min_votes: int | None = None,
    ) -> Sequence[Recording]:
        found = Recording(
            "7", word, language, country or "Spain", sex, "ana", 3, "ana, CC BY-NC-SA"
        )
        return [] if word == "xyzzy" else [found]

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
        WORLD.words.append(word)
        await WORLD.work(word)
        found = await self.recordings(word, language, country=country, sex=sex)
        if not found:
            raise WordNotFoundError(f"There is no recording of {word!r}.")
        data = f"ID3 {word} {language}".encode()
        if path is not None:
            path = await write_file(path, data)
        return Pronunciation(found[0], data, "audio/mpeg", path)


class BoxConfig(ProviderConfig):
    deck: str | None = None
    note_type: str | None = None
    decks: tuple[str, ...] = ("Default", "Spanish")


class Box(FlashcardProvider[BoxConfig]):
    """A box of cards."""

    types = (
        NoteType("Basic", ("Front", "Back")),
        NoteType("Vocabulary", ("Word", "Meaning", "Image", "Audio")),
        NoteType("Spoken", ("Word", "Sound", "Attribution")),
    )

    async def decks(self) -> Sequence[str]:
        return self.config.decks

    async def note_types(self) -> Sequence[NoteType]:
        return self.types

    async def existing(
        self, notes: Sequence[Note], *, note_type: str | None = None
    ) -> Sequence[int | None]:
        first = next(one.fields[0] for one in self.types if one.name == note_type)
        ids = {note.fields[first]: key for key, note in WORLD.notes.items()}
        return [ids.get(note.fields[first]) for note in notes]

    async def add_notes(
        self,
        notes: Sequence[Note],
        *,
        deck: str | None = None,
        note_type: str | None = None,
        duplicates: Duplicates = "skip",
    ) -> Sequence[NoteResult]:
        await WORLD.work("push")
        WORLD.pushes.append(len(notes))
        there = await self.existing(notes, note_type=note_type)
        results: list[NoteResult] = []
        for note, known in zip(notes, there, strict=True):
            key = known or next(_ids)
            WORLD.notes[key] = note
            results.append(NoteResult(NoteOutcome.UPDATED if known else NoteOutcome.ADDED, key))
        return results


_ids = itertools.count(1000)


def sample_types() -> ProviderTypes:
    """Return a catalogue with the storage types, and the samples under the services' names."""
    types = ProviderTypes(scan_entry_points=False)
    for family in FAMILIES:
        types.add_family(family)
    for row in (*STORAGE_TYPES, *FAILOVER_TYPES):
        types.add(row)
    classes: dict[str, Any] = {"openai": Painter, "runware": type("Runware", (Painter,), {})}
    for name, cls in classes.items():
        register_provider(name, types=types)(cls)
    register_provider("forvo", types=types)(Speaker)
    free = type("FreeSpeaker", (Speaker,), {})
    register_provider("free_speech", types=types, capabilities={"caching-allowed"})(free)
    register_provider("anki", types=types)(Box)
    return types
