"""What the tests of the image kit share: how one runs, and what the author tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from ...providers.media.images import GeneratedImage, ImageProvider
from ...providers.media.images.header import read_header
from .case import Case, provider_test

__all__ = ["ImageCase", "Images", "expect_true", "files_in", "image_test"]

Images = ImageProvider[Any]


class ImageCase(Case):
    """What an author tells of the type under test and of its service."""

    provider_class: ClassVar[type[ImageProvider[Any]]]
    """The class under test."""
    size: ClassVar[str] = "1024x1024"
    """A size there is."""
    formats: ClassVar[tuple[str, ...]] = ("png", "jpeg", "webp")
    """The formats there are."""
    many: ClassVar[int] = 3
    """A number of pictures, best more than the service makes at once."""
    refused_sizes: ClassVar[tuple[str, ...]] = ()
    """Well-formed sizes that the model of the settings lacks."""
    refused_prompt: ClassVar[str] = ""
    """What the service refuses to draw; empty where it refuses nothing."""
    unknown_model: ClassVar[str] = ""
    """A model there is not; empty where the service has none to choose."""

    @pytest.fixture
    def image_config(self) -> BaseModel:
        """Return the settings of a provider with a key that is accepted, and a model."""
        raise NotImplementedError(
            f"{type(self).__name__} must define a fixture image_config that returns the settings "
            f"of a {self.provider_class.__name__} that works."
        )

    def make_images(self, config: Any) -> Images:
        """Return a guarded instance, as a registry would give it, named ``conformance``."""
        return self.guarded(config)

    def needs_setting(self, name: str) -> None:
        """Skip a test of a setting the type does not have."""
        if name not in self.provider_class.config_class.model_fields:
            pytest.skip(f"{self.provider_class.__name__} has no setting {name!r}")


image_test = provider_test("image_config", "make_images")
"""Make a coroutine method that takes a provider into a plain test that takes ``image_config``."""


def expect_true(image: GeneratedImage) -> None:
    """See that what is told of a picture is true of its bytes, and of its file."""
    header = read_header(image.data)
    assert image.media_type == f"image/{header.format}"
    assert (image.width, image.height) == (header.width, header.height)
    assert image.model
    assert image.cost is None or image.cost >= 0
    if image.path is not None:
        assert image.path.read_bytes() == image.data, "the file is not what was made"


def files_in(folder: Path) -> list[str]:
    """Return the names of all that is in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())
