"""Samba, the SMB server of Linux."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from .base import LoopbackServer, ServerUnavailableError, free_ports

__all__ = ["Samba"]


class Samba(LoopbackServer):
    """
    An SMB server with one share, for one user with a password of its own.

    Nothing of the machine's own Samba is used, and no account is made: the user is ``nobody``,
    whose password is in a file of this server. It needs root, for it works as who asks it.

    Args:
        settings: Lines of the share, beside those it needs (``{"read only": "yes"}``).
        global_settings: Lines for the whole server (``{"server smb encrypt": "required"}``).
    """

    program = "smbd"
    install = "apt-get install samba, and run as root"
    share = "data"
    username = "nobody"

    def __init__(
        self,
        settings: Mapping[str, str] = MappingProxyType({}),
        global_settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        (self.port,) = free_ports(1)
        self.password = secrets.token_urlsafe(16)
        self._settings = settings
        self._global_settings = global_settings

    @classmethod
    def executable(cls) -> str:
        """Return the program's path; only root can run it for another user."""
        if os.geteuid():
            raise ServerUnavailableError(f"Samba runs for root only. Needed: {cls.install}")
        return super().executable()

    @property
    def files(self) -> Path:
        """The folder that is shared."""
        return self.folder / "share"

    @property
    def login(self) -> dict[str, str | int]:
        """The settings of an :class:`SMBConfig`."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "share": self.share,
            "username": self.username,
            "password": self.password,
        }

    def command(self) -> list[str]:
        """Write the configuration, give the user a password and say how to start."""
        private = self.folder / "private"
        private.mkdir()
        self.files.mkdir()
        self.folder.chmod(0o755)
        user = pwd.getpwnam(self.username)
        os.chown(self.files, user.pw_uid, user.pw_gid)
        folders = ("private dir", "lock directory", "state directory", "cache directory")
        everything = {
            "server role": "standalone server",
            "interfaces": "127.0.0.1/8",
            "bind interfaces only": "yes",
            "smb ports": str(self.port),
            **dict.fromkeys((*folders, "pid directory", "ncalrpc dir"), str(private)),
            "passdb backend": f"tdbsam:{private / 'passdb.tdb'}",
            "log file": str(self.folder / "log.smbd"),
            "load printers": "no",
            "disable spoolss": "yes",
            "server min protocol": "SMB3_11",
            "server signing": "mandatory",
            "map to guest": "never",
            **self._global_settings,
        }
        shared = {"path": str(self.files), "read only": "no", **self._settings}
        configuration = self.folder / "smb.conf"
        with configuration.open("w") as file:
            for section, lines in (("global", everything), (self.share, shared)):
                file.write(f"[{section}]\n")
                file.writelines(f"  {name} = {value}\n" for name, value in lines.items())
        self.set_password(self.username, self.password)
        return ["--foreground", "--no-process-group", "-s", str(configuration)]

    def set_password(self, username: str, password: str) -> None:
        """Let an account of this machine log in, with this password."""
        self._run("smbpasswd", "-c", "-s", "-a", username, typed=f"{password}\n{password}\n")

    def close_share(self) -> None:
        """Have the server end everybody's use of the share, though not their connections."""
        self._run("smbcontrol", "-s", "smbd", "close-share", self.share)

    def _run(self, tool: str, option: str, *arguments: str, typed: str = "") -> None:
        command = [shutil.which(tool) or tool, option, str(self.folder / "smb.conf"), *arguments]
        subprocess.run(command, input=typed, text=True, capture_output=True, check=True)

    def is_ready(self) -> bool:
        """Tell whether it takes connections."""
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True

    def restart(self) -> None:
        """Stop, and start again on the same port with the same files."""
        self.kill()
        arguments = ["--foreground", "--no-process-group", "-s", str(self.folder / "smb.conf")]
        self._start([self.executable(), *arguments])

    def stop(self) -> None:
        """End the program, with the processes it made for its clients, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End the program, with the processes it made for its clients; the files stay."""
        if not hasattr(self, "process"):
            return
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        clients = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        self.process.kill()
        self.process.wait()
        for pid in clients:  # each of them serves on, unless told
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
