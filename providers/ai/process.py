"""A server that runs on this machine for as long as somebody uses it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO

from .errors import ApplicationNotRunningError

__all__ = ["ServerProcess", "free_port"]

GUARD = """
import os, signal, subprocess, sys, threading
grace, *command = sys.argv[1:]
server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
def end():
    sys.stdin.buffer.read()
    server.terminate()
    try:
        server.wait(float(grace))
    except subprocess.TimeoutExpired:
        pass
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end, daemon=True).start()
status = server.wait()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.killpg(0, signal.SIGTERM)
os._exit(status if status >= 0 else 128 - status)
"""
"""
Runs the server as its child, in a group of its own, until its standard input is closed.

The system closes that when the process that uses the server ends, however it ends. What a server
that has ended leaves running is ended too.
"""

LINES = 20


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens, and that no client is given."""
    for port in random.sample(range(10_000, 22_000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise ApplicationNotRunningError("There is no free port on 127.0.0.1 to start a server at.")


class ServerProcess:
    """
    The process of a server, with whatever it starts itself.

    It ends when it is told to, when this object is dropped, and when this process ends.

    Args:
        command: The program and its arguments; no shell reads them.
        grace: Seconds it has to end by itself.

    Raises:
        ApplicationNotRunningError: There is no such program.
    """

    def __init__(self, command: Sequence[str], *, grace: float) -> None:
        if shutil.which(command[0]) is None:
            raise ApplicationNotRunningError(
                f"There is no program {command[0]!r} to start. Install it, or correct command."
            )
        self._program = command[0]
        self._grace = grace
        self._process = subprocess.Popen(  # noqa: S603 - what the operator's settings say
            [sys.executable, "-I", "-S", "-c", GUARD, str(grace), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._output: deque[bytes] = deque(maxlen=LINES)
        self._reader = threading.Thread(
            target=_read, args=(self._process.stdout, self._output), daemon=True
        )
        self._reader.start()

    def check(self) -> None:
        """
        See that it runs.

        Raises:
            ApplicationNotRunningError: It has ended; the message has the status and the end of
                what it wrote.
        """
        status = self._process.poll()
        if status is None:
            return
        self._reader.join(1.0)
        said = b"".join(self._output).decode("utf-8", "replace").strip()
        ended = f"with status {status}" if status < 128 else f"by signal {status - 128}"
        raise ApplicationNotRunningError(
            f"{self._program!r} has ended {ended}. "
            + (f"The end of its output:\n{said}" if said else "It wrote nothing."),
            context={"exit_status": status},
        )

    async def end(self) -> None:
        """End it: ask it to, and after the grace make it."""
        ended = asyncio.get_running_loop().run_in_executor(None, self._end)
        await asyncio.shield(ended)

    def _end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(self._grace + 5.0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(1.0)


def _read(output: IO[bytes], kept: deque[bytes]) -> None:
    with output:
        while line := output.readline(4096):  # progress bars are one line without an end
            kept.append(line[-1000:])
