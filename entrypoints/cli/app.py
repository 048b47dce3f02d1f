"""The root of the command line and its global options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ... import __version__
from . import (
    ai,
    audit,
    check,
    credentials,
    deck,
    media,
    plugins,
    providers,
    serve,
    sources,
    storage,
    sync,
    tokens,
)
from .session import CommandGroup, Session, start_logging

__all__ = ["app"]

app = typer.Typer(
    name="purveyor",
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # its tracebacks may show local variables: secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"purveyor {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="TOML, YAML or JSON file with settings (PURVEYOR_CONFIG_FILE)."
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell on stderr what is being done.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """
    Backing services by name, configured by the environment.

    A place is written NAME:key, or :key for the default provider; anything else is a path of
    this machine. Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted,
    143 terminated.
    """
    start_logging(verbose=verbose)
    context.obj = Session(config)


app.command("check")(check.check)
app.add_typer(providers.app, name="providers")
app.add_typer(storage.app, name="storage")
app.add_typer(sources.app, name="sources")
app.add_typer(plugins.app, name="plugins")
app.add_typer(credentials.app, name="credentials")
app.add_typer(tokens.app, name="tokens")
app.command("audit")(audit.audit)
app.command("serve")(serve.serve_command)
app.command("sync")(sync.sync_command)
app.command("ask")(ai.ask)
app.command("image")(media.image)
app.command("pronounce")(media.pronounce)
app.add_typer(deck.app, name="deck")
