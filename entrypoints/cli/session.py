"""What every command shares: the settings, the container, and how errors end a command."""

from __future__ import annotations

import asyncio
import errno
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

__all__ = [
    "FAILED",
    "USAGE",
    "CommandGroup",
    "Session",
    "ended_by",
    "exit_code_of",
    "fail",
    "start_logging",
]

ResultT = TypeVar("ResultT")

FAILED = 1
USAGE = 2
BROKEN_PIPE = 141

_USAGE_ERRORS = (
    ImportFailedError,
    InvalidConfigError,
    InvalidKeyError,
    InvalidNameError,
    NotFoundError,
)


_USAGE_CODES = (
    "CANNOT_SERVE",
    "INVALID_PLACE",
    "INVALID_FILTER",
    "INVALID_TABLE",
    "UNSUPPORTED_OPTION",
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
            cancel_on_signals()
            # A command checks no health in the background.
            container = ApplicationContainer(settings=self.settings(), monitoring=False)
            async with container.lifespan():
                return await work(container)

        return asyncio.run(inside())


_received: list[signal.Signals] = []


def cancel_on_signals() -> None:
    """
    Let SIGINT (Ctrl-C) and SIGTERM cancel the running task, between two steps of the loop.

    What is open is then closed within the deadline of the settings; a second signal ends the
    process at once.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt(number: signal.Signals) -> None:
        _received.append(number)
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)
        if task is not None:
            task.cancel()

    _received.clear()
    with suppress(NotImplementedError, ValueError):  # on Windows, and in threads
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, interrupt, one)


def ended_by() -> tuple[str, int]:
    """Return what ended the command, as a word and an exit code: 128 and the signal's number."""
    number = _received[0] if _received else signal.SIGINT
    return ("terminated" if number is signal.SIGTERM else "interrupted"), 128 + number


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
            named = error.provider_name is None or error.provider_name in error.message
            complain(error.message if named else f"{error.provider_name}: {error.message}")
            raise typer.Exit(exit_code_of(error)) from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            word, code = ended_by()
            complain(word)
            raise typer.Exit(code) from None
        except BrokenPipeError:
            # Who reads our output has gone, as `head` does; the interpreter's last flush of it
            # must not complain either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            complain(f"the output cannot be written: {error.strerror}")
            raise typer.Exit(FAILED) from None
        return answer


def exit_code_of(error: RegistryError) -> int:
    """Return the exit code for an error: wrong usage or settings, or a failure."""
    usage = isinstance(error, _USAGE_ERRORS) or error.code in _USAGE_CODES
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
