"""Local files: what lies below a folder of this machine."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, ClassVar, cast

from pydantic import Field, ValidationInfo, field_validator

from ...settings.branches import Names
from ..registry.daemon import in_daemon_thread
from ..registry.errors import RegistryError
from ..registry.provider import Call, ProviderConfig, home_of, operation
from .base import (
    PREVIEW_ROWS,
    DataSource,
    FetchedItem,
    ItemInfo,
    ItemMetadata,
    Table,
    TableFormat,
    Target,
    check_item,
)
from .errors import (
    DataSourceConnectionError,
    DataSourceError,
    DataSourcePermissionError,
    UnsupportedFormatError,
)
from .formats import format_of, metadata_of, preview_of
from .local_file_folder import POSIX, Folder, check_pattern
from .workspace import Draft, Workspace

__all__ = ["LocalFileConfig", "LocalFileSource"]

_CHUNK = 1024 * 1024
_PAGE = 500
_GONE = (errno.EIO, errno.ENODEV, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN)
"""How a disk or a mount that is gone shows."""


class LocalFileConfig(ProviderConfig):
    """Where the folder is, and which of its files are items."""

    aliases: ClassVar[Mapping[str, str]] = {"directory": "root"}

    root: Path = Field(default=cast("Path", None), validate_default=True)
    """The folder, which must be there. By default `data` below `PURVEYOR_HOME`, which is made; a
    relative path is taken from the current folder."""
    patterns: Names = Field(default=("**",), min_length=1)
    """Globs of the files that are items: `*.csv` in the root itself, `**/*.parquet` at any depth,
    `sales/**` all below a folder. By default all. Hidden files never are."""

    @field_validator("root", mode="before")
    @classmethod
    def _below_home(cls, root: Any, info: ValidationInfo) -> Any:
        if root == "":
            raise ValueError("must not be empty; leave it out for the default")
        return home_of(info) / "data" if root is None else root

    @field_validator("root")
    @classmethod
    def _make_absolute(cls, root: Path) -> Path:
        try:
            return root.expanduser().absolute()
        except RuntimeError:
            raise ValueError("begins with '~' and an account that has no home folder") from None

    @field_validator("patterns")
    @classmethod
    def _check_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_pattern, patterns))


class _ChangedError(Exception):
    """The file was written while it was copied."""


class LocalFileSource(DataSource[LocalFileConfig]):
    """
    The files below ``root``, by their relative path.

    Hidden files are no items. No name leads out of ``root``: a link to a file is followed if it
    stays below, one to a folder is not.

    A fetch is of one version of a file: one that is written meanwhile is copied once more; one
    that is replaced is copied as it was.
    """

    def __init__(self, config: LocalFileConfig) -> None:
        super().__init__(config)
        self._folder = Folder(config.root, config.patterns)

    async def _connect(self) -> None:
        if not POSIX:
            raise DataSourceError("Local files need a POSIX system (Linux, macOS).")
        if "root" not in self.config.model_fields_set:
            await in_daemon_thread(self._make_root)
        await self.check_health()

    def _make_root(self) -> None:
        self.config.root.mkdir(parents=True, exist_ok=True)

    async def check_health(self) -> None:
        """See that the folder can be listed."""
        await in_daemon_thread(self._folder.check)

    # -- looking -------------------------------------------------------------------------

    @operation
    async def list_items(self, prefix: str = "") -> AsyncIterator[ItemInfo]:
        """See :meth:`DataSource.list_items`; holds the names of one path of folders at a time."""
        items = self._folder.walk(prefix)
        while page := await in_daemon_thread(lambda: [*itertools.islice(items, _PAGE)]):
            for name, status in page:
                yield _info_of(name, status)

    @operation
    async def preview(self, item: str, *, rows: int = PREVIEW_ROWS) -> Table:
        """See :meth:`DataSource.preview`."""

        def read() -> Table:
            with self._folder.open(item) as file:
                return preview_of(file, format_of(item), rows, item=item)

        return await in_daemon_thread(read)

    @operation
    async def get_metadata(self, item: str) -> ItemMetadata:
        """See :meth:`DataSource.get_metadata`."""

        def read() -> ItemMetadata:
            with self._folder.open(item) as file:
                return metadata_of(file, _info_of(item, os.fstat(file.fileno())))

        found = await in_daemon_thread(read)
        details = {"path": str(self.config.root / item), **found.details}
        return replace(found, details=MappingProxyType(details))

    # -- fetching ------------------------------------------------------------------------

    @operation
    async def fetch(
        self, item: str, target: Target, *, format: TableFormat | None = None
    ) -> FetchedItem:
        """See :meth:`DataSource.fetch`; the file is copied as it is."""
        kind = format_of(check_item(item))
        if format not in (None, kind):
            raise UnsupportedFormatError(
                f"A file is fetched as it is: {item!r} is {kind or 'no table'}, not {format}. "
                "Leave format out.",
                context={"item": item},
            )
        try:
            return await self._fetch(item, Workspace.of(target))
        except _ChangedError:
            pass
        try:
            return await self._fetch(item, Workspace.of(target))
        except _ChangedError:
            raise DataSourceError(
                f"The file {item!r} was written while it was fetched, twice; nothing of it was "
                "kept. Fetch it when it is left alone.",
                context={"item": item},
            ) from None

    async def _fetch(self, item: str, workspace: Workspace) -> FetchedItem:
        stop = threading.Event()

        def copy(draft: Draft) -> None:
            with self._folder.open(item) as file:
                _copy(file, draft, stop)

        async with workspace.create(item) as draft:
            try:
                await in_daemon_thread(copy, draft)
            finally:
                stop.set()  # a caller that is cancelled does not wait for it
        return FetchedItem(item, draft.path, draft.size, draft.sha256, datetime.now(UTC))

    # -- errors --------------------------------------------------------------------------

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        """Map the errors of the operating system; each names the root, where to look."""
        if isinstance(error, RegistryError) or not isinstance(error, OSError):
            return super()._translate(error, call)
        item = call.argument(0, "item")
        what = f"{call.operation} of {item!r}" if item else call.operation
        told = f"{what} failed: {error.strerror or error} (root {str(self.config.root)!r})."
        if isinstance(error, PermissionError):
            return DataSourcePermissionError(
                f"{told} Give the account that runs this process access, or set another root."
            )
        if error.errno in _GONE:
            return DataSourceConnectionError(f"{told} Check the disk or the mount.")
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return DataSourceError(f"{told} Raise the limit of open files (ulimit -n).")
        return DataSourceError(told)


def _info_of(name: str, status: os.stat_result) -> ItemInfo:
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return ItemInfo(name, "file", status.st_size, modified, format_of(name))


def _copy(file: BinaryIO, draft: Draft, stop: threading.Event) -> None:
    before = os.fstat(file.fileno())
    while not stop.is_set() and draft.size <= before.st_size and (chunk := file.read(_CHUNK)):
        draft.write_now(chunk)  # but not for ever, if the file grows for ever
    after = os.fstat(file.fileno())
    if (draft.size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _ChangedError
