"""OpenSSH's sshd, as an SFTP server."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from .base import LoopbackServer, ServerUnavailableError, free_ports

__all__ = ["OpenSSH"]


class OpenSSH(LoopbackServer):
    """
    An SSH server for the account that runs the tests, with keys that are new with every start.

    It serves files only. Logging in takes the client's key: a password would have to be the
    account's own.

    Args:
        subsystem: What serves SFTP; by default sshd itself does.
        settings: Further lines of ``sshd_config``.
    """

    program = "sshd"
    install = "apt-get install openssh-server"
    start_timeout: ClassVar[float] = 10.0

    def __init__(self, *, subsystem: str = "internal-sftp", settings: tuple[str, ...] = ()) -> None:
        (self.port,) = free_ports(1)
        self.username = getpass.getuser()
        self._subsystem = subsystem
        self._settings = settings

    @classmethod
    def executable(cls) -> str:
        """Return the program's path; it often is in no ``PATH`` but root's."""
        path = Path("/usr/sbin", cls.program)
        return str(path) if path.exists() else super().executable()

    @property
    def client_key(self) -> Path:
        """File of the private key that may log in."""
        return self.folder / "client"

    @property
    def host_key(self) -> str:
        """The public key the server shows."""
        return " ".join((self.folder / "host.pub").read_text().split()[:2])

    @property
    def login(self) -> dict[str, str | int]:
        """The settings of an :class:`SFTPConfig`, but its root."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "username": self.username,
            "private_key": self.client_key.read_text(),
            "host_key": self.host_key,
        }

    def create_root(self, name: str | None = None) -> str:
        """Make a folder for objects, and return its path."""
        folder = self.folder / (name or f"root-{time.monotonic_ns()}")
        folder.mkdir()
        return str(folder)

    def command(self) -> list[str]:
        """Return the arguments, after keys were made."""
        for name in ("host", "client"):
            make_key(self.folder / name)
        if os.geteuid() == 0 and sys.platform == "linux":
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # or it refuses to start
        lines = (
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder}/host",
            f"AuthorizedKeysFile {self.folder}/client.pub",
            "AuthenticationMethods publickey",
            "PermitRootLogin yes",
            "StrictModes no",
            "UsePAM no",
            "PidFile none",
            "MaxStartups 100",
            f"Subsystem sftp {self._subsystem}",
            *self._settings,
        )
        (self.folder / "config").write_text("\n".join(lines) + "\n")
        return ["-D", "-e", "-f", str(self.folder / "config")]

    def is_ready(self) -> bool:
        """Tell whether it greets."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"

    def break_connections(self) -> None:
        """Kill whatever serves a client now; new clients are served."""
        for child in _children(self.process.pid):
            for one in (*_children(child), child):
                try:
                    os.kill(one, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def restart(self) -> None:
        """Break all connections, end, and serve anew at the same port with the same keys."""
        self._end()
        self._start([self.executable(), "-D", "-e", "-f", str(self.folder / "config")])

    def stop(self) -> None:
        """Kill it and what serves its clients, and remove its folder."""
        if hasattr(self, "process"):
            self._end()
        super().stop()

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # so that it serves nobody else meanwhile
            self.break_connections()
            self.process.kill()
            self.process.wait()


def make_key(path: Path, passphrase: str = "") -> Path:
    """Make a key pair: the private key at ``path``, the public one beside it (``.pub``)."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise ServerUnavailableError("ssh-keygen is not installed: apt-get install openssh-client")
    subprocess.run(
        [program, "-q", "-t", "ed25519", "-N", passphrase, "-C", "tests", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    return path


def _children(pid: int) -> list[int]:
    """Return the processes a process has started, where the system shows them."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(status.parent.name))
    return found
