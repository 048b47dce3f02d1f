"""The services of images on loopback, and providers of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from purveyor.testing.doubles import OpenAIImagesDouble, RunwareDouble


@pytest.fixture
def openai() -> Iterator[OpenAIImagesDouble]:
    with OpenAIImagesDouble() as double:
        yield double


@pytest.fixture
def runware() -> Iterator[RunwareDouble]:
    with RunwareDouble() as double:
        yield double
