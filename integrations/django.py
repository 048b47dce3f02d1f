"""
Django's file storage on a storage provider.

::

    STORAGES = {
        "default": {
            "BACKEND": "purveyor.integrations.django.PurveyorStorage",
            "OPTIONS": {"provider": "uploads"},
        },
        ...
    }
"""
# Django is not annotated.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

import asyncio
import io
import mimetypes
import posixpath
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin

from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import File
from django.core.files.storage import Storage
from django.utils import timezone
from django.utils.asyncio import async_unsafe
from django.utils.deconstruct import deconstructible
from django.utils.encoding import filepath_to_uri

from ..containers.process import find_container, process_container
from ..providers.storage import (
    InvalidKeyError,
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    check_key,
)
from ..providers.storage.base import CHUNK_SIZE

if TYPE_CHECKING:
    from ..containers import ApplicationContainer
    from ..providers.storage.blocking import BlockingStorage

__all__ = ["PurveyorFile", "PurveyorStorage"]

SPOOLED = 4 * 1024 * 1024
"""Bytes of a file open for writing that are kept in memory; what is more goes to disk."""


@deconstructible(path="purveyor.integrations.django.PurveyorStorage")  # pyright: ignore[reportUntypedClassDecorator]
class PurveyorStorage(Storage):
    """
    Files as objects of a storage provider.

    A file appears whole or not at all. Saving one never replaces another, whoever else saves at
    the same moment, unless ``allow_overwrite`` says so. Calls block, as Django's do; in an
    asynchronous view make them through ``sync_to_async``. All threads of the process share one
    set of connections, and a forked worker makes its own.

    Args:
        provider: Its name; the default provider when not given.
        container: The dotted path of a container (``shop.services.container``). Without it, the
            process has one from its environment, which is shut down when the process ends.
        location: What all keys begin with, such as ``media``.
        base_url: What URLs begin with; the setting ``MEDIA_URL`` when not given.
        allow_overwrite: Saving under a name that is taken replaces the file.

    Raises:
        InvalidConfigError: ``container`` names no container.
    """

    def __init__(
        self,
        provider: str | None = None,
        container: str | None = None,
        location: str = "",
        base_url: str | None = None,
        allow_overwrite: bool = False,
    ) -> None:
        self.provider = provider
        self.location = f"{location.strip('/')}/" if location.strip("/") else ""
        self._container = None if container is None else find_container(container)
        self._base_url = base_url
        self._allow_overwrite = allow_overwrite

    # -- what Django asks for ------------------------------------------------------------

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        """
        Store ``content`` under ``name``, or a free name like it; return the name.

        Raises:
            SuspiciousFileOperation: The name leads elsewhere, or no free one is short enough.
            FileExistsError: Another took the name meanwhile, and ``content`` cannot be read again.
        """
        while True:
            try:
                return super().save(name, content, max_length=max_length)
            except FileExistsError:
                if not getattr(content, "seekable", bool)():
                    raise

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """Return ``name`` if it is free or may be replaced, else one like it that is free."""
        if self._allow_overwrite and not (max_length and len(name) > max_length):
            return name
        return super().get_available_name(name, max_length=max_length)

    def delete(self, name: str) -> None:
        """Remove a file. Removing one that is not there is no error."""
        if not name:
            raise ValueError("The name must be given to delete().")
        self._storage().delete(self._key(name))

    def exists(self, name: str) -> bool:
        """Tell whether there is a file, or a folder, of that name."""
        storage, prefix = self._storage(), self._prefix(name)
        if prefix == self.location or storage.exists(prefix[:-1]):
            return True
        with closing(cast("Generator[ObjectInfo]", storage.list(prefix))) as found:
            return next(found, None) is not None

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        """Return the names of the folders and of the files in a folder; none, if it is none."""
        prefix = self._prefix(path)
        folders: dict[str, None] = {}
        files: list[str] = []
        for info in self._storage().list(prefix):
            name, slash, _ = info.key[len(prefix) :].partition("/")
            if slash:
                folders[name] = None
            else:
                files.append(name)
        return [*folders], files

    def size(self, name: str) -> int:
        """Return a file's size in bytes, or raise FileNotFoundError."""
        return self._stat(name).size

    def get_modified_time(self, name: str) -> datetime:
        """Return when a file was changed, with a time zone if ``USE_TZ`` is on."""
        modified = self._stat(name).modified
        return modified if settings.USE_TZ else timezone.make_naive(modified)

    def url(self, name: str | None) -> str:
        """
        Return the URL of a file: its name below ``base_url``.

        Raises:
            ValueError: There is neither ``base_url`` nor the setting ``MEDIA_URL``.
        """
        base = self._base_url or settings.MEDIA_URL
        if not base or base == "/":
            raise ValueError(
                "This file is not accessible via a URL: give the storage the option base_url, or "
                "set MEDIA_URL."
            )
        return urljoin(f"{base.rstrip('/')}/", cast(str, filepath_to_uri(name or "")).lstrip("/"))

    def _open(self, name: str, mode: str = "rb") -> PurveyorFile:
        return PurveyorFile(self, name, mode)

    def _save(self, name: str, content: Any) -> str:
        self.put(name, content, overwrite=self._allow_overwrite)
        return name.replace("\\", "/")

    # -- inside --------------------------------------------------------------------------

    @property
    def container(self) -> ApplicationContainer:
        """The container that gives the provider."""
        return cast("ApplicationContainer", self._container or process_container())

    def put(self, name: str, content: Any, *, overwrite: bool) -> None:
        """Store the chunks of a :class:`django.core.files.File`, in bounded memory."""
        key = self._key(name)
        kind: str | None = None
        if self._keeps_metadata():
            kind = getattr(content, "content_type", None) or mimetypes.guess_type(name)[0]
        try:
            self._storage().put(key, _chunks(content), overwrite=overwrite, content_type=kind)
        except ObjectExistsError as error:
            raise FileExistsError(str(error)) from error

    def get(self, name: str, start: int, end: int) -> bytes:
        """Return a part of a file."""
        with _not_found():
            return self._storage().get(self._key(name), start=start, end=end)

    def _storage(self) -> BlockingStorage:
        _refuse_async()
        return self.container.blocking.storage(self.provider)

    def _keeps_metadata(self) -> bool:
        registry = self.container.storage.registry
        name = self.provider or registry.default_name()
        return registry.has(name) and "metadata" in registry.info(name).capabilities

    def _stat(self, name: str) -> ObjectInfo:
        with _not_found():
            return self._storage().stat(self._key(name))

    def _key(self, name: str) -> str:
        try:
            return check_key(self._prefix(name)[:-1])
        except InvalidKeyError as error:
            raise SuspiciousFileOperation(str(error)) from error

    def _prefix(self, name: str) -> str:
        """Return what the keys below a folder begin with."""
        path = posixpath.normpath(str(name).replace("\\", "/"))
        if path.startswith(("/", "../")) or path == "..":
            raise SuspiciousFileOperation(f"The name {name!r} leads out of the storage.")
        return self.location if path == "." else f"{self.location}{path}/"


class PurveyorFile(File):
    """
    A file of a :class:`PurveyorStorage`: read in blocks, written when it is closed.

    Args:
        storage: Where it is.
        name: Its name there.
        mode: ``r``, ``w``, or ``x`` for one that must be new; with ``b`` for bytes.

    Raises:
        FileNotFoundError: There is none to be read.
        ValueError: No such mode.
    """

    def __init__(self, storage: PurveyorStorage, name: str, mode: str) -> None:
        self._storage = storage
        super().__init__(None, name)
        self.mode = mode
        self.open(mode)

    def open(self, mode: str | None = None, *args: Any, **kwargs: Any) -> PurveyorFile:
        """Begin anew, also after it was closed."""
        mode = mode or self.mode
        if mode[:1] not in ("r", "w", "x") or set(mode[1:]) - {"b", "t"}:
            raise ValueError(f"A file in a storage cannot be opened with mode {mode!r}.")
        if self.file is not None:
            self.close()
        name = cast(str, self.name)
        binary: Any
        if mode[0] == "r":
            size = self._storage.size(name)
            self.__dict__["size"] = size  # which Django would look for, and then keep
            binary = io.BufferedReader(_Reader(self._storage, name, size), CHUNK_SIZE)
        else:
            binary = tempfile.SpooledTemporaryFile(SPOOLED)  # noqa: SIM115 - closed by close()
        self._binary = binary
        self.file = binary if "b" in mode else io.TextIOWrapper(binary, "utf-8", *args, **kwargs)
        self.mode = mode
        return self

    def close(self) -> None:
        """Store what was written, which appears whole."""
        file: Any = self.file
        if file is None or file.closed:
            return
        try:
            if self.mode[0] != "r":
                file.flush()
                self._storage.put(
                    cast(str, self.name), File(self._binary), overwrite=self.mode[0] == "w"
                )
        finally:
            file.close()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and self.mode[0] != "r":
            cast(Any, self.file).close()  # what was written so far is not the file
        self.close()


class _Reader(io.RawIOBase):
    def __init__(self, storage: PurveyorStorage, name: str, size: int) -> None:
        self._storage = storage
        self._name = name
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("A file has nothing before its beginning.")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        data = self._storage.get(self._name, self._at, end)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


async def _chunks(content: Any) -> AsyncGenerator[bytes]:
    """Iterate over a file's chunks, which are read in a thread; text is UTF-8."""
    chunks: Iterator[bytes | str] = iter(content.chunks(CHUNK_SIZE))
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk.encode() if isinstance(chunk, str) else bytes(chunk)


@cast(
    "Callable[[Callable[[], None]], Callable[[], None]]",
    async_unsafe("Storages block; in an asynchronous view call them through sync_to_async."),
)
def _refuse_async() -> None:
    """Raise SynchronousOnlyOperation where an event loop would be blocked."""


@contextmanager
def _not_found() -> Generator[None]:
    try:
        yield
    except ObjectNotFoundError as error:
        raise FileNotFoundError(str(error)) from error
