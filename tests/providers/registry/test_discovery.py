"""Where providers are found, which of two counts, and that one at fault never ends the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from purveyor.providers.registry import (
    AlreadyExistsError,
    DiscoveryFailed,
    Family,
    LoadReport,
    NotFoundError,
    Provider,
    ProviderConfig,
    ProviderDiscovery,
    ProviderRegistry,
    ProviderTypes,
    ValidationResult,
    register_provider,
)
from purveyor.providers.registry.plugins import PluginLoader
from purveyor.providers.registry.plugins.importing import uninstall
from purveyor.settings import Settings
from tests.providers.registry.plugin_samples import copy_example, storage, write_plugin

SECRET = "sk-ant-s3cr3t"

CONFIG = """
[storage.providers.good]
type = "sample"
port = 2
[storage.providers.good.options]
label = "file"
[storage.providers.off]
type = "sample"
enabled = false
[storage.providers.faulty]
type = "sample"
prot = 3
[storage.providers.alien]
type = "smaple"
[storage.providers.worse]
priority = "high"
[ai.providers.claude]
type = "claude"
api_key = "${KEY}"
"""


class ClaudeConfig(ProviderConfig):
    api_key: SecretStr
    base_url: str = ""


class Claude(Provider[ClaudeConfig]):
    family = "ai"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def types(types: ProviderTypes) -> ProviderTypes:
    types.add_family(Family("ai"))
    register_provider(
        "claude",
        types=types,
        well_known={"api_key": "ANTHROPIC_API_KEY", "base_url": "ANTHROPIC_BASE_URL"},
    )(Claude)
    return types


@pytest.fixture
def registries(types: ProviderTypes) -> dict[str, ProviderRegistry[Any]]:
    return {name: ProviderRegistry(name, types=types) for name in ("storage", "ai")}


Registries = dict[str, ProviderRegistry[Any]]


def discovering(
    registries: Registries, *, variables: dict[str, str] | None = None, **settings: Any
) -> ProviderDiscovery:
    made = Settings(**settings)
    return ProviderDiscovery(lambda: registries, made, variables=variables or {})


def rows(report: LoadReport) -> dict[str, str]:
    return {row.name: row.outcome.value for row in report.rows}


def names(registries: Registries) -> list[str]:
    return [name for registry in registries.values() for name in registry.names()]


# -- settings and files ------------------------------------------------------------------


@pytest.mark.requirement("S4.18", "S4.19", "S4.22")
async def test_what_settings_name_is_registered(registries: Registries) -> None:
    discovery = discovering(
        registries,
        storage={
            "providers": {
                "good": {"type": "sample", "label": "x"},
                "off": {"type": "sample", "enabled": False},
                "faulty": {"type": "sample", "lable": "x"},
            }
        },
    )
    report = await discovery.discover_from_config()
    assert rows(report) == {"good": "registered", "off": "skipped", "faulty": "failed"}
    assert registries["storage"].info("good").source == "config"
    assert registries["storage"].info("good").origin == "argument storage.providers.good"
    (failure,) = report.failed
    assert failure.code == "INVALID_CONFIG"
    assert "argument storage.providers.faulty.lable: unknown setting" in failure.reason
    (skipped,) = report.skipped
    assert skipped.reason == "enabled is false"


@pytest.mark.requirement("S4.22", "S4.57", "S2.42")
async def test_every_entry_of_a_file_is_a_row(
    registries: Registries,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("KEY", SECRET)
    (folder / "providers.toml").write_text(CONFIG)
    events: list[DiscoveryFailed] = []
    registries["storage"].on("discovery-failed", events.append)
    report = await discovering(registries).discover_from_config(Path("providers.toml"))
    assert rows(report) == {
        "good": "registered",
        "off": "skipped",
        "faulty": "failed",
        "alien": "failed",
        "worse": "failed",
        "claude": "registered",
    }
    failed = {row.name: row for row in report.failed}
    place = "providers.toml: storage.providers"
    assert failed["faulty"].code == "INVALID_CONFIG"
    assert f"{place}.faulty.prot: unknown setting; did you mean 'port'?" in failed["faulty"].reason
    assert failed["alien"].code == "NOT_FOUND"
    assert failed["alien"].reason.startswith("Unknown storage provider: smaple.")
    assert f"{place}.worse.priority: must be a whole number" in failed["worse"].reason
    assert {event.name: (event.source, event.reason) for event in events} == {
        row.name: (row.origin, row.reason) for row in report.failed
    }
    for row in report.failed:
        assert f"Failed to create storage provider {row.name}: {row.reason}" in caplog.messages
    assert registries["ai"].config("claude") == ClaudeConfig(api_key=SecretStr(SECRET))
    everything = repr((report, registries["ai"].list(), events)) + caplog.text
    assert SECRET not in everything


@pytest.mark.requirement("S4.22")
async def test_a_file_may_be_read_again(registries: Registries, folder: Path) -> None:
    path = folder / "providers.toml"
    path.write_text('[storage.providers.a]\ntype = "sample"\n[storage.providers.b]\ntype="sample"')
    discovery = discovering(registries)
    await discovery.discover_from_config(path)
    assert rows(await discovery.discover_from_config(path)) == {"a": "unchanged", "b": "unchanged"}
    path.write_text('[storage.providers.a]\ntype = "sample"\nport = 5')
    assert rows(await discovery.discover_from_config(path)) == {"a": "reloaded"}
    assert names(registries) == ["a", "b"]


async def test_what_was_read_from_another_file_outlives_a_refresh(
    registries: Registries, folder: Path
) -> None:
    (folder / "more.toml").write_text('[storage.providers.more]\ntype = "sample"')
    discovery = discovering(registries, storage={"providers": {"own": {"type": "sample"}}})
    await discovery.discover_from_config(folder / "more.toml")
    assert rows(await discovery.discover_all()) == {"own": "registered"}
    assert rows(await discovery.refresh()) == {"own": "unchanged"}
    assert names(registries) == ["more", "own"]


async def test_a_missing_file_is_a_row(registries: Registries) -> None:
    report = await discovering(registries).discover_from_config(Path("gone.toml"))
    (row,) = report.rows
    assert (row.family, row.name, row.outcome, row.code) == ("", "", "failed", "INVALID_CONFIG")
    assert (row.origin, row.reason) == ("gone.toml", "cannot be read: No such file or directory")


# -- the environment ---------------------------------------------------------------------


@pytest.mark.requirement("S4.19", "S4.23", "S4.24")
async def test_well_known_variables_make_providers(registries: Registries) -> None:
    variables = {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "http://127.0.0.1"}
    report = await discovering(registries, variables=variables).discover_from_environment()
    assert rows(report) == {"claude": "registered"}
    info = registries["ai"].info("claude")
    assert (info.type, info.source, info.origin) == ("claude", "environment", "ANTHROPIC_API_KEY")
    config = registries["ai"].config("claude")
    assert config == ClaudeConfig(api_key=SecretStr(SECRET), base_url="http://127.0.0.1")
    assert SECRET not in repr((report, info, config))


@pytest.mark.parametrize(
    "variables", [{}, {"ANTHROPIC_API_KEY": ""}, {"ANTHROPIC_BASE_URL": "http://127.0.0.1"}]
)
async def test_without_the_first_variable_there_is_none(
    registries: Registries, variables: dict[str, str]
) -> None:
    report = await discovering(registries, variables=variables).discover_from_environment()
    assert report == LoadReport()


@pytest.mark.requirement("S4.62")
@pytest.mark.parametrize("enabled", [True, False])
async def test_all_asks_the_environment_only_if_it_may(
    registries: Registries, enabled: bool
) -> None:
    discovery = discovering(
        registries,
        variables={"ANTHROPIC_API_KEY": SECRET},
        registry={"discovery": {"enable_environment_discovery": enabled}},
    )
    report = await discovery.discover_all()
    assert rows(report) == ({"claude": "registered"} if enabled else {})


async def test_a_variable_that_makes_no_good_provider_is_a_row(
    types: ProviderTypes, registries: Registries
) -> None:
    class StrictConfig(ProviderConfig):
        port: int

    class Strict(Provider[StrictConfig]):
        family = "ai"

    register_provider("strict", types=types, well_known={"port": "STRICT_PORT"})(Strict)
    variables = {"ANTHROPIC_API_KEY": "k", "STRICT_PORT": SECRET}
    report = await discovering(registries, variables=variables).discover_from_environment()
    assert rows(report) == {"claude": "registered", "strict": "failed"}
    assert report.failed[0].reason == (
        "Configuration invalid: ai provider 'strict' (type strict)\n"
        "  STRICT_PORT: must be a whole number"
    )


# -- plugins -----------------------------------------------------------------------------

PROVIDER = """
[[providers]]
name = "scratch"
family = "storage"
type = "memory-plugin"
settings = { max_objects = 5 }
"""


@pytest.fixture
def plugins(folder: Path) -> Iterator[Path]:
    path = folder / "plugins"
    manifest = copy_example(path) / "plugin.toml"
    manifest.write_text(manifest.read_text() + PROVIDER)
    pin(path)
    yield path
    for name in ("memory", "sample"):
        uninstall(name)


def pin(path: Path) -> None:
    found = PluginLoader(path, Settings(registry={"plugins": {"allowed": "*"}}).registry.plugins)
    found.pin([found.pinnable(name) for name in found.names()])


def with_plugins(path: Path, allowed: str = "*") -> dict[str, Any]:
    plugins = {"allowed": allowed, "isolation": "in_process"}
    return {"discovery": {"plugin_path": path}, "plugins": plugins}


@pytest.mark.requirement("S4.19", "S4.25", "S4.61")
async def test_plugins_give_types_and_the_providers_they_bring(
    registries: Registries, plugins: Path
) -> None:
    discovery = discovering(registries, registry=with_plugins(plugins))
    report = await discovery.discover_from_plugins()
    assert rows(report) == {"scratch": "registered"}
    info = registries["storage"].info("scratch")
    assert (info.type, info.source, info.origin) == ("memory-plugin", "plugin", "plugin memory")
    config = registries["storage"].config("scratch")
    assert config is not None
    assert config.model_dump() == {"max_objects": 5}
    assert rows(await discovery.discover_from_plugins()) == {"scratch": "unchanged"}


async def test_settings_may_name_a_type_of_a_plugin(registries: Registries, plugins: Path) -> None:
    discovery = discovering(
        registries,
        storage={"providers": {"mine": {"type": "memory-plugin", "max_objects": 7}}},
        registry=with_plugins(plugins),
    )
    report = await discovery.discover_all()
    assert rows(report) == {"mine": "registered", "scratch": "registered"}


@pytest.mark.requirement("S4.25")
async def test_a_plugin_at_fault_is_a_row_and_the_others_go_on(
    registries: Registries, plugins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(plugins, "sample", storage())  # which nobody pinned
    discovery = discovering(registries, registry=with_plugins(plugins))
    report = await discovery.discover_from_plugins()
    assert rows(report) == {"scratch": "registered", "sample": "failed"}
    (row,) = report.failed
    assert (row.family, row.origin, row.code) == ("", "plugin sample", "PLUGIN_REJECTED")
    assert [one for one in caplog.messages if one.startswith("Discovery: plugin sample: ")]


async def test_a_plugin_that_is_not_allowed_is_not_looked_at(
    registries: Registries, plugins: Path
) -> None:
    discovery = discovering(registries, registry=with_plugins(plugins, allowed="other"))
    assert await discovery.discover_from_plugins() == LoadReport()


async def test_without_a_folder_of_plugins_there_are_none(
    registries: Registries, folder: Path
) -> None:
    assert await discovering(registries).discover_from_plugins() == LoadReport()
    missing = folder / "missing"
    report = await discovering(registries, registry=with_plugins(missing)).discover_all()
    assert report == LoadReport()


async def test_a_folder_of_plugins_that_cannot_be_read_is_a_row(
    registries: Registries, folder: Path
) -> None:
    (folder / "file").touch()
    discovery = discovering(
        registries,
        storage={"providers": {"own": {"type": "sample"}}},
        registry=with_plugins(folder / "file"),
    )
    report = await discovery.discover_all()
    assert rows(report) == {"": "failed", "own": "registered"}
    assert report.failed[0].origin == str(folder / "file")
    assert "cannot be read" in report.failed[0].reason


async def test_a_plugin_cannot_take_the_name_of_a_type(
    types: ProviderTypes, registries: Registries, plugins: Path
) -> None:
    manifest = write_plugin(plugins, "sample", storage()) / "plugin.toml"
    more = '[[types]]\nfamily="storage"\ntype="sample"\nclass="sample:Storage"\n'
    manifest.write_text(manifest.read_text() + more)
    pin(plugins)
    discovery = discovering(registries, registry=with_plugins(plugins))
    for _ in range(2):
        report = await discovery.discover_from_plugins()
        (row,) = report.failed
        assert isinstance(row.error, AlreadyExistsError)
        assert "storage type 'sample'" in row.reason
        assert types.find("storage", "sample-type") is None  # all of it, or nothing


async def test_a_provider_of_an_unknown_family_is_a_row(
    registries: Registries, plugins: Path
) -> None:
    manifest = plugins / "memory" / "plugin.toml"
    more = '[[providers]]\nname = "lost"\nfamily = "storge"\ntype = "memory-plugin"\n'
    manifest.write_text(manifest.read_text() + more)
    pin(plugins)
    discovery = discovering(registries, registry=with_plugins(plugins))
    unknown = "Unknown family: storge. There are these: storage, ai."
    for report in (await discovery.discover_from_plugins(), await discovery.discover_all()):
        (row,) = report.failed
        assert (row.family, row.name, row.reason) == ("storge", "lost", unknown)
    results = {one.name: one for one in await discovery.validate_discovered_providers()}
    assert (results["lost"].valid, results["lost"].reason) == (False, unknown)
    assert results["scratch"].valid


async def test_the_types_of_a_plugin_that_is_gone_are_gone(
    types: ProviderTypes, registries: Registries, plugins: Path
) -> None:
    discovery = discovering(registries, registry=with_plugins(plugins))
    await discovery.discover_all()
    (plugins / "memory").rename(plugins.parent / "elsewhere")
    assert rows(await discovery.discover_all()) == {"scratch": "removed"}
    assert types.find("storage", "memory-plugin") is None


# -- precedence --------------------------------------------------------------------------


@pytest.fixture
def everywhere(registries: Registries, plugins: Path, folder: Path) -> ProviderDiscovery:
    """A provider ``claude`` in the file and the environment, ``scratch`` in file and plugin."""
    (folder / "providers.toml").write_text(
        """
        [ai.providers.claude]
        api_key = "of the file"
        [storage.providers.scratch]
        type = "sample"
        """
    )
    found = with_plugins(plugins)
    found["discovery"] |= {"config_path": "providers.toml", "enable_environment_discovery": True}
    variables = {"ANTHROPIC_API_KEY": "of the environment"}
    return discovering(registries, variables=variables, registry=found)


@pytest.mark.requirement("S4.19", "S4.61")
async def test_config_comes_before_plugins_and_the_environment(
    registries: Registries, everywhere: ProviderDiscovery, caplog: pytest.LogCaptureFixture
) -> None:
    report = await everywhere.discover_all()
    assert sorted(report.registered) == ["claude", "scratch"]
    assert registries["ai"].config("claude") == ClaudeConfig(api_key=SecretStr("of the file"))
    assert registries["storage"].info("scratch").type == "sample"
    shadowed = {(row.name, row.origin): row.reason for row in report.skipped}
    assert shadowed == {
        ("scratch", "plugin memory"): "shadowed by the one from config, "
        "providers.toml: storage.providers.scratch",
        ("claude", "ANTHROPIC_API_KEY"): "shadowed by the one from config, "
        "providers.toml: ai.providers.claude",
    }
    told = "storage provider scratch from plugin memory is shadowed by the one from config, "
    assert [one for one in caplog.messages if one.startswith(told)]


async def test_a_loser_is_reported_once(
    registries: Registries, everywhere: ProviderDiscovery
) -> None:
    await everywhere.discover_all()
    for report in (await everywhere.discover_all(), await everywhere.refresh()):
        assert rows(report) == {"claude": "unchanged", "scratch": "unchanged"}


async def test_a_loser_wins_when_what_shadows_it_is_gone(
    registries: Registries, everywhere: ProviderDiscovery, folder: Path
) -> None:
    await everywhere.discover_all()
    (folder / "providers.toml").write_text("")
    assert rows(await everywhere.refresh()) == {"claude": "reloaded", "scratch": "reloaded"}
    assert registries["ai"].info("claude").source == "environment"
    assert registries["storage"].info("scratch").source == "plugin"


async def test_what_is_registered_by_hand_comes_before_all(
    registries: Registries, everywhere: ProviderDiscovery
) -> None:
    mine = await registries["storage"].register("scratch", type="sample")
    report = await everywhere.discover_all()
    by_origin = {row.origin: row for row in report.rows if row.name == "scratch"}
    place = "providers.toml: storage.providers.scratch"
    assert by_origin[place].outcome == "skipped"
    assert by_origin[place].reason.startswith("shadowed by the one from api, ")
    assert registries["storage"].require("scratch") is mine
    assert rows(await everywhere.refresh()) == {"claude": "unchanged", "scratch": "unchanged"}
    await registries["storage"].unregister("scratch")
    assert rows(await everywhere.refresh()) == {"claude": "unchanged", "scratch": "registered"}


async def test_a_provider_registered_by_hand_in_the_place_of_a_found_one_counts(
    registries: Registries, everywhere: ProviderDiscovery
) -> None:
    await everywhere.discover_all()
    await registries["storage"].unregister("scratch")
    await registries["storage"].register("scratch", type="sample")
    report = await everywhere.refresh()
    assert report.clean
    assert registries["storage"].info("scratch").source == "api"


async def test_a_disabled_entry_shadows_too(
    registries: Registries, everywhere: ProviderDiscovery, folder: Path
) -> None:
    (folder / "providers.toml").write_text("[ai.providers.claude]\nenabled = false")
    report = await everywhere.discover_all()
    assert [row.name for row in report.skipped] == ["claude", "claude"]
    assert registries["ai"].names() == []
    with pytest.raises(NotFoundError, match="claude is disabled"):
        registries["ai"].require("claude")


async def test_equal_settings_from_another_place_are_no_change_but_told_rightly(
    registries: Registries, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "providers.toml"
    path.write_text('[storage.providers.a]\ntype = "sample"')
    discovery = discovering(registries, registry={"discovery": {"config_path": path}})
    await discovery.discover_all()
    path.write_text("")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__A__TYPE", "sample")
    assert rows(await discovery.refresh()) == {"a": "unchanged"}
    info = registries["storage"].info("a")
    assert (info.source, info.origin) == ("environment", "PURVEYOR_STORAGE__PROVIDERS__A")


# -- validation --------------------------------------------------------------------------


@pytest.mark.requirement("S4.20")
async def test_validating_registers_nothing(
    registries: Registries,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("KEY", SECRET)
    (folder / "providers.toml").write_text(CONFIG + "\n[registry]\nx = 1")
    discovery = discovering(registries, registry={"discovery": {"config_path": "providers.toml"}})
    caplog.set_level(logging.DEBUG)
    results = {one.name: one for one in await discovery.validate_discovered_providers()}
    assert {name: one.valid for name, one in results.items()} == {
        "": False,
        "good": True,
        "off": True,
        "faulty": False,
        "alien": False,
        "worse": False,
        "claude": True,
    }
    assert results["faulty"].code == "INVALID_CONFIG"
    assert "prot: unknown setting" in results["faulty"].reason
    assert results[""].origin == "providers.toml: registry"
    assert results["good"] == ValidationResult(
        "storage", "good", "providers.toml: storage.providers.good", True
    )
    assert names(registries) == []
    assert caplog.messages == []
    assert SECRET not in repr(results)


async def test_what_is_valid_is_what_is_registered(registries: Registries, folder: Path) -> None:
    (folder / "providers.toml").write_text(CONFIG.replace("${KEY}", "k"))
    discovery = discovering(registries, registry={"discovery": {"config_path": "providers.toml"}})
    results = await discovery.validate_discovered_providers()
    report = await discovery.discover_all()
    assert {one.name for one in results if not one.valid} == {row.name for row in report.failed}


# -- the report --------------------------------------------------------------------------


@pytest.mark.requirement("S4.22")
async def test_the_last_report_stays(registries: Registries) -> None:
    discovery = discovering(registries, storage={"providers": {"a": {"type": "nothing"}}})
    assert discovery.report == LoadReport()
    report = await discovery.discover_all()
    assert discovery.report is report
    assert not report.clean
    with pytest.raises(NotFoundError, match="Unknown storage provider: nothing"):
        report.raise_first()
