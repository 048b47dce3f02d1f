"""``purveyor serve``: the HTTP API and the dashboard."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Annotated

import typer

from ...containers import ApplicationContainer
from ...providers.registry import import_extra
from .output import tell
from .session import Session

__all__ = ["serve_command"]


def serve_command(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="The address to listen at (PURVEYOR_HTTP__HOST).")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port; 0 takes a free one (PURVEYOR_HTTP__PORT)."),
    ] = None,
) -> None:
    """
    Serve the HTTP API and the dashboard until SIGTERM or Ctrl-C.

    On this machine alone no token is needed as long as there is none; to listen beyond it, make
    one first: purveyor tokens create NAME --role admin

    Example: purveyor serve --port 8080
    """
    import_extra("uvicorn", extra="http")
    from ..http.server import serve

    session: Session = context.obj
    settings = session.settings()
    given = {"host": host, "port": port}
    changed = {name: value for name, value in given.items() if value is not None}
    http = settings.http.model_copy(update=changed)
    container = ApplicationContainer(settings=settings.model_copy(update={"http": http}))
    _start_logging()
    ended_by = asyncio.run(
        serve(
            container,
            tell=lambda url: tell(f"Purveyor listens at {url}"),
            warn=lambda message: tell(f"warning: {message}"),
        )
    )
    if ended_by is signal.SIGINT:
        raise KeyboardInterrupt


def _start_logging() -> None:
    """Let the log tell what it does for commands, and more: no command repeats it here."""
    logger = logging.getLogger("purveyor")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(min(logger.level, logging.INFO))
    server = logging.getLogger("uvicorn.error")
    server.handlers[:] = [handler]
    server.propagate = False
    # What these warn of, anybody can bring about without end.
    for name in (server.name, "opentelemetry.baggage", "opentelemetry.trace.propagation"):
        logging.getLogger(name).setLevel(logging.ERROR)
