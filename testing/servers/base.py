"""A program that serves on loopback while a test needs it."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Self

__all__ = ["LoopbackServer", "Response", "ServerUnavailableError", "free_ports"]


class ServerUnavailableError(RuntimeError):
    """The server's program is not installed; the message says how to install it."""


def free_ports(count: int, *, companion: int = 0) -> list[int]:
    """
    Return ports of 127.0.0.1 on which nothing listens.

    They lie below the range from which systems take the ports of outgoing connections, so
    that none of those takes one before the server does.

    Args:
        count: How many.
        companion: A distance at which every port needs a second free one.
    """
    found: list[int] = []
    for port in random.sample(range(10_000, 22_000), 12_000):
        if _is_free(port) and (not companion or _is_free(port + companion)):
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"Fewer than {count} free ports on 127.0.0.1.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class LoopbackServer:
    """
    A program that serves on 127.0.0.1 while the ``with`` block lasts.

    Its data and its log live in a folder of their own, removed at the end.
    """

    program: ClassVar[str]
    """Name of the executable."""
    install: ClassVar[str]
    """The command that installs it."""
    start_timeout: ClassVar[float] = 60.0
    """Seconds until it must answer."""
    user: str | None = None
    """The account it runs under, if not that of the caller."""
    environment: Mapping[str, str] = MappingProxyType({})
    """Variables it gets beside those of the caller."""

    folder: Path
    """Where the server keeps what it needs, while it runs."""
    process: subprocess.Popen[bytes]
    """The running program."""

    def command(self) -> list[str]:
        """Return the arguments to start the program with; :attr:`folder` exists by now."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Tell whether the server answers as a client needs it. An ``OSError`` means no."""
        raise NotImplementedError

    @classmethod
    def executable(cls) -> str:
        """
        Return the program's path, of this environment first.

        Raises:
            ServerUnavailableError: It is not installed.
        """
        folders = (sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath))
        path = shutil.which(cls.program, path=os.pathsep.join(folders))
        if path is None:
            raise ServerUnavailableError(
                f"{cls.__name__} is not installed. Install it with: {cls.install}"
            )
        return path

    def reachable(self) -> str:
        """Return the program's path where :attr:`user` can run it; :attr:`folder` exists."""
        return self.executable()

    def __enter__(self) -> Self:
        self.executable()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.program}-"))
        try:
            self._start([self.reachable(), *self.command()])
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the program and remove its folder. Stopping twice is no error."""
        if hasattr(self, "process"):
            self.process.kill()  # what is thrown away needs no orderly end
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, command: list[str]) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self.user,
                env={**os.environ, **self.environment},
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.is_ready():
                    return
            if self.process.poll() is not None:
                problem = f"ended with status {self.process.returncode}"
            elif time.monotonic() > deadline:
                problem = f"did not answer within {self.start_timeout:g} s"
            else:
                time.sleep(0.05)
                continue
            log = (self.folder / "log").read_text(errors="replace")
            raise RuntimeError(f"{self.program} {problem}. The end of its log:\n{log[-2000:]}")


@dataclass(frozen=True, slots=True)
class Response:
    """What a server answered to one request."""

    status: int
    headers: Mapping[str, str]
    body: bytes
