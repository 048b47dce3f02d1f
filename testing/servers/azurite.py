"""Azurite, Microsoft's Azure Blob server for tests."""

from __future__ import annotations

import base64
import datetime
import hmac
import http.client
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

from .base import LoopbackServer, Response, free_ports

__all__ = ["Azurite"]


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
