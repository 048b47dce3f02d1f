"""``purveyor credentials``: the keys that secrets in the catalogue are encrypted with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from ...containers import ApplicationContainer
from ...providers.catalogue import Catalogue, KeyStatus, Rotation, key_status, rotate
from ...providers.registry import CredentialManager
from .output import complain, print_json, print_table, tell
from .session import FAILED, Session, cancel_on_signals

__all__ = ["app"]

app = typer.Typer(
    help="The keys that secrets in the catalogue are encrypted with.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ResultT = TypeVar("ResultT")
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Entries at a time.")]


@app.command("generate-key")
def generate_key() -> None:
    """
    Make a new key, for PURVEYOR_CREDENTIALS__KEYS or a key file.

    Example: purveyor credentials generate-key > new.key
    """
    typer.echo(CredentialManager.generate_key())


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """
    Count the secrets under each key; nothing is decrypted.

    Example: purveyor credentials status
    """
    found = _run(context, key_status)
    if as_json:
        print_json(
            {
                "keys": found.keys,
                "values": found.values,
                "waiting": found.waiting,
                "missing": found.missing,
                "damaged": found.damaged,
            }
        )
        return
    ids = dict.fromkeys((*found.keys, *sorted(found.values)))
    print_table(
        ("key", "values", "use"), [(one, found.values[one], _use(found, one)) for one in ids]
    )
    if found.waiting:
        tell(f"{found.waiting} values still need the old key: run `purveyor credentials rotate`")
    elif len(found.keys) > 1:
        tell("no value needs an old key any more: it may be removed")
    if found.damaged:
        tell(f"{found.damaged} values are damaged: enter them anew")


def _use(found: KeyStatus, key: str) -> str:
    if key not in found.keys:
        return "missing: its values cannot be decrypted"
    return "encrypts" if key == found.keys[0] else "decrypts only"


@app.command("rotate")
def rotate_keys(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    batch_size: BatchSize = 500,
    as_json: Json = False,
) -> None:
    """
    Encrypt every secret under the first key that is not yet; exits with 1 if one cannot be.

    It may be interrupted and begun again: what is done is done.

    Example: purveyor credentials rotate --dry-run
    """

    async def work(catalogue: Catalogue) -> Rotation:
        return await rotate(catalogue, dry_run=dry_run, batch_size=batch_size)

    done = _run(context, work)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "rotated": done.rotated,
                "unchanged": done.unchanged,
                "failed": done.failed,
                "errors": [error.to_dict() for error in done.errors],
            }
        )
    else:
        would = "would be encrypted" if dry_run else "encrypted"
        tell(f"{done.rotated} values {would} under the first key, {done.unchanged} already are")
        for error in done.errors:
            complain(error.message)
        if done.failed > len(done.errors):
            complain(f"and {done.failed - len(done.errors)} more")
    if done.failed:
        raise typer.Exit(FAILED)


def _run(context: typer.Context, work: Callable[[Catalogue], Awaitable[ResultT]]) -> ResultT:
    """Await ``work`` with the catalogue alone: no provider is registered or connected."""
    session: Session = context.obj

    async def inside() -> ResultT:
        cancel_on_signals()
        catalogue = ApplicationContainer(settings=session.settings()).catalogue()
        try:
            return await work(catalogue)
        finally:
            await catalogue.close()

    return asyncio.run(inside())
