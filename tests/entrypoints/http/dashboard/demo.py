"""A container to look at: providers that are well, failing, slow or at fault, and no real host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from time import monotonic
from typing import Any

from dependency_injector import providers as di
from pydantic import SecretStr

from purveyor.containers import ApplicationContainer
from purveyor.providers.families import FAMILIES
from purveyor.providers.registry import (
    ConnectionFailedError,
    HealthResult,
    HealthStatus,
    HealthStatusChanged,
    Provider,
    ProviderConfig,
    ProviderType,
    ProviderTypes,
    operation,
)
from purveyor.providers.registry.health import HealthRecord
from purveyor.settings import Settings

SECRET = "correct-horse-battery-staple"
HOSTILE = "<script>alert(1)</script>/\"'&x=1"

Tree = dict[str, dict[str, Any]]


class DemoConfig(ProviderConfig):
    """Settings of any demo provider."""

    host: str = ""
    bucket: str = ""
    region: str = ""
    username: str = ""
    password: SecretStr | None = None
    tags: tuple[str, ...] = ()


@dataclass
class Backend:
    """What stands behind a demo provider: does as it is told."""

    fails: str = ""
    health: HealthStatus | None = None


class Demo(Provider[DemoConfig]):
    """A provider that asks its backend, found by host."""

    backends: Mapping[str, Backend]

    async def check_health(self) -> HealthStatus | None:
        backend = self.backends.get(self.config.host) or Backend()
        if backend.fails:
            raise ConnectionFailedError(backend.fails)
        return backend.health

    @operation
    async def ask(self) -> None:
        """Ask the backend."""
        await self.check_health()


_TYPES: dict[str, dict[str, str]] = {
    "storage": {
        "s3": "Objects in a bucket of Amazon S3 or a server that speaks its protocol",
        "sftp": "Files on any SSH server",
        "filesystem": "Objects as files below a folder",
        "azure_blob": "Objects in a container of Azure Blob Storage",
    },
    "data_sources": {"postgresql": "Tables of a PostgreSQL database"},
    "ai": {"anthropic": "Claude models", "openai": "Any service that speaks chat completions"},
    "images": {"runware": "Images by Runware"},
    "audio": {"forvo": "Pronunciations by native speakers"},
    "flashcards": {"anki": "Decks of a running Anki"},
}
_CAPABILITIES = {
    "storage": ("streaming", "search", "range-reads", "modified-times"),
    "ai": ("streaming", "tools"),
}


def container(backends: Mapping[str, Backend], **tree: Any) -> ApplicationContainer:
    """Return a container of demo types with the settings given."""
    types = ProviderTypes(scan_entry_points=False)
    for family in FAMILIES:
        types.add_family(family)
        for name, description in _TYPES[family.name].items():
            metaclass: Any = type(Demo)
            made = metaclass("Demo", (Demo,), {"family": family.name, "backends": backends})
            types.add(
                ProviderType(
                    family=family.name,
                    name=name,
                    path=f"demo:{name}",
                    description=description,
                    capabilities=frozenset(_CAPABILITIES.get(family.name, ())),
                    provider_class=made,
                )
            )
    return ApplicationContainer(
        settings=di.Object(Settings(**tree)), types=di.Object(types), monitoring=False
    )


def settings() -> Tree:
    """Return the settings of the demo: fourteen providers, one with a fault."""
    login = {"username": "nightly", "password": SECRET}
    return {
        "storage": {
            "default": "backups",
            "providers": {
                "backups": {"type": "s3", "bucket": "nightly", "host": "s3.example", **login,
                            "required": True, "tags": ["hot", "encrypted"]},
                "archive": {"type": "s3", "bucket": "archive", "host": "cold.example", **login},
                "partner": {"type": "sftp", "host": "sftp.example", **login},
                "scans": {"type": "azure_blob", "host": "blob.example"},
                "exports": {"type": "s3", "bukket": "exports"},
                "scratch": {"type": "filesystem"},
            },
        },
        "data_sources": {
            "providers": {
                "warehouse": {"type": "postgresql", "host": "db.example", **login,
                              "required": True},
                "crm": {"type": "postgresql", "host": "crm.example", **login},
            }
        },
        "ai": {
            "providers": {
                "fast": {"type": "openai", "host": "llm.example"},
                "careful": {"type": "anthropic", "host": "claude.example"},
                "fallback": {"type": "openai", "host": "spare.example"},
            }
        },
        "images": {"providers": {"runware": {"host": "images.example"}}},
        "audio": {"providers": {"forvo": {"host": "words.example"}}},
        "flashcards": {"providers": {"anki": {"host": "cards.example"}}},
    }  # fmt: skip


_BEHAVIOUR: dict[str, tuple[float, str]] = {
    "backups": (0.018, "."), "archive": (0.140, "."), "partner": (0.210, "...x..xx.xx.xxxxxx"),
    "scans": (0.031, "....d...d....ddd"), "scratch": (0.0008, "."), "warehouse": (0.0042, "."),
    "crm": (0.012, ".....xx..........."), "fast": (0.310, "."), "careful": (0.420, "......d....."),
    "forvo": (0.900, "........xxxxxxx"), "runware": (0.240, "."),
}  # fmt: skip
"""Seconds an answer takes, and what came of the last checks: answered, degraded, failed."""


async def play(container: ApplicationContainer, *, length: int = 20) -> None:
    """Make a past for the demo's providers, and let some of them fail now."""
    chance, now = Random(4), datetime.now(UTC)
    partner = container.registries()["storage"].require("partner")
    for _ in range(5):
        try:
            await partner.ask()
        except ConnectionFailedError:
            continue
    for registry in container.registries().values():
        registry.load()
        for name in registry.names():
            if name not in _BEHAVIOUR or not registry.is_registered(name):
                continue
            registration = registry._find(name)
            pace, past = _BEHAVIOUR[name]
            past = past * length if len(past) == 1 else past
            record = registration.health = HealthRecord(monotonic)
            for number, sign in enumerate(past):
                at = now - timedelta(seconds=30 * (len(past) - number) - 20 + chance.random())
                taken = pace * chance.uniform(0.7, 1.6)
                result = {
                    ".": HealthResult(name, HealthStatus.HEALTHY, taken, at),
                    "d": HealthResult(name, HealthStatus.DEGRADED, 3 * taken, at,
                                      "answers, but a replica is 94 s behind"),
                    "x": HealthResult(name, HealthStatus.UNHEALTHY, 10.0, at,
                                      "no answer within 10 s", "TIMEOUT"),
                }[sign]  # fmt: skip
                before, after = record.add(result, container.settings().registry.health)
                if before is not after:
                    registry.events.emit(
                        HealthStatusChanged(registry.family.name, name, before, after, result)
                    )
