"""What is special to Forvo: its key in the path, its quota, its links; the rest is the kit's."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from purveyor.containers import ApplicationContainer
from purveyor.providers.media.audio import Recording, WordNotFoundError
from purveyor.providers.media.audio.forvo import Forvo, ForvoConfig, until_reset
from purveyor.providers.registry.metadata import HealthStatus
from purveyor.providers.web.errors import (
    AuthenticationError,
    BadResponseError,
    InvalidRequestError,
    OverloadedError,
    QuotaExhaustedError,
    ServiceConnectionError,
    ServiceError,
)
from purveyor.settings import Settings
from purveyor.testing.doubles import Fault, ForvoDouble, Spoken

KEY = "canary/key+with=odd&parts%20"
HOLA = [
    Spoken(1, "hola", "es", "Spain", "f", "ana", votes=3, against=1),
    Spoken(2, "hola", "es", "Mexico", "m", "luis", votes=9, against=1, added="2011-01-01 00:00:00"),
    Spoken(3, "hola", "es", "Mexico", "f", "eva", votes=8, added="2012-01-01 00:00:00"),
    Spoken(4, "hola", "es", "Spain", "", "who"),
    Spoken(5, "and/or", "en"),
    Spoken(6, "..", "en"),
    Spoken(7, "¿qué? 100 %", "es"),
]


@pytest.fixture
def double() -> Iterator[ForvoDouble]:
    with ForvoDouble(KEY, HOLA) as double:
        yield double


@pytest.fixture
async def forvo(double: ForvoDouble) -> AsyncIterator[Forvo]:
    async with Forvo(config(double)) as forvo:
        yield forvo


def config(double: ForvoDouble, **settings: Any) -> ForvoConfig:
    values = {"base_url": double.url, "api_key": KEY, "retries": 0, **settings}
    return ForvoConfig.model_validate(values)


def patience(fault: Fault) -> float:
    return 0.3 if fault.delay else 30.0


# -- words -------------------------------------------------------------------------------


async def test_a_word_has_the_recordings_of_its_speakers(forvo: Forvo) -> None:
    found = await forvo.recordings("hola", "es")
    assert [(one.id, one.votes) for one in found] == [("2", 8), ("3", 8), ("1", 2), ("4", 0)]
    assert found[0] == Recording(
        id="2",
        word="hola",
        language="es",
        country="Mexico",
        sex="male",
        speaker="luis",
        votes=8,
        attribution="Pronounced by luis at Forvo (https://forvo.com)",
    )
    assert found[3].sex is None


@pytest.mark.parametrize("word", ["and/or", "..", "¿qué? 100 %"])
async def test_any_word_is_one_part_of_the_path(
    forvo: Forvo, double: ForvoDouble, word: str
) -> None:
    language = "es" if "?" in word else "en"
    assert [one.word for one in await forvo.recordings(word, language)] == [word]
    segments = double.last.path.split("/")
    assert segments[:3] == ["", "key", quote(KEY, safe="")]
    assert len(segments) == 11


@pytest.mark.parametrize(
    ("word", "language"), [("", "en"), (" ", "en"), ("a\n", "en"), ("\ud800", "en"), ("a", "e/n")]
)
async def test_what_is_no_word_or_language_is_not_asked_for(
    forvo: Forvo, double: ForvoDouble, word: str, language: str
) -> None:
    with pytest.raises(InvalidRequestError):
        await forvo.recordings(word, language)
    assert double.requests == []


async def test_a_missing_word_is_told_with_what_each_wish_excluded(forvo: Forvo) -> None:
    with pytest.raises(WordNotFoundError, match="no recording of 'hallo' in 'es'"):
        await forvo.pronounce("hallo", "es")
    with pytest.raises(WordNotFoundError) as caught:
        await forvo.pronounce("hola", "es", country="spain", sex="male", min_votes=2)
    assert (
        "Of 4 there are 2 from 'spain', 1 by a male speaker, 3 with at least 2 votes"
        in caught.value.message
    )


async def test_settings_say_which_recordings_are_wanted(double: ForvoDouble) -> None:
    async with Forvo(config(double, country="Mexico", sex="female")) as forvo:
        assert (await forvo.pronounce("hola", "es")).recording.speaker == "eva"
        assert (await forvo.pronounce("hola", "es", country="Spain")).recording.speaker == "ana"


async def test_a_recording_is_written_whole(
    forvo: Forvo, double: ForvoDouble, tmp_path: Path
) -> None:
    target = tmp_path / "hola.mp3"
    found = await forvo.pronounce("hola", "es", path=target)
    assert found.path == target
    assert target.read_bytes() == found.data == HOLA[0].audio
    assert found.media_type == "audio/mpeg"
    with pytest.raises(FileNotFoundError):
        await forvo.pronounce("hola", "es", path=tmp_path / "no" / "hola.mp3")
    assert len(double.requests) == 2  # nothing was spent on what could not be written


# -- the quota ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("left", [0, 1], ids=["by the list", "by the link"])
async def test_a_spent_quota_says_when_there_is_a_new_one(
    double: ForvoDouble, status: int, left: int
) -> None:
    double.errors_as, double.quota = status, left
    async with Forvo(config(double, retries=2)) as forvo:
        with pytest.raises(QuotaExhaustedError, match="22:00 UTC") as caught:
            await forvo.pronounce("hola", "es")
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 86_400
    assert len(double.requests) == left + 1  # never asked again
    assert not caught.value.is_backend_failure


@pytest.mark.parametrize(
    ("now", "seconds"),
    [("2026-11-21T21:59:59", 1), ("2026-11-21T22:00:00", 86_400), ("2026-11-22T00:00", 79_200)],
)
def test_days_begin_at_22_utc(now: str, seconds: float) -> None:
    assert until_reset(datetime.fromisoformat(now).replace(tzinfo=UTC)) == seconds


async def test_requests_keep_to_the_rate(double: ForvoDouble) -> None:
    async with Forvo(config(double, rate_limit="2/day")) as forvo:
        await forvo.pronounce("hola", "es")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await forvo.recordings("hola", "es")
    assert len(double.requests) == 2


async def test_health_costs_nothing_unless_it_is_wished(double: ForvoDouble) -> None:
    async with Forvo(config(double)) as forvo:
        assert await forvo.check_health() is HealthStatus.UNKNOWN
    assert double.requests == []
    async with Forvo(config(double, health_check="languages")) as forvo:
        assert await forvo.check_health() is None
    assert double.last.path.endswith("/action/language-list")


# -- links -------------------------------------------------------------------------------


async def test_a_link_that_has_ended_is_no_recording(double: ForvoDouble) -> None:
    double.links_last = -1
    async with Forvo(config(double)) as forvo:
        with pytest.raises(ServiceError, match="not valid any more"):
            await forvo.pronounce("hola", "es")


@pytest.mark.parametrize("audio", [b"", b"<html>Log in</html>", b'{"a": 1}'])
async def test_what_is_no_sound_is_refused_whatever_it_is_called(
    double: ForvoDouble, audio: bytes
) -> None:
    double.spoken = [Spoken(1, "hola", "es", audio=audio)]
    async with Forvo(config(double)) as forvo:
        with pytest.raises(BadResponseError, match="no recording"):
            await forvo.pronounce("hola", "es")


@pytest.mark.parametrize(
    "host",
    [
        "http://169.254.169.254",
        "http://[::1]:80",
        "http://[::ffff:127.0.0.1]",
        "http://localhost",
        "http://10.0.0.1:8080",
        "file://",
        "ftp://forvo.com",
        "http://user:pass@127.0.0.1",
    ],
)
async def test_a_link_into_a_private_network_is_not_followed(
    double: ForvoDouble, host: str
) -> None:
    double.host = host
    async with Forvo(config(double)) as forvo:
        with pytest.raises(BadResponseError, match=r"Nothing is asked there|is none"):
            await forvo.pronounce("hola", "es")


# -- what goes wrong ---------------------------------------------------------------------


async def test_without_a_key_nothing_is_asked(double: ForvoDouble) -> None:
    async with Forvo(ForvoConfig(base_url=double.url)) as forvo:
        with pytest.raises(AuthenticationError, match="FORVO_API_KEY"):
            await forvo.recordings("hola", "es")
    assert double.requests == []


def test_a_setting_that_cannot_be_is_refused() -> None:
    for wrong in ({"rate_limit": "often"}, {"sex": "x"}, {"health_check": "all"}, {"keys": 1}):
        with pytest.raises(ValidationError):
            ForvoConfig.model_validate(wrong)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(200, body=["Something else"]), ServiceError),
        (Fault(200, body={"attributes": {}}), BadResponseError),
        (Fault(200, body={"items": [1]}), BadResponseError),
        (Fault(200, body=b""), BadResponseError),
        (Fault(200, body=b"[1"), BadResponseError),
        (Fault(200, body=[1]), BadResponseError),
        (Fault(404, body=b"<title>Nowhere</title>"), BadResponseError),
        (Fault(500), OverloadedError),
        (Fault(hang_up=True), ServiceConnectionError),
        (Fault(200, body={"items": []}, delay=5), TimeoutError),
    ],
)
async def test_every_fault_has_its_name(
    double: ForvoDouble, fault: Fault, kind: type[Exception]
) -> None:
    double.fail(fault)
    async with Forvo(config(double, request_timeout=patience(fault))) as forvo:
        with pytest.raises(kind) as caught:
            await forvo.recordings("hola", "es")
    assert isinstance(caught.value, ServiceError)


# -- the key -----------------------------------------------------------------------------

FORMS = [KEY, quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode()]
FAULTS = [
    Fault(200, body=[f"The API key {KEY} is incorrect."]),
    Fault(400, body=[f"Bad request: /key/{quote(KEY, safe='')}/format/json"]),
    Fault(404, body=f"<title>No page /key/{KEY}</title>".encode()),
    Fault(
        200, {"Content-Type": "text/html"}, f"<title>/key/{quote(KEY, safe='')}</title>".encode()
    ),
    Fault(302, {"Location": f"http://127.0.0.1:1/key/{quote(KEY, safe='')}"}),
    Fault(200, body=[base64.b64encode(KEY.encode()).decode()]),
    Fault(500),
    Fault(hang_up=True),
    Fault(delay=5),
]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
@pytest.mark.parametrize("by", ["hand", "registry"])
async def test_the_key_is_nowhere_to_be_seen(
    double: ForvoDouble, fault: Fault, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    settings = config(double, request_timeout=patience(fault))
    events: list[object] = []
    double.fail(fault)
    if by == "hand":
        forvo: Any = Forvo(settings)
    else:
        raw = {"type": "forvo", **settings.model_dump(exclude_unset=True)}
        raw["api_key"] = KEY
        container = ApplicationContainer(
            settings=Settings.model_validate({"audio": {"providers": {"words": raw}}})
        )
        container.registries()["audio"].on("provider-error", events.append)
        forvo = container.audio("words")
    try:
        await forvo.initialize()
        with pytest.raises(ServiceError) as caught:
            await forvo.recordings("hola", "es")
    finally:
        await forvo.dispose()
        asyncio.get_running_loop().set_debug(False)
    error = caught.value
    assert bool(events) == (by == "registry" and error.is_backend_failure)
    shown = [
        "".join(traceback.format_exception(error)),
        *[repr(one) + str(vars(one)) for one in _chain(error)],
        repr(error.to_dict()),
        repr(forvo),
        repr(settings),
        *[repr(event) + str(event) for event in events],
        caplog.text,
        *[str(record.__dict__) for record in caplog.records],
    ]
    for form in FORMS:
        assert not [text for text in shown if form in text]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
