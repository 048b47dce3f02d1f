"""The rules for what goes wrong with images: mistakes, keys, refusals, the network, the end."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from ...providers.registry import InvalidStateError, RegistryError
from ...providers.web.errors import (
    AuthenticationError,
    ContentRefusedError,
    InvalidRequestError,
    ModelNotFoundError,
    ServiceConnectionError,
    ServiceError,
)
from .case import PROVIDER_NAME, refusal, secrets_in
from .images_case import ImageCase, Images, expect_true, files_in, image_test

__all__ = ["RobustnessRules"]

CANARY = "canary-3f9c1b72e5"
NO_SIZES = ("big", "1024", "1024x", "x1024", "0x1024", "-1x1024", "1024X1024", "1e3x1e3", "1 x 1")


class RobustnessRules(ImageCase):
    """What a caller may rely on when something goes wrong."""

    # -- the caller's mistakes -----------------------------------------------------------

    @image_test
    async def test_a_size_there_is_not_is_refused(self, images: Images, tmp_path: Path) -> None:
        """A size the model lacks, or that is none, is refused before anything is written."""
        target = tmp_path / f"cat.{self.formats[0]}"
        for size in (*NO_SIZES, *self.refused_sizes):
            call = images.generate("a cat", size=size, path=target)
            error = await refusal(InvalidRequestError, f"size {size!r}", call)
            assert size in str(error), f"the message does not name the size: {error}"
            _expect_told(error)
        assert files_in(tmp_path) == []

    @image_test
    async def test_what_says_nothing_is_refused(self, images: Images) -> None:
        """An empty prompt, no picture at all, an unknown format: the caller's mistakes."""
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "an empty prompt": lambda: images.generate(" \n"),
            "no picture": lambda: images.generate("a cat", count=0),
            "fewer than none": lambda: images.generate("a cat", count=-1),
            "an unknown format": lambda: images.generate("a cat", format="bmp"),
            "an unknown suffix": lambda: images.generate("a cat", path="cat.bmp"),
            "a contradiction": lambda: images.generate("a cat", path="cat.png", format="jpeg"),
        }
        for name, call in calls.items():
            _expect_told(await refusal(InvalidRequestError, name, call()))

    @image_test
    async def test_an_unknown_option_is_a_type_error(self, images: Images) -> None:
        """An option there is not is told as Python tells it."""
        wrong: Any = {"colour": "red"}
        await refusal(TypeError, "colour", images.generate("a cat", **wrong))

    @image_test
    async def test_a_path_that_cannot_be_is_told(self, images: Images, tmp_path: Path) -> None:
        """A folder that is not there, or a path that is one, is an OSError; none is made."""
        name = f"cat.{self.formats[0]}"
        missing = images.generate("a cat", path=tmp_path / "no" / name)
        error = await refusal(FileNotFoundError, "a missing folder", missing)
        assert "no" in str(error)
        (tmp_path / name).mkdir()
        await refusal(OSError, "a folder", images.generate("a cat", path=tmp_path / name))
        assert files_in(tmp_path) == [name]

    @image_test
    async def test_an_unknown_model_is_told(self, images: Images) -> None:
        """A model the service lacks is a ModelNotFoundError: a LookupError."""
        if not self.unknown_model:
            pytest.skip("the service has no model to choose")
        call = images.generate("a cat", size=self.size, model=self.unknown_model)
        _expect_told(await refusal(ModelNotFoundError, "an unknown model", call))

    @image_test
    async def test_a_refused_prompt_is_told(self, images: Images) -> None:
        """What the service refuses to draw is a ContentRefusedError, nobody's failure."""
        if not self.refused_prompt:
            pytest.skip("the service refuses nothing")
        call = images.generate(self.refused_prompt, size=self.size)
        _expect_told(await refusal(ContentRefusedError, "the prompt", call))

    # -- keys ----------------------------------------------------------------------------

    def test_a_wrong_key_is_told_and_shown_nowhere(
        self, image_config: BaseModel, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A wrong key is an AuthenticationError, and stands in no message, log or repr."""
        self.needs_setting("api_key")
        caplog.set_level(logging.DEBUG)
        config = image_config.model_copy(update={"api_key": SecretStr(CANARY)})

        async def run(images: Images) -> None:
            for name, call in {
                "generate": lambda: images.generate("a cat", size=self.size),
                "check_health": images.check_health,
            }.items():
                error = await refusal(AuthenticationError, name, call())
                assert isinstance(error, PermissionError)
                assert not error.is_backend_failure
                told = [*traceback.format_exception(error), json.dumps(error.to_dict())]
                assert CANARY not in "".join(told), f"{name}: the key is in the error"
            assert CANARY not in repr((images, config))

        self.run_with(lambda: self.make_images(config), run)
        assert CANARY not in caplog.text, "the key is in the log"

    def test_no_key_is_told(self, image_config: BaseModel) -> None:
        """Without a key: an AuthenticationError that says what to set."""
        self.needs_setting("api_key")
        config = image_config.model_copy(update={"api_key": None})

        async def run(images: Images) -> None:
            call = images.generate("a cat", size=self.size)
            error = await refusal(AuthenticationError, "no key", call)
            assert "api_key" in str(error)

        self.run_with(lambda: self.make_images(config), run)

    @image_test
    async def test_secrets_are_not_shown(self, images: Images) -> None:
        """No secret of the settings is in a repr."""
        for secret in secrets_in(images.config):
            assert secret not in repr((images, images.config))

    # -- the service, and the end --------------------------------------------------------

    @image_test
    async def test_a_check_of_health_passes(self, images: Images) -> None:
        """A service that is there is healthy, as often as it is asked."""
        assert await images.check_health() is None
        assert await images.check_health() is None

    def test_nobody_there_is_told(self, image_config: BaseModel, tmp_path: Path) -> None:
        """A service that cannot be reached is a ServiceConnectionError; that one counts."""
        self.needs_setting("base_url")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
        config = image_config.model_copy(update={"base_url": nowhere, "retries": 0})
        target = tmp_path / f"cat.{self.formats[0]}"

        async def run(images: Images) -> None:
            call = images.generate("a cat", size=self.size, path=target)
            error = await refusal(ServiceConnectionError, "nobody", call)
            assert isinstance(error, ServiceError)
            assert error.is_backend_failure
            assert error.provider_name == PROVIDER_NAME

        self.run_with(lambda: self.make_images(config), run)
        assert files_in(tmp_path) == []

    @image_test
    async def test_who_is_cancelled_leaves_no_half(self, images: Images, tmp_path: Path) -> None:
        """A cancelled call ends, leaves a whole file or none, and is not in the next one's way."""
        await images.generate("a cat", size=self.size)
        target = tmp_path / f"cat.{self.formats[0]}"
        for turns in range(8):
            task = asyncio.ensure_future(images.generate("a cat", size=self.size, path=target))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.cancel():
                await asyncio.wait([task], timeout=self.timeout)
                assert task.cancelled(), "a cancelled call went on"
        (image,) = await images.generate("a cat", size=self.size, path=target)
        await asyncio.sleep(0.1)  # what was cancelled may end late, and must not be seen
        expect_true(image)
        assert files_in(tmp_path) == [target.name]

    @image_test
    async def test_after_the_end_nothing_is_made(self, images: Images) -> None:
        """Disposed, twice even, it refuses."""
        await images.generate("a cat", size=self.size)
        await images.dispose()
        await images.dispose()
        await refusal(InvalidStateError, "generate", images.generate("a cat", size=self.size))


def _expect_told(error: RegistryError) -> None:
    """See that an error is the caller's affair, names the provider, and goes into JSON."""
    assert not error.is_backend_failure, f"{error!r} counts against the service"
    told = json.loads(json.dumps(error.to_dict()))
    assert told["provider_name"] == PROVIDER_NAME
