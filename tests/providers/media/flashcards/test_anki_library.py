"""Notes get into a collection of Anki's own library, by a server that is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from purveyor.providers.media.flashcards import Media, Note
from purveyor.providers.media.flashcards.anki import Anki, AnkiConfig
from purveyor.providers.media.flashcards.ankiconnect import AnkiConnect
from purveyor.testing.conformance import FlashcardConformance
from purveyor.testing.servers import AnkiConnectServer, ServerUnavailableError

DECK = "Languages::Spanish"
READ = """
found = [
    {
        "deck": collection.decks.name(card.did),
        "type": card.note_type()["name"],
        "fields": dict(card.note().items()),
        "tags": card.note().tags,
    }
    for card in map(collection.get_card, sorted(collection.find_cards("")))
]
found = {
    "cards": found,
    "media": {
        name: open(collection.media.dir() + "/" + name, "rb").read().decode("latin-1")
        for name in __import__("os").listdir(collection.media.dir())
    },
    "missing": list(collection.media.check().missing),
    "unused": list(collection.media.check().unused),
    "decks": [deck.name for deck in collection.decks.all_names_and_ids()],
}
"""


def require_library() -> None:
    """Skip where there is no Python for it: Anki's library needs 3.12 or later."""
    try:
        AnkiConnectServer.executable()
    except ServerUnavailableError as error:
        pytest.skip(f"{error} (needs Python 3.12 or later)")


@pytest.mark.server("anki-connect-server")
async def test_what_is_added_is_in_the_collection(tmp_path: Path) -> None:
    require_library()
    picture = tmp_path / "dog.png"
    picture.write_bytes(b"picture")
    notes = [
        Note(
            {"Front": "perro", "Back": "<b>dog</b>"},
            tags=["animal", "a::b"],
            images={"Back": Media("dog & cat's.png", path=picture)},
            audio={"Front": Media("perro/1.mp3", b"sound" * 20_000)},
        ),
        Note({"Front": "日本\N{IDEOGRAPHIC SPACE}語", "Back": "1"}, deck="Default"),
        Note({"Text": "a {{c1::cloze}}"}, note_type="Cloze"),
        Note({"Front": "perro", "Back": "another"}),
        Note({"Front": ""}),
    ]
    with AnkiConnectServer() as server:
        settings = {"url": server.url, "deck": DECK, "note_type": "Basic"}
        async with Anki(AnkiConfig.model_validate(settings)) as anki:
            await anki.check_health()
            await anki.create_deck(DECK)
            added = await anki.add_notes(notes)
            again = await anki.add_notes(
                [Note({"Front": "日本\N{IDEOGRAPHIC SPACE}語", "Back": "2"}, tags=["new"])],
                duplicates="update",
            )
            assert [one.outcome for one in added] == ["added"] * 3 + ["added", "failed"]
        found = await asyncio.to_thread(server.read, READ)
    assert again[0].id == added[1].id
    assert found["cards"][:3] == [
        {
            "deck": DECK,
            "type": "Basic",
            "fields": {
                "Front": "perro[sound:perro_1.mp3]",
                "Back": '<b>dog</b><img src="dog &amp; cat&#x27;s.png">',
            },
            "tags": ["a::b", "animal"],
        },
        {
            "deck": "Default",
            "type": "Basic",
            "fields": {"Front": "日本\N{IDEOGRAPHIC SPACE}語", "Back": "2"},
            "tags": ["new"],
        },
        {
            "deck": DECK,
            "type": "Cloze",
            "fields": {"Text": "a {{c1::cloze}}", "Back Extra": ""},
            "tags": [],
        },
    ]
    assert len(found["cards"]) == 4
    assert found["media"] == {"dog & cat's.png": "picture", "perro_1.mp3": "sound" * 20_000}
    assert (found["missing"], found["unused"]) == ([], [])
    assert found["decks"] == ["Default", "Languages", DECK]


@pytest.fixture(scope="module")
def server() -> Iterator[AnkiConnectServer]:
    """One for all tests of the kit: each finds it without notes."""
    require_library()
    with AnkiConnectServer() as server:
        yield server


@pytest.mark.server("anki-connect-server")
class TestAnkiLibrary(FlashcardConformance):
    provider_class = Anki

    @pytest.fixture
    def provider_config(self, server: AnkiConnectServer) -> AnkiConfig:
        config = AnkiConfig.model_validate({"url": server.url})
        asyncio.run(_emptied(config))
        return config

    @pytest.mark.skip("this server does not look for duplicates when it adds a note")
    def test_the_same_notes_at_the_same_time_are_there_once(self) -> None: ...


async def _emptied(config: AnkiConfig) -> None:
    anki = AnkiConnect(config)
    await anki.call("deleteNotes", notes=await anki.call("findNotes", query="deck:*"))
    await anki.close()
