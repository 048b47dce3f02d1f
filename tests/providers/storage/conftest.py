"""Servers and settings for the tests of storage types."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from purveyor.providers.storage.s3 import S3Config
from purveyor.testing.servers import SeaweedFS, ServerUnavailableError


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    """An S3 server, the same for all tests: each takes a bucket of its own."""
    try:
        SeaweedFS.executable()
    except ServerUnavailableError as error:
        pytest.skip(str(error))
    with SeaweedFS() as server:
        yield server


@pytest.fixture
def s3_config(seaweedfs: SeaweedFS) -> S3Config:
    """Settings of an S3 storage in a new bucket."""
    return S3Config.model_validate({"bucket": seaweedfs.create_bucket(), **seaweedfs.login})
