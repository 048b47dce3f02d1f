"""The image kit has teeth: a correct type passes, each broken one fails what it breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from purveyor.testing.conformance import ImageConformance

from .teeth import expect, report_of

BROKEN = '''
import asyncio
import logging
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from purveyor.providers.media.files import write_file
from purveyor.providers.media.images import GeneratedImage, ImageProvider
from purveyor.providers.media.images.request import ImageRequest, parse_size, targets_of
from purveyor.providers.registry import ProviderConfig, operation, register_provider
from purveyor.providers.web.errors import (
    AuthenticationError, ContentRefusedError, InvalidRequestError, ModelNotFoundError,
    OverloadedError,
)
from purveyor.testing.conformance import ImageConformance
from purveyor.testing.doubles import picture
from pydantic import SecretStr

KEY = "correct horse"


class Config(ProviderConfig):
    api_key: SecretStr | None = SecretStr(KEY)
    model: str = "fast"
    size: str | None = "64x64"
    format: str | None = "png"
    quality: str | None = None


@register_provider("studio", family="images", capabilities={"seed"})
class Studio(ImageProvider[Config]):
    """Pictures from memory, in a few steps."""

    made = 100

    @operation
    async def generate(self, prompt, *, count=1, path=None, **options):
        request = ImageRequest.of(prompt, path, options, self.config)
        self.check(request)
        targets = targets_of(path, count)
        self.log_in(self.config.api_key)
        for _ in range(3):
            await asyncio.sleep(0)
        images = [self.draw(request, number) for number in range(self.number(count))]
        for number, target in enumerate(targets):
            images[number] = await self.write(images[number], target)
        return images

    def check(self, request):
        if request.negative_prompt is not None:
            raise self._unsupported("negative-prompt")
        if parse_size(request.size)[0] > 1000:
            raise InvalidRequestError(f"There is no size {request.size}.")
        if "forbidden" in request.prompt:
            raise ContentRefusedError("No.")
        if request.model != "fast":
            raise ModelNotFoundError("There is no such model.")

    def log_in(self, key):
        if key is None:
            raise AuthenticationError("Set api_key.")
        if key.get_secret_value() != KEY:
            raise AuthenticationError("The key is not accepted.")

    def number(self, count):
        return count

    def draw(self, request, number):
        seed = request.seed
        if seed is None:
            Studio.made += 1
            seed = self.made
        width, height = parse_size(request.size)
        data = picture(request.format, width, height, shade=(seed + number) % 256)
        return GeneratedImage(
            data, f"image/{request.format}", request.model, width, height, seed=seed + number
        )

    async def write(self, image, target):
        return replace(image, path=await write_file(target, image.data))

    @operation
    def estimate_cost(self, *, count=1, **options):
        return Decimal("0.01") * count

    async def check_health(self):
        self.log_in(self.config.api_key)


class OneTooFew(Studio):
    def number(self, count):
        return max(1, count - 1)


class AnotherSize(Studio):
    def draw(self, request, number):
        return super().draw(replace(request, size="32x32"), number)


class UntrueSize(Studio):
    def draw(self, request, number):
        return replace(super().draw(request, number), width=7)


class AlwaysPNG(Studio):
    def draw(self, request, number):
        return super().draw(replace(request, format="png"), number)


class OtherBytes(Studio):
    async def write(self, image, target):
        Path(target).write_bytes(b"half")
        return replace(image, path=target)


class LeavesParts(Studio):
    async def write(self, image, target):
        target.with_name("part").write_bytes(b"")
        return await super().write(image, target)


class AnySize(Studio):
    def check(self, request):
        if request.size == "2048x2048":
            return
        super().check(request)


class IgnoresNegative(Studio):
    def check(self, request):
        super().check(replace(request, negative_prompt=None))


class NewSeed(Studio):
    def draw(self, request, number):
        return super().draw(replace(request, seed=None), number)


class NoEstimate(Studio):
    @operation
    def estimate_cost(self, *, count=1, **options):
        return 0.01


class FlatEstimate(Studio):
    @operation
    def estimate_cost(self, *, count=1, **options):
        return Decimal("0.01")


class TellsKey(Studio):
    def log_in(self, key):
        if key is not None and key.get_secret_value() != KEY:
            raise AuthenticationError("No: " + key.get_secret_value())
        super().log_in(key)


class LogsKey(Studio):
    def log_in(self, key):
        logging.getLogger("studio").debug("with %s", key and key.get_secret_value())
        super().log_in(key)


class AnyKey(Studio):
    def log_in(self, key):
        pass


class Blames(Studio):
    def check(self, request):
        try:
            super().check(request)
        except (ContentRefusedError, ModelNotFoundError) as error:
            raise OverloadedError("It failed.") from error


class Unwell(Studio):
    async def check_health(self):
        await super().check_health()
        raise OverloadedError("Not today.")


class Uncancelled(Studio):
    async def write(self, image, target):
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
        return await super().write(image, target)


class Case(ImageConformance):
    size = "128x64"
    refused_sizes = ("2048x2048",)
    refused_prompt = "forbidden"
    unknown_model = "none"
    capabilities = frozenset({"seed"})

    @pytest.fixture
    def image_config(self):
        return Config()


class TestCorrect(Case):
    provider_class = Studio
'''

FAILURES: dict[str, set[str]] = {
    "Correct": set(),
    "OneTooFew": {"many_are_made", "a_seed_makes_the_same_again", "many_files_are_numbered"},
    "AnotherSize": {"a_size_is_kept_to"},
    "UntrueSize": {
        *("a_picture_is_made", "a_size_is_kept_to", "each_format_is_made", "many_are_made"),
        *("a_picture_is_written", "a_file_is_replaced", "many_files_are_numbered"),
        *("calls_are_not_mixed_up", "who_is_cancelled_leaves_no_half"),
    },
    "AlwaysPNG": {"each_format_is_made", "a_picture_is_written", "calls_are_not_mixed_up"},
    "OtherBytes": {
        *("a_picture_is_written", "a_file_is_replaced", "many_files_are_numbered"),
        "who_is_cancelled_leaves_no_half",
    },
    "LeavesParts": {
        *("a_picture_is_written", "a_file_is_replaced", "many_files_are_numbered"),
        "who_is_cancelled_leaves_no_half",
    },
    "AnySize": {"a_size_there_is_not_is_refused"},
    "IgnoresNegative": {"no_negative_prompt_is_told"},
    "NewSeed": {"a_seed_makes_the_same_again"},
    "NoEstimate": {"costs_are_estimated_without_asking"},
    "FlatEstimate": {"costs_are_estimated_without_asking"},
    "TellsKey": {"a_wrong_key_is_told_and_shown_nowhere"},
    "LogsKey": {"a_wrong_key_is_told_and_shown_nowhere"},
    "AnyKey": {"a_wrong_key_is_told_and_shown_nowhere", "no_key_is_told"},
    "Blames": {"a_refused_prompt_is_told", "an_unknown_model_is_told"},
    "Unwell": {"a_check_of_health_passes"},
    "Uncancelled": {"who_is_cancelled_leaves_no_half"},
}


CASES = "".join(
    f"\n\nclass Test{name}(Case):\n    provider_class = {name}\n"
    for name in FAILURES
    if name != "Correct"
)


def test_each_fails_exactly_the_rules_it_breaks_and_says_which(tmp_path: Path) -> None:
    report = report_of(tmp_path, BROKEN + CASES)
    expect(report, FAILURES)
    told = report["AnySize"]["a_size_there_is_not_is_refused"]
    assert "size '2048x2048' must raise InvalidRequestError, and raised nothing" in told
    assert "the file is not what was made" in report["OtherBytes"]["a_file_is_replaced"]
    told = report["LogsKey"]["a_wrong_key_is_told_and_shown_nowhere"]
    assert "the key is in the log" in told


def test_every_rule_says_what_it_is() -> None:
    tests = [name for name in dir(ImageConformance) if name.startswith("test_")]
    assert len(tests) > 20
    for name in tests:
        doc = getattr(ImageConformance, name).__doc__
        assert doc, name
        assert "\n" not in doc.strip(), name


def test_a_class_that_no_catalogue_knows_must_say_its_capabilities() -> None:
    with pytest.raises(TypeError, match="decorate it with @register_provider, or set capabilities"):
        type("TestUnknown", (ImageConformance,), {"provider_class": object})
