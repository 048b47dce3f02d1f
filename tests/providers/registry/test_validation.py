"""From what somebody wrote to what a provider type accepts; and no secret on the way."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict, ValidationInfo, field_validator

from purveyor.providers.registry import (
    Call,
    Declaration,
    InvalidConfigError,
    ProviderConfig,
    ProviderRegistry,
    ProviderTypes,
    RegistryError,
    register_provider,
)
from purveyor.providers.registry.provider import home_of, name_of
from purveyor.settings import ProviderSettings
from tests.providers.registry.samples import Sample, SampleConfig

Registry = ProviderRegistry[Any]
SECRET = "correct-horse-battery-staple"  # what must not appear


class TestFaults:
    @pytest.mark.requirement("S0.40", "S4.50", "S1.34", "S2.30")
    def test_all_are_told_at_once(self, registry: Registry) -> None:
        with pytest.raises(InvalidConfigError) as caught:
            registry.register_nowait("sample", {"port": 0, "labl": "x", "password": ["x"]})
        problems = caught.value.context["problems"]
        assert sorted(one["where"] for one in problems) == ["labl", "password", "port"]  # type: ignore[attr-defined]
        assert str(caught.value).startswith(
            "Configuration invalid: storage provider 'sample' (type sample)\n"
        )
        assert json.dumps(caught.value.to_dict())

    def test_are_told_with_the_place_where_they_were_made(self, types: ProviderTypes) -> None:
        settings = ProviderSettings.model_validate({"type": "sample", "port": 0})
        declared = Declaration(
            settings, "environment", "x", lambda path: "PURVEYOR__" + "__".join(path).upper()
        )
        registry = Registry("storage", types=types, declared={"a": declared})
        with pytest.raises(InvalidConfigError, match="PURVEYOR__PORT: "):
            registry.require("a")

    def test_older_names_are_taken_and_contradictions_refused(self, registry: Registry) -> None:
        assert registry.register_nowait("sample", {"old_label": "x"}).config.label == "x"
        same = {"type": "sample", "old_label": "x", "label": "x"}
        assert registry.register_nowait("same", same).config.label == "x"
        with pytest.raises(InvalidConfigError, match="'label' and its older name 'old_label'"):
            registry.register_nowait("b", {"type": "sample", "old_label": "x", "label": "y"})
        with pytest.raises(ValueError, match="valid dictionary"):
            SampleConfig.model_validate(5)

    def test_a_type_may_derive_defaults_from_name_and_home(
        self, types: ProviderTypes, tmp_path: Path
    ) -> None:
        class Placed(ProviderConfig):
            root: Path | None = None

            @field_validator("root", mode="after")
            @classmethod
            def _root(cls, value: Path | None, info: ValidationInfo) -> Path:
                return value or home_of(info) / name_of(info, "default")

            model_config = ConfigDict(validate_default=True)

        class PlacedSample(Sample):
            config_class = Placed

        register_provider("placed", types=types)(PlacedSample)
        registry = Registry("storage", types=types, home=tmp_path)
        assert registry.register_nowait("x", type="placed").config.root == tmp_path / "x"
        assert Placed().root == Path(".purveyor/default")


def test_a_call_knows_its_arguments_by_place_and_name() -> None:
    call = Call("put", ("key",), {"data": b"x"}, "backups")
    assert call.argument(0, "key") == "key"
    assert call.argument(1, "data") == b"x"
    assert call.argument(1, "other") is None


@pytest.mark.requirement("S4.51")
async def test_a_secret_shows_nowhere(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    heard: list[str] = []
    for event in ("provider-registered", "provider-unregistered", "provider-error"):
        registry.on(event, lambda one: heard.append(repr(one)))
    shown: list[str] = []

    def note(error: BaseException) -> None:
        shown.extend(traceback.format_exception(error))
        shown.append(repr(error))
        if isinstance(error, RegistryError):
            shown.append(json.dumps(error.to_dict()))

    for wrong in (
        {"password": SECRET, "port": 0},
        {"password": SECRET, "unknown": SECRET},
        {"password": {"nested": SECRET}},
        {"port": SECRET},
        {"label": ["x", SECRET]},
        {"old_label": SECRET, "label": "other"},
        {"type": "sample", "priority": SECRET, "password": SECRET},
    ):
        with pytest.raises(RegistryError) as caught:
            await registry.register("sample", wrong)
        note(caught.value)
    sample = await registry.register("sample", {"password": SECRET}, start="test")
    own = registry.create("sample", {"password": SECRET + "2"})
    with pytest.raises(RegistryError) as caught:
        await registry.register("sample", {"password": SECRET})
    note(caught.value)
    with pytest.raises(RegistryError) as caught:
        await registry.unregister("sample")
    note(caught.value)
    with pytest.raises(TypeError) as refused:
        own.__reduce__()
    note(refused.value)
    config = registry.config("sample")
    assert config is not None
    shown += [
        repr(sample), str(sample), repr(own), repr(config), str(config), config.model_dump_json(
            exclude={"backend"}
        ),
        repr(registry.list()), json.dumps(registry.info("sample").to_dict()),
        repr(registry.load()), repr(await registry.get_provider_health("sample")),
        repr(registry._find("sample").provider_metadata()),
    ]  # fmt: skip
    await own.dispose()
    await registry.unregister("sample")
    everything = "\n".join([*shown, *heard, caplog.text, *map(repr, caplog.records)])
    assert SECRET not in everything
    assert sample.config.password.get_secret_value() == SECRET
