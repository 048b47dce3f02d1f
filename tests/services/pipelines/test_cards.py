"""Flashcards from a table."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.media.flashcards import DeckNotFoundError, NoteTypeNotFoundError
from purveyor.providers.registry import InvalidConfigError, PermissionDeniedError
from purveyor.providers.web.errors import (
    ApplicationNotRunningError,
    ContentRefusedError,
    QuotaExhaustedError,
)
from purveyor.services.pipelines import (
    CardOptions,
    CardsEvent,
    CardsResult,
    Pipeline,
    RowFinished,
    RowOutcome,
    TableError,
    push_cards,
)
from tests.services.pipelines.conftest import Open
from tests.services.pipelines.samples import PNG, World

HEADER = "Word,Meaning,image_prompt,language,tags\n"
WORDS = f"""{HEADER}gato,cat,a cat,es,animal pet
perro,dog,a dog,es,
casa,house & home,,es,
"""


class Push:
    """Pushes tables as text, with the container's providers."""

    def __init__(self, container: ApplicationContainer, folder: Path) -> None:
        self._container = container
        self._file = folder / "words.csv"

    async def __call__(self, text: str | bytes, **options: Any) -> CardsResult:
        self._file.write_bytes(text if isinstance(text, bytes) else text.encode())
        asked = {
            name: options.pop(name)
            for name in ("max_cost", "dry_run", "observer", "provider")
            if name in options
        }
        pipeline = Pipeline(options.pop("pipeline", "cards"), self._container, concurrency=1)
        return await push_cards(self._file, pipeline, options=CardOptions(**options), **asked)

    async def faults(self, text: str | bytes, **options: Any) -> list[str]:
        with pytest.raises(TableError) as refused:
            await self(text, **options)
        return [str(fault) for fault in refused.value.faults]


@pytest.fixture
def push(container: ApplicationContainer, tmp_path: Path) -> Push:
    return Push(container, tmp_path)


def rows(result: CardsResult) -> list[tuple[int, str]]:
    return [(row.line, row.outcome.value) for row in result.rows]


class TestNotes:
    """What becomes of a row."""

    async def test_has_fields_tags_a_picture_and_a_sound(self, push: Push, world: World) -> None:
        result = await push(WORDS.replace("Word,", "word,", 1))

        assert rows(result) == [(2, "added"), (3, "added"), (4, "added")]
        assert result.success
        gato, perro, casa = world.notes.values()
        assert gato.fields == {"Word": "gato", "Meaning": "cat"}
        assert gato.tags == ["animal", "pet"]
        picture, sound = gato.images["Image"], gato.audio["Audio"]
        assert (picture.data, picture.name[-4:]) == (PNG + b"a cat 1", ".png")
        assert (sound.data, sound.name[-4:]) == (b"ID3 gato es", ".mp3")
        assert perro.images["Image"].name != picture.name
        assert casa.fields["Meaning"] == "house &amp; home"
        assert casa.images == {}
        assert result.cost == Decimal("0.50")
        assert [row.id for row in result.rows] == list(world.notes)

    async def test_columns_options_and_fields_may_be_chosen(self, push: Push, world: World) -> None:
        text = "Front;Back;show;say\n<b>gato</b>;cat;a cat;gato\n"
        await push(
            text,
            note_type="Basic",
            images={"show": "back"},
            sounds={"say": "Front"},
            language="es",
            html=True,
            image_options={"model": "pencil"},
        )
        (note,) = world.notes.values()
        assert note.fields["Front"] == "<b>gato</b>"
        assert (note.images.keys(), note.audio.keys()) == ({"Back"}, {"Front"})

    async def test_line_breaks_stay_and_columns_not_wanted_are_left(
        self, push: Push, world: World
    ) -> None:
        await push(f'{HEADER}gato,"a\r\nb",a cat,es,\n', images={}, sounds={})
        assert [note.fields for note in world.notes.values()] == [
            {"Word": "gato", "Meaning": "a<br>b"}
        ]
        assert (world.prompts, world.words) == ([], [])

    async def test_whose_voice_it_is_has_a_field_where_the_type_has_one(
        self, push: Push, world: World
    ) -> None:
        await push("Word,language\ngato,es\n", note_type="Spoken")
        (note,) = world.notes.values()
        assert note.fields == {"Word": "gato", "Attribution": "ana, CC BY-NC-SA"}
        assert list(note.audio) == ["Sound"]

    async def test_a_type_without_such_a_field_has_them_in_its_last(
        self, push: Push, world: World
    ) -> None:
        await push("Front,Back,image_prompt\ngato,cat,a cat\n", note_type="Basic")
        assert [list(note.images) for note in world.notes.values()] == [["Back"]]


class TestRows:
    """Each row by itself."""

    async def test_those_there_already_cost_nothing(self, push: Push, world: World) -> None:
        await push(WORDS)
        before = len(world.prompts), len(world.words), len(world.notes)

        again = await push(WORDS + "rana,frog,a frog,es,\nrana,frog,another frog,es,\n")

        assert rows(again) == [
            (2, "skipped"), (3, "skipped"), (4, "skipped"), (5, "added"), (6, "skipped"),
        ]  # fmt: skip
        assert again.rows[4].reason == "it is the same note as in line 5"
        assert (len(world.prompts), len(world.words), len(world.notes)) == tuple(
            count + 1 for count in before
        )

    async def test_duplicates_may_be_failures_or_changes(self, push: Push, world: World) -> None:
        await push(WORDS)
        told = await push(WORDS, duplicates="error")
        assert {row.outcome for row in told.rows} == {RowOutcome.FAILED}
        changed = await push(WORDS.replace("cat,a", "a cat,a"), duplicates="update")
        assert {row.outcome for row in changed.rows} == {RowOutcome.UPDATED}
        assert next(iter(world.notes.values())).fields["Meaning"] == "a cat"
        assert changed.cost == 0  # the pictures were kept

    async def test_one_that_fails_stops_no_other(self, push: Push, world: World) -> None:
        world.faults = {"a dog": ContentRefusedError("No dogs.")}
        result = await push(f"{WORDS}xyzzy,magic,,es,\n")
        assert rows(result) == [(2, "added"), (3, "failed"), (4, "added"), (5, "failed")]
        assert result.rows[1].reason == "No dogs."
        assert not result.success
        assert len(world.notes) == 2

    async def test_incomplete_ones_are_pushed_where_that_is_wanted(
        self, push: Push, world: World
    ) -> None:
        world.faults = {"a dog": ContentRefusedError("No dogs.")}
        result = await push(WORDS, incomplete=True)
        assert {row.outcome for row in result.rows} == {RowOutcome.ADDED}
        perro = list(world.notes.values())[1]
        assert (perro.images, len(perro.audio)) == ({}, 1)

    async def test_they_are_pushed_in_batches_and_told_as_they_are_done(
        self, push: Push, world: World
    ) -> None:
        events: list[CardsEvent] = []
        text = "Word\n" + "".join(f"w{number}\n" for number in range(120))
        result = await push(text, observer=events.append)
        assert world.pushes == [50, 50, 20]
        told = [event for event in events if isinstance(event, RowFinished)]
        assert [event.result for event in told] == result.rows
        assert (told[-1].done, told[-1].total) == (120, 120)

    async def test_a_cost_limit_ends_it_and_the_same_call_goes_on(
        self, push: Push, world: World
    ) -> None:
        result = await push(WORDS, max_cost=Decimal("0.25"))
        assert rows(result) == [(2, "added"), (3, "not_done"), (4, "added")]
        assert "cost limit of 0.25" in result.rows[1].reason
        assert (result.cost, result.success) == (Decimal("0.25"), False)
        again = await push(WORDS)
        assert rows(again) == [(2, "skipped"), (3, "added"), (4, "skipped")]

    async def test_a_quota_that_is_used_up_is_not_asked_again_by_later_batches(
        self, push: Push, world: World
    ) -> None:
        world.faults = {"p0": QuotaExhaustedError("Used up.")}
        text = "Word,image_prompt\n" + "".join(f"w{n},p{n}\n" for n in range(60))
        result = await push(text)
        assert world.prompts == ["p0"]
        assert (result.count(RowOutcome.FAILED), result.count(RowOutcome.NOT_DONE)) == (1, 59)

    async def test_a_collection_that_goes_away_ends_it(self, push: Push, world: World) -> None:
        world.faults = {"push": ApplicationNotRunningError("Start Anki.")}
        text = "Word,image_prompt\n" + "".join(f"w{n},p{n}\n" for n in range(60))
        result = await push(text)
        assert (result.count(RowOutcome.FAILED), result.count(RowOutcome.NOT_DONE)) == (50, 10)
        assert result.error is not None
        assert len(world.prompts) == 50  # and no more are paid

        world.faults = {}
        again = await push(text)
        assert again.success
        assert len(world.prompts) == 60  # what was made was kept

    async def test_a_kill_in_mid_batch_leaves_what_was_pushed(
        self, push: Push, world: World
    ) -> None:
        text = "Word,image_prompt\n" + "".join(f"w{n},p{n}\n" for n in range(60))

        def kill(what: str) -> None:
            if what == "p55":
                task.cancel()

        world.before = kill
        task = asyncio.create_task(push(text))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(world.notes) == 50

        world.before = lambda _: None
        result = await push(text)
        assert (result.count(RowOutcome.SKIPPED), result.count(RowOutcome.ADDED)) == (50, 10)
        assert world.prompts.count("p54") == 1

    async def test_a_dry_run_tells_what_it_would_cost_and_does_nothing(
        self, push: Push, world: World
    ) -> None:
        await push(f"{HEADER}gato,cat,a cat,es,\n")
        asked = len(world.prompts)
        result = await push(WORDS, dry_run=True)
        assert rows(result) == [(2, "skipped"), (3, "would_push"), (4, "would_push")]
        assert result.estimate.to_dict() == {
            "items": 3,
            "kept": 0,
            "calls": {"openai": 1, "forvo": 2},
            "cost": "0.25",
            "unknown": 0,
        }
        assert (len(world.prompts), len(world.notes)) == (asked, 1)
        assert result.to_dict()["rows"][1]["outcome"] == "would_push"


class TestBadTables:
    """What is wrong with a file is told by line and column, before anything is paid."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", ["It is empty: the first line must name the columns."]),
            ("\n\n", ["It is empty: the first line must name the columns."]),
            ("Word\n", ["There are no rows below the line that names the columns."]),
            (
                "Word,Meaning\ngato\n\nperro,dog,bark\n",
                [
                    "line 2: there are 1 cells and 2 columns; put cells that hold a ',' or a line "
                    "break in double quotes.",
                    "line 4: there are 3 cells and 2 columns; put cells that hold a ',' or a line "
                    "break in double quotes.",
                ],
            ),
            ("Word,,Word\na,b,c\n", [
                "line 1: column 2 has no name.",
                "line 1, column 'Word': there are two columns of that name.",
            ]),
            (
                "Word,Meanning\na,b\n",
                [
                    "column 'Meanning': the note type 'Vocabulary' has no such field, and no "
                    "option names the column. There are: Meaning, Audio, Image, Word, "
                    "image_prompt, language, tags, word."
                ],
            ),
            (
                "Meaning\na\n",
                [
                    "there is no column 'Word', the field that tells notes of the type "
                    "'Vocabulary' apart."
                ],
            ),
            ("Word,word\na,b\n", [
                "two columns mean the same field; they differ in upper and lower case."
            ]),
            (
                "Word,Meaning\n,b\nc,d\n  ,e\n",
                [
                    "line 2, column 'Word': is empty, and it is what tells notes apart.",
                    "line 4, column 'Word': is empty, and it is what tells notes apart.",
                ],
            ),
            ("word,language\na,es\nb,\n", ["line 3, column 'language': is empty: which language?"]),
            ('Word\n"a\n', ["line 2: unexpected end of data"]),
            (b"Word\nok\nca\xf1a\n", [
                "line 3: byte 3 of the line is no UTF-8. Save the file as UTF-8."
            ]),
        ],
    )  # fmt: skip
    async def test_all_of_it(
        self, text: str | bytes, expected: list[str], push: Push, world: World
    ) -> None:
        assert await push.faults(text) == expected
        assert (world.prompts, world.words, world.notes) == ([], [], {})

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"images": {"picture": None}}, "column 'picture': there is no such column, of"),
            ({"images": {"Meaning": "Img"}}, "'Vocabulary' has no field 'Img'"),
            ({"images": {"Meaning": "Image", "Word": "image"}}, "takes one image only"),
            ({"sounds": {"Word": None}}, "language of the words is not known"),
        ],
    )
    async def test_options_that_do_not_fit_it(
        self, options: dict[str, Any], expected: str, push: Push
    ) -> None:
        (fault,) = await push.faults("Word,Meaning\ngato,cat\n", **options)
        assert expected in fault

    async def test_the_message_names_the_file_and_no_more_than_ten(self, push: Push) -> None:
        with pytest.raises(TableError) as refused:
            await push("Word\n" + "a,b\n" * 12)
        lines = str(refused.value).splitlines()
        assert lines[0] == "words.csv:"
        assert (len(lines), lines[-1]) == (12, "  and 2 more")

    async def test_a_byte_order_mark_tabs_and_semicolons_are_read(
        self, push: Push, world: World
    ) -> None:
        await push("\ufeffWord\tMeaning\na,b\tc\n")
        await push("Word;Meaning\nd,e;f\n")
        assert [note.fields["Word"] for note in world.notes.values()] == ["a,b", "d,e"]


class TestPlaces:
    """Decks, note types and providers are looked for before anything is paid."""

    @pytest.mark.parametrize(
        ("options", "error", "expected"),
        [
            ({"deck": "Spannish"}, DeckNotFoundError, "There are: Spanish, Default"),
            ({"note_type": "Basics"}, NoteTypeNotFoundError, "There are: Basic, "),
            ({"image_provider": "nobody"}, LookupError, "openai"),
            ({"provider": "nobody"}, LookupError, "anki"),
        ],
    )
    async def test_one_that_is_not_there_is_told_with_those_that_are(
        self,
        options: dict[str, Any],
        error: type[Exception],
        expected: str,
        push: Push,
        world: World,
    ) -> None:
        with pytest.raises(error, match=expected):
            await push(WORDS, **options)
        assert (world.prompts, world.notes) == ([], {})

    async def test_a_note_type_must_be_named_somewhere(
        self, open_container: Open, tmp_path: Path
    ) -> None:
        container = await open_container(flashcards={"providers": {"anki": {}}})
        with pytest.raises(InvalidConfigError, match="note_type"):
            await Push(container, tmp_path)("Front\na\n")
        result = await Push(container, tmp_path)("Front\na\n", note_type="Basic")
        assert result.success

    async def test_a_pipeline_pushes_to_its_own_collection_only(
        self, open_container: Open, tmp_path: Path
    ) -> None:
        container = await open_container(
            flashcards={"providers": {"anki": {"pipelines": ["vocabulary"]}}}
        )
        push = Push(container, tmp_path)
        assert (await push("Front\na\n", note_type="Basic", pipeline="vocabulary")).success
        with pytest.raises(PermissionDeniedError, match="'covers'"):
            await push("Front\na\n", note_type="Basic", pipeline="covers", provider="anki")
