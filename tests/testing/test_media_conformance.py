"""The audio and flashcard kits have teeth: each broken type fails what it breaks."""

from __future__ import annotations

from pathlib import Path

from .teeth import report_of

BROKEN = """
import pytest
from purveyor.providers.media.audio import WordNotFoundError
from purveyor.providers.media.audio.forvo import Forvo, ForvoConfig
from purveyor.providers.media.flashcards import FlashcardError, NoteOutcome, NoteResult
from purveyor.providers.media.flashcards.anki import Anki, AnkiConfig
from purveyor.testing.conformance import AudioConformance, FlashcardConformance
from purveyor.testing.doubles import AnkiDouble, ForvoDouble, Spoken

KEY = "canary-key"
HOLA = [
    Spoken(1, "hola", "es", "Spain", "f", votes=3),
    Spoken(2, "hola", "es", "Mexico", "m", votes=9),
    Spoken(3, "hola", "es", "Mexico", "f", votes=8, against=1),
]


class AudioCase(AudioConformance):
    timeout = 10

    @pytest.fixture
    def provider_config(self):
        with ForvoDouble(KEY, HOLA) as double:
            yield ForvoConfig(base_url=double.url, api_key=KEY)


class CardsCase(FlashcardConformance):
    timeout = 10

    @pytest.fixture
    def provider_config(self):
        with AnkiDouble(api_key=KEY) as double:
            yield AnkiConfig(base_url=double.url, api_key=KEY)


class Unordered(Forvo):
    async def recordings(self, *args, **wishes):
        return sorted(await super().recordings(*args, **wishes), key=lambda one: one.id)


class TestUnordered(AudioCase):
    provider_class = Unordered


class AnyCountry(Forvo):
    async def recordings(self, word, language, *, country=None, **wishes):
        return await super().recordings(word, language, **wishes)


class TestAnyCountry(AudioCase):
    provider_class = AnyCountry


class First(Forvo):
    async def pronounce(self, word, language, *, sex=None, **wishes):
        return await super().pronounce(word, language, **wishes)


class TestFirst(AudioCase):
    provider_class = First


class Unwritten(Forvo):
    async def pronounce(self, *args, path=None, **wishes):
        return await super().pronounce(*args, **wishes)


class TestUnwritten(AudioCase):
    provider_class = Unwritten


class Silent(Forvo):
    async def pronounce(self, word, *args, **wishes):
        try:
            return await super().pronounce(word, *args, **wishes)
        except WordNotFoundError:
            raise WordNotFoundError("There is none.") from None


class TestSilent(AudioCase):
    provider_class = Silent


class ShowsKey(Forvo):
    async def _asked(self, *args, **kwargs):
        key = self.config.api_key.get_secret_value()
        try:
            return await super()._asked(*args, **kwargs)
        except Exception as error:
            error.add_note("the key is " + " ".join(key))
            import logging
            logging.getLogger("x").debug("key %s", key)
            raise


class TestShowsKey(AudioCase):
    provider_class = ShowsKey


class Swallows(Anki):
    async def decks(self):
        import asyncio
        try:
            return await super().decks()
        except asyncio.CancelledError:
            return []


class TestSwallows(CardsCase):
    provider_class = Swallows


class Unsorted(Anki):
    async def decks(self):
        return sorted(await super().decks(), reverse=True)


class TestUnsorted(CardsCase):
    provider_class = Unsorted


class NoIds(Anki):
    async def add_notes(self, *args, **kwargs):
        found = await super().add_notes(*args, **kwargs)
        return [
            NoteResult(one.outcome) if one.outcome == "skipped" else one for one in found
        ]


class TestNoIds(CardsCase):
    provider_class = NoIds


class AllOrNothing(Anki):
    async def add_notes(self, *args, **kwargs):
        found = await super().add_notes(*args, **kwargs)
        if any(one.outcome == "failed" for one in found):
            return [NoteResult(NoteOutcome.FAILED, reason="one was bad")] * len(found)
        return found


class TestAllOrNothing(CardsCase):
    provider_class = AllOrNothing


class MakesDecks(Anki):
    async def add_notes(self, notes, *, deck=None, **kwargs):
        for note in notes:
            if note.deck:
                await super().create_deck(note.deck)
        return await super().add_notes(notes, deck=deck, **kwargs)


class TestMakesDecks(CardsCase):
    provider_class = MakesDecks


class Overwrites(Anki):
    async def store_media(self, media):
        await super().store_media(media)
        return media.name


class TestOverwrites(CardsCase):
    provider_class = Overwrites


class LeavesDuplicates(Anki):
    async def add_notes(self, *args, duplicates="skip", **kwargs):
        return await super().add_notes(*args, **kwargs)


class TestLeavesDuplicates(CardsCase):
    provider_class = LeavesDuplicates
"""

FAILS = {
    "TestUnordered": "test_recordings_are_of_the_word_the_best_first",
    "TestAnyCountry": "test_wishes_leave_those_that_meet_all",
    "TestFirst": "test_pronounce_gives_the_best",
    "TestUnwritten": "test_pronounce_writes_the_file_whole",
    "TestSilent": "test_a_missing_word_is_named",
    "TestShowsKey": "test_a_service_that_is_not_there_is_told",
    "TestSwallows": "test_cancelling_is_not_swallowed",
    "TestUnsorted": "test_a_deck_is_made_once",
    "TestNoIds": "test_notes_are_added_once",
    "TestAllOrNothing": "test_one_bad_note_keeps_no_other_out",
    "TestMakesDecks": "test_a_note_without_a_place_stops_all",
    "TestOverwrites": "test_media_are_kept_beside_each_other",
    "TestLeavesDuplicates": "test_duplicates_must_be_one_of_three",
}


def test_each_broken_type_fails_what_it_breaks_and_nothing_else_of_these(tmp_path: Path) -> None:
    rules = " or ".join({*FAILS.values(), "test_a_disposed_provider_refuses"})
    report = report_of(tmp_path, BROKEN, select=rules)
    for kind, rule in FAILS.items():
        failed = report[kind.removeprefix("Test")]
        assert rule.removeprefix("test_") in failed, kind
        assert "a_disposed_provider_refuses" not in failed, kind
