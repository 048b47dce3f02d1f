"""Audio and flashcards with stand-ins: who is asked next, and after what nobody is."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.media.audio import WordNotFoundError
from purveyor.providers.media.flashcards import CollectionNotOpenError, Note
from purveyor.providers.registry.failover import answered_by
from purveyor.providers.registry.metadata import HealthStatus
from purveyor.providers.web.errors import (
    AuthenticationError,
    ServiceConnectionError,
    ServiceTimeoutError,
)
from purveyor.settings import Settings
from purveyor.testing.doubles import AnkiDouble, Fault, ForvoDouble, Spoken

KEY = "key-of-forvo"
HOLA = [Spoken(1, "hola", "es")]
NOTES = [Note({"Front": "a"}), Note({"Front": "b"})]


@contextmanager
def two_services(**first: Any) -> Iterator[tuple[ForvoDouble, ForvoDouble]]:
    with ForvoDouble(KEY, HOLA, **first) as one, ForvoDouble(KEY, HOLA) as other:
        yield one, other


def audio(*doubles: ForvoDouble, key: str = KEY) -> ApplicationContainer:
    members = {
        f"m{number}": {"type": "forvo", "base_url": double.url, "api_key": key}
        for number, double in enumerate(doubles)
    }
    return made("audio", members)


def cards(*doubles: AnkiDouble | None, **settings: Any) -> ApplicationContainer:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    members = {
        f"m{number}": {
            "type": "anki",
            "url": double.url if double else nobody,
            "deck": "Default",
            "note_type": "Basic",
            **settings,
        }
        for number, double in enumerate(doubles)
    }
    return made("flashcards", members)


def made(family: str, members: dict[str, dict[str, Any]]) -> ApplicationContainer:
    group = {"type": "failover", "members": list(members)}
    providers = {**members, "group": group}
    return ApplicationContainer(
        settings=Settings.model_validate({family: {"default": "group", "providers": providers}})
    )


@pytest.fixture
async def anki() -> AsyncIterator[AnkiDouble]:
    with AnkiDouble() as double:
        yield double


# -- audio -------------------------------------------------------------------------------


async def test_a_spent_quota_is_another_services_turn() -> None:
    with two_services(quota=0) as doubles:
        container = audio(*doubles)
        async with container.lifespan():
            found = await container.audio().pronounce("hola", "es")
            assert answered_by() == "m1"
    assert found.data == HOLA[0].audio
    assert len(doubles[0].requests) == 1


async def test_a_refused_key_comes_through() -> None:
    with two_services() as doubles:
        container = audio(*doubles, key="another-key")
        async with container.lifespan():
            with pytest.raises(AuthenticationError):
                await container.audio().pronounce("hola", "es")
    assert len(doubles[1].requests) == 0


async def test_a_word_that_is_not_there_is_an_answer() -> None:
    with two_services() as doubles:
        container = audio(*doubles)
        async with container.lifespan():
            with pytest.raises(WordNotFoundError):
                await container.audio().pronounce("adios", "es")
    assert len(doubles[1].requests) == 0


async def test_who_has_no_free_question_is_unknown_alone_and_in_a_group() -> None:
    with two_services() as doubles:
        container = audio(*doubles)
        async with container.lifespan():
            registry = container.registries()["audio"]
            for name in ("m0", "group"):
                result = await registry.get_provider_health(name)
                assert (result.status, result.code) == (HealthStatus.UNKNOWN, None)
                assert result.message == "nothing was asked: no question to it is free"
                assert registry.health(name).status is HealthStatus.UNKNOWN
    assert doubles[0].requests == doubles[1].requests == []


# -- flashcards --------------------------------------------------------------------------


async def test_notes_go_to_another_collection_if_the_first_is_not_there(anki: AnkiDouble) -> None:
    container = cards(None, anki)
    async with container.lifespan():
        found = await container.flashcards().add_notes(NOTES)
        assert answered_by() == "m1"
    assert [one.outcome for one in found] == ["added", "added"]


async def test_notes_go_to_another_collection_if_the_first_is_not_open(anki: AnkiDouble) -> None:
    with AnkiDouble(collection_open=False) as closed:
        container = cards(closed, anki)
        async with container.lifespan():
            await container.flashcards().add_notes(NOTES)
    assert len(anki.notes) == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(hang_up=True), ServiceConnectionError),
        (Fault(delay=5), ServiceTimeoutError),
        (
            Fault(200, body={"result": None, "error": "collection is not available"}),
            CollectionNotOpenError,
        ),
    ],
)
async def test_notes_that_may_have_been_added_go_to_no_other_collection(
    anki: AnkiDouble, fault: Fault, kind: type[Exception]
) -> None:
    with AnkiDouble() as first:
        container = cards(first, anki, request_timeout=1)
        first.fail(*[Fault()] * 3, fault)  # the fourth request is the one that adds
        try:  # without a lifespan nobody else asks, a monitor say
            with pytest.raises(kind):
                await container.flashcards().add_notes(NOTES)
        finally:
            for name in ("m0", "m1", "group"):
                await container.flashcards(name).dispose()
    assert first.actions[-2:] == ["multi:addNote"] * 2
    assert anki.requests == []
