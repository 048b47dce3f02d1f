"""OpenAI's images against programs that are not ours: another server, and OpenAI's own client."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from purveyor.providers.media.images import ImageProvider
from purveyor.providers.media.images.openai import OpenAIImageConfig, OpenAIImages
from purveyor.providers.registry import guarded
from purveyor.providers.web.errors import (
    AuthenticationError,
    ContentRefusedError,
    InvalidRequestError,
    QuotaExhaustedError,
    RateLimitedError,
)
from purveyor.testing.doubles import OpenAIImagesDouble, picture
from purveyor.testing.servers import Aimock
from tests.conftest import require

CAT = picture("webp", 1024, 1024)


def answers(prompt: str, response: object) -> dict[str, object]:
    return {"match": {"userMessage": prompt, "endpoint": "image"}, "response": response}


def fails(prompt: str, status: int, code: str) -> dict[str, object]:
    error = {"message": "What it says.", "type": "error", "code": code}
    return answers(prompt, {"error": error, "status": status, "retryAfter": 60})


FIXTURES = [
    answers(
        "a cat",
        {"images": [{"b64Json": base64.b64encode(CAT).decode(), "revisedPrompt": "one cat"}] * 2},
    ),
    fails("too often", 429, "rate_limit_exceeded"),
    fails("too dear", 429, "insufficient_quota"),
    fails("too bad", 400, "moderation_blocked"),
]


@pytest.fixture(scope="module")
def aimock() -> Iterator[Aimock]:
    require(Aimock)
    with Aimock(FIXTURES) as server:
        yield server


@pytest.fixture
async def images(aimock: Aimock) -> AsyncIterator[OpenAIImages]:
    values = {"base_url": aimock.base_url, "api_key": aimock.key, "model": "gpt-image-2"}
    made = guarded(OpenAIImages(OpenAIImageConfig.model_validate(values)), name="o")
    yield made
    await made.dispose()


@pytest.mark.server("aimock")
class TestAgainstAnotherServer:
    async def test_pictures_come(self, images: ImageProvider[OpenAIImageConfig]) -> None:
        made = await images.generate("a cat", count=2, size="1024x1024")
        assert [image.data for image in made] == [CAT, CAT]
        assert [(image.media_type, image.revised_prompt) for image in made] == [
            ("image/webp", "one cat")
        ] * 2

    async def test_it_is_healthy(self, images: ImageProvider[OpenAIImageConfig]) -> None:
        assert await images.check_health() is None

    @pytest.mark.parametrize(
        ("prompt", "kind"),
        [
            ("too often", RateLimitedError),
            ("too dear", QuotaExhaustedError),
            ("too bad", ContentRefusedError),
            ("something else", InvalidRequestError),
        ],
    )
    async def test_errors_have_their_class(
        self, images: ImageProvider[OpenAIImageConfig], prompt: str, kind: type[Exception]
    ) -> None:
        with pytest.raises(kind):
            await images.generate(prompt)

    async def test_a_wrong_key_is_refused(self, aimock: Aimock) -> None:
        values = {"base_url": aimock.base_url, "api_key": "sk-wrong", "model": "gpt-image-2"}
        images = guarded(OpenAIImages(OpenAIImageConfig.model_validate(values)), name="o")
        with pytest.raises(AuthenticationError):
            await images.generate("a cat")
        with pytest.raises(AuthenticationError):
            await images.check_health()
        await images.dispose()


def test_openais_own_client_understands_the_double() -> None:
    with (
        OpenAIImagesDouble() as double,
        openai.OpenAI(base_url=double.base_url, api_key=double.key, max_retries=0) as client,
    ):
        answer = client.images.generate(
            model="gpt-image-2", prompt="a cat", n=2, size="1536x1024", output_format="jpeg"
        )
        assert answer.data is not None
        assert len(answer.data) == 2
        assert answer.data[0].b64_json is not None
        assert base64.b64decode(answer.data[0].b64_json).startswith(b"\xff\xd8\xff")
        assert answer.usage is not None
        assert answer.usage.output_tokens == 2000
        assert "gpt-image-2" in [model.id for model in client.models.list()]
        with pytest.raises(openai.NotFoundError):
            client.images.generate(model="gpt-image-0", prompt="a cat")
        with pytest.raises(openai.BadRequestError, match="Unknown parameter"):
            client.images.generate(model="gpt-image-2", prompt="a cat", style="vivid")
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()
