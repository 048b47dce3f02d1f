"""
The command line: ``purveyor``.

Typer and Rich, which the extra ``cli`` installs, are imported when :func:`run` is called.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

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
    with _hidden("fastapi", "starlette"):
        from .app import app

    app(prog_name="purveyor")


@contextmanager
def _hidden(*names: str) -> Generator[None]:
    """
    Let packages look as if they were not installed.

    dependency-injector imports FastAPI where it is, to know its markers; no command has any, and
    the import takes longer than all else that a command imports.
    """
    modules = cast("dict[str, object]", sys.modules)
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]
