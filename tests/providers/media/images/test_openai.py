"""Images of OpenAI: what is sent, what is refused before, what answers and faults mean."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.media.images import IncompleteImagesError
from purveyor.providers.media.images.errors import ImageNotWrittenError
from purveyor.providers.media.images.openai import OpenAIImageConfig, OpenAIImages
from purveyor.providers.registry import guarded
from purveyor.providers.registry.errors import InvalidStateError, UnsupportedCapabilityError
from purveyor.providers.web.errors import (
    AuthenticationError,
    BadResponseError,
    ContentRefusedError,
    InvalidRequestError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
)
from purveyor.testing.doubles import Fault, OpenAIImagesDouble, picture

from .schemas import image_request_validator


def made(double: OpenAIImagesDouble, **settings: Any) -> OpenAIImages:
    values = {"base_url": double.base_url, "api_key": double.key, "model": "gpt-image-2"}
    return guarded(OpenAIImages(OpenAIImageConfig.model_validate({**values, **settings})), name="o")


def sent(double: OpenAIImagesDouble) -> list[dict[str, Any]]:
    return [asked.json for asked in double.requests]


def encoded(kind: str = "png") -> dict[str, str]:
    return {"b64_json": base64.b64encode(picture(kind, 64, 64)).decode()}


# -- what is sent ------------------------------------------------------------------------


async def test_only_what_was_said_is_sent(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    await images.generate("a cat")
    assert sent(openai) == [{"model": "gpt-image-2", "prompt": "a cat"}]
    assert openai.last.headers["Authorization"] == f"Bearer {openai.key}"
    await images.dispose()


async def test_all_options_are_sent_by_their_names(openai: OpenAIImagesDouble) -> None:
    images = made(openai, organization="org-1", project="proj-1")
    await images.generate(
        "a cat",
        count=2,
        model="gpt-image-1.5",
        size="1536x1024",
        format="webp",
        quality="low",
        extra={"background": "opaque", "user": "u"},
    )
    assert sent(openai) == [
        {
            "model": "gpt-image-1.5",
            "prompt": "a cat",
            "n": 2,
            "size": "1536x1024",
            "quality": "low",
            "output_format": "webp",
            "background": "opaque",
            "user": "u",
        }
    ]
    assert openai.last.headers["OpenAI-Organization"] == "org-1"
    assert openai.last.headers["OpenAI-Project"] == "proj-1"
    await images.dispose()


async def test_settings_stand_in_for_what_a_call_does_not_say(openai: OpenAIImagesDouble) -> None:
    images = made(openai, size="1024x1024", format="jpeg", quality="high")
    await images.generate("a cat")
    await images.generate("a cat", size="auto", format="png", quality="auto")
    assert [(body["size"], body["output_format"], body["quality"]) for body in sent(openai)] == [
        ("1024x1024", "jpeg", "high"),
        ("auto", "png", "auto"),
    ]
    await images.dispose()


async def test_the_suffix_says_the_format(openai: OpenAIImagesDouble, tmp_path: Path) -> None:
    images = made(openai, format="png")
    await images.generate("a cat", path=tmp_path / "a.webp")
    assert sent(openai)[0]["output_format"] == "webp"
    (image,) = await images.generate("a cat", format="jpeg", path=tmp_path / "no suffix")
    assert image.media_type == "image/jpeg"
    await images.dispose()


async def test_more_than_ten_take_several_requests(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    assert len(await images.generate("a cat", count=21)) == 21
    assert sorted(body.get("n", 1) for body in sent(openai)) == [1, 10, 10]
    await images.dispose()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"count": 10, "size": "1024x1536", "quality": "low", "format": "webp"},
        {"size": "2048x1152"},
        {"model": "gpt-image-1-mini", "size": "auto", "quality": "auto", "format": "jpeg"},
        {"extra": {"background": "transparent", "moderation": "low", "output_compression": 50}},
    ],
)
async def test_every_body_is_valid_by_the_published_schema(
    openai: OpenAIImagesDouble, options: dict[str, Any]
) -> None:
    validator = image_request_validator()
    images = made(openai)
    await images.generate("a cat", **options)
    for body in sent(openai):
        validator.validate(body)
    await images.dispose()


# -- what is refused before --------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("gpt-image-2", "3840x2160"),
        ("gpt-image-2", "1536x512"),
        ("gpt-image-2-2026-04-21", "1024x768"),
        ("gpt-image-2.5-flare", "512x512"),
        ("gpt-image-1.5", "1024x1536"),
        ("another-model", "7x7"),
    ],
)
def test_a_size_the_model_has_is_taken(model: str, size: str) -> None:
    config = OpenAIImageConfig.model_validate({"prices": {"*": 1}})
    assert OpenAIImages(config).estimate_cost(model=model, size=size) == 1


@pytest.mark.parametrize(
    ("model", "size", "told"),
    [
        ("gpt-image-2", "1000x1000", "multiples of 16"),
        ("gpt-image-2", "3856x2160", "longer than 3840"),
        ("gpt-image-2", "2048x512", "3 times the other"),
        ("gpt-image-2", "3840x3840", "at most 8294400 pixels"),
        ("gpt-image-2-2026-04-21", "512x512", "at least 655360 pixels"),
        ("gpt-image-2.5-sunburst-2026-09-08", "1000x1000", "multiples of 16"),
        ("gpt-image-1.5", "512x512", "Choose one of 1024x1024, 1536x1024, 1024x1536, auto"),
        ("another-model", "big", "WIDTHxHEIGHT"),
    ],
)
async def test_a_size_the_model_lacks_is_told_with_what_there_is(
    openai: OpenAIImagesDouble, model: str, size: str, told: str
) -> None:
    images = made(openai)
    with pytest.raises(InvalidRequestError, match=told):
        await images.generate("a cat", model=model, size=size)
    assert openai.requests == []
    await images.dispose()


async def test_a_quality_the_model_lacks_is_told(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    with pytest.raises(InvalidRequestError, match="low, medium, high, auto"):
        await images.generate("a cat", quality="hd")
    assert images.estimate_cost(model="gpt-image-2.5-flare", quality="xhigh") is None
    assert openai.requests == []
    await images.dispose()


@pytest.mark.parametrize("field", ["n", "stream", "prompt", "model", "partial_images"])
async def test_extra_does_not_change_what_is_asked_for(
    openai: OpenAIImagesDouble, field: str
) -> None:
    images = made(openai)
    with pytest.raises(InvalidRequestError, match=f"extra holds {field}"):
        await images.generate("a cat", extra={field: 1})
    assert openai.requests == []
    await images.dispose()


async def test_extra_must_be_json(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    with pytest.raises(InvalidRequestError, match="extra cannot be sent as JSON"):
        await images.generate("a cat", extra={"background": object()})
    await images.dispose()


async def test_one_built_by_hand_is_connected_first(openai: OpenAIImagesDouble) -> None:
    config = OpenAIImageConfig.model_validate(
        {"base_url": openai.base_url, "api_key": openai.key, "model": "gpt-image-2"}
    )
    with pytest.raises(InvalidStateError, match="async with"):
        await OpenAIImages(config).check_health()
    async with OpenAIImages(config) as images:
        assert len(await images.generate("a cat")) == 1


async def test_nothing_is_asked_where_it_cannot_be(
    openai: OpenAIImagesDouble, tmp_path: Path
) -> None:
    images = made(openai, model="")
    with pytest.raises(InvalidRequestError, match="No model is named"):
        await images.generate("a cat")
    with pytest.raises(FileNotFoundError):
        await images.generate("a cat", model="gpt-image-2", path=tmp_path / "no" / "a.png")
    (tmp_path / "a-2.png").mkdir()
    with pytest.raises(IsADirectoryError):
        await images.generate("a cat", model="gpt-image-2", count=2, path=tmp_path / "a.png")
    with pytest.raises(InvalidRequestError, match="32000"):
        await images.generate("c" * 32_001, model="gpt-image-2")
    with pytest.raises(UnsupportedCapabilityError, match="negative-prompt"):
        await images.generate("a cat", model="gpt-image-2", negative_prompt="dog")
    assert openai.requests == []
    await images.dispose()


async def test_openai_itself_is_not_asked_without_a_key() -> None:
    images = guarded(OpenAIImages(OpenAIImageConfig(model="gpt-image-2")), name="o")
    with pytest.raises(AuthenticationError, match="There is no key"):
        await images.generate("a cat")
    await images.dispose()


# -- what answers mean -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(429, body={"error": {"message": "m", "code": "rate_limit_exceeded"}}), None),
        (Fault(429, {"Retry-After": "1"}), None),
        (Fault(503), None),
        (
            Fault(429, {"Retry-After": "60"}, {"error": {"message": "m", "code": "slow_down"}}),
            RateLimitedError,
        ),
        (Fault(429, body={"error": {"code": "insufficient_quota"}}), QuotaExhaustedError),
        (Fault(400, body={"error": {"code": "billing_hard_limit_reached"}}), QuotaExhaustedError),
        (Fault(400, body={"error": {"code": "moderation_blocked"}}), ContentRefusedError),
        (Fault(500), OverloadedError),
        (Fault(200, {"Content-Type": "text/html"}, b"<title>Log in</title>"), BadResponseError),
        (Fault(200), BadResponseError),
        (Fault(200, body={"created": 1}), BadResponseError),
        (Fault(200, body={"data": []}), BadResponseError),
        (Fault(200, body={"data": "x"}), BadResponseError),
        (Fault(200, body=[1]), BadResponseError),
        (Fault(200, body={"data": [{}]}), BadResponseError),
        (Fault(200, body={"data": [{"b64_json": "%%%"}]}), BadResponseError),
        (Fault(200, body={"data": [{"b64_json": "PGh0bWw+"}]}), BadResponseError),
        (Fault(200, body={"data": [{"url": "http://x"}]}), BadResponseError),
        (Fault(cut_after=10), ServiceConnectionError),
        (Fault(hang_up=True), ServiceConnectionError),
    ],
)
async def test_each_fault_has_its_class(
    openai: OpenAIImagesDouble, tmp_path: Path, fault: Fault, kind: type[ServiceError] | None
) -> None:
    images = made(openai, retries=1)
    openai.fail(fault)
    target = tmp_path / "a.png"
    if kind is None:  # it was not taken, and so is asked again
        await images.generate("a cat", path=target)
        assert len(openai.requests) == 2
    else:
        with pytest.raises(kind) as caught:
            await images.generate("a cat", path=target)
        assert type(caught.value) is kind
        assert caught.value.provider_name == "o"
        assert len(openai.requests) == 1, "what may have been paid for is not asked again"
        assert not target.exists()
    await images.dispose()


async def test_the_wait_is_the_callers_where_it_is_long(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    openai.fail(Fault(429, {"Retry-After": "60"}, {"error": {"message": "m"}}))
    with pytest.raises(RateLimitedError) as caught:
        await images.generate("a cat")
    assert caught.value.retry_after == 60.0
    await images.dispose()


async def test_an_address_in_the_place_of_a_picture_is_told(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    openai.fail(Fault(200, body={"data": [{"url": "http://x/a.png"}]}))
    with pytest.raises(BadResponseError, match="response_format"):
        await images.generate("a cat")
    await images.dispose()


async def test_another_format_than_asked_for_is_kept_and_told(
    openai: OpenAIImagesDouble, caplog: pytest.LogCaptureFixture
) -> None:
    images = made(openai)
    openai.fail(Fault(200, body={"data": [encoded("jpeg")]}))
    (image,) = await images.generate("a cat", format="png")
    assert image.media_type == "image/jpeg"
    assert "sent jpeg where png was asked for" in caplog.text
    await images.dispose()


# -- what was paid for is not lost -------------------------------------------------------


async def test_a_broken_picture_leaves_the_others(
    openai: OpenAIImagesDouble, tmp_path: Path
) -> None:
    images = made(openai)
    openai.fail(Fault(200, body={"data": [encoded(), {"b64_json": "%%%"}, encoded("jpeg")]}))
    with pytest.raises(
        IncompleteImagesError, match="2 of 3 pictures came and are written; "
    ) as caught:
        await images.generate("a cat", count=3, path=tmp_path / "a.png")
    error = caught.value
    assert isinstance(error.__cause__, BadResponseError)
    assert not error.is_backend_failure
    assert [image.path for image in error.images] == [tmp_path / "a-1.png", tmp_path / "a-2.png"]
    assert (tmp_path / "a-1.png").read_bytes() == error.images[0].data
    assert json.loads(json.dumps(error.to_dict()))["code"] == "INCOMPLETE"
    await images.dispose()


async def test_fewer_than_asked_for_are_told(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    openai.fail(Fault(200, body={"data": [encoded()]}))
    with pytest.raises(IncompleteImagesError, match="sent 1 of the 3 pictures") as caught:
        await images.generate("a cat", count=3)
    assert len(caught.value.images) == 1
    await images.dispose()


async def test_a_request_that_fails_leaves_the_others(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    openai.fail(Fault(400, body={"error": {"message": "No.", "code": "moderation_blocked"}}))
    with pytest.raises(IncompleteImagesError, match=r"of 12 pictures came.*No\.") as caught:
        await images.generate("a cat", count=12)
    assert isinstance(caught.value.__cause__, ContentRefusedError)
    assert len(caught.value.images) in (2, 10)
    await images.dispose()


async def test_pictures_that_cannot_be_written_are_in_the_error(
    openai: OpenAIImagesDouble, tmp_path: Path
) -> None:
    images = made(openai)
    folder = tmp_path / "folder"
    folder.mkdir()
    openai.fail(Fault(delay=0.2))
    task = asyncio.ensure_future(images.generate("a cat", path=folder / "a.png"))
    async with asyncio.timeout(5):
        while not openai.requests:  # noqa: ASYNC110 - another thread has it
            await asyncio.sleep(0.01)
    folder.rmdir()
    with pytest.raises(ImageNotWrittenError, match="Make it first") as caught:
        await task
    assert isinstance(caught.value, OSError)
    assert caught.value.images[0].media_type == "image/png"
    assert not caught.value.is_backend_failure
    await images.dispose()


# -- costs, limits, health ---------------------------------------------------------------


async def test_what_a_picture_cost_is_told_by_its_size_and_quality(
    openai: OpenAIImagesDouble,
) -> None:
    prices = {
        "gpt-image-2": {
            "per_image": {"1024x1024 high": 0.2, "1024x1024": 0.05, "low": 0.01, "*": 0.03}
        }
    }
    images = made(openai, prices=prices)
    cases = [
        ({"size": "1024x1024", "quality": "high"}, "0.2"),
        ({"size": "1024x1024"}, "0.05"),
        ({"size": "1536x1024", "quality": "low"}, "0.01"),
        ({"size": "1536x1024", "quality": "high"}, "0.03"),
    ]
    for options, cost in cases:
        (image,) = await images.generate("a cat", **options)  # pyright: ignore[reportArgumentType]
        assert image.cost == Decimal(cost)
        estimate = images.estimate_cost(count=3, **options)  # pyright: ignore[reportArgumentType]
        assert estimate == 3 * Decimal(cost)
    assert images.estimate_cost(model="another") is None
    await images.dispose()


async def test_what_a_picture_cost_is_told_by_its_tokens(openai: OpenAIImagesDouble) -> None:
    images = made(openai, prices={"*": {"input": 5, "output": 30}})
    pair = await images.generate("a cat", count=2)
    assert [image.cost for image in pair] == [(10 * Decimal(5) + 2000 * 30) / 1_000_000 / 2] * 2
    assert images.estimate_cost() is None
    await images.dispose()


async def test_without_prices_no_cost_is_told(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    (image,) = await images.generate("a cat")
    assert image.cost is None
    assert images.estimate_cost(count=5) is None
    await images.dispose()


async def test_the_rate_limit_is_kept_to(openai: OpenAIImagesDouble) -> None:
    images = made(openai, rate_limit="5/second")
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(images.generate("a cat", size="1024x1024") for _ in range(6)))
    assert asyncio.get_running_loop().time() - began >= 0.19
    await images.dispose()


def test_prices_may_be_json_as_the_environment_has_them() -> None:
    config = OpenAIImageConfig.model_validate({"prices": '{"*": 0.04}'})
    assert OpenAIImages(config).estimate_cost(model="any", count=2) == Decimal("0.08")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prices": "0.04"}, "dictionary"),
        ({"prices": "cheap"}, "must be a table"),
        ({"rate_limit": "often"}, "such as 60/minute"),
        ({"format": "bmp"}, "png"),
        ({"prices": {"*": -1}}, "greater than or equal to 0"),
        ({"prices": {"*": {"each": 1}}}, "each"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        OpenAIImageConfig.model_validate(settings)


async def test_health_lists_the_models_and_makes_nothing(openai: OpenAIImagesDouble) -> None:
    images = made(openai)
    await images.check_health()
    assert [(asked.method, asked.path) for asked in openai.requests] == [("GET", "/v1/models")]
    openai.fail(Fault(403, body={"error": {"message": "Missing scopes: api.model.read"}}))
    await images.check_health()  # a key of few rights is as good
    openai.fail(Fault(401), Fault(500), Fault(500), Fault(500))
    with pytest.raises(AuthenticationError):
        await images.check_health()
    with pytest.raises(OverloadedError):
        await images.check_health()
    await images.dispose()


async def test_the_key_is_shown_nowhere(
    openai: OpenAIImagesDouble, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    images = made(openai, retries=0)
    quoting = {"error": {"message": f"The key {openai.key} is known."}}
    for status in (400, 401, 403, 404, 429, 500, 503):
        openai.fail(Fault(status, body=quoting))
        with pytest.raises(ServiceError) as caught:
            await images.generate("a cat")
        told = json.dumps(caught.value.to_dict()) + repr(caught.value)
        assert openai.key not in told, status
    assert openai.key not in repr((images, images.config)) + caplog.text
    await images.dispose()
