"""Folders to copy, a container to copy with, and storages that misbehave on purpose."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import guarded
from purveyor.providers.storage import ObjectInfo, StorageProvider
from purveyor.providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from purveyor.settings import Settings

CHUNK = 1024 * 1024


def tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


async def objects(storage: StorageProvider[Any], prefix: str = "") -> dict[str, str]:
    """Return the digest of every object of a storage, by key."""
    return {
        info.key: hashlib.sha256(await storage.get(info.key)).hexdigest()
        async for info in storage.list(prefix)
    }


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder as people have them: nested, empty, large, oddly named."""
    folder = tmp_path / "docs"
    files = {
        "readme.md": b"# Hello\n",
        "empty.txt": b"",
        "a.txt": b"a",
        "a/b/c.txt": b"deep",
        "a-b/c.txt": b"sorts before a/ and after a.txt",
        "with space & %41?#.txt": b"odd",
        "größe/日本.txt": b"unicode",
        "large.bin": os.urandom(3 * CHUNK + 17),
        "one chunk.bin": os.urandom(CHUNK),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "empty folder").mkdir()
    return folder


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def age(folder: Path) -> None:
    """Give all files below a folder a time long past, in whole seconds."""
    for path in folder.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[ApplicationContainer]:
    """``filesystem`` (the default), ``sqlite``, ``other`` (sqlite) and ``off`` (disabled)."""
    settings = Settings(
        home=tmp_path / "home",
        storage={
            "default": "filesystem",
            "providers": {
                "other": {"type": "sqlite"},
                "off": {"type": "filesystem", "enabled": False},
            },
        },
    )
    made = ApplicationContainer(settings=settings)
    async with made.lifespan():
        yield made


class MisbehavingStorage(FilesystemStorage):
    """A file system whose ``put`` first asks ``before_put`` what to write."""

    capabilities = frozenset({"local-storage", "modified-times"})
    before_put: Callable[[str, Any], Any]

    async def put(self, key: str, data: Any, **options: Any) -> ObjectInfo:
        return await super().put(key, self.before_put(key, data), **options)


@pytest.fixture
async def misbehaving(
    tmp_path: Path, container: ApplicationContainer
) -> AsyncIterator[MisbehavingStorage]:
    """What ``bad:`` names; set ``before_put`` to what it does wrong."""
    storage = MisbehavingStorage(FilesystemConfig.model_validate({"root": tmp_path / "bad"}))
    with container.storage.override_provider("bad", guarded(storage, name="bad")) as handle:
        yield storage
        await handle.dispose()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user who may not do everything, as whom the test runs."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(folder)
