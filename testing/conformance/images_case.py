"""What the tests of the image kit share: how one runs, and what the author tells."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

import pytest
from pydantic import BaseModel

from ...providers.media.images import GeneratedImage, ImageProvider
from ...providers.media.images.header import read_header
from ...providers.registry import guarded
from ...providers.registry.types import default_types
from .storage_case import PROVIDER_NAME

__all__ = ["ImageCase", "Images", "expect_true", "files_in", "image_test"]

Images = ImageProvider[Any]
P = ParamSpec("P")
CaseT = TypeVar("CaseT", bound="ImageCase")


class ImageCase:
    """What an author tells of the type under test and of its service."""

    provider_class: ClassVar[type[ImageProvider[Any]]]
    """The class under test."""
    capabilities: ClassVar[frozenset[str]]
    """What the type declares. When not set: what the catalogue says of the class, or of the
    nearest of its bases that stands there."""
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
    timeout: ClassVar[float] = 60.0
    """Seconds one test may take."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "provider_class" in vars(cls) and "capabilities" not in vars(cls):
            cls.capabilities = _declared_by(cls.provider_class)

    @pytest.fixture
    def image_config(self) -> BaseModel:
        """Return the settings of a provider with a key that is accepted, and a model."""
        raise NotImplementedError(
            f"{type(self).__name__} must define a fixture image_config that returns the settings "
            f"of a {self.provider_class.__name__} that works."
        )

    def make_images(self, config: Any) -> Images:
        """Return a guarded instance, as a registry would give it, named ``conformance``."""
        return guarded(self.provider_class(config), name=PROVIDER_NAME)

    def needs(self, capability: str) -> None:
        """Skip a test of a capability the type does not declare."""
        if capability not in self.capabilities:
            pytest.skip(f"{self.provider_class.__name__} does not declare {capability!r}")

    def lacks(self, capability: str) -> None:
        """Skip a test that an undeclared capability is refused."""
        if capability in self.capabilities:
            pytest.skip(f"{self.provider_class.__name__} declares {capability!r}")

    def needs_setting(self, name: str) -> None:
        """Skip a test of a setting the type does not have."""
        if name not in self.provider_class.config_class.model_fields:
            pytest.skip(f"{self.provider_class.__name__} has no setting {name!r}")


def _declared_by(provider_class: type) -> frozenset[str]:
    default_types.all("images")  # reads the entry points
    for base in provider_class.__mro__:
        row = default_types.of_class("images", base)
        if row is not None:
            return row.capabilities
    raise TypeError(
        f"{provider_class.__name__} is not in the catalogue of types: decorate it with "
        "@register_provider, or set capabilities in the test class."
    )


def image_test(
    function: Callable[Concatenate[CaseT, Images, P], Awaitable[None]],
) -> Callable[Concatenate[CaseT, BaseModel, P], None]:
    """
    Make a coroutine method that takes a provider into a plain test that takes ``image_config``.

    It runs in an event loop of its own, whatever plugin there is, and disposes the provider.
    """

    @functools.wraps(function)
    def test(self: CaseT, image_config: BaseModel, *args: P.args, **kwargs: P.kwargs) -> None:
        __tracebackhide__ = True

        async def run() -> None:
            __tracebackhide__ = True
            images = self.make_images(image_config)
            try:
                async with asyncio.timeout(self.timeout):
                    await function(self, images, *args, **kwargs)
            finally:
                await images.dispose()

        # With a factory the runner leaves the thread's current loop to whom it belongs.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(run())

    own, images, *fixtures = inspect.signature(function).parameters.values()
    config = images.replace(name="image_config", annotation=BaseModel)
    test.__signature__ = inspect.Signature([own, config, *fixtures])  # pyright: ignore[reportAttributeAccessIssue]
    del test.__wrapped__  # what pytest sees is a plain function
    return test


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
