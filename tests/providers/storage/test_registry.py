"""The storage types and the process-wide registry, as functions."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers import storage
from purveyor.providers.ai import AI_TYPES
from purveyor.providers.registry import (
    AlreadyExistsError,
    Capability,
    InvalidConfigError,
    NotFoundError,
    ProviderConfig,
    default_types,
    register_provider,
)
from purveyor.providers.storage import (
    StorageProvider,
    create_storage,
    get_all_providers,
    get_config_class,
    get_provider_class,
    get_provider_metadata,
    get_storage_class,
    get_supported_providers,
    register_builtin_providers,
    storage_registry,
    validate_config,
)
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from purveyor.providers.storage.s3 import S3Config, S3Storage


@pytest.mark.requirement("S0.8", "S0.13", "S0.25", "S0.28", "S0.33", "S0.37", "S0.57")
def test_the_supported_providers_are_those_there_are() -> None:
    assert get_supported_providers() == [
        "azure_blob",
        "failover",
        "filesystem",
        "s3",
        "sftp",
        "smb",
        "sqlite",
    ]
    names = [one.name for one in AI_TYPES]
    assert get_supported_providers("ai") == sorted(["failover", *names])


@pytest.mark.requirement("S0.3", "S0.6", "S0.33")
def test_a_type_has_a_config_class() -> None:
    assert get_config_class("s3") is S3Config


@pytest.mark.requirement("S0.22", "S2.35")
def test_a_type_is_imported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_storage_class("sqlite") is get_storage_class("sqlite")
    monkeypatch.setattr("importlib.import_module", None)  # a second import would call it
    assert get_storage_class("sqlite").__name__ == "SQLiteStorage"


@pytest.mark.requirement("S0.4", "S0.7")
def test_a_type_has_a_storage_class() -> None:
    assert get_storage_class("filesystem") is FilesystemStorage
    assert get_provider_class("s3") is S3Storage


@pytest.mark.requirement("S0.35")
def test_an_unknown_type_is_refused_with_those_there_are() -> None:
    told = r"Unknown storage provider: s3x\..*: s3, azure_blob, failover"
    with pytest.raises(NotFoundError, match=told):
        get_config_class("s3x")


@pytest.mark.requirement("S0.18", "S0.27")
def test_all_providers_come_with_what_they_say_of_themselves() -> None:
    providers = get_all_providers()
    assert sorted(providers) == [
        "azure_blob",
        "failover",
        "filesystem",
        "s3",
        "sftp",
        "smb",
        "sqlite",
    ]
    assert providers["s3"].description.startswith("Amazon S3")
    assert "remote-storage" in providers["s3"].capabilities


@pytest.mark.requirement("S0.9", "S0.10", "S0.12", "S0.36")
def test_metadata_is_kept_and_its_flags_are_capabilities() -> None:
    @register_provider(
        name="s3-like",
        description="Amazon S3 compatible storage",
        metadata={"supports_encryption": True, "supports_versioning": True},
    )
    class S3Provider:
        config_class = S3Config
        storage_class = S3Storage

    try:
        assert get_config_class("s3-like") is S3Config
        assert get_storage_class("s3-like") is S3Storage
        assert dict(get_provider_metadata("s3-like")) == {
            "supports_encryption": True,
            "supports_versioning": True,
        }
        row = get_all_providers()["s3-like"]
        assert row.description == "Amazon S3 compatible storage"
        assert row.capabilities == {Capability.ENCRYPTION, "versioning"}
    finally:
        default_types.remove("storage", "s3-like")


@pytest.mark.requirement("S0.16", "S0.17", "S0.43", "S2.10")
def test_importing_the_package_makes_the_types_known_and_imports_no_library() -> None:
    program = (
        "import sys\n"
        "from purveyor.providers.storage import get_supported_providers\n"
        "print(*get_supported_providers())\n"
        "print('purveyor.providers.storage.s3' in sys.modules, 'obstore' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "azure_blob failover filesystem s3 sftp smb sqlite",
        "False False",
    ]


@pytest.mark.requirement("S0.20", "S0.40", "S0.65")
def test_validation_looks_the_type_up(tmp_path: Path) -> None:
    config = validate_config("filesystem", {"root": str(tmp_path)})
    assert config == FilesystemConfig(root=tmp_path)


@pytest.mark.requirement("S0.21")
def test_validation_of_an_unknown_type_names_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="filesystem, s3, smb, sqlite"):
        validate_config("ftp", {})


def test_validation_tells_every_fault_and_no_value() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        validate_config("s3", {"secret_key": "sesame", "bukcet": "b"})
    assert "bukcet: unknown setting; did you mean 'bucket'?" in str(caught.value)
    assert "bucket: is required" in str(caught.value)
    assert "sesame" not in str(caught.value) + repr(caught.value.to_dict())


@pytest.fixture
def _empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("purveyor.providers.storage.registry._registries", [])


@pytest.mark.usefixtures("_empty_registry")
class TestProcessWideRegistry:
    @pytest.mark.requirement("S1.2")
    def test_is_made_once_when_first_asked_for(self) -> None:
        barrier = threading.Barrier(20)
        seen: list[Any] = []

        def look() -> None:
            barrier.wait()
            seen.append(storage.STORAGE_REGISTRY)

        threads = [threading.Thread(target=look) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {id(one) for one in seen} == {id(storage_registry())}

    @pytest.mark.requirement("S1.25")
    async def test_built_in_providers_register_in_order_with_a_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        await register_builtin_providers()
        registry = storage_registry()
        assert list(registry.handles) == ["filesystem", "sqlite"]
        assert registry.default_name() == "filesystem"
        with pytest.raises(AlreadyExistsError):
            await register_builtin_providers()

    @pytest.mark.requirement("S0.23", "S0.24", "S1.13", "S1.16", "S1.30")
    async def test_a_storage_is_created_by_name(self, request: pytest.FixtureRequest) -> None:
        class TestConfig(ProviderConfig):
            value: int = 1

        @register_provider("test")
        class TestStorage(StorageProvider[TestConfig]):
            def storage_type(self) -> str:
                return "test"

            async def list(self, prefix: str = "") -> AsyncIterator[Any]:
                raise NotImplementedError
                yield

        request.addfinalizer(lambda: default_types.remove("storage", "test"))
        await storage_registry().register("test")
        created: Any = await create_storage("test", {}, None)
        assert created.storage_type() == "test"
        assert created.config.value == 1
        other: Any = await create_storage("test", {"value": 2}, "mine")
        assert other.config.value == 2
        assert storage_registry().info("test").instance_count == 2
        await created.dispose()
        await other.dispose()

    @pytest.mark.requirement("S1.14")
    async def test_an_unknown_name_is_not_found(self) -> None:
        with pytest.raises(NotFoundError, match=r"^Provider not found: nothing"):
            await create_storage("nothing")

    @pytest.mark.requirement("S1.15", "S1.34")
    async def test_settings_are_validated_before_anything_is_made(self) -> None:
        await storage_registry().register("files", {"type": "filesystem"})
        with pytest.raises(InvalidConfigError, match=r"^Configuration invalid"):
            await create_storage("files", {"roof": "x"})
        assert storage_registry().info("files").instance_count == 0


def test_the_module_has_no_other_attribute() -> None:
    with pytest.raises(AttributeError, match="NOTHING"):
        _ = storage.NOTHING
