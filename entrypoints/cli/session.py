"""What every command shares: the settings, the container, and how errors end a command."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from typer.core import TyperGroup

from ...containers import ApplicationContainer
from ...providers.registry import (
    ImportFailedError,
    InvalidConfigError,
    InvalidNameError,
    NotFoundError,
    RegistryError,
)
from ...providers.storage import InvalidKeyError
from ...settings import Settings, SettingsError, load_settings
from .output import complain

__all__ = ["FAILED", "USAGE", "CommandGroup", "Session", "exit_code_of", "fail", "start_logging"]

ResultT = TypeVar("ResultT")

FAILED = 1
USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141

_USAGE_ERRORS = (
    ImportFailedError,
    InvalidConfigError,
    InvalidKeyError,
    InvalidNameError,
    NotFoundError,
)


@dataclass(slots=True)
class Session:
    """One call of the command line."""

    config: Path | None = None

    def settings(self) -> Settings:
        """
        Return the settings; the file given by ``--config`` is that of PURVEYOR_CONFIG_FILE.

        Raises:
            SettingsError: With every fault.
        """
        return load_settings() if self.config is None else load_settings(config_file=self.config)

    def run(self, work: Callable[[ApplicationContainer], Awaitable[ResultT]]) -> ResultT:
        """Await ``work`` with a container, whose providers are closed in the end."""

        async def inside() -> ResultT:
            _cancel_on_interrupt()
            container = ApplicationContainer(settings=self.settings())
            async with container.lifespan():
                return await work(container)

        return asyncio.run(inside())


def _cancel_on_interrupt() -> None:
    """
    Let Ctrl-C cancel the running task, between two steps of the loop; a second one ends at once.

    What asyncio does by itself interrupts the loop in the middle of a step.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        if task is not None:
            task.cancel()

    with suppress(NotImplementedError, ValueError):  # on Windows, and in threads
        loop.add_signal_handler(signal.SIGINT, interrupt)


class CommandGroup(TyperGroup):
    """The root of all commands: turns what a user can mend into one message, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a defect keeps its traceback."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except SettingsError as error:
            complain(str(error))
            raise typer.Exit(USAGE) from None
        except RegistryError as error:
            complain(error.message)
            raise typer.Exit(exit_code_of(error)) from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Who reads our output has gone, as `head` does; the interpreter's last flush of it
            # must not complain either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from None
        return answer


def exit_code_of(error: RegistryError) -> int:
    """Return the exit code for an error: wrong usage or settings, or a failure."""
    usage = isinstance(error, _USAGE_ERRORS) or error.code == "INVALID_PLACE"
    return USAGE if usage else FAILED


def fail(message: str, code: int = FAILED) -> NoReturn:
    """End the command with a message."""
    complain(message)
    raise typer.Exit(code)


def start_logging(*, verbose: bool) -> None:
    """Send the package's log to stderr: all of it, or what no message of a command repeats."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("purveyor")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    if not verbose:  # the registry logs what it also raises
        handler.addFilter(lambda record: not record.name.startswith("purveyor.providers.registry"))
