"""``purveyor sync``: make one place hold what another holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Literal

import typer

from ...containers import ApplicationContainer
from ...services.sync import (
    ObjectFailed,
    ObjectFinished,
    ObjectIgnored,
    Observer,
    SyncEvent,
    SyncResult,
    sync,
)
from .output import complain, print_json, size_text, tell
from .progress import Progress, wants_progress
from .session import FAILED, Session, ended_by, exit_code_of

__all__ = ["sync_command"]


def sync_command(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="Where from: a place or a path.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where to: a place or a path.")],
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Objects at the same time.")] = 16,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Print what would be done, and do nothing.")
    ] = False,
    verify: Annotated[
        Literal["auto", "full", "size"],
        typer.Option(
            help="Compare copies by reading them back (full), by size, or as is cheap (auto)."
        ),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON.")] = False,
) -> None:
    """
    Copy what is missing or older at the target, many objects at a time, and verify each copy.

    What lies below SRC goes below DST. What is only at DST stays. A second run copies nothing.

    Example: purveyor sync docs backups:docs
    """
    session: Session = context.obj
    done = _Done(source, dry_run=dry_run, as_json=as_json)
    progress: AbstractContextManager[Observer | None] = nullcontext()
    if wants_progress() and not dry_run:
        progress = Progress()

    async def work(container: ApplicationContainer) -> SyncResult:
        return await sync(
            source,
            target,
            container=container,
            jobs=jobs,
            verify=verify,
            dry_run=dry_run,
            observer=done.observer,
        )

    try:
        with progress as shown:
            done.shown = shown
            result = session.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        word, code = ended_by()
        complain(
            f"{word}: copied whole so far: {done.copied}; nothing is half-written. "
            "Run the same command again to go on."
        )
        raise typer.Exit(code) from None
    if as_json:
        data: dict[str, Any] = result.to_dict()
        print_json({**data, "actions": done.actions} if dry_run else data)
    else:
        _print_summary(result)
    if result.error is not None:
        complain(result.error.message)
        raise typer.Exit(exit_code_of(result.error))
    if not result.success:
        raise typer.Exit(FAILED)


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
        elif isinstance(event, ObjectIgnored):
            tell(f"left out: {event.key}: {event.reason}")
        if self.shown is not None:
            self.shown(event)

    def _finished(self, event: ObjectFinished) -> None:
        if event.action == "copied":
            self.copied += 1
        if not self._dry_run or event.action == "skipped":
            return
        if self._as_json:
            self.actions.append(
                {"action": "copy", "key": event.key, "target": event.target, "size": event.size}
            )
        else:
            typer.echo(f"copy\t{event.key}\t{event.target}\t{event.size}")


def _print_summary(result: SyncResult) -> None:
    if result.note is not None:
        tell(result.note)
        return
    if result.error is not None and not (result.files or result.failed):
        return  # it never began; the error says all
    verb = "would be copied" if result.dry_run else "copied"
    parts = [f"{result.files} {verb} ({size_text(result.bytes)})", f"{result.skipped} up to date"]
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
