"""
Loopback servers for tests: real programs on free ports of 127.0.0.1, gone when the test is.

A server is used as a context manager and costs nothing until it is entered::

    with SeaweedFS() as server:
        config = S3Config(bucket=server.create_bucket(), **server.login)

To add one, derive from :class:`LoopbackServer` and say which program it is, how it is started
and how one sees that it answers.
"""

from __future__ import annotations

from .aimock import Aimock
from .anki import AnkiConnectServer
from .azurite import Azurite
from .base import LoopbackServer, Response, ServerUnavailableError, free_ports
from .openssh import OpenSSH
from .postgresql import PostgreSQL
from .samba import Samba
from .seaweedfs import SeaweedFS

__all__ = [
    "Aimock",
    "AnkiConnectServer",
    "Azurite",
    "LoopbackServer",
    "OpenSSH",
    "PostgreSQL",
    "Response",
    "Samba",
    "SeaweedFS",
    "ServerUnavailableError",
    "free_ports",
]
