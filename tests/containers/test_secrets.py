"""A canary: a secret in every shape a setting can have, looked for wherever something is shown."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest
from pydantic import Secret, SecretBytes, SecretStr
from typer.testing import CliRunner

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.cli.app import app
from purveyor.providers.registry import (
    MASK,
    Call,
    Event,
    ProviderConfig,
    ProviderTypes,
    operation,
    register_provider,
)
from purveyor.providers.storage import StorageError, StorageProvider
from purveyor.settings import Settings

PASSWORD = "p@ss:w/rd%25"
CANARIES = {
    "text": "canary-text",
    "connection string": f"postgresql://reader:{PASSWORD}@db.example.org:5432/warehouse?a=b",
    "password of a connection string": PASSWORD,
    "the same, decoded": "p@ss:w/rd%",
    "bytes": "canary-bytes",
    "in a table": "canary-in-a-table",
    "in a list": "canary-in-a-list",
    "in a model": "canary-in-a-model",
    "in a model in a list": "canary-in-a-listed-model",
}
OPTIONS = {
    "text": CANARIES["text"],
    "dsn": CANARIES["connection string"],
    "raw": CANARIES["bytes"].encode(),
    "table": {"deep": [{"down": CANARIES["in a table"]}]},
    "several": [CANARIES["in a list"]],
    "login": {"user": "reader", "password": CANARIES["in a model"]},
    "logins": [{"user": "writer", "password": CANARIES["in a model in a list"]}],
}


class Login(ProviderConfig):
    user: str
    password: SecretStr


class CanaryConfig(ProviderConfig):
    text: SecretStr
    dsn: SecretStr
    raw: SecretBytes
    table: Secret[dict[str, Any]]
    several: tuple[SecretStr, ...]
    login: Login
    logins: tuple[Login, ...]


class LibraryError(Exception):
    """What a library raises that knows of no secrets: it tells what it was given."""


class StubbornError(LibraryError):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tell = lambda: text

    def __str__(self) -> str:
        return self.tell()


library = logging.getLogger("library.of.others")


class Canary(StorageProvider[CanaryConfig]):
    """Stands on a library that logs all it is given, and raises it."""

    kind: type[LibraryError] = LibraryError
    fails_at = ""

    async def _connect(self) -> None:
        for canary in CANARIES.values():
            library.debug("connecting with %s", canary)
        library.debug("as %r", {"options": [*CANARIES.values()]})
        await self._fail("connect")

    async def check_health(self) -> None:
        await self._fail("health")

    async def _close(self) -> None:
        await self._fail("close")

    async def _fail(self, where: str) -> None:
        if self.fails_at != where:
            return
        told = " and ".join(CANARIES.values())
        try:
            raise self.kind(f"first {told}")
        except LibraryError as first:
            library.exception("it failed")
            raise self.kind(f"then {told}") from first

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        await self._fail("get")
        return b""

    @operation
    async def stat(self, key: str) -> Any:
        await self._fail("stat")

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        return None if call.operation == "stat" else StorageError(f"{call.operation}: {error}")


class Kept(logging.Handler):
    """Keeps all records as text, with their traceback and their attributes."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += (self.format(record), str(vars(record)))


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept, root = Kept(), logging.getLogger()
    level = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    yield kept
    root.removeHandler(kept)
    root.setLevel(level)


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> type[Canary]:
    """The provider class; what a test sets on it does not stay."""
    monkeypatch.setattr(Canary, "kind", Canary.kind)
    monkeypatch.setattr(Canary, "fails_at", "")
    return Canary


@pytest.fixture
def container(types: ProviderTypes, tmp_path: Path) -> Any:
    register_provider("canary", types=types)(Canary)
    providers = {"canary": {"type": "canary", **OPTIONS}}
    settings = Settings(home=tmp_path, storage={"default": "canary", "providers": providers})
    return ApplicationContainer(settings=settings, types=types)


def leaks(surfaces: dict[str, str]) -> list[str]:
    """Name the surfaces that show a canary, and which."""
    return [
        f"{where} shows the canary {what}"
        for where, text in surfaces.items()
        for what, canary in CANARIES.items()
        if canary in text or repr(canary)[1:-1] in text or json.dumps(canary)[1:-1] in text
    ]


@pytest.mark.requirement("S3.24", "S3.28", "S3.30", "S4.51")
async def test_no_surface_of_a_working_provider_shows_a_secret(container: Any, kept: Kept) -> None:
    async with container.lifespan():
        storage, registry = container.storage(), container.storage.registry
        await storage.get("key")
        config, info = registry.config("canary"), registry.info("canary")
        health = await registry.get_provider_health("canary")
        instance = storage._guard.peek()
        things = {
            "settings": container.settings(),
            "container": container,
            "registry": registry,
            "provider": storage,
            "instance": instance,
            "config": config,
            "info": info,
            "metadata": registry._find("canary").provider_metadata(),
            "health": health,
            "report": container.discovery().report,
            "type": registry.types.get("storage", "canary"),
        }
        surfaces = {
            f"{way} of the {what}": show(thing)
            for what, thing in things.items()
            for way, show in {"repr": repr, "str": str, "format": format}.items()
        }
        surfaces |= {
            f"vars of the {what}": repr(vars(thing))
            for what, thing in things.items()
            if hasattr(thing, "__dict__")
        }
        surfaces |= {
            "JSON of the settings": container.settings().model_dump_json(),
            "JSON of the config": config.model_dump_json(),
            "the config as a dict": repr(config.model_dump()),
            "JSON of the info": json.dumps(info.to_dict()),
            "JSON of the health": json.dumps(health.to_dict()),
        }
        for what, thing in {"info": info, "health": health}.items():
            surfaces[f"pickle of the {what}"] = pickle.dumps(thing).decode("latin-1")
        for thing in (storage, container.discovery(), config):
            with pytest.raises((TypeError, AttributeError)):
                pickle.dumps(thing)
    surfaces["logs"] = "\n".join(kept.texts)
    assert leaks(surfaces) == []
    assert surfaces["logs"].count(f"connecting with {MASK}\n") == len(CANARIES)
    assert "as {'options': ['**********', '**********'" in surfaces["logs"]


@pytest.mark.requirement("S3.28", "S3.30", "S4.51")
@pytest.mark.parametrize("kind", [LibraryError, StubbornError])
@pytest.mark.parametrize("where", ["connect", "get", "stat", "health"])
async def test_no_failure_shows_a_secret(
    where: str, kind: type[LibraryError], container: Any, canary: type[Canary], kept: Kept
) -> None:
    canary.kind, canary.fails_at = kind, where
    told: list[Event] = []

    async def listener(event: Event) -> None:
        told.append(event)

    async with container.lifespan():
        storage, registry = container.storage(), container.storage.registry
        registry.on("provider-error", listener)
        calls = {"stat": lambda: storage.stat("key"), "health": storage.check_health}
        with pytest.raises(Exception, match=r"\*{10}") as caught:
            await calls.get(where, lambda: storage.get("key"))()
        error = caught.value
        library.error("failed", exc_info=error)
        await asyncio.sleep(0)
        await registry.events.settle()
        surfaces = {
            "traceback": "".join(format_exception(error)),
            "error": f"{error} {error!r} {vars(error)!r}",
            "events": repr(told),
            "info": json.dumps(registry.info("canary").to_dict()),
            "health": json.dumps((await registry.get_provider_health("canary")).to_dict()),
        }
        if isinstance(error, StorageError):
            surfaces["JSON of the error"] = json.dumps(error.to_dict())
            surfaces["pickle of the error"] = pickle.dumps(error).decode("latin-1")
    surfaces["logs"] = "\n".join(kept.texts)
    assert leaks(surfaces) == []
    assert "it failed" in surfaces["logs"]


@pytest.mark.requirement("S3.30", "S4.51")
@pytest.mark.parametrize("kind", [LibraryError, StubbornError])
async def test_no_failure_of_closing_shows_a_secret(
    kind: type[LibraryError], container: Any, canary: type[Canary], kept: Kept
) -> None:
    canary.kind, canary.fails_at = kind, "close"
    async with container.lifespan():
        await container.storage().get("key")
    assert leaks({"logs": "\n".join(kept.texts)}) == []
    assert "Closing provider storage:canary failed" in "\n".join(kept.texts)


@pytest.mark.requirement("S3.24", "S3.30", "S4.51")
def test_no_refusal_of_settings_shows_a_secret(types: ProviderTypes, tmp_path: Path) -> None:
    register_provider("canary", types=types)(Canary)
    surfaces: dict[str, str] = {}
    for fault in ({"several": CANARIES["text"]}, {"login": PASSWORD}, {"unknown": PASSWORD}):
        options = {**OPTIONS, **fault}
        settings = Settings(
            home=tmp_path, storage={"providers": {"canary": {"type": "canary", **options}}}
        )
        registry = ApplicationContainer(settings=settings, types=types).storage.registry
        (row,) = [row for row in registry.load().failed if row.name == "canary"]
        error = row.error
        assert error is not None
        surfaces[str(fault)[:12]] = "".join((*format_exception(error), str(error.to_dict())))
    assert leaks(surfaces) == []


async def test_logs_are_as_ever_once_the_lifetime_ends(container: Any) -> None:
    before = logging.getLogRecordFactory()
    async with container.lifespan():
        assert logging.getLogRecordFactory() is not before
    assert logging.getLogRecordFactory() is before


@pytest.mark.requirement("S3.28", "S4.51")
@pytest.mark.parametrize(
    "command",
    [
        "providers show cloud",
        "providers show cloud --json",
        "providers list --json",
        "providers test cloud",
        "--verbose check",
        "--verbose check --connect --json",
        "--verbose storage ls cloud:",
    ],
)
def test_no_command_shows_a_secret(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: Kept
) -> None:
    monkeypatch.chdir(tmp_path)
    secrets = {"ACCESS_KEY": "canary-access", "SECRET_KEY": PASSWORD, "SESSION_TOKEN": "canary-tok"}
    plain = {"TYPE": "s3", "BUCKET": "nightly", "ENDPOINT_URL": "http://127.0.0.1:9"}
    for name, value in {**secrets, **plain}.items():
        monkeypatch.setenv(f"PURVEYOR_STORAGE__PROVIDERS__CLOUD__{name}", value)
    handlers = logging.getLogger("purveyor").handlers[:]
    try:
        result = CliRunner().invoke(app, command.split())
    finally:
        logging.getLogger("purveyor").handlers[:] = handlers
    assert result.output
    for secret in secrets.values():
        assert secret not in result.output + "\n".join(kept.texts) + repr(result.exception)
