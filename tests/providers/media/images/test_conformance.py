"""Both types of images keep the rules of the conformance kit."""

from __future__ import annotations

import pytest

from purveyor.providers.media.images.openai import OpenAIImageConfig, OpenAIImages
from purveyor.providers.media.images.runware import RunwareConfig, RunwareImages
from purveyor.testing.conformance import ImageConformance
from purveyor.testing.doubles import OpenAIImagesDouble, RunwareDouble


class TestOpenAIImages(ImageConformance):
    provider_class = OpenAIImages
    size = "1536x1024"
    many = 11
    refused_sizes = ("1000x1000", "256x256", "4096x1024", "3840x1024")
    refused_prompt = "something forbidden"
    unknown_model = "gpt-image-0"

    @pytest.fixture
    def image_config(self, openai: OpenAIImagesDouble) -> OpenAIImageConfig:
        return OpenAIImageConfig.model_validate(
            {
                "base_url": openai.base_url,
                "api_key": openai.key,
                "model": "gpt-image-2",
                "prices": {"gpt-image-2": 0.04},
            }
        )


class TestRunwareImages(ImageConformance):
    provider_class = RunwareImages
    size = "256x128"
    many = 21
    refused_sizes = ("1000x1000", "64x64", "4096x1024")
    refused_prompt = "something forbidden"
    unknown_model = "runware:0@0"

    @pytest.fixture
    def image_config(self, runware: RunwareDouble) -> RunwareConfig:
        return RunwareConfig.model_validate(
            {
                "base_url": runware.base_url,
                "api_key": runware.key,
                "model": runware.model,
                "size": "128x128",
            }
        )


class TestRunwareImagesAskedForLater(TestRunwareImages):
    """The same with asynchronous tasks, which are asked for until they are there."""

    @pytest.fixture
    def image_config(self, runware: RunwareDouble) -> RunwareConfig:
        return RunwareConfig.model_validate(
            {
                "base_url": runware.base_url,
                "api_key": runware.key,
                "model": runware.model,
                "size": "128x128",
                "delivery": "async",
                "poll_interval": 0.01,
            }
        )
