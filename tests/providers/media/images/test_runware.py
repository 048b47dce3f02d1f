"""Images of Runware: tasks, partial success, polling, what codes mean."""

from __future__ import annotations

import base64
import uuid
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.media.images import IncompleteImagesError
from purveyor.providers.media.images.runware import RunwareConfig, RunwareImages
from purveyor.providers.media.images.runware_errors import runware_error
from purveyor.providers.registry import guarded
from purveyor.providers.web.errors import (
    AccessDeniedError,
    AuthenticationError,
    BadResponseError,
    ContentRefusedError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
)
from purveyor.testing.doubles import Fault, RunwareDouble


def made(double: RunwareDouble, **settings: Any) -> RunwareImages:
    values = {
        "base_url": double.base_url,
        "api_key": double.key,
        "model": double.model,
        "size": "128x192",
        "poll_interval": 0.01,
    }
    return guarded(RunwareImages(RunwareConfig.model_validate({**values, **settings})), name="r")


def sent(double: RunwareDouble) -> list[dict[str, Any]]:
    return [task for asked in double.requests for task in asked.json]


# -- what is sent ------------------------------------------------------------------------


async def test_a_task_says_what_was_said(runware: RunwareDouble) -> None:
    images = made(runware, size=None)
    await images.generate("a cat", size="256x128")
    (task,) = sent(runware)
    assert uuid.UUID(task.pop("taskUUID")).version == 4
    assert task == {
        "taskType": "imageInference",
        "model": "runware:101@1",
        "positivePrompt": "a cat",
        "width": 256,
        "height": 128,
        "numberResults": 1,
        "outputType": "base64Data",
        "includeCost": True,
        "deliveryMethod": "sync",
    }
    assert runware.last.headers["Authorization"] == f"Bearer {runware.key}"
    await images.dispose()


async def test_all_options_are_sent_by_their_names(runware: RunwareDouble) -> None:
    images = made(runware, steps=20, cfg_scale=3.5)
    await images.generate(
        "a cat",
        count=2,
        format="jpeg",
        quality="80",
        negative_prompt="dogs",
        seed=7,
        extra={"steps": 30, "scheduler": "Euler"},
    )
    (task,) = sent(runware)
    wanted = {
        "numberResults": 2,
        "outputFormat": "JPG",
        "outputQuality": 80,
        "negativePrompt": "dogs",
        "seed": 7,
        "steps": 30,
        "CFGScale": 3.5,
        "scheduler": "Euler",
    }
    assert {name: task[name] for name in wanted} == wanted
    await images.dispose()


async def test_more_than_twenty_take_several_tasks_with_seeds_that_go_on(
    runware: RunwareDouble,
) -> None:
    images = made(runware)
    many = await images.generate("a cat", count=42, seed=100)
    assert [image.seed for image in many] == list(range(100, 142))
    assert sorted((task["numberResults"], task["seed"]) for task in sent(runware)) == [
        (2, 140),
        (20, 100),
        (20, 120),
    ]
    await images.dispose()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": "auto"}, "WIDTHxHEIGHT"),
        ({"size": "130x128"}, "multiples of 64 from 128 to 2048"),
        ({"size": "4096x128"}, "multiples of 64 from 128 to 2048"),
        ({"size": "64x128", "model": "civitai:1@2"}, "multiples of 64 from 128 to 2048"),
        ({"quality": "high"}, "a number from 20 to 99"),
        ({"quality": "100"}, "20 to 99"),
        ({"extra": {"taskUUID": "x"}}, "extra holds taskUUID"),
        ({"extra": {"outputType": "URL"}}, "extra holds outputType"),
    ],
)
async def test_what_the_model_lacks_is_refused_before(
    runware: RunwareDouble, options: dict[str, Any], told: str
) -> None:
    images = made(runware)
    with pytest.raises(InvalidRequestError, match=told):
        await images.generate("a cat", **options)
    assert runware.requests == []
    await images.dispose()


def test_of_other_models_only_the_form_of_a_size_is_checked() -> None:
    images = RunwareImages(RunwareConfig())
    assert images.estimate_cost(model="openai:4@1", size="1000x1000") is None


# -- what comes --------------------------------------------------------------------------


async def test_what_a_picture_cost_the_service_says(runware: RunwareDouble) -> None:
    images = made(runware, prices={"*": 1})
    (image,) = await images.generate("a cat")
    assert image.cost == Decimal("0.0013")
    assert images.estimate_cost(count=2) == 2
    await images.dispose()


@pytest.mark.parametrize("delivery", ["sync", "async"])
async def test_what_came_is_kept_where_others_failed(runware: RunwareDouble, delivery: str) -> None:
    images = made(runware, delivery=delivery)
    runware.lose(2)
    with pytest.raises(IncompleteImagesError, match="3 of 5 pictures came") as caught:
        await images.generate("a cat", count=5)
    assert isinstance(caught.value.__cause__, OverloadedError)
    assert [(image.width, image.height) for image in caught.value.images] == [(128, 192)] * 3
    await images.dispose()


async def test_results_beside_a_status_that_is_not_good_are_kept(runware: RunwareDouble) -> None:
    images = made(runware)
    (good,) = await images.generate("a cat")
    answer = {
        "data": [{"imageUUID": "u", "imageBase64Data": _encoded(good.data)}],
        "errors": [{"code": "insufficientCredits", "message": "Add funds."}],
    }
    runware.fail(Fault(402, body=answer))
    with pytest.raises(IncompleteImagesError, match="1 of 2") as caught:
        await images.generate("a cat", count=2)
    assert isinstance(caught.value.__cause__, QuotaExhaustedError)
    await images.dispose()


@pytest.mark.parametrize("delivery", ["sync", "async"])
async def test_where_all_failed_the_reason_is_raised(runware: RunwareDouble, delivery: str) -> None:
    images = made(runware, delivery=delivery)
    runware.lose(2, "providerContentPolicyViolation")
    with pytest.raises(ContentRefusedError, match="could not be made"):
        await images.generate("a cat", count=2)
    await images.dispose()


# -- tasks that take long ----------------------------------------------------------------


async def test_an_asynchronous_task_is_asked_for_until_it_is_there(runware: RunwareDouble) -> None:
    images = made(runware, delivery="async")
    runware.questions = 4
    assert len(await images.generate("a cat", count=3)) == 3
    first, *polls = sent(runware)
    assert first["deliveryMethod"] == "async"
    assert polls == [{"taskType": "getResponse", "taskUUID": first["taskUUID"]}] * 4
    await images.dispose()


async def test_a_question_that_is_lost_is_asked_again(runware: RunwareDouble) -> None:
    images = made(runware, delivery="async")
    runware.fail(Fault(), Fault(hang_up=True), Fault(502))
    assert len(await images.generate("a cat")) == 1
    await images.dispose()


async def test_what_does_not_come_in_time_is_told_with_its_task(runware: RunwareDouble) -> None:
    images = made(runware, delivery="async", request_timeout=0.3)
    runware.questions = 10_000
    with pytest.raises(ServiceTimeoutError, match="goes on with them") as caught:
        await images.generate("a cat")
    assert caught.value.context["taskUUID"] == sent(runware)[0]["taskUUID"]
    await images.dispose()


async def test_what_came_of_a_task_before_its_time_was_over_is_kept(runware: RunwareDouble) -> None:
    images = made(runware, delivery="async", request_timeout=0.5)
    runware.questions = 20
    runware.fail(*[Fault()] * 12, Fault(delay=5))
    with pytest.raises(IncompleteImagesError) as caught:
        await images.generate("a cat", count=20)
    assert 0 < len(caught.value.images) < 20
    assert isinstance(caught.value.__cause__, ServiceTimeoutError)
    await images.dispose()


async def test_a_result_that_says_itself_that_it_failed_is_told(runware: RunwareDouble) -> None:
    images = made(runware, delivery="async")
    failed = {"status": "error", "error": {"code": "promptBlocked", "message": "Not that."}}
    runware.fail(Fault(), Fault(200, body={"data": [failed]}))
    with pytest.raises(ContentRefusedError, match="Not that"):
        await images.generate("a cat")
    await images.dispose()


async def test_a_question_that_fails_for_good_is_told_with_its_task(runware: RunwareDouble) -> None:
    images = made(runware, delivery="async", retries=0)
    runware.fail(Fault(), Fault(504))
    with pytest.raises(OverloadedError) as caught:
        await images.generate("a cat")
    assert caught.value.context["taskUUID"] == sent(runware)[0]["taskUUID"]
    await images.dispose()


async def test_a_picture_that_comes_twice_is_one(runware: RunwareDouble) -> None:
    images = made(runware, delivery="async")
    runware.questions = 3
    made_of = await images.generate("a cat", count=3)
    assert len({image.seed for image in made_of}) == 3
    await images.dispose()


# -- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(401, body={"errors": [{"code": "invalidApiKey"}]}), AuthenticationError),
        (Fault(402, body={"errors": [{"code": "insufficientCredits"}]}), QuotaExhaustedError),
        (Fault(429, {"Retry-After": "90"}), RateLimitedError),
        (Fault(500), OverloadedError),
        (Fault(400), BadResponseError),
        (Fault(404, {"Content-Type": "text/html"}, b"<html>"), BadResponseError),
        (Fault(200, body={"errors": [{"code": "timeoutProvider"}]}), ServiceTimeoutError),
        (Fault(200, body={"data": []}), BadResponseError),
        (Fault(200, body={}), BadResponseError),
        (Fault(200), BadResponseError),
        (Fault(200, {"Content-Type": "text/html"}, b"<title>Hi</title>"), BadResponseError),
        (
            Fault(200, body={"data": [{"imageUUID": "u", "imageBase64Data": "%%"}]}),
            BadResponseError,
        ),
        (Fault(200, body={"data": [{"imageUUID": "u", "imageURL": "x"}]}), BadResponseError),
        (Fault(cut_after=10), ServiceConnectionError),
    ],
)
async def test_each_fault_has_its_class(
    runware: RunwareDouble, fault: Fault, kind: type[ServiceError]
) -> None:
    images = made(runware)
    runware.fail(fault)
    with pytest.raises(kind) as caught:
        await images.generate("a cat")
    assert type(caught.value) is kind
    assert caught.value.provider_name == "r"
    assert len(runware.requests) == 1
    await images.dispose()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("missingApiKey", AuthenticationError),
        ("tokenExpired", AuthenticationError),
        ("accountSuspended", AccessDeniedError),
        ("insufficientPermissions", AccessDeniedError),
        ("insufficientCredits", QuotaExhaustedError),
        ("quotaExceeded", QuotaExhaustedError),
        ("rateLimitExceeded", RateLimitedError),
        ("nsfwContentDetected", ContentRefusedError),
        ("promptBlocked", ContentRefusedError),
        ("invalidModel", ModelNotFoundError),
        ("unknownModel", ModelNotFoundError),
        ("unsupportedParameter", InvalidRequestError),
        ("missingWidth", InvalidRequestError),
        ("taskFailedOrNotFound", InvalidRequestError),
        ("providerUnauthorized", OverloadedError),
        ("noAvailableServer", OverloadedError),
        ("internalServerError", OverloadedError),
        ("authTimeout", ServiceTimeoutError),
        ("somethingNew", ServiceError),
    ],
)
def test_each_code_has_its_class(code: str, kind: type[ServiceError]) -> None:
    error = runware_error({"code": code, "message": "What it says.", "parameter": "p"})
    assert type(error) is kind
    assert error.context == {"code": code, "parameter": "p"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (402, QuotaExhaustedError),
        (403, AccessDeniedError),
        (429, RateLimitedError),
        (500, OverloadedError),
    ],
)
def test_where_a_code_says_nothing_the_status_does(status: int, kind: type[ServiceError]) -> None:
    assert type(runware_error({"code": "somethingNew"}, status)) is kind


# -- health and settings -----------------------------------------------------------------


async def test_health_asks_for_the_account_and_makes_nothing(runware: RunwareDouble) -> None:
    images = made(runware)
    await images.check_health()
    (task,) = sent(runware)
    assert (task["taskType"], task["operation"]) == ("accountManagement", "getDetails")
    runware.fail(Fault(500))
    await images.check_health()  # asked again, for it changes nothing
    runware.fail(Fault(200, body={"errors": [{"code": "errorRetrievingAccountManagement"}]}))
    with pytest.raises(ServiceError):
        await images.check_health()
    await images.dispose()


@pytest.mark.parametrize(
    "settings",
    [{"delivery": "later"}, {"steps": 0}, {"cfg_scale": -1}, {"poll_interval": 0}],
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunwareConfig.model_validate(settings)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
