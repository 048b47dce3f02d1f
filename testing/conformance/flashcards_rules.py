"""The rules of flashcards: notes, duplicates, decks, media."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ...providers.media.flashcards import (
    DeckNotFoundError,
    Duplicates,
    FlashcardProvider,
    Media,
    Note,
    NoteResult,
    NoteTypeNotFoundError,
)
from ...providers.web.errors import InvalidRequestError
from .case import refusal
from .media_case import MediaCase, expect_told, media_test

__all__ = ["FlashcardRules"]

Cards = FlashcardProvider[Any]
DECK = "Conformance::Kit"
MANY = 250
FRONTS = (
    "plain",
    "PLAIN",
    "plain ",
    "<b>bold</b> and <i>more</i>",
    'say "hi" \\ there',
    "wild * cards _ (or) -not deck:none tag:x",
    "a: b, c",
    "日本\N{IDEOGRAPHIC SPACE}語",
    "two\nlines",
    "tab\there",
    "&lt;tag&gt; &amp; 50 %",
    "e\u0301tude",
    "e" * 5000,
)


class FlashcardRules(MediaCase):
    """What a caller may rely on."""

    note_type: ClassVar[str] = "Basic"
    """A type of notes with at least two fields, a question in the first one."""

    def calls_on(self, provider: Any) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return every operation, as calls that are right."""
        note = Note({"Front": "x"}, deck="Default", note_type=self.note_type)
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "decks": provider.decks,
            "note_types": provider.note_types,
            "create_deck": lambda: provider.create_deck(DECK),
            "add_notes": lambda: provider.add_notes([note]),
        }
        if "media" in self.capabilities:
            calls["store_media"] = lambda: provider.store_media(Media("a.mp3", b"x"))
        return calls

    async def fields_of(self, cards: Cards) -> Sequence[str]:
        """Return the fields of the note type."""
        return next(one.fields for one in await cards.note_types() if one.name == self.note_type)

    async def adder(
        self, cards: Cards
    ) -> Callable[..., Awaitable[list[tuple[str, int | None, str]]]]:
        """Return a function that adds notes with these first fields into the kit's deck."""
        await cards.create_deck(DECK)
        first, second, *_ = await self.fields_of(cards)

        async def add(
            *fronts: str, duplicates: Duplicates = "skip", back: str = "back", **more: Any
        ) -> list[tuple[str, int | None, str]]:
            notes = [Note({first: front, second: back}, **more) for front in fronts]
            found = await cards.add_notes(
                notes, deck=DECK, note_type=self.note_type, duplicates=duplicates
            )
            assert len(found) == len(notes), "there must be one result for each note"
            return [_told(result) for result in found]

        return add

    # -- decks and note types ------------------------------------------------------------

    @media_test
    async def test_a_deck_is_made_once(self, cards: Cards) -> None:
        """A deck that is made is listed, A to Z; making it again changes nothing."""
        await cards.create_deck(DECK)
        before = list(await cards.decks())
        await cards.create_deck(DECK)
        assert list(await cards.decks()) == before == sorted(before)
        assert DECK in before

    @media_test
    async def test_a_deck_without_a_name_is_refused(self, cards: Cards) -> None:
        """Nothing, or only spaces, is no name: InvalidRequestError."""
        for name in ("", "  "):
            error = await refusal(InvalidRequestError, "create_deck", cards.create_deck(name))
            expect_told(error)

    @media_test
    async def test_note_types_tell_their_fields(self, cards: Cards) -> None:
        """Note types come by name, each with fields in order, each field once."""
        found = await cards.note_types()
        assert [one.name for one in found] == sorted(one.name for one in found)
        assert self.note_type in {one.name for one in found}
        assert all(one.fields and len(set(one.fields)) == len(one.fields) for one in found)

    # -- notes ---------------------------------------------------------------------------

    @media_test
    async def test_notes_are_added_once(self, cards: Cards) -> None:
        """Each note is added and has an id of its own; again they are skipped, with those ids."""
        add = await self.adder(cards)
        added = await add(*FRONTS)
        assert [outcome for outcome, *_ in added] == ["added"] * len(FRONTS), added
        ids = [number for _, number, _ in added]
        assert len({*ids}) == len(FRONTS)
        assert None not in ids
        again = await add(*FRONTS)
        assert again == [("skipped", number, "") for number in ids]

    @media_test
    async def test_duplicates_are_updated_or_told(self, cards: Cards) -> None:
        """With update they keep their ids; with error they fail, with the reason."""
        add = await self.adder(cards)
        added = await add(*FRONTS)
        updated = await add(*FRONTS, duplicates="update", back="new")
        assert updated == [("updated", number, "") for _, number, _ in added]
        for outcome, _, reason in await add(*FRONTS, duplicates="error"):
            assert outcome == "failed"
            assert reason
        mixed = await add("plain", "new here", duplicates="error")
        assert [outcome for outcome, *_ in mixed] == ["failed", "added"]

    @media_test
    async def test_notes_that_are_there_are_known(self, cards: Cards) -> None:
        """``existing`` has the ids of those there are, None for others, and adds nothing."""
        first, second, *_ = await self.fields_of(cards)
        add = await self.adder(cards)
        added = await add(*FRONTS)
        asked = [Note({first: front, second: "other"}) for front in (*FRONTS, "not there")]
        for _ in range(2):
            found = await cards.existing(asked, note_type=self.note_type)
            assert list(found) == [*(number for _, number, _ in added), None]
        assert list(await cards.existing([], note_type=self.note_type)) == []

    @media_test
    async def test_a_note_given_twice_is_added_once(self, cards: Cards) -> None:
        """The second one in the same call is a duplicate of the first."""
        add = await self.adder(cards)
        first, other, second = await add("one", "two", "one")
        assert (first[0], other[0], second[0]) == ("added", "added", "skipped")
        assert second[1] == first[1]
        first, second = await add("three", "three", duplicates="error")
        assert (first[0], second[0]) == ("added", "failed")

    @media_test
    async def test_one_bad_note_keeps_no_other_out(self, cards: Cards) -> None:
        """An empty question or a tag with a space fails by itself and says why, in its place."""
        add = await self.adder(cards)
        found = await add("first", "", "second", "<br>", "third")
        outcomes = [outcome for outcome, *_ in found]
        assert outcomes == ["added", "failed", "added", "failed", "added"]
        assert all(
            reason and number is None for outcome, number, reason in found if outcome[0] == "f"
        )
        for tag in ("two words", "", "tab\there"):
            ((outcome, _, reason),) = await add("tagged", tags=["fine", tag])
            assert outcome == "failed"
            assert repr(tag) in reason
        assert (await add("tagged", tags=["fine", "a::b"]))[0][0] == "added"

    @media_test
    async def test_many_notes_come_in_order(self, cards: Cards) -> None:
        """Any number is taken; the results are in the notes' order."""
        add = await self.adder(cards)
        half = await add(*(f"note {number}" for number in range(0, MANY, 2)))
        everything = await add(*(f"note {number}" for number in range(MANY)))
        assert [one[1] for one in everything[::2]] == [one[1] for one in half]
        assert [one[0] for one in everything] == ["skipped", "added"] * (MANY // 2)

    @media_test
    async def test_no_notes_are_no_mistake(self, cards: Cards) -> None:
        """Of nothing nothing comes."""
        assert list(await cards.add_notes([])) == []

    @media_test
    async def test_a_note_without_a_place_stops_all(self, cards: Cards) -> None:
        """A deck, note type or field there is not is told with what there is; none is added."""
        add = await self.adder(cards)
        first, *_ = await self.fields_of(cards)
        good = Note({first: "good"})
        wrong = {
            "Nowhere::Deck": (DeckNotFoundError, Note({first: "x"}, deck="Nowhere::Deck"), DECK),
            "No Type": (NoteTypeNotFoundError, Note({first: "x"}, note_type="No Type"), "Basic"),
            "No Field": (NoteTypeNotFoundError, Note({first: "x", "No Field": "y"}), first),
        }
        for name, (kind, note, known) in wrong.items():
            call = cards.add_notes([good, note], deck=DECK, note_type=self.note_type)
            error = await refusal(kind, name, call)
            expect_told(error)
            assert name in str(error)
            assert known in str(error), f"the message does not list what there is: {error}"
            assert isinstance(error, LookupError)
            assert not error.is_backend_failure
        assert (await add("good"))[0][0] == "added", "it was added by a call that failed"

    @media_test
    async def test_duplicates_must_be_one_of_three(self, cards: Cards) -> None:
        """Anything else is the caller's mistake."""
        wrong: Any = "replace"
        call = cards.add_notes([], duplicates=wrong)
        assert "update" in str(await refusal(InvalidRequestError, "duplicates", call))

    @media_test
    async def test_the_same_notes_at_the_same_time_are_there_once(self, cards: Cards) -> None:
        """Of calls at the same time with the same notes one adds each, the others skip it."""
        add = await self.adder(cards)
        results = await asyncio.gather(*(add("a", "b", "c") for _ in range(4)))
        for each in zip(*results, strict=True):
            assert sorted(outcome for outcome, *_ in each) == ["added", *["skipped"] * 3]
            assert len({number for _, number, _ in each}) == 1

    # -- media ---------------------------------------------------------------------------

    @media_test
    async def test_media_are_kept_beside_each_other(self, cards: Cards, tmp_path: Path) -> None:
        """The same file keeps its name; the same name with another content gets another one."""
        self.needs("media")
        path = tmp_path / "file"
        path.write_bytes(b"one")
        name = await cards.store_media(Media("hola.mp3", b"one"))
        assert name == await cards.store_media(Media("hola.mp3", b"one")) == "hola.mp3"
        assert await cards.store_media(Media("hola.mp3", path=path)) == name
        for unsafe in ("../../x.mp3", "a/b.mp3", 'a"b<c>.mp3', "con.mp3", "e\u0301.mp3"):
            kept = await cards.store_media(Media(unsafe, b"y"))
            assert kept.endswith(".mp3")
            assert not set(kept) & set('/\\"<>|?*:'), f"{unsafe!r} is kept as {kept!r}"

    @pytest.mark.parametrize(
        "media",
        [Media("a.mp3"), Media("", b"x"), Media("..", b"x"), Media("a.mp3", b"x", Path("y"))],
        ids=["nothing", "no name", "no name but dots", "both"],
    )
    @media_test
    async def test_media_that_are_none_are_refused(self, cards: Cards, media: Media) -> None:
        """Without a name, with neither bytes nor a path, or with both: InvalidRequestError."""
        self.needs("media")
        expect_told(await refusal(InvalidRequestError, "store_media", cards.store_media(media)))

    @media_test
    async def test_notes_have_media(self, cards: Cards, tmp_path: Path) -> None:
        """A note is added with its media; one whose file is not there fails by itself."""
        self.needs("media")
        add = await self.adder(cards)
        _, second, *_ = await self.fields_of(cards)
        image = {second: Media("cat.png", b"picture")}
        audio = {second: Media("cat.mp3", b"sound")}
        assert (await add("cat", images=image, audio=audio))[0][0] == "added"
        assert (await add("cat", images=image, audio=audio))[0][0] == "skipped"
        ((outcome, _, reason),) = await add("dog", audio={second: Media("d", path=tmp_path / "d")})
        assert outcome == "failed"
        assert reason
        assert (await add("dog"))[0][0] == "added", "it was added without its sound"


def _told(result: NoteResult) -> tuple[str, int | None, str]:
    return result.outcome.value, result.id, result.reason
