"""The usage example of S3, against a real Azure Blob server."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from purveyor.providers.data_sources import (
    CredentialManager,
    DataSourceConfig,
    DataSourceConnectionError,
    DataSourceRegistry,
    DataSourceType,
)
from purveyor.providers.data_sources.azure_blob import AzureBlobSource
from purveyor.providers.registry import RegistrationFailedError, is_sealed
from purveyor.testing.servers import Azurite

pytestmark = pytest.mark.server("azurite")


@pytest.mark.requirement("S3.38", "S3.36", "S3.33", "S3.40")
async def test_the_usage_example_runs(
    azurite: Azurite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    container = azurite.create_container()
    azurite.put_blob(container, "2024/sales.csv", b"city,amount\nBern,1\n")

    credential_manager = CredentialManager()
    registry = DataSourceRegistry(credential_manager=credential_manager)
    registry.register_connector_class(DataSourceType.AZURE_BLOB, AzureBlobSource)
    config = DataSourceConfig(
        id="prod-storage",
        type=DataSourceType.AZURE_BLOB,
        name="Production Storage",
        config={"connection_string": azurite.connection_string, "container": container},
    )
    await registry.register_data_source(config, test_connection=True)

    connector = await registry.get_connector("prod-storage")
    items = await connector.list_items()
    assert [(item.name, item.size) for item in items] == [("2024/sales.csv", 19)]
    fetched = await connector.fetch("2024/sales.csv", tmp_path)
    assert fetched.path.read_bytes() == b"city,amount\nBern,1\n"

    stored = registry.get_config("prod-storage", sanitize=False)
    assert is_sealed(stored.config["connection_string"])
    assert registry.get_config("prod-storage").config["container"] == container
    assert azurite.account_key not in caplog.text

    await registry.disconnect_all()
    assert not connector.is_connected


async def test_a_connection_that_fails_is_told_without_its_key(azurite: Azurite) -> None:
    broken = azurite.connection_string.replace(f":{azurite.port}/", ":1/")
    config = DataSourceConfig(
        "prod", DataSourceType.AZURE_BLOB, config={"connection_string": broken, "container": "data"}
    )
    async with DataSourceRegistry() as registry:
        with pytest.raises(RegistrationFailedError) as caught:
            await registry.register_data_source(config, test_connection=True)
    assert isinstance(caught.value.__cause__, DataSourceConnectionError)
    assert azurite.account_key not in str(caught.value)
