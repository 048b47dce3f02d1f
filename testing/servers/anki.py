"""A server that speaks AnkiConnect's protocol on Anki's own library, for tests."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .base import LoopbackServer, free_ports

__all__ = ["AnkiConnectServer"]


class AnkiConnectServer(LoopbackServer):
    """
    Anki's library without the application, with a collection of its own.

    It needs Python 3.12 or later, and so perhaps an environment of its own. It is looked for in
    the ``PATH`` and in ``$ANKI_PREFIX/bin``.
    """

    program = "anki-connect-server"
    install = "uv tool install --python 3.12 --with httpx anki-connect-server"

    def __init__(self) -> None:
        (self.port,) = free_ports(1)

    @classmethod
    def executable(cls) -> str:
        """Return the program's path, in whatever environment it is."""
        folder = Path(os.environ.get("ANKI_PREFIX") or ".", "bin").absolute()
        return shutil.which(cls.program, path=str(folder)) or super().executable()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def collection(self) -> Path:
        """The file of the collection."""
        return self.folder / "collection.anki2"

    def command(self) -> list[str]:
        """Return the arguments; everything else it takes from its environment."""
        self.environment = {
            "ANKICONNECT_PORT": str(self.port),
            "ANKICONNECT_BIND": "127.0.0.1",
            "ANKICONNECT_COLLECTION_PATH": str(self.collection),
        }
        return ["api"]

    def is_ready(self) -> bool:
        """Tell whether it has opened its collection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    def read(self, script: str) -> Any:
        """
        End the server and look into its collection with Anki's library.

        Args:
            script: Python that has ``collection``, open, and leaves what it finds in ``found``.

        Returns:
            What it found, by way of JSON.
        """
        self.process.terminate()
        self.process.wait()
        python = Path(self.executable()).resolve().with_name("python")
        done = subprocess.run(
            [python, "-c", _READER, str(self.collection), script],
            capture_output=True,
            check=False,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"Anki's library failed:\n{done.stderr}")
        return json.loads(done.stdout)


_READER = """
import json, sys
from anki.collection import Collection
collection = Collection(sys.argv[1])
exec(sys.argv[2])
collection.close()
print(json.dumps(found))
"""
