"""Isolation from the developer's environment, and the servers that several folders' tests use."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator

import pytest

from purveyor.providers.storage.azure_blob import AzureBlobStorageConfig
from purveyor.providers.storage.s3 import S3Config
from purveyor.providers.storage.sftp import SFTPConfig
from purveyor.providers.storage.smb import SMBConfig
from purveyor.testing.servers import (
    Azurite,
    LoopbackServer,
    OpenSSH,
    PostgreSQL,
    Samba,
    SeaweedFS,
    ServerUnavailableError,
)

# Some hundred processes start Python here: none compiles every library once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_FOREIGN = ("PURVEYOR_", "ANTHROPIC_", "AWS_", "AZURE_", "FORVO_", "OPENAI_", "RUNWARE_")


@pytest.fixture(autouse=True)
def _clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test sees the settings of who runs it, nor the keys."""
    for name in list(os.environ):
        if name.upper().startswith(_FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """The command line sets the level and the handlers of its process."""
    loggers = [logging.getLogger(name) for name in ("purveyor", "uvicorn.error")]
    before = [(one.level, one.handlers[:], one.propagate) for one in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def require(server: type[LoopbackServer]) -> None:
    """Skip where a server is not installed; fail where all must be (``REQUIRE_SERVERS=1``)."""
    try:
        server.executable()
    except ServerUnavailableError as error:
        if os.environ.get("REQUIRE_SERVERS"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    """An S3 server, the same for all tests: each takes a bucket of its own."""
    require(SeaweedFS)
    with SeaweedFS() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server, the same for all tests: each takes a database of its own."""
    require(PostgreSQL)
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def samba() -> Iterator[Samba]:
    """An SMB server, the same for all tests: each takes a folder of its own."""
    require(Samba)
    with Samba() as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """An Azure Blob Storage server, the same for all tests: each takes a container of its own."""
    require(Azurite)
    with Azurite() as server:
        yield server


@pytest.fixture
def s3_config(seaweedfs: SeaweedFS) -> S3Config:
    """Settings of an S3 storage in a new bucket."""
    return S3Config.model_validate({"bucket": seaweedfs.create_bucket(), **seaweedfs.login})


@pytest.fixture
def azure_config(azurite: Azurite) -> AzureBlobStorageConfig:
    """Settings of an Azure Blob storage in a new container."""
    values = {"container": azurite.create_container(), **azurite.login}
    return AzureBlobStorageConfig.model_validate(values)


@pytest.fixture(scope="session")
def openssh() -> Iterator[OpenSSH]:
    """An SFTP server, the same for all tests: each takes a folder of its own."""
    require(OpenSSH)
    with OpenSSH() as server:
        yield server


@pytest.fixture
def sftp_config(openssh: OpenSSH) -> SFTPConfig:
    """Settings of an SFTP storage in a new folder."""
    return SFTPConfig.model_validate({"root": openssh.create_root(), **openssh.login})


@pytest.fixture
def smb_config(samba: Samba) -> SMBConfig:
    """Settings of an SMB storage in a new folder."""
    return SMBConfig.model_validate({"root": f"test-{secrets.token_hex(6)}", **samba.login})
