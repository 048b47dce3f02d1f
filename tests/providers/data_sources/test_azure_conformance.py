"""Azure Blob Storage keeps the rules of the conformance kit."""

from __future__ import annotations

import pytest

from purveyor.providers.data_sources.azure_blob import AzureBlobConfig, AzureBlobSource
from purveyor.testing.conformance import DataSourceConformance
from purveyor.testing.servers import Azurite

# The service, not our code, makes a slash of a backslash.
BLOBS = {name: body for name, body in DataSourceConformance.items.items() if "\\" not in name}
LARGE = "large.bin"


@pytest.fixture(scope="module")
def filled(azurite: Azurite) -> str:
    container = azurite.create_container()
    for name, body in {**BLOBS, LARGE: bytes(64 * 1024 * 1024)}.items():
        assert isinstance(body, bytes)
        azurite.put_blob(container, name, body)
    return container


@pytest.mark.server("azurite")
class TestAzureBlobSource(DataSourceConformance):
    provider_class = AzureBlobSource
    items = BLOBS
    large = LARGE

    @pytest.fixture
    def source_config(self, azurite: Azurite, filled: str) -> AzureBlobConfig:
        text = azurite.connection_string
        return AzureBlobConfig.model_validate({"container": filled, "connection_string": text})
