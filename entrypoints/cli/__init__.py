"""
The command line: ``purveyor``.

Typer and Rich, which the extra ``cli`` installs, are imported when :func:`run` is called.
"""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> None:
    """Run the command line with this process's arguments; ends the process."""
    from ...providers.registry import ImportFailedError, import_extra

    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # a key may hold what the terminal cannot show
    try:
        for module in ("typer", "rich"):
            import_extra(module, extra="cli")
    except ImportFailedError as error:
        sys.stderr.write(f"error: the command line needs an extra: {error}\n")
        sys.exit(2)
    from .app import app

    app(prog_name="purveyor")
