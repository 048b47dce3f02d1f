"""Which providers there are: those in use, and those that settings declare."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from purveyor.providers.registry import (
    AlreadyExistsError,
    Capability,
    Declaration,
    InvalidConfigError,
    LoadReport,
    LoadRow,
    NotFoundError,
    Outcome,
    ProviderRegistry,
    ProviderTypes,
    ProviderUnregistered,
    ShuttingDownError,
    register_provider,
)
from purveyor.providers.registry.lookup import Lookup
from purveyor.settings import ProviderSettings
from tests.providers.registry.samples import Sample, SampleConfig, in_threads

Registry = ProviderRegistry[Any]


def declaration(origin: str = "a file:1", **settings: Any) -> Declaration:
    return Declaration(
        ProviderSettings.model_validate({"type": "sample", **settings}), "config", origin
    )


@pytest.fixture
def declared(types: ProviderTypes) -> Registry:
    return Registry(
        "storage",
        types=types,
        declared={
            "good": declaration(label="x", pipelines=["nightly"]),
            "faulty": declaration("faults.toml:3", port=0),
            "off": declaration("off.toml:4", enabled=False),
            "alien": declaration(type="alien"),
            "last": declaration(priority=90),
        },
    )


class TestNames:
    @pytest.mark.requirement("S4.7", "S4.8", "S4.55", "S0.35")
    async def test_get_gives_none_and_require_raises(self, registry: Registry) -> None:
        sample = await registry.register("backups", {"type": "sample"})
        assert registry.get("backups") is sample
        assert registry.get("nobody") is None
        with pytest.raises(NotFoundError):
            registry.require("nobody")
        assert registry.names() == ["backups"]
        assert registry.providers() == {"backups": sample}
        assert registry.has("backups")
        assert "backups" in registry
        assert "nobody" not in registry
        assert 5 not in registry

    @pytest.mark.requirement("S1.14", "S1.24", "S0.21")
    async def test_a_missing_one_is_told_with_those_there_are_nearest_first(
        self, registry: Registry
    ) -> None:
        for name in ("archive", "backups", "zoo"):
            await registry.register(name, {"type": "sample"})
        with pytest.raises(NotFoundError, match=r"^Provider not found: bakups") as caught:
            registry.info("bakups")
        assert "backups, archive, zoo" in str(caught.value)
        assert "PURVEYOR_STORAGE__PROVIDERS__BAKUPS__TYPE to a type: sample" in str(caught.value)
        assert isinstance(caught.value, LookupError)
        assert isinstance(caught.value, ValueError)
        assert caught.value.context["available"] == ["backups", "archive", "zoo"]

    def test_where_no_type_is_installed_that_is_told(self, types: ProviderTypes) -> None:
        types.remove("storage", "sample")
        with pytest.raises(NotFoundError, match="No provider type of the family storage"):
            Registry("storage", types=types).require("x")

    @pytest.mark.requirement("S1.19", "S1.24", "S4.8")
    async def test_list_and_info_tell_what_is_known(self, registry: Registry) -> None:
        await registry.register("b", {"type": "sample"})
        await registry.register("a", {"type": "sample"})
        own = registry.create("a")
        infos = registry.list()
        assert [one.name for one in infos] == ["a", "b"]
        assert infos[0].instance_count == 1
        assert infos[0] == registry.info("a")
        assert infos[0].to_dict()["capabilities"] == ["encryption", "search"]
        assert infos[0].version == ""
        del own

    @pytest.mark.requirement("S1.20", "S1.7")
    async def test_find_by_capability_gives_the_best_first(self, registry: Registry) -> None:
        await registry.register("b", {"type": "sample"})
        await registry.register("a", {"type": "sample"})
        await registry.register("c", {"type": "sample", "priority": 99})
        await registry.register_instance("d", object())
        assert registry.find_by_capability(Capability.SEARCH) == ["c", "a", "b"]
        assert registry.find_by_capability("search", "Encryption") == ["c", "a", "b"]
        assert registry.find_by_capability("search", "replication") == []

    @pytest.mark.requirement("S2.34")
    async def test_pipelines_see_the_providers_assigned_to_them(self, registry: Registry) -> None:
        await registry.register("all", {"type": "sample"})
        await registry.register("one", {"type": "sample", "pipelines": ["nightly"]})
        assert registry.names(pipeline="nightly") == ["all", "one"]
        assert registry.names(pipeline="weekly") == ["all"]
        assert not registry.serves("nobody", "nightly")

    async def test_the_config_shows_no_secret(self, registry: Registry) -> None:
        await registry.register("a", {"type": "sample", "password": "hunter2"})
        assert "hunter2" not in repr(registry.config("a"))

    def test_the_reading_side_alone_knows_of_nothing(self, types: ProviderTypes) -> None:
        lookup = Lookup[Any](types.family("storage"), types, {}, None)
        assert (lookup.get("x"), lookup.list(), lookup.providers()) == (None, [], {})

    def test_a_default_that_is_not_there_is_told(self, types: ProviderTypes) -> None:
        registry = Registry("storage", types=types, declared={"a": declaration()}, default="nobody")
        with pytest.raises(NotFoundError, match=r"nobody.* PURVEYOR_STORAGE__DEFAULT"):
            registry.require()


class TestDeclared:
    @pytest.mark.requirement("S2.10", "S0.43")
    def test_are_there_without_anything_being_built(self, declared: Registry) -> None:
        assert declared.names() == ["alien", "faulty", "good", "last"]
        assert declared.names(pipeline="weekly") == ["alien", "faulty", "last"]
        assert declared.handles == {}
        assert declared.has("faulty")
        assert not declared.has("off")

    @pytest.mark.requirement("S0.22", "S2.33", "S2.32")
    def test_are_built_once_when_needed(self, declared: Registry) -> None:
        good = declared.require("good")
        assert good.config.label == "x"
        assert declared.require("good") is good
        assert declared.info("good").origin == "a file:1"
        assert declared._resolve("good").handle is good  # as when another thread was faster

    def test_two_threads_get_the_same(self, types: ProviderTypes) -> None:
        barrier = threading.Barrier(2)

        class Meeting(SampleConfig):
            def model_post_init(self, _: Any) -> None:
                barrier.wait(5)  # both build before either registers

        class MeetingSample(Sample):
            config_class = Meeting

        register_provider("meeting", types=types)(MeetingSample)
        registry = Registry(
            "storage", types=types, declared={"meeting": declaration(type="meeting")}
        )
        first, second = in_threads(2, lambda _: registry.require("meeting"))
        assert isinstance(first, MeetingSample)
        assert first is second

    @pytest.mark.requirement("S2.42")
    def test_a_faulty_one_is_told_when_needed_and_left_out_of_lists(
        self, declared: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(InvalidConfigError, match="port"):
            declared.get("faulty")
        assert [one.name for one in declared.list()] == ["good", "last"]
        assert list(declared.providers()) == ["good", "last"]
        assert "faulty" not in caplog.text

    def test_a_disabled_one_says_so(self, declared: Registry) -> None:
        with pytest.raises(NotFoundError, match=r"off is disabled \(off\.toml:4\)"):
            declared.require("off")

    @pytest.mark.requirement("S0.34")
    async def test_their_names_are_taken_and_those_of_disabled_ones_are_free(
        self, declared: Registry
    ) -> None:
        with pytest.raises(AlreadyExistsError, match=r"comes from config, faults\.toml:3"):
            await declared.register("faulty", {"type": "sample"})
        await declared.register("off", {"type": "sample"})
        assert declared.has("off")

    async def test_can_be_unregistered_before_anybody_needed_them_faulty_ones_too(
        self, declared: Registry
    ) -> None:
        heard: list[str] = []
        declared.on(ProviderUnregistered, lambda event: heard.append(event.name))
        declared.set_default("faulty")
        await declared.unregister("faulty")
        await declared.unregister("good")
        assert declared.names() == ["alien", "last"]
        assert heard == ["faulty", "good"]
        assert declared._default is None
        await declared.register("faulty", {"type": "sample"})
        with pytest.raises(NotFoundError, match="disabled"):
            await declared.unregister("off")

    async def test_one_unregistered_while_it_is_being_built_stays_away(
        self, types: ProviderTypes
    ) -> None:
        class Removing(SampleConfig):
            def model_post_init(self, _: Any) -> None:
                registry._forget_declared("removing")

        class RemovingSample(Sample):
            config_class = Removing

        register_provider("removing", types=types)(RemovingSample)
        registry = Registry(
            "storage", types=types, declared={"removing": declaration(type="removing")}
        )
        assert registry.get("removing") is None
        assert registry.names() == []

    def test_a_closed_registry_builds_none(self, declared: Registry) -> None:
        declared.close()
        with pytest.raises(ShuttingDownError):
            declared.require("good")


class TestLoading:
    @pytest.mark.requirement("S2.20", "S2.31", "S2.35", "S2.19")
    def test_one_bad_provider_does_not_stop_the_rest(
        self, declared: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        report = declared.load()
        assert report.registered == ["good", "last"]
        assert [one.name for one in report.skipped] == ["off"]
        assert [(one.name, one.code) for one in report.failed] == [
            ("faulty", "INVALID_CONFIG"),
            ("alien", "NOT_FOUND"),
        ]
        assert not report.clean
        assert "port" in report.failed[0].reason
        assert report.failed[0].origin == "faults.toml:3"
        messages = caplog.messages
        assert "Registered storage provider: good (type sample)" in messages
        assert any(
            one.startswith("Failed to create storage provider faulty: Configuration invalid")
            for one in messages
        )
        levels = {one.getMessage().split()[0]: one.levelname for one in caplog.records}
        assert levels == {"Registered": "INFO", "Failed": "ERROR"}

    @pytest.mark.requirement("S2.41", "S2.42")
    def test_a_defect_in_a_types_own_code_does_not_stop_the_rest_either(
        self, types: ProviderTypes
    ) -> None:
        class Defective(SampleConfig):
            def model_post_init(self, _: Any) -> None:
                raise KeyError("hunter2")

        class DefectiveSample(Sample):
            config_class = Defective

        register_provider("defective", types=types)(DefectiveSample)
        registry = Registry(
            "storage",
            types=types,
            declared={"a": declaration(type="defective"), "b": declaration()},
        )
        report = registry.load()
        assert report.registered == ["b"]
        (row,) = report.failed
        assert row.code == "INVALID_CONFIG"
        assert "validating it raised KeyError" in row.reason
        assert "hunter2" not in row.reason
        assert row.error is not None
        assert isinstance(row.error.__cause__, KeyError)

    def test_strictly_the_first_failure_is_raised(self, declared: Registry) -> None:
        with pytest.raises(InvalidConfigError):
            declared.load(strict=True)
        with pytest.raises(InvalidConfigError):
            declared.load().raise_first()

    def test_a_second_time_reports_the_same(self, declared: Registry) -> None:
        assert declared.load() == declared.load()
        report = declared.load() + declared.load().joined([declared.load()])
        assert len(report.rows) == 10
        assert {row.outcome.value for row in report.rows} == {"registered", "skipped", "failed"}

    def test_a_failure_that_came_without_an_error_is_passed_over(self) -> None:
        told = LoadRow("storage", "a", Outcome.FAILED, "a file", "ODD", "odd")
        raised = LoadRow("storage", "b", Outcome.FAILED, "a file", error=NotFoundError("b"))
        with pytest.raises(NotFoundError, match="b"):
            LoadReport((told, raised)).raise_first()

    def test_a_clean_report_raises_nothing(self, registry: Registry) -> None:
        report = registry.load()
        assert report.clean
        report.raise_first()


async def test_names_in_use_and_declared_are_told_together(declared: Registry) -> None:
    await declared.register("added", {"type": "sample"})
    await asyncio.sleep(0)
    assert declared.names() == ["added", "alien", "faulty", "good", "last"]
