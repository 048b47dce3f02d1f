"""The doubles of image services refuse what the services refuse."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from purveyor.testing.doubles import Double, OpenAIImagesDouble, RunwareDouble

PICTURE = {"model": "gpt-image-1.5", "prompt": "a cat"}


@pytest.fixture(scope="module")
def openai() -> Iterator[OpenAIImagesDouble]:
    with OpenAIImagesDouble(key="k") as double:
        yield double


@pytest.fixture(scope="module")
def runware() -> Iterator[RunwareDouble]:
    with RunwareDouble(key="k") as double:
        yield double


def post(
    double: Double, path: str, body: Any, *, key: str = "k", kind: str = "application/json"
) -> tuple[int, Any]:
    place = urlsplit(double.url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
        connection.request("POST", path, data, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"prompt": None}, 400, None),
        ({"style": "vivid"}, 400, "unknown_parameter"),
        ({"seed": 1}, 400, "unknown_parameter"),
        ({"response_format": "b64_json"}, 400, "unknown_parameter"),
        ({"n": "2"}, 400, "invalid_type"),
        ({"n": True}, 400, "invalid_type"),
        ({"n": 0}, 400, "invalid_value"),
        ({"n": 11}, 400, "invalid_value"),
        ({"quality": "hd"}, 400, "invalid_value"),
        ({"output_format": "bmp"}, 400, "invalid_value"),
        ({"size": "512x512"}, 400, "invalid_value"),
        ({"size": "big", "model": "gpt-image-2"}, 400, "invalid_value"),
        ({"size": "1000x1000", "model": "gpt-image-2"}, 400, "invalid_value"),
        ({"model": "dall-e-2"}, 404, "model_not_found"),
        ({"prompt": "a forbidden cat"}, 400, "moderation_blocked"),
    ],
)
def test_openai_refuses(
    openai: OpenAIImagesDouble, change: dict[str, Any], status: int, code: str | None
) -> None:
    body = {name: value for name, value in {**PICTURE, **change}.items() if value is not None}
    found, answer = post(openai, "/v1/images/generations", body)
    assert (found, answer["error"]["code"]) == (status, code)


def test_openai_refuses_keys_and_bodies_that_are_none(openai: OpenAIImagesDouble) -> None:
    path = "/v1/images/generations"
    assert post(openai, path, PICTURE, key="other")[0] == 401
    assert post(openai, path, b"{")[0] == 400
    assert post(openai, path, [])[0] == 400
    assert post(openai, path, PICTURE, kind="text/plain")[0] == 400
    assert post(openai, path, PICTURE)[0] == 200


def task(**change: Any) -> dict[str, Any]:
    values = {
        "taskType": "imageInference",
        "taskUUID": str(uuid.uuid4()),
        "model": RunwareDouble.model,
        "positivePrompt": "a cat",
        "width": 128,
        "height": 128,
        **change,
    }
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"taskUUID": "1"}, "invalidTaskUUID"),
        ({"taskType": "other"}, "invalidTaskType"),
        ({"width": None}, "missingWidth"),
        ({"positivePrompt": None}, "missingPositivePrompt"),
        ({"width": 100}, "invalidWidth"),
        ({"height": 4096}, "invalidHeight"),
        ({"width": "128"}, "invalidWidth"),
        ({"numberResults": 21}, "invalidNumberResults"),
        ({"numberResults": True}, "invalidNumberResults"),
        ({"outputFormat": "png"}, "invalidOutputFormat"),
        ({"outputQuality": 100}, "invalidOutputQuality"),
        ({"colour": "red"}, "unsupportedParameter"),
        ({"model": "runware:0@0"}, "invalidModel"),
        ({"positivePrompt": "forbidden"}, "contentPolicyViolation"),
        ({"taskType": "getResponse"}, "taskFailedOrNotFound"),
        ({"taskType": "accountManagement", "operation": "other"}, "invalidOperation"),
    ],
)
def test_runware_refuses(runware: RunwareDouble, change: dict[str, Any], code: str) -> None:
    status, answer = post(runware, "/v1", [task(**change)])
    assert (status, [error["code"] for error in answer["errors"]]) == (400, [code])


def test_runware_does_what_it_can_of_several_tasks(runware: RunwareDouble) -> None:
    good, bad = task(), task(width=1)
    status, answer = post(runware, "/v1", [good, bad])
    assert status == 200
    assert [result["taskUUID"] for result in answer["data"]] == [good["taskUUID"]]
    assert answer["data"][0]["imageURL"].startswith(runware.url)  # no base64 unless asked for
    assert "cost" not in answer["data"][0]
    assert [error["taskUUID"] for error in answer["errors"]] == [bad["taskUUID"]]


def test_runware_takes_a_task_once(runware: RunwareDouble) -> None:
    once = task()
    assert post(runware, "/v1", [once])[0] == 200
    assert post(runware, "/v1", [once])[1]["errors"][0]["code"] == "duplicateTaskUUID"


def test_runware_refuses_keys_and_bodies_that_are_none(runware: RunwareDouble) -> None:
    assert post(runware, "/v1", [task()], key="other")[0] == 401
    for body in (b"[", {}, []):
        assert post(runware, "/v1", body)[1]["errors"][0]["code"] == "invalidJSON"
