"""Connection strings of PostgreSQL, read strictly, and never repeated in an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

__all__ = ["Address", "parse_dsn"]

FORM = "postgresql://user:password@host:port/database?sslmode=require"
PASSED_ON = frozenset(
    (
        "application_name",
        "gsslib",
        "krbsrvname",
        "options",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslpassword",
        "sslrootcert",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "target_session_attrs",
    )
)
"""Options that mean to asyncpg what they mean to libpq."""
PARTS = {"host": "host", "port": "port", "user": "user", "password": "password"} | dict.fromkeys(
    ("dbname", "database"), "database"
)
"""Options that say what may also stand before the question mark."""
WITHOUT_EFFECT = frozenset(
    ("client_encoding", "connect_timeout", "gssencmode", "keepalives", "keepalives_idle")
)
"""Options of libpq that many strings have; here the settings of the type say these things."""

_DSN = re.compile(
    r"""postgres(?:ql)?://
    (?:(?P<user>[^:@/?\#]*)(?::(?P<password>[^@/?\#]*))?@)?
    (?P<hosts>[^@/?\#]*)
    (?:/(?P<database>[^@/?\#]*))?
    (?:\?(?P<options>[^@?\#]*))?""",
    re.VERBOSE,
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::([0-9]{0,5}))?")
_HALF_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is and who asks; what was not said is None. Several hosts: by commas."""

    host: str | None = None
    port: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    options: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


def parse_dsn(text: str) -> Address:
    """
    Return what a connection string says.

    Raises:
        ValueError: It is not one. The message tells where, and holds nothing of it.
    """
    text = text.strip()
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError(f"it must begin with postgresql:// and have the form {FORM}")
    match = _DSN.fullmatch(text)
    if match is None or _HALF_ESCAPE.search(text):
        raise ValueError(_quoting("it has a character that must be written otherwise"))
    try:
        options = _options(match["options"] or "")
        hosts, ports = _hosts(match["hosts"])
        said = {
            "host": hosts,
            "port": ports,
            **{name: _decoded(match[name]) for name in ("user", "password", "database")},
        }
    except UnicodeDecodeError:
        raise ValueError(_quoting("an escape in it is not UTF-8")) from None
    for option, part in PARTS.items():
        value = options.pop(option, None)
        said[part] = said[part] or value
    if said["port"] and not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", said["port"]):
        raise ValueError(_quoting("its port is no number"))
    return Address(options=options, **said)


def _decoded(part: str | None) -> str | None:
    return unquote(part, errors="strict") if part else None


def _hosts(text: str) -> tuple[str | None, str | None]:
    """Return hosts and ports, each joined by commas."""
    if not text:
        return None, None
    found = [_HOST.fullmatch(part) for part in text.split(",")]
    hosts: list[str] = []
    ports: list[str] = []
    for match in found:
        if match is None:
            raise ValueError(_quoting("its host is not of the form host or host:port"))
        hosts.append(unquote(match[1].strip("[]"), errors="strict"))
        ports.append(match[2] or "5432")
    return ",".join(hosts), (",".join(ports) if any(m and m[2] for m in found) else None)


def _options(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, strict_parsing=True, errors="strict") if text else []
    except UnicodeDecodeError:
        raise
    except ValueError:
        raise ValueError(_quoting("what follows its ? is not of the form name=value")) from None
    known = dict(pairs)
    if not known.keys() <= PASSED_ON | PARTS.keys() | WITHOUT_EFFECT:
        allowed = ", ".join(sorted(PASSED_ON | PARTS.keys()))
        raise ValueError(_quoting(f"it has an option that is not supported; these are: {allowed}"))
    return {name: value for name, value in known.items() if name not in WITHOUT_EFFECT}


def _quoting(fault: str) -> str:
    return (
        f"{fault}. In user and password write @ : / ? # and % as %40 %3A %2F %3F %23 and %25, or "
        f"set host, port, database, user and password on their own. The form is {FORM}"
    )
