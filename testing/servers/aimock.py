"""aimock, which answers as the services of AI do."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .base import LoopbackServer, free_ports

__all__ = ["Aimock"]


class Aimock(LoopbackServer):
    """
    An independent server of OpenAI's interface, which takes one key.

    It is looked for in the ``PATH``, in ``$AIMOCK_PREFIX/node_modules`` (what
    ``npm install --prefix`` was told) and in ``node_modules`` of the current folder.

    Args:
        fixtures: What it answers, as aimock's fixtures have it: ``{"match", "response"}``.
    """

    program = "aimock"
    install = "npm install @copilotkit/aimock"

    def __init__(self, fixtures: Sequence[Mapping[str, Any]]) -> None:
        (self.port,) = free_ports(1)
        self.key = f"sk-{secrets.token_hex(12)}"
        self.environment = {"AIMOCK_API_KEYS": self.key}
        self._fixtures = fixtures

    @classmethod
    def executable(cls) -> str:
        """Return the program's path, wherever npm put it."""
        folders = (Path(folder) for folder in (os.environ.get("AIMOCK_PREFIX"), ".") if folder)
        paths = (str(folder.absolute() / "node_modules" / ".bin") for folder in folders)
        return shutil.which(cls.program, path=os.pathsep.join(paths)) or super().executable()

    @property
    def base_url(self) -> str:
        """Where OpenAI's interface is."""
        return f"http://127.0.0.1:{self.port}/v1"

    def command(self) -> list[str]:
        """Return how it is started: with the fixtures, in a file."""
        fixtures = self.folder / "fixtures.json"
        fixtures.write_text(json.dumps({"fixtures": self._fixtures}))
        config = self.folder / "config.json"
        config.write_text(json.dumps({"llm": {"fixtures": str(fixtures)}}))
        return ["--config", str(config), "--port", str(self.port), "--host", "127.0.0.1"]

    def is_ready(self) -> bool:
        """Ask it for its models."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {self.key}"})
            return connection.getresponse().status == 200
        finally:
            connection.close()
