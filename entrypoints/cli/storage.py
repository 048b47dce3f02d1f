"""``purveyor storage``: single objects from the shell."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ...containers import ApplicationContainer
from ...providers.registry import RegistryError
from ...providers.storage import ObjectInfo, ObjectNotFoundError, ObjectSource, StorageProvider
from ...services.rewrap import RewrapResult
from ...services.rewrap import rewrap as rewrap_objects
from ...services.sync import (
    LocalPlace,
    StoragePlace,
    SyncError,
    VerifyResult,
    local_storage,
    parse_place,
)
from ...services.sync import verify as verify_places
from .output import complain, print_fields, print_json, size_text, tell
from .session import FAILED, USAGE, Session, exit_code_of, fail

__all__ = ["app"]

app = typer.Typer(
    help="Put, get, list and remove objects.", no_args_is_help=True, rich_markup_mode=None
)

CHUNK = 1024 * 1024

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
ObjectPlace = Annotated[str, typer.Argument(metavar="PLACE", help="NAME:key, or :key.")]


@app.command()
def put(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to store; - is stdin.")],
    place: ObjectPlace,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Whether to replace an object.")
    ] = True,
    content_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Media type to keep with it.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="To keep with it; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Store a file, or what comes from stdin.

    A place that is empty or ends in a slash keeps the file's own name.

    Example: purveyor storage put report.csv backups:2026/
    """
    target = _storage_place(place)
    if not target.key or target.key.endswith("/"):
        if file == "-":
            fail(f"Name the object: {place!r} says only where, and stdin has no name.", USAGE)
        target = StoragePlace(target.provider, target.key + Path(file).name)
    data: ObjectSource = _stdin() if file == "-" else _readable(Path(file))
    pairs = dict(_pair(text) for text in metadata or ())

    async def work(container: ApplicationContainer) -> ObjectInfo:
        return await container.storage(target.provider).put(
            target.key,
            data,
            overwrite=overwrite,
            content_type=content_type,
            metadata=pairs or None,
        )

    session: Session = context.obj
    info = session.run(work)
    if as_json:
        print_json(_info_data(info))
    else:
        tell(f"stored {target} ({size_text(info.size)})")


@app.command()
def get(
    context: typer.Context,
    place: ObjectPlace,
    file: Annotated[
        str,
        typer.Argument(metavar="[FILE]", help="The file or folder to write; - is stdout."),
    ] = "-",
) -> None:
    """
    Fetch an object into a file, or to stdout.

    A file appears whole or not at all.

    Example: purveyor storage get backups:2026/report.csv report.csv
    """
    source = _storage_place(place)
    path = Path(file)
    if path.is_dir() or file.endswith(os.sep):
        path = path / source.key.rpartition("/")[2]

    async def to_stdout(container: ApplicationContainer) -> None:
        async with aclosing(_stream(container.storage(source.provider), source.key)) as chunks:
            async for chunk in chunks:
                sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()

    async def to_file(container: ApplicationContainer) -> int:
        storage = container.storage(source.provider)
        await storage.stat(source.key)  # before a folder is made for nothing
        async with (
            local_storage(path.parent) as folder,
            aclosing(_stream(storage, source.key)) as chunks,
        ):
            return (await folder.put(path.name, chunks)).size

    session: Session = context.obj
    if file == "-":
        session.run(to_stdout)
    else:
        size = session.run(to_file)
        tell(f"fetched {source} ({size_text(size)})")


@app.command()
def ls(
    context: typer.Context,
    place: Annotated[
        str, typer.Argument(metavar="[PLACE]", help="NAME:, NAME:prefix or :prefix.")
    ] = ":",
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Also show size and time of change (UTC).")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    List the objects whose key begins as given, one a line.

    Example: purveyor storage ls --long backups:2026/
    """
    where = _storage_place(place)

    async def work(container: ApplicationContainer) -> None:
        listing = container.storage(where.provider).list(where.key)
        async with aclosing(cast("AsyncGenerator[ObjectInfo]", listing)) as found:
            if as_json:
                print_json([_info_data(info) async for info in found])
                return
            async for info in found:
                time = info.modified.strftime("%Y-%m-%d %H:%M:%S")
                typer.echo(f"{info.size:>13}  {time}  {info.key}" if long else info.key)

    session: Session = context.obj
    session.run(work)


@app.command()
def stat(context: typer.Context, place: ObjectPlace, as_json: Json = False) -> None:
    """
    Show what is known of an object.

    Example: purveyor storage stat backups:2026/report.csv
    """
    where = _storage_place(place)

    async def work(container: ApplicationContainer) -> ObjectInfo:
        return await container.storage(where.provider).stat(where.key)

    session: Session = context.obj
    data = _info_data(session.run(work))
    if as_json:
        print_json(data)
        return
    metadata = data.pop("metadata")
    fields = {name: value for name, value in data.items() if value is not None}
    print_fields({**fields, **{f"metadata.{name}": value for name, value in metadata.items()}})


@app.command()
def rm(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="PLACE...", help="NAME:key, or :key.")],
) -> None:
    """
    Remove objects; one that is not there is an error, and the others are removed all the same.

    Example: purveyor storage rm backups:2026/report.csv backups:2026/old.csv
    """
    chosen = [_storage_place(place) for place in places]

    async def work(container: ApplicationContainer) -> bool:
        clean = True
        storages = [container.storage(place.provider) for place in chosen]
        for place, storage in zip(chosen, storages, strict=True):
            try:
                if not await storage.exists(place.key):
                    raise ObjectNotFoundError(f"There is no object {str(place)!r}.")
                await storage.delete(place.key)
            except RegistryError as error:
                complain(error.message)
                clean = False
        return clean

    session: Session = context.obj
    if not session.run(work):
        raise typer.Exit(FAILED)


@app.command()
def rewrap(
    context: typer.Context,
    place: Annotated[str, typer.Argument(metavar="PLACE", help="NAME:, or NAME:prefix.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would become of the objects.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Encrypt the objects of an encrypted storage to the keys it is set to now.

    Contents stay as they are. Interrupted, it goes on where it ended when called again.

    Example: purveyor storage rewrap backups: --dry-run
    """
    where = _storage_place(place)

    async def work(container: ApplicationContainer) -> RewrapResult:
        storage = container.storage(where.provider)
        return await rewrap_objects(storage, where.key, dry_run=dry_run)

    session: Session = context.obj
    result = session.run(work)
    if as_json:
        failures = {key: error.to_dict() for key, error in result.failures.items()}
        counts = {name: getattr(result, name) for name in ("changed", "current", "replaced")}
        print_json({**counts, "failures": failures, "dry_run": dry_run})
    else:
        for error in result.failures.values():
            complain(error.message)
        tell(
            f"{'would change' if dry_run else 'changed'} {result.changed}, "
            f"already current {result.current}, replaced meanwhile {result.replaced}, "
            f"failed {len(result.failures)}"
        )
    if not result.ok:
        raise typer.Exit(FAILED)


@app.command()
def verify(
    context: typer.Context,
    one: Annotated[str, typer.Argument(metavar="A", help="A place or a path.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    full: Annotated[
        bool, typer.Option("--full", help="Read everything, whatever checksums there are.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Objects at the same time.")] = 16,
    as_json: Json = False,
) -> None:
    """
    Compare all that lies below two places by size and content; change nothing.

    Checksums are compared where both places have them; where not, the content is read.

    Example: purveyor storage verify docs backups:docs
    """

    async def work(container: ApplicationContainer) -> VerifyResult:
        return await verify_places(one, other, container=container, jobs=jobs, full=full)

    session: Session = context.obj
    result = session.run(work)
    if as_json:
        print_json(result.to_dict())
    else:
        for difference in result.differences:
            typer.echo(f"{difference.kind}\t{difference.path}\t{difference.reason}")
        tell(
            f"{result.one} and {result.other}: {result.same} the same "
            f"({size_text(result.bytes)}), {len(result.differences)} not"
        )
    if result.error is not None:
        complain(result.error.message)
        raise typer.Exit(exit_code_of(result.error))
    if not result.success:
        raise typer.Exit(FAILED)


def _storage_place(text: str) -> StoragePlace:
    place = parse_place(text)
    if isinstance(place, LocalPlace):
        raise SyncError(
            "INVALID_PLACE",
            f"{text!r} is a path of this machine. An object is named NAME:key, or :key in the "
            f"default storage: try :{text.lstrip('./')} or {text}:.",
        )
    return place


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        fail(f"--metadata takes NAME=VALUE, not {text!r}.", USAGE)
    return name, value


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        fail(f"Cannot read {str(path)!r}: {error.strerror}.")


def _stdin() -> ObjectSource:
    """Return stdin, to be read so that an interrupt need not wait for its end."""
    try:
        descriptor = sys.stdin.fileno()
    except OSError:  # no real file stands behind it
        return sys.stdin.buffer
    return _read_all(descriptor)


async def _read_all(descriptor: int) -> AsyncGenerator[bytes]:
    loop = asyncio.get_running_loop()
    while True:
        chunk: asyncio.Future[bytes] = loop.create_future()
        # Not the loop's own threads, which would be waited for in the end.
        threading.Thread(target=_read, args=(descriptor, loop, chunk), daemon=True).start()
        data = await chunk
        if not data:
            return
        yield data


def _read(descriptor: int, loop: asyncio.AbstractEventLoop, chunk: asyncio.Future[bytes]) -> None:
    data, error = b"", None
    try:
        while len(data) < CHUNK and (more := os.read(descriptor, CHUNK - len(data))):
            data += more
    except OSError as failed:
        error = failed

    def settle() -> None:
        if chunk.done():
            return
        if error is None:
            chunk.set_result(data)
        else:
            chunk.set_exception(error)

    with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
        loop.call_soon_threadsafe(settle)


def _stream(storage: StorageProvider[Any], key: str) -> AsyncGenerator[bytes]:
    return cast("AsyncGenerator[bytes]", storage.stream(key))


def _info_data(info: ObjectInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "size": info.size,
        "modified": info.modified.isoformat(),
        "etag": info.etag,
        "content_type": info.content_type,
        "metadata": dict(info.metadata),
    }
