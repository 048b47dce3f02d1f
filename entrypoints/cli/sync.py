"""``purveyor sync``: make one place hold what another holds."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from ...containers import ApplicationContainer
from ...services.sync import (
    Filters,
    ObjectDelayed,
    ObjectFailed,
    ObjectFinished,
    ObjectIgnored,
    Observer,
    SyncEvent,
    SyncOptions,
    SyncResult,
    follow,
    sync,
)
from .output import complain, print_json, size_text, tell
from .session import FAILED, USAGE, Session, ended_by, exit_code_of, fail

__all__ = ["sync_command"]


def _rate(text: str) -> float:
    """Read a number of bytes; a suffix may be K, M, G, KB, MB, KiB, MiB ..."""
    text = text.strip()
    try:
        rate = TypeAdapter(ByteSize).validate_python(f"{text}iB" if text[-1:] in "KMG" else text)
    except ValidationError:
        rate = ByteSize(0)
    if rate <= 0:
        raise typer.BadParameter(f"{text!r} is no number of bytes such as 512K, 10M or 1.5GiB")
    return float(rate)


def sync_command(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="Where from: a place or a path.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where to: a place or a path.")],
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Objects at the same time.")] = 32,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Print what would be done, and do nothing.")
    ] = False,
    checksum: Annotated[
        bool, typer.Option("--checksum", help="Compare content, not times.")
    ] = False,
    size_only: Annotated[
        bool, typer.Option("--size-only", help="Compare sizes alone, not times.")
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what is only at DST, if nothing failed.")
    ] = False,
    max_delete: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Remove nothing if it were more.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Remove even if SRC holds nothing.")
    ] = False,
    filter_: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="RULE", help="'+ PATTERN' or '- PATTERN'; the first match decides."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave out what matches.")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Take in nothing but what matches.")
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option("--bwlimit", parser=_rate, metavar="BYTES", help="Bytes a second, as 10M."),
    ] = None,
    requests: Annotated[
        float | None,
        typer.Option("--tps-limit", min=0.01, metavar="N", help="Calls of a storage a second."),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, max=20, help="Further tries of what failed and may pass.")
    ] = 2,
    verify: Annotated[
        Literal["auto", "full", "size"],
        typer.Option(
            help="Compare copies by reading them back (full), by size, or as is cheap (auto)."
        ),
    ] = "auto",
    engine: Annotated[
        Literal["local", "dask"],
        typer.Option(help="Copy in this process, or on the workers of a Dask cluster."),
    ] = "local",
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="With dask: its scheduler; else local workers."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With dask: workers to start here.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, and sync again whenever SRC changes.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Between two looks of --watch.")
    ] = 2.0,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result there, as JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON.")] = False,
) -> None:
    """
    Copy what is missing or older at the target, many objects at a time, and verify each copy.

    What lies below SRC goes below DST. What is only at DST stays, unless --delete is given. A
    second run copies nothing. Patterns: * and ? within a name, ** across folders, / at the
    beginning for the top alone.

    Example: purveyor sync docs backups:docs --delete --exclude '*.tmp'
    """
    if checksum and size_only:
        fail("--checksum and --size-only exclude each other: choose one.", USAGE)
    if watch and dry_run:
        fail("--watch and --dry-run exclude each other: choose one.", USAGE)
    if watch and engine != "local":
        fail("--watch and --engine dask exclude each other: choose one.", USAGE)
    if engine == "local" and (scheduler or workers):
        fail("--scheduler and --workers are for --engine dask: give that too.", USAGE)
    options = SyncOptions(
        jobs=jobs,
        compare="checksum" if checksum else "size" if size_only else "time",
        verify=verify,
        filters=Filters(filter_ or (), include=include or (), exclude=exclude or ()),
        delete=delete,
        max_delete=max_delete,
        force=force,
        bytes_per_second=bandwidth,
        requests_per_second=requests,
        retries=retries,
        dry_run=dry_run,
    )
    session: Session = context.obj
    done = _Done(source, dry_run=dry_run, as_json=as_json)

    def finished(result: SyncResult) -> None:
        _print(result, done, as_json=as_json, report=report)

    async def work(container: ApplicationContainer) -> SyncResult | None:
        if watch:
            await follow(
                source,
                target,
                finished,
                container=container,
                options=options,
                interval=interval,
                observer=done.observer,
            )
            return None
        if engine == "dask":
            from ...services.sync_dask import sync_on_dask  # it takes a while to import

            return await sync_on_dask(
                source,
                target,
                container=container,
                options=options,
                scheduler=scheduler,
                workers=workers,
                observer=done.observer,
            )
        return await sync(
            source, target, container=container, options=options, observer=done.observer
        )

    try:
        with _progress(wanted=not dry_run) as shown:
            done.shown = shown
            result = session.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        word, code = ended_by()
        if watch:
            tell(f"{word}: no longer watched; nothing is half-written")
            raise typer.Exit(code) from None
        complain(
            f"{word}: copied whole so far: {done.copied}; nothing is half-written. "
            "Run the same command again to go on."
        )
        raise typer.Exit(code) from None
    if result is None:
        return
    finished(result)
    if result.error is not None:
        raise typer.Exit(exit_code_of(result.error))
    if not result.success:
        raise typer.Exit(FAILED)


def _progress(*, wanted: bool) -> AbstractContextManager[Observer | None]:
    if not wanted or not sys.stderr.isatty():
        return nullcontext()
    from .progress import Progress, wants_progress  # it takes a while to import

    return Progress() if wants_progress() else nullcontext()


def _print(result: SyncResult, done: _Done, *, as_json: bool, report: Path | None) -> None:
    data: dict[str, Any] = result.to_dict()
    if result.dry_run:
        data["actions"] = done.actions
    if report is not None:
        try:
            report.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            complain(f"The report {str(report)!r} cannot be written: {error.strerror}.")
            result.warnings.append("the report could not be written")
    if as_json:
        print_json(data)
    else:
        _print_summary(result)
    if result.error is not None:
        complain(result.error.message)


class _Done:
    """Says what became of each object, as far as it is worth a line."""

    def __init__(self, source: str, *, dry_run: bool, as_json: bool) -> None:
        self._source = source
        self._dry_run = dry_run
        self._as_json = as_json
        self.copied = 0
        self.actions: list[dict[str, Any]] = []
        self.shown: Callable[[SyncEvent], None] | None = None

    def observer(self, event: SyncEvent) -> None:
        if isinstance(event, ObjectFinished):
            self._finished(event)
        elif isinstance(event, ObjectFailed):
            complain(f"{event.key or self._source}: {event.reason}")
        elif isinstance(event, ObjectDelayed):
            tell(f"tried again later: {event.key}: {event.reason}")
        elif isinstance(event, ObjectIgnored):
            tell(f"left out: {event.key}: {event.reason}")
        if self.shown is not None:
            self.shown(event)

    def _finished(self, event: ObjectFinished) -> None:
        if event.action == "copied":
            self.copied += 1
        if not self._dry_run or event.action == "skipped":
            return
        action = "delete" if event.action == "would-delete" else "copy"
        if self._as_json:
            self.actions.append(
                {"action": action, "key": event.key, "target": event.target, "size": event.size}
            )
        else:
            typer.echo(f"{action}\t{event.key}\t{event.target}\t{event.size}")


def _print_summary(result: SyncResult) -> None:
    if result.note is not None:
        tell(result.note)
        return
    if result.error is not None and not (result.files or result.skipped or result.failed):
        return  # it never began; the error says all
    verb = "would be copied" if result.dry_run else "copied"
    parts = [f"{result.files} {verb} ({size_text(result.bytes)})", f"{result.skipped} up to date"]
    if result.deleted:
        parts.append(f"{result.deleted} {'would be deleted' if result.dry_run else 'deleted'}")
    if result.ignored:
        parts.append(f"{result.ignored} left out")
    if result.failed:
        parts.append(f"{len(result.failed)} failed")
    by_size = result.verified.get("size", 0)
    if by_size:
        parts.append(f"{by_size} verified by size only")
    summary = f"{result.source} -> {result.target}: {', '.join(parts)} in {result.seconds:.1f} s"
    if result.dry_run:
        tell(summary)  # stdout holds the actions
    else:
        typer.echo(summary)
