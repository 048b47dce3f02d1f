"""Layers are switched on by settings, for any type, and everything a registry does stays right."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import model_validator

from purveyor.containers import ApplicationContainer
from purveyor.providers.families import FAMILIES
from purveyor.providers.registry import (
    Capability,
    ImportFailedError,
    InvalidConfigError,
    ProviderTypes,
    Status,
    UnsupportedCapabilityError,
    register_provider,
)
from purveyor.providers.storage import ForeignObjectError, StorageError
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from purveyor.providers.storage.layers.keys import new_identity, recipient_of
from purveyor.providers.storage.layers.storage import LayeredStorage
from purveyor.settings import load_settings
from tests.providers.registry.plugin_samples import copy_example, loader

IDENTITY, SECOND = new_identity(), new_identity()


def other_end(key: str) -> str:
    """Return a key whose last character is another one, whatever it was."""
    return key[:-1] + ("p" if key.endswith("q") else "q")


PREFIX = "PURVEYOR_STORAGE__PROVIDERS__DOCS__"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def container_with(**docs: Any) -> ApplicationContainer:
    providers = {"docs": {"type": "filesystem", **docs}}
    return ApplicationContainer(settings=load_settings(storage={"providers": providers}))


async def test_variables_switch_layers_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}TYPE", "filesystem")
    monkeypatch.setenv(f"{PREFIX}COMPRESSION", "zstd")
    monkeypatch.setenv(f"{PREFIX}ENCRYPTION", "age")
    monkeypatch.setenv(f"{PREFIX}ENCRYPTION_IDENTITIES", f"# new\n{SECOND}\n# old\n{IDENTITY}")
    container = ApplicationContainer()
    async with container.lifespan():
        storage = container.storage("docs")
        await storage.put("object", b"content")
        assert await storage.get("object") == b"content"
        assert await container.storage("filesystem").exists("object") is False
    stored = (folder / ".purveyor" / "storage" / "docs" / "object").read_bytes()
    assert stored.startswith(b"age-encryption.org/v1\n")


@pytest.mark.requirement("S1.7")
async def test_layers_are_capabilities_of_the_provider() -> None:
    container = container_with(encryption="age", encryption_identities=IDENTITY)
    async with container.lifespan():
        registry = container.registries()["storage"]
        info = registry.info("docs")
        assert {"streaming", "local-storage", "encryption"} <= info.capabilities
        assert "compression" not in info.capabilities
        found = registry.find_by_capability(Capability.ENCRYPTION)
        assert list(found) == ["docs"]
        assert list(registry.find_by_capability(Capability.COMPRESSION)) == []


async def test_a_provider_without_layers_is_its_type_itself() -> None:
    container = container_with()
    async with container.lifespan():
        storage = container.storage("docs")
        assert isinstance(storage, FilesystemStorage)
        assert type(storage.config) is FilesystemConfig
        assert not isinstance(storage, LayeredStorage)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("compression", "gzip", "zstd"),
        ("compression_level", "20", "19"),
        ("encryption", "pgp", "age"),
        ("encryption_recipients", f"{recipient_of(IDENTITY)},age1wrong", "number 2"),
        ("encryption_recipients", other_end(recipient_of(IDENTITY)), "checksum"),
        ("encryption_recipients", ",".join(f"age1{n}" for n in range(10)), "at most 9"),
        ("encryption_identities", IDENTITY[:-2], "number 1"),
        ("encryption_identities", recipient_of(IDENTITY), "a secret key of age"),
        ("encryption_identity", IDENTITY, "encryption_identities"),
    ],
    ids=[
        "compression",
        "level",
        "encryption",
        "one of two recipients",
        "checksum of a recipient",
        "too many recipients",
        "short identity",
        "recipient as identity",
        "unknown",
    ],
)
async def test_a_fault_is_told_with_the_name_of_the_variable(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}TYPE", "filesystem")
    if key.startswith("encryption_"):
        monkeypatch.setenv(f"{PREFIX}ENCRYPTION", "age")
    monkeypatch.setenv(f"{PREFIX}{key.upper()}", value)
    container = ApplicationContainer()
    with pytest.raises(InvalidConfigError) as caught:
        container.storage("docs")
    assert f"{PREFIX}{key.upper()}: " in str(caught.value)
    assert reason in str(caught.value)
    assert value not in str(caught.value).replace("zstd", "")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"encryption": "age"}, "needs keys"),
        ({"encryption_identities": IDENTITY}, "must be age, or encryption_identities not be set"),
        ({"encryption_allow_plain": True}, "must be age, or encryption_allow_plain not be set"),
    ],
    ids=["no keys", "keys alone", "plain alone"],
)
async def test_encryption_and_its_keys_go_together(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"encryption: {reason}"):
        container_with(**given).storage("docs")


async def test_a_missing_library_is_told_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    container = container_with(compression="zstd")
    async with container.lifespan():
        with pytest.raises(ImportFailedError, match=r"pip install 'purveyor\[compression\]'"):
            await container.storage("docs").get("object")


@pytest.mark.requirement("S0.26")
async def test_secret_keys_are_shown_nowhere() -> None:
    container = container_with(encryption="age", encryption_identities=[IDENTITY, SECOND])
    async with container.lifespan():
        storage = container.storage("docs")
        await storage.put("object", b"x")
        info = container.registries()["storage"].info("docs")
        shown = f"{storage!r}{storage.config!r}{storage.config.model_dump_json()}{info!r}"
        assert not any(key in shown for key in (IDENTITY, SECOND))


async def test_secret_keys_are_encrypted_in_the_catalogue(folder: Path) -> None:
    container = ApplicationContainer(settings=load_settings())
    async with container.lifespan():
        given = {
            "type": "filesystem",
            "encryption": "age",
            "encryption_recipients": [recipient_of(SECOND), recipient_of(IDENTITY)],
            "encryption_identities": [IDENTITY],
        }
        entry = await container.catalogue().add("storage", "vault", given)
        assert set(entry.secrets) == {"encryption_identities"}
        await container.storage("vault").put("object", b"x")
    for file in (folder / ".purveyor").glob("catalogue.db*"):
        assert IDENTITY.encode() not in file.read_bytes()
    again = ApplicationContainer(settings=load_settings())
    async with again.lifespan():
        assert await again.storage("vault").get("object") == b"x"
        assert "encryption" in again.registries()["storage"].info("vault").capabilities


async def test_layers_are_switched_on_and_off_without_a_restart() -> None:
    container = container_with()
    async with container.lifespan():
        registry = container.registries()["storage"]
        held = container.storage("docs")
        await held.put("before", b"plain")
        sealed = {"encryption": "age", "encryption_identities": IDENTITY}
        await registry.reload("docs", sealed)
        await held.put("after", b"sealed")
        assert await held.get("after") == b"sealed"
        with pytest.raises(ForeignObjectError):
            await held.get("before")
        assert "encryption" in registry.info("docs").capabilities
        await registry.reload("docs", {})
        assert (await held.get("after")).startswith(b"age-encryption.org/v1")
        assert await container.storage("docs").get("before") == b"plain"
        assert "encryption" not in registry.info("docs").capabilities


async def test_new_keys_take_effect_without_a_restart() -> None:
    container = container_with(encryption="age", encryption_identities=IDENTITY)
    async with container.lifespan():
        held = container.storage("docs")
        await held.put("old", b"old")
        keys = {"encryption": "age", "encryption_identities": [SECOND, IDENTITY]}
        await container.registries()["storage"].reload("docs", keys)
        await held.put("new", b"new")
        assert [await held.get("old"), await held.get("new")] == [b"old", b"new"]


async def test_a_caller_owned_instance_has_the_layers_too(folder: Path) -> None:
    container = container_with(encryption="age", encryption_identities=IDENTITY)
    async with container.lifespan():
        registry = container.registries()["storage"]
        await container.storage("docs").put("object", b"content")
        async with registry.create("docs") as own:
            assert await own.get("object") == b"content"
        root = str(folder / ".purveyor" / "storage" / "docs")
        async with registry.create("docs", {"root": root}) as bare:
            assert (await bare.get("object")).startswith(b"age-encryption.org/v1")


async def test_errors_of_a_layer_do_not_open_the_breaker(folder: Path) -> None:
    container = container_with(
        encryption="age", encryption_identities=IDENTITY, circuit_breaker={"failure_threshold": 1}
    )
    async with container.lifespan():
        storage = container.storage("docs")
        await storage.put("object", b"content")
        (folder / ".purveyor" / "storage" / "docs" / "object").write_bytes(b"planted")
        for _ in range(3):
            with pytest.raises(ForeignObjectError) as caught:
                await storage.get("object")
            assert caught.value.provider_name == "docs"
        assert await storage.exists("object")
        assert container.registries()["storage"].info("docs").status is Status.READY


async def test_members_of_a_failover_have_layers_of_their_own() -> None:
    sealed = {"type": "filesystem", "encryption": "age", "encryption_identities": IDENTITY}
    providers = {
        "pair": {"type": "failover", "members": ["first", "second"]},
        "first": sealed,
        "second": {**sealed, "compression": "zstd"},
    }
    container = ApplicationContainer(settings=load_settings(storage={"providers": providers}))
    async with container.lifespan():
        await container.storage("pair").put("object", b"content")
        assert await container.storage("pair").get("object") == b"content"
        capabilities = container.registries()["storage"].info("pair").capabilities
        assert "encryption" in capabilities
        assert "compression" not in capabilities


async def test_a_failover_itself_takes_no_layers() -> None:
    providers = {"pair": {"type": "failover", "members": ["filesystem"], "compression": "zstd"}}
    container = ApplicationContainer(settings=load_settings(storage={"providers": providers}))
    with pytest.raises(InvalidConfigError, match="compression: unknown setting"):
        container.storage("pair")


async def test_an_override_stands_for_a_provider_with_layers() -> None:
    container = container_with(encryption="age", encryption_identities=IDENTITY)
    fake = object()
    with container.storage.override_provider("docs", fake):
        assert container.storage("docs") is fake


class ElsewhereConfig(FilesystemConfig):
    label: str = ""

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        """Have a name that others have too."""
        return self


class ElsewhereStorage(FilesystemStorage):
    config_class = ElsewhereConfig


async def test_a_type_from_elsewhere_has_layers_without_a_line_of_its_own(folder: Path) -> None:
    types = ProviderTypes(scan_entry_points=False)
    for family in FAMILIES:
        types.add_family(family)
    register_provider("elsewhere", types=types, capabilities={"search"})(ElsewhereStorage)
    given = {"type": "elsewhere", "compression": "zstd", "label": "x", "root": folder / "root"}
    settings = load_settings(storage={"providers": {"docs": given}})
    container = ApplicationContainer(settings=settings, types=types)
    async with container.lifespan():
        storage = container.storage("docs")
        assert isinstance(storage.config, ElsewhereConfig)
        assert type(storage._inner.config) is ElsewhereConfig
        assert storage._inner.config.model_dump().keys() == ElsewhereConfig.model_fields.keys()
        await storage.put("object", bytes(1000))
        assert await storage.get("object") == bytes(1000)
        assert (folder / "root" / "object").stat().st_size < 200
        assert container.registries()["storage"].info("docs").capabilities == {
            "search",
            "compression",
        }


class OwnMeaningConfig(FilesystemConfig):
    compression: str = "mine"


async def test_a_setting_of_a_type_keeps_its_meaning(folder: Path) -> None:
    class OwnMeaning(FilesystemStorage):
        config_class = OwnMeaningConfig

    types = ProviderTypes(scan_entry_points=False)
    for family in FAMILIES:
        types.add_family(family)
    register_provider("own", types=types)(OwnMeaning)
    given = {"type": "own", "compression": "zstd", "root": folder / "root"}
    settings = load_settings(storage={"providers": {"docs": given}})
    container = ApplicationContainer(settings=settings, types=types)
    async with container.lifespan():
        assert container.storage("docs").config.compression == "zstd"
        assert not isinstance(container.storage("docs"), LayeredStorage)


async def test_an_isolated_plugin_has_layers_too(folder: Path) -> None:
    """Its process is told its own settings only, and sees what is sealed only."""
    plugins = folder / "plugins"
    plugins.mkdir()
    copy_example(plugins)
    found = loader(plugins, isolation="process")
    found.discover()
    row = found.load("memory").types[0]
    config = row.settings_class.model_validate(
        {"max_objects": 5, "encryption": "age", "encryption_identities": IDENTITY}
    )
    cls = row.loaded_class.class_for(config)
    async with cls(config) as plugin:
        storage: Any = plugin
        await storage.put("object", b"content")
        assert await storage.get("object") == b"content"
        assert (await storage._inner.get("object")).startswith(b"age-encryption.org/v1")


async def test_keys_are_not_changed_where_there_are_none() -> None:
    container = container_with(compression="zstd")
    async with container.lifespan():
        storage = container.storage("docs")
        await storage.put("object", b"x")
        assert isinstance(storage, LayeredStorage)
        with pytest.raises(UnsupportedCapabilityError, match="encryption"):
            await storage.rewrap("object")


async def test_errors_are_data() -> None:
    container = container_with(encryption="age", encryption_recipients=recipient_of(IDENTITY))
    async with container.lifespan():
        await container.storage("docs").put("object", b"x")
        with pytest.raises(StorageError) as caught:
            await container.storage("docs").get("object")
        told = json.loads(json.dumps(caught.value.to_dict()))
        assert (told["code"], told["provider_name"]) == ("ENCRYPTION_KEY", "docs")
