"""The rules of audio: what recordings there are, and which one is had."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ...providers.media.audio import AudioProvider, Pronunciation, WordNotFoundError
from ...providers.web.errors import InvalidRequestError
from .case import refusal
from .media_case import MediaCase, expect_told, media_test

__all__ = ["AudioRules"]

Audio = AudioProvider[Any]
AT_ONCE = 20
NO_WORDS = ("", " ", "\n", "a\0b", "two\nlines", "\ud800")
ODD_WORDS = ("and/or", "..", ".", "50 %", "a?b=c&d#e", "¿qué?", "%2e%2e", "日本語", "x" * 300)


class AudioRules(MediaCase):
    """What a caller may rely on."""

    word: ClassVar[str] = "hola"
    """A word of which there are at least two recordings."""
    language: ClassVar[str] = "es"
    """Its language."""
    missing_word: ClassVar[str] = "nosuchwordatall"
    """One of which there is none."""

    def calls_on(self, provider: Any) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return every operation, as calls that are right."""
        return {
            "recordings": lambda: provider.recordings(self.word, self.language),
            "pronounce": lambda: provider.pronounce(self.word, self.language),
        }

    # -- recordings ----------------------------------------------------------------------

    @media_test
    async def test_recordings_are_of_the_word_the_best_first(self, audio: Audio) -> None:
        """Each recording is of the word, has a mark of its own; they are ordered by votes."""
        found = await audio.recordings(self.word, self.language)
        assert len(found) >= 2, "`word` must have at least two recordings"
        assert {one.word for one in found} == {self.word}
        assert len({one.id for one in found}) == len(found)
        assert [one.votes for one in found] == sorted((one.votes for one in found), reverse=True)
        assert {one.sex for one in found} <= {"female", "male", None}
        assert await audio.recordings(self.word, self.language) == found

    @media_test
    async def test_wishes_leave_those_that_meet_all(self, audio: Audio) -> None:
        """Country, sex and votes each keep exactly the recordings that meet them, in order."""
        word, language = self.word, self.language
        everything = await audio.recordings(word, language)
        for one in everything:
            assert await audio.recordings(word, language, min_votes=one.votes) == [
                other for other in everything if other.votes >= one.votes
            ]
            if one.country:
                assert await audio.recordings(word, language, country=one.country) == [
                    other for other in everything if other.country == one.country
                ]
            if one.sex:
                found = await audio.recordings(word, language, sex=one.sex, min_votes=one.votes)
                assert found == [
                    other
                    for other in everything
                    if other.sex == one.sex and other.votes >= one.votes
                ]

    @media_test
    async def test_a_missing_word_has_no_recordings(self, audio: Audio) -> None:
        """Of a word there is none of the list is empty: that is an answer."""
        assert list(await audio.recordings(self.missing_word, self.language)) == []

    @media_test
    async def test_any_word_is_only_a_word(self, audio: Audio) -> None:
        """Whatever a word is made of, it is looked for, and leads nowhere else."""
        for word in ODD_WORDS:
            try:
                found = await audio.recordings(word, self.language)
            except InvalidRequestError:
                continue
            assert {one.word for one in found} <= {word}, f"{word!r} gave another word"

    @pytest.mark.parametrize("word", NO_WORDS, ids=ascii)
    @media_test
    async def test_what_is_no_word_is_refused(self, audio: Audio, word: str) -> None:
        """What has no letter, or cannot be written, is the caller's mistake: a ValueError."""
        for name, call in (("recordings", audio.recordings), ("pronounce", audio.pronounce)):
            error = await refusal(InvalidRequestError, name, call(word, self.language))
            assert isinstance(error, ValueError)
            expect_told(error)

    # -- pronounce -----------------------------------------------------------------------

    @media_test
    async def test_pronounce_gives_the_best(self, audio: Audio) -> None:
        """It is the first of the recordings, also of those that meet the wishes."""
        everything = await audio.recordings(self.word, self.language)
        _expect(await audio.pronounce(self.word, self.language), everything[0])
        for one in everything:
            if one.sex:
                best = next(other for other in everything if other.sex == one.sex)
                _expect(await audio.pronounce(self.word, self.language, sex=one.sex), best)

    @media_test
    async def test_pronounce_writes_the_file_whole(self, audio: Audio, tmp_path: Path) -> None:
        """The file has the bytes that are returned, and nothing else appears beside it."""
        target = tmp_path / "word.mp3"
        for path in (target, str(target)):
            found = await audio.pronounce(self.word, self.language, path=path)
            assert found.path == target
            assert target.read_bytes() == found.data
            assert names_in(tmp_path) == ["word.mp3"]

    @media_test
    async def test_a_missing_word_is_named(self, audio: Audio, tmp_path: Path) -> None:
        """None of the word, or of the kind: WordNotFoundError, a LookupError, that says which."""
        target = tmp_path / "word.mp3"
        missing = audio.pronounce(self.missing_word, self.language, path=target)
        error = await refusal(WordNotFoundError, "pronounce", missing)
        expect_told(error)
        assert repr(self.missing_word) in str(error)
        assert repr(self.language) in str(error)
        assert isinstance(error, LookupError)
        assert not error.is_backend_failure
        wish = audio.pronounce(self.word, self.language, min_votes=10**9, path=target)
        assert f"{10**9}" in str(await refusal(WordNotFoundError, "min_votes", wish))
        wish = audio.pronounce(self.word, self.language, country="Atlantis", path=target)
        assert "Atlantis" in str(await refusal(WordNotFoundError, "country", wish))
        assert names_in(tmp_path) == []

    @media_test
    async def test_a_path_that_cannot_be_is_told(self, audio: Audio, tmp_path: Path) -> None:
        """A folder that is not there, or a path that is one, is an OSError; none is made."""
        for path in (tmp_path / "no" / "word.mp3", tmp_path):
            call = audio.pronounce(self.word, self.language, path=path)
            await refusal(OSError, f"the path {path.name!r}", call)
        assert names_in(tmp_path) == []

    @media_test
    async def test_many_at_once_are_not_mixed_up(self, audio: Audio, tmp_path: Path) -> None:
        """Calls at the same time each have their own answer."""
        everything = await audio.recordings(self.word, self.language)
        wishes = [one.votes for one in everything] * AT_ONCE
        found = await asyncio.gather(
            *(
                audio.recordings(self.word, self.language, min_votes=votes)
                for votes in wishes[:AT_ONCE]
            )
        )
        for votes, some in zip(wishes, found, strict=False):
            assert some == [one for one in everything if one.votes >= votes]


def names_in(folder: Path) -> list[str]:
    """Return the names of all that is in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def _expect(found: Pronunciation, recording: object) -> None:
    assert found.recording == recording
    assert found.media_type.startswith("audio/")
    assert found.data
    assert found.path is None
