"""What is special to Anki and its add-on: versions, quirks, media; the rest is the kit's."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.media.flashcards import (
    CollectionNotOpenError,
    DeckNotFoundError,
    FlashcardError,
    Media,
    Note,
    NoteOutcome,
    NoteResult,
    NoteTypeNotFoundError,
)
from purveyor.providers.media.flashcards.anki import Anki, AnkiConfig
from purveyor.providers.media.flashcards.names import safe_name
from purveyor.providers.web.errors import (
    AccessDeniedError,
    ApplicationNotRunningError,
    AuthenticationError,
    BadResponseError,
    InvalidRequestError,
    OverloadedError,
    ServiceConnectionError,
    ServiceError,
)
from purveyor.testing.doubles import AnkiDouble, Fault

KEY = "canary-of-anki"
SPANISH = "Languages::Spanish"
VERSIONS: dict[str, dict[str, bool]] = {
    "of today": {},
    "before 2024": {"tells_why": False, "all_or_nothing": False},
    "that forgets the deck": {"forgets_deck": True},
    "that keeps connections": {"keeps_alive": True},
    "in a container": {"reads_files": False},
}


@pytest.fixture(params=VERSIONS.values(), ids=VERSIONS)
def each_version(request: pytest.FixtureRequest) -> Iterator[AnkiDouble]:
    with AnkiDouble(**request.param) as double:
        yield double


@pytest.fixture
def double() -> Iterator[AnkiDouble]:
    with AnkiDouble() as double:
        yield double


@pytest.fixture
async def anki(double: AnkiDouble) -> AsyncIterator[Anki]:
    async with made(double) as anki:
        yield anki


def made(double: AnkiDouble, **settings: Any) -> Anki:
    values = {"url": double.url, "deck": SPANISH, "note_type": "Basic", **settings}
    return Anki(AnkiConfig.model_validate(values))


def basic(front: str, back: str = "", **more: Any) -> Note:
    return Note({"Front": front, "Back": back}, **more)


# -- notes -------------------------------------------------------------------------------


async def test_each_note_has_a_result_in_any_version(each_version: AnkiDouble) -> None:
    async with made(each_version) as anki:
        (there,) = await anki.add_notes([basic("hola", "hello", tags=["old"])])
        results = await anki.add_notes(
            [
                basic("perro", "dog"),
                basic("", "nothing in front"),
                basic("hola", "hi", tags=["new"]),
                basic("gato", tags=["two words"]),
                basic("gato", "cat"),
                basic("gato", "tomcat"),
            ],
            duplicates="update",
        )
    outcomes = ["added", "failed", "updated", "failed", "added", "updated"]
    assert [result.outcome for result in results] == outcomes
    notes = each_version.notes
    assert len(notes) == 3
    assert results[2].id == there.id
    assert results[5].id == results[4].id
    assert notes[there.id or 0].fields == {"Front": "hola", "Back": "hi"}
    assert notes[there.id or 0].tags == ["new", "old"]
    assert notes[results[5].id or 0].fields["Back"] == "tomcat"
    assert {note.deck for note in notes.values()} == {SPANISH}
    assert "empty" in results[1].reason
    assert "'two words'" in results[3].reason


async def test_one_bad_note_keeps_no_other_out(double: AnkiDouble, anki: Anki) -> None:
    results = await anki.add_notes([basic(f"{n}" if n != 77 else "") for n in range(450)])
    assert [place for place, one in enumerate(results) if one.outcome != "added"] == [77]
    assert [note.fields["Front"] for note in double.notes.values()] == [
        f"{n}" for n in range(450) if n != 77
    ]
    assert len(double.requests) <= 3 * 3 + 3  # of 200 at a time: check, add, look for the deck


async def test_a_skipped_note_is_as_it_was(double: AnkiDouble, anki: Anki) -> None:
    await anki.add_notes([basic("hola", "hello")])
    before = dict(double.notes)
    (skipped,) = await anki.add_notes([basic("hola", "hi", tags=["x"])])
    assert skipped == NoteResult(NoteOutcome.SKIPPED, next(iter(before)))
    (failed,) = await anki.add_notes([basic("hola", "hi")], duplicates="error")
    assert failed.outcome == "failed"
    assert "is there already" in failed.reason
    assert double.notes == before


@pytest.mark.parametrize(
    "front",
    [
        'say "hi": a\\b',
        "*_ 50 % (or) -not deck:x",
        "<b>bold</b> x",
        "a,b",
        "\N{IDEOGRAPHIC SPACE}日本\N{IDEOGRAPHIC SPACE}語_*",
        'line\nbreak: "\\',
        "&lt;tag&gt;",
        "tab\there",
        "e\u0301",
    ],
)
async def test_a_duplicate_is_found_whatever_its_text(each_version: AnkiDouble, front: str) -> None:
    async with made(each_version) as anki:
        await anki.add_notes([basic("other"), basic(front.replace("a", "b") + "x")])
        (added,) = await anki.add_notes([basic(front)])
        (updated,) = await anki.add_notes([basic(front, "new")], duplicates="update")
    assert updated == NoteResult(NoteOutcome.UPDATED, added.id)
    assert each_version.notes[added.id or 0].fields["Back"] == "new"


async def test_a_note_says_its_deck_and_type_or_the_call_or_the_settings(
    double: AnkiDouble, anki: Anki
) -> None:
    await anki.create_deck("Own")
    await anki.add_notes(
        [
            basic("1"),
            basic("2", deck="Own"),
            Note({"Text": "3"}, note_type="Sentence", deck="Default"),
        ]
    )
    await anki.add_notes([Note({"Text": "4"})], deck="Own", note_type="Sentence")
    assert [(note.deck, note.note_type) for note in double.notes.values()] == [
        (SPANISH, "Basic"),
        ("Own", "Basic"),
        ("Default", "Sentence"),
        ("Own", "Sentence"),
    ]
    async with made(double, deck=None) as bare:
        with pytest.raises(InvalidRequestError, match="Note 2 has no deck"):
            await bare.add_notes([basic("5", deck="Own"), basic("6")])


@pytest.mark.parametrize(
    ("wrong", "kind", "told"),
    [
        (basic("x", deck="Nowhere"), DeckNotFoundError, f"'Default', '{SPANISH}'"),
        (basic("x", note_type="Cloze"), NoteTypeNotFoundError, "'Basic', 'Sentence'"),
        (Note({"Front": "x", "Side": "y"}), NoteTypeNotFoundError, "'Back', 'Front'"),
        (basic("x", audio={"Sound": Media("a.mp3", b"x")}), NoteTypeNotFoundError, "'Sound'"),
    ],
)
async def test_a_note_without_a_place_stops_all_before_anything_is_added(
    double: AnkiDouble, anki: Anki, wrong: Note, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind) as caught:
        await anki.add_notes([basic("good"), wrong])
    assert told in str(caught.value)
    assert not double.notes
    assert not double.media


async def test_no_notes_are_no_request(double: AnkiDouble, anki: Anki) -> None:
    assert await anki.add_notes([]) == []
    with pytest.raises(InvalidRequestError, match="skip, update, error"):
        await anki.add_notes([basic("x")], duplicates="replace")  # pyright: ignore[reportArgumentType]
    assert double.requests == []


async def test_a_call_that_broke_off_says_how_far_it_came(double: AnkiDouble, anki: Anki) -> None:
    notes = [basic(f"{n}") for n in range(300)]
    double.fail(*[Fault()] * 6, Fault(hang_up=True))
    with pytest.raises(ServiceConnectionError) as caught:
        await anki.add_notes(notes)
    assert caught.value.context["notes_done"] == 200
    assert any("200 of 300 notes were done" in note for note in caught.value.__notes__)
    again = [result.outcome for result in await anki.add_notes(notes)]
    assert again == ["skipped"] * 200 + ["added"] * 100


# -- media -------------------------------------------------------------------------------


async def test_media_go_first_and_are_shown_by_the_name_they_got(
    each_version: AnkiDouble, tmp_path: Path
) -> None:
    picture = tmp_path / "dog.png"
    picture.write_bytes(b"picture")
    each_version.media["perro.mp3"] = b"another one"
    note = Note(
        {"Text": "perro", "Sound": "listen: "},
        images={"Picture": Media("dog & cat's.png", path=picture)},
        audio={"Sound": Media("perro.mp3", b"\xff" * 100_000)},
    )
    async with made(each_version, note_type="Sentence") as anki:
        (result,) = await anki.add_notes([note])
    assert result.outcome == "added"
    fields = each_version.notes[result.id or 0].fields
    (renamed,) = [name for name in each_version.media if name.startswith("perro-")]
    assert fields["Picture"] == '<img src="dog &amp; cat&#x27;s.png">'
    assert fields["Sound"] == f"listen: [sound:{renamed}]"
    assert each_version.media["dog & cat's.png"] == b"picture"
    assert each_version.media[renamed] == b"\xff" * 100_000
    assert each_version.media["perro.mp3"] == b"another one"


def leftovers() -> list[str]:
    return [str(path) for path in Path(tempfile.gettempdir()).glob("purveyor-*")]


async def test_files_of_this_machine_are_read_by_anki_itself(
    double: AnkiDouble, tmp_path: Path
) -> None:
    (tmp_path / "a.mp3").write_bytes(b"sound")
    async with made(double) as anki:
        assert await anki.store_media(Media("a.mp3", path=tmp_path / "a.mp3")) == "a.mp3"
        assert double.last.json["params"]["path"] == str(tmp_path / "a.mp3")
        await anki.store_media(Media("large.mp3", bytes(64 * 1024)))
        assert "data" not in double.last.json["params"]
        assert double.last.json["params"]["path"] not in leftovers()
        await anki.store_media(Media("small.mp3", b"small"))
        assert "path" not in double.last.json["params"]
    async with made(double, media_by_path=False) as anki:
        await anki.store_media(Media("b.mp3", path=tmp_path / "a.mp3"))
        assert "path" not in double.last.json["params"]
    assert double.media["b.mp3"] == b"sound"


async def test_media_of_notes_that_are_there_already_are_not_sent(
    double: AnkiDouble, anki: Anki
) -> None:
    await anki.add_notes([basic("hola")])
    await anki.add_notes([basic("hola", audio={"Back": Media("hola.mp3", b"x")})])
    assert not double.media
    await anki.add_notes(
        [basic("hola", audio={"Back": Media("hola.mp3", b"x")})], duplicates="update"
    )
    assert double.media == {"hola.mp3": b"x"}
    assert [note.fields["Back"] for note in double.notes.values()] == ["[sound:hola.mp3]"]


async def test_a_note_is_the_same_though_its_sound_got_another_name(
    double: AnkiDouble, anki: Anki
) -> None:
    (added,) = await anki.add_notes([basic("hola", audio={"Front": Media("hola.mp3", b"x")})])
    again = basic("hola", "new", audio={"Front": Media("hola.mp3", b"another")})
    (updated,) = await anki.add_notes([again], duplicates="update")
    assert updated == NoteResult(NoteOutcome.UPDATED, added.id)
    fields = {"Front": "hola[sound:hola.mp3]", "Back": "new"}
    assert double.notes[added.id or 0].fields == fields


@pytest.mark.parametrize(
    "media",
    [
        Media("a.mp3"),
        Media("a.mp3", b""),
        Media("a.mp3", b"x", Path("y")),
        Media("a.mp3", path=Path("/no/such/file")),
        Media("../..", b"x"),
    ],
)
async def test_a_note_whose_media_cannot_be_kept_fails_alone(
    double: AnkiDouble, anki: Anki, media: Media
) -> None:
    results = await anki.add_notes([basic("bad", audio={"Back": media}), basic("good")])
    assert [result.outcome for result in results] == ["failed", "added"]
    assert [note.fields["Front"] for note in double.notes.values()] == ["good"]
    with pytest.raises((InvalidRequestError, OSError)):
        await anki.store_media(media)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("hola.mp3", "hola.mp3"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("and/or?.mp3", "and_or_.mp3"),
        ('a"b<c>[d].png', "a_b_c__d_.png"),
        ("con.mp3", "_con.mp3"),
        ("e\u0301.mp3", "é.mp3"),
        (".hidden", "hidden"),
        ("語" * 100 + ".mp3", "語" * 38 + ".mp3"),
        ("x" * 200, "x" * 120),
        ("a\0\nb\ud800.mp3", "a__b_.mp3"),
    ],
)
def test_names_of_media_are_safe_everywhere(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert safe_name(safe) == safe


# -- Anki itself -------------------------------------------------------------------------


async def test_connections_are_not_used_again(double: AnkiDouble, anki: Anki) -> None:
    for _ in range(20):
        await anki.decks()
    assert {asked.headers["Connection"].lower() for asked in double.requests} == {"close"}


async def test_anki_that_does_not_run_is_told_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    async with Anki(AnkiConfig.model_validate({"url": url})) as anki:
        for call in (anki.check_health, anki.decks, anki.sync):
            with pytest.raises(
                ApplicationNotRunningError, match="Start Anki with the AnkiConnect add-on"
            ):
                await call()


async def test_a_profile_that_is_not_open_is_told_so(double: AnkiDouble, anki: Anki) -> None:
    double.collection_open = False
    for call in (anki.check_health, anki.decks, lambda: anki.add_notes([basic("x")])):
        with pytest.raises(CollectionNotOpenError, match="Open a profile") as caught:
            await call()
        assert caught.value.is_backend_failure


@pytest.mark.parametrize("given", [None, "another key"])
async def test_a_wrong_key_is_told_everywhere(given: str | None) -> None:
    with AnkiDouble(api_key=KEY) as double:
        async with made(double, api_key=given) as anki:
            for call in (anki.check_health, anki.sync, lambda: anki.add_notes([basic("x")])):
                with pytest.raises(AuthenticationError, match="Set api_key") as caught:
                    await call()
                assert "another key" not in repr(caught.value)
        async with made(double, api_key=KEY) as anki:
            await anki.check_health()
            (added,) = await anki.add_notes([basic("x", audio={"Back": Media("a.mp3", b"x")})])
            assert added.outcome == "added"
            assert KEY not in repr(anki.config)


async def test_health_needs_version_6(double: AnkiDouble, anki: Anki) -> None:
    await anki.check_health()
    assert double.actions == ["multi:version", "multi:deckNames"]
    old = [{"result": 5, "error": None}, {"result": ["Default"], "error": None}]
    double.fail(Fault(200, body={"result": old, "error": None}))
    with pytest.raises(BadResponseError, match="version 5"):
        await anki.check_health()


async def test_sync_tells_what_is_missing(double: AnkiDouble, anki: Anki) -> None:
    await anki.sync()
    assert double.syncs == 1
    double.logged_in = False
    with pytest.raises(AuthenticationError, match="log in to AnkiWeb"):
        await anki.sync()


def refused(reason: str) -> Fault:
    return Fault(200, body={"result": None, "error": reason})


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (refused("Permission denied by user"), AccessDeniedError),
        (refused("Sync status 2 not one of [0, 1]"), FlashcardError),
        (refused("something of Python's"), FlashcardError),
        (Fault(403), AccessDeniedError),
        (Fault(500, body={"result": None, "error": "disk"}), OverloadedError),
        (Fault(404), BadResponseError),
        (Fault(200, body=b"AnkiConnect v.6"), BadResponseError),
        (Fault(200, body=["Default"]), BadResponseError),
        (Fault(200), BadResponseError),
        (Fault(hang_up=True), ServiceConnectionError),
        (Fault(delay=5), TimeoutError),
    ],
)
async def test_every_fault_has_its_name_and_nothing_is_sent_twice(
    double: AnkiDouble, fault: Fault, kind: type[Exception]
) -> None:
    double.fail(fault)
    async with made(double, request_timeout=0.3 if fault.delay else 30) as anki:
        with pytest.raises(kind) as caught:
            await anki.sync()
    assert isinstance(caught.value, ServiceError)
    assert (len(double.requests), double.syncs) == (1, 0)


async def test_notes_that_are_there_are_known_in_every_version(each_version: AnkiDouble) -> None:
    odd = ["plain", 'with "quotes" and \\', "two\nlines", "a*b_c:d", "<b>bold</b>"]
    notes = [Note({"Front": text, "Back": "x"}) for text in odd]
    async with made(each_version) as anki:
        added = await anki.add_notes(notes[1:])
        new = Note({"Front": "new"}, images={"Back": Media("a.png", b"png")})
        asked = len(each_version.notes), dict(each_version.media)
        found = await anki.existing([*notes, new], note_type="Basic")
        assert found == [None, *(one.id for one in added), None]
        assert (len(each_version.notes), each_version.media) == asked
        assert await anki.existing([Note({"Text": "plain"})], note_type="Sentence") == [None]
        assert await anki.existing([]) == []


async def test_what_cannot_be_there_is_told(double: AnkiDouble) -> None:
    async with made(double, note_type=None) as anki:
        with pytest.raises(InvalidRequestError, match="note_type"):
            await anki.existing([Note({"Front": "a"})])
        with pytest.raises(NoteTypeNotFoundError, match="'Basic'"):
            await anki.existing([Note({"Front": "a"})], note_type="Basik")
        with pytest.raises(NoteTypeNotFoundError, match="no field 'Frond'"):
            await anki.existing([Note({"Frond": "a"})], note_type="Basic")
