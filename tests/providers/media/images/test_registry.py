"""Images in a container: their types, what finds them, and how they stand in for each other."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.families import IMAGES
from purveyor.providers.media import MEDIA_TYPES
from purveyor.providers.media.images import ImageProvider, IncompleteImagesError
from purveyor.providers.media.images.failover import FailoverImages
from purveyor.providers.media.images.openai import OpenAIImages
from purveyor.providers.media.images.runware import RunwareImages
from purveyor.providers.registry import answered_by
from purveyor.providers.registry.candidates import from_well_known
from purveyor.providers.registry.types import default_types
from purveyor.providers.web.errors import AuthenticationError, ContentRefusedError
from purveyor.settings import Settings
from purveyor.testing.doubles import Fault, OpenAIImagesDouble, RunwareDouble

KEY = "sk-0123456789"


@pytest.mark.requirement("S2.9")
def test_the_types_are_rows_of_name_module_and_class() -> None:
    rows = {row.name: row for row in MEDIA_TYPES if row.family == "images"}
    assert rows.keys() == {"openai", "runware"}
    for row in rows.values():
        module, _, name = row.path.partition(":")
        found = getattr(importlib.import_module(module), name)
        assert issubclass(found, ImageProvider)
        assert row.loaded_class is found
        assert row.extra == "media"


@pytest.mark.requirement("S2.10")
def test_rows_import_neither_the_types_nor_a_library() -> None:
    code = (
        "import sys, purveyor.providers.media.types\n"
        "print([m for m in sys.modules if 'aiohttp' in m or m.endswith(('.openai', '.runware'))])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_well_known_variables_make_providers() -> None:
    variables = {"OPENAI_API_KEY": KEY, "RUNWARE_API_KEY": KEY}
    found = {one.name: one for one in from_well_known(default_types, IMAGES, variables)}
    assert found.keys() == {"openai", "runware"}


@pytest.mark.requirement("S2.16", "S2.17")
def test_a_section_of_an_old_file_makes_providers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    openai: OpenAIImagesDouble,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PURVEYOR_CONFIG_FILE", "config.yaml")
    Path("config.yaml").write_text(
        f"""
providers:
  image:
    openai: {{type: image, base_url: "{openai.base_url}", api_key: {openai.key},
             model: gpt-image-2, pipelines: ["vocabulary"]}}
    runware: {{type: image, api_key: {KEY}, model: "runware:101@1"}}
"""
    )
    container = ApplicationContainer()
    assert isinstance(container.images("runware"), RunwareImages)
    assert isinstance(container.images("openai"), OpenAIImages)
    assert container.images("openai").config.model == "gpt-image-2"
    with container.blocking as services:
        (image,) = services.family("images")("openai").generate("a cat", path="cat.png")
    assert image.data == Path("cat.png").read_bytes()


def test_without_an_event_loop(tmp_path: Path, openai: OpenAIImagesDouble) -> None:
    values = {"base_url": openai.base_url, "api_key": openai.key, "model": "gpt-image-2"}
    settings = Settings(
        home=tmp_path,
        images={"default": "openai", "providers": {"openai": values}},  # pyright: ignore[reportArgumentType]
    )
    with ApplicationContainer(settings=settings).blocking as services:
        images = services.family("images")()
        (image,) = images.generate("a cat", path=tmp_path / "cat.webp")
        assert images.estimate_cost() is None
    assert image.media_type == "image/webp"
    assert (tmp_path / "cat.webp").read_bytes() == image.data


# -- standing in for each other ----------------------------------------------------------


@pytest.fixture
async def container(
    tmp_path: Path, openai: OpenAIImagesDouble, runware: RunwareDouble
) -> AsyncIterator[Any]:
    providers = {
        "first": {
            "type": "openai",
            "base_url": openai.base_url,
            "api_key": openai.key,
            "model": "gpt-image-2",
            "prices": {"*": 0.04},
        },
        "second": {
            "type": "runware",
            "base_url": runware.base_url,
            "api_key": runware.key,
            "model": runware.model,
            "size": "128x128",
        },
        "main": {"type": "failover", "members": "first,second"},
    }
    settings = Settings(
        home=tmp_path,
        images={"default": "main", "providers": providers},  # pyright: ignore[reportArgumentType]
    )
    made = ApplicationContainer(settings=settings)
    async with made.lifespan():
        yield made


async def test_another_service_takes_over(
    container: Any, openai: OpenAIImagesDouble, tmp_path: Path
) -> None:
    images = container.images()
    assert isinstance(images, FailoverImages)
    assert isinstance(images, ImageProvider)
    await images.generate("a cat")
    assert answered_by() == "first"
    openai.fail(Fault(503))
    (image,) = await images.generate("a cat", path=tmp_path / "cat.png")
    assert answered_by() == "second"
    assert (image.model, image.path) == ("runware:101@1", tmp_path / "cat.png")
    assert len(openai.requests) == 2, "nothing is asked again below a group"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, {"Retry-After": "1"}),
        Fault(429, body={"error": {"code": "insufficient_quota"}}),
        Fault(hang_up=True),
        Fault(200),
    ],
)
async def test_what_another_service_could_cure_moves_on(
    container: Any, openai: OpenAIImagesDouble, fault: Fault
) -> None:
    openai.fail(fault)
    await container.images().generate("a cat")
    assert answered_by() == "second"


async def test_a_capability_that_the_first_lacks_moves_on(container: Any) -> None:
    (image,) = await container.images().generate("a cat", seed=7)
    assert (answered_by(), image.seed) == ("second", 7)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("moderation_blocked", ContentRefusedError), ("invalid_api_key", AuthenticationError)],
)
async def test_what_another_service_could_not_cure_comes_through(
    container: Any,
    openai: OpenAIImagesDouble,
    runware: RunwareDouble,
    code: str,
    kind: type[Exception],
) -> None:
    status = 401 if kind is AuthenticationError else 400
    openai.fail(Fault(status, body={"error": {"message": "No.", "code": code}}))
    with pytest.raises(kind):
        await container.images().generate("a cat")
    assert runware.requests == []


async def test_pictures_that_came_are_not_made_again(
    container: Any, openai: OpenAIImagesDouble, runware: RunwareDouble
) -> None:
    openai.fail(Fault(500))
    with pytest.raises(IncompleteImagesError) as caught:
        await container.images().generate("a cat", count=12)
    assert caught.value.images
    assert runware.requests == []


async def test_the_estimate_is_that_of_who_is_asked_first(container: Any) -> None:
    assert container.images().estimate_cost(count=3) == 3 * Decimal("0.04")
    container.images.registry.require("first")._guard.breaker.force_open()
    assert container.images().estimate_cost(count=3) is None
