"""Health over HTTP: for those who decide where to send work, and for those who look after it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest
from fastapi import FastAPI

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.providers.catalogue import CatalogueUnavailableError
from purveyor.providers.registry import (
    HealthStatus,
    Provider,
    ProviderConfig,
    Role,
    default_types,
    operation,
    register_provider,
)

from .conftest import Serve

TYPE = "counted-for-http-health"


class CountedConfig(ProviderConfig):
    """Settings of a provider that counts."""


@pytest.fixture(autouse=True)
def asked() -> Any:
    """A provider type that counts the questions to its backend, and answers as it is told."""

    @register_provider(TYPE, types=default_types)
    class Counted(Provider[CountedConfig]):
        family = "storage"
        connected: ClassVar[int] = 0
        checked: ClassVar[int] = 0
        answer: ClassVar[HealthStatus | Exception] = HealthStatus.HEALTHY

        async def _connect(self) -> None:
            Counted.connected += 1

        async def check_health(self) -> HealthStatus:
            Counted.checked += 1
            if isinstance(Counted.answer, Exception):
                raise Counted.answer
            return Counted.answer

        @operation
        async def fail(self) -> None:
            raise ConnectionRefusedError("nobody there")

    yield Counted
    default_types.remove("storage", TYPE)


@asynccontextmanager
async def asking(app: FastAPI, token: str | None = None) -> AsyncGenerator[httpx2.AsyncClient]:
    """Give a client of an application."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers=headers
    ) as client:
        yield client


async def test_a_service_with_nothing_required_is_ready(client: httpx2.AsyncClient) -> None:
    for path in ("/livez", "/readyz", "/healthz"):
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert answer.json()["status"] == "pass", path
        assert answer.headers["content-type"] == "application/health+json"
        assert answer.headers["cache-control"] == "no-store"
        head = await client.head(path)
        assert (head.status_code, head.headers["content-type"]) == (200, "application/health+json")


async def test_the_details_have_the_shape_of_the_draft(
    client: httpx2.AsyncClient, container: ApplicationContainer, asked: Any
) -> None:
    storage = container.registries()["storage"]
    await storage.register("backups", {"type": TYPE})
    await storage.get_provider_health("backups")
    told = (await client.get("/healthz")).json()
    assert told.keys() == {"status", "version", "releaseId", "serviceId", "description", "checks"}
    (check,) = told["checks"]["storage:backups"]
    age, latency = check.pop("age"), check.pop("observedValue")
    assert 0 <= age < 60
    assert 0 <= latency < 60_000
    now = datetime.now(UTC)
    assert now - timedelta(minutes=1) < datetime.fromisoformat(check.pop("time")) <= now
    assert check == {
        "componentId": "storage/backups",
        "componentType": "datastore",
        "observedUnit": "ms",
        "status": "pass",
        "required": False,
        "state": "ready",
        "health": "healthy",
        "breaker": "closed",
    }


async def test_no_request_asks_a_backend(
    client: httpx2.AsyncClient, container: ApplicationContainer, asked: Any
) -> None:
    storage = container.registries()["storage"]
    await storage.register("one", {"type": TYPE, "required": True})
    await storage.register("other", {"type": TYPE})
    await storage.get_provider_health("one")
    before = asked.connected, asked.checked
    for path in ("/livez", "/readyz", "/healthz", "/healthz?group=storage"):
        for _ in range(10):
            assert (await client.get(path)).status_code == 200
    assert (asked.connected, asked.checked) == before == (1, 1)


async def test_a_required_provider_stands_in_the_way_until_it_is_well(
    client: httpx2.AsyncClient, container: ApplicationContainer, asked: Any
) -> None:
    storage = container.registries()["storage"]
    await storage.register("vital", {"type": TYPE, "required": True, "health": {"retries": 0}})
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "fail"
    assert "storage/vital is required" in answer.json()["output"]
    await storage.get_provider_health("vital")
    assert (await client.get("/readyz")).status_code == 200
    asked.answer = ConnectionRefusedError("gone fishing")
    for _ in range(3):
        await storage.get_provider_health("vital")
    for path in ("/readyz", "/healthz"):
        answer = await client.get(path)
        assert answer.status_code == 503
        (check,) = answer.json()["checks"]["storage:vital"]
        assert check["status"] == "fail"
        assert "gone fishing" in check["output"]
    assert (await client.get("/livez")).status_code == 200


async def test_an_open_breaker_of_a_provider_that_is_not_required_is_only_a_warning(
    client: httpx2.AsyncClient, container: ApplicationContainer
) -> None:
    storage: Any = container.registries()["storage"]
    breaker = {"failure_threshold": 1}
    provider = await storage.register("extra", {"type": TYPE, "circuit_breaker": breaker})
    with pytest.raises(Exception, match="nobody there"):
        await provider.fail()
    assert (await client.get("/readyz")).json()["status"] == "pass"
    answer = await client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "warn"
    (check,) = answer.json()["checks"]["storage:extra"]
    assert (check["status"], check["breaker"]) == ("fail", "open")
    assert "circuit breaker" in check["output"]


async def test_a_degraded_provider_is_a_warning(
    client: httpx2.AsyncClient, container: ApplicationContainer, asked: Any
) -> None:
    storage = container.registries()["storage"]
    await storage.register("slow", {"type": TYPE, "required": True})
    asked.answer = HealthStatus.DEGRADED
    await storage.get_provider_health("slow")
    assert (await client.get("/readyz")).status_code == 200
    assert (await client.get("/healthz")).json()["status"] == "warn"


# -- required providers that never came to be ----------------------------------------------


async def test_a_required_provider_with_faulty_settings_is_not_overlooked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__BAD__TYPE", "s3")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__BAD__REQUIRED", "true")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__BAD__BUKET", "x")
    async with started() as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        (check,) = answer.json()["checks"]["storage:bad"]
        assert check["status"] == "fail"
        assert "BUKET: unknown setting" in check["output"]


@pytest.mark.parametrize("required", ["true", "maybe"])
async def test_nor_is_one_of_which_not_even_the_entry_can_be_read(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, required: str
) -> None:
    (folder / "more.toml").write_text(
        f'[storage.providers.bad]\ntype="s3"\nbucket="x"\nrequired="{required}"\npriority="lots"\n'
        '[storage.providers.off]\nrequired=true\nenabled=false\npriority="lots"\n'
        '[storage.providers.spare]\ntype="s3"\npriority="lots"\n'
    )
    monkeypatch.setenv("PURVEYOR_REGISTRY__DISCOVERY__CONFIG_PATH", str(folder / "more.toml"))
    async with started() as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert list(answer.json()["checks"]) == ["storage:bad"]
        assert "storage/bad is required" in answer.json()["output"]
        assert "storage/off" not in answer.json()["output"]
        every = (await client.get("/healthz")).json()["checks"]
        assert "storage:spare" in every
        images = (await client.get("/healthz", params={"group": "images"})).json()["checks"]
        assert images == {}


async def test_nor_those_of_a_file_that_cannot_be_read(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "more.toml").write_text("[storage.providers.bad\n")
    monkeypatch.setenv("PURVEYOR_REGISTRY__DISCOVERY__CONFIG_PATH", str(folder / "more.toml"))
    async with started() as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert any("more.toml" in note for note in answer.json()["notes"])


async def test_nor_those_of_a_catalogue_that_cannot_be_read(home: Path) -> None:
    container = ApplicationContainer(monitoring=False)
    async with container.lifespan():
        await container.catalogue().add("storage", "kept", {"type": TYPE, "required": True})
    path = container.catalogue().address.path
    assert path is not None
    with closing(sqlite3.connect(path)) as database:  # as another release may write it
        changed = (
            "update purveyor_registrations set config = json_set(config, '$.priority', 'lots')"
        )
        assert database.execute(changed).rowcount == 1
        database.commit()
    async with started() as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert "storage/kept is required" in answer.json()["output"]
    path.write_bytes(b"this is no database" * 1000)
    async with started() as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "fail"}  # nor can anybody tell who asks


async def test_before_it_was_started_a_service_is_not_ready(home: Path) -> None:
    async with asking(create_app(ApplicationContainer())) as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/livez")).status_code == 200


@asynccontextmanager
async def started() -> AsyncGenerator[httpx2.AsyncClient]:
    """Start an application of the settings there are, and give a client that may know all."""
    container = ApplicationContainer(monitoring=False)
    async with (
        container.lifespan(),
        asking(create_app(container, anonymous=Role.READER)) as client,
    ):
        yield client


# -- groups ----------------------------------------------------------------------------------


async def test_groups_are_the_required_ones_a_family_or_a_pipeline(
    client: httpx2.AsyncClient, container: ApplicationContainer
) -> None:
    storage = container.registries()["storage"]
    await storage.register("vital", {"type": TYPE, "required": True, "pipelines": ["nightly"]})
    await storage.register("extra", {"type": TYPE, "pipelines": ["weekly"]})
    await storage.get_provider_health("vital")

    async def names(group: str) -> set[str]:
        answer = await client.get("/healthz", params={"group": group})
        return set(answer.json()["checks"])

    assert await names("required") == {"storage:vital"}
    assert await names("data_sources") == {"data_sources:local_file"}
    assert await names("data") == {"data_sources:local_file"}  # an alias
    nightly = await names("nightly")
    assert "storage:vital" in nightly
    assert "storage:extra" not in nightly
    assert "storage:filesystem" in nightly  # it serves all


async def test_an_unknown_group_is_told_with_those_there_are(
    container: ApplicationContainer,
) -> None:
    storage = container.registries()["storage"]
    await storage.register("vital", {"type": TYPE, "pipelines": ["nightly"]})
    async with asking(create_app(container, anonymous=Role.READER)) as client:
        answer = await client.get("/readyz", params={"group": "nigthly"})
        assert answer.status_code == 404
        available = answer.json()["context"]["available"]
        assert available == ["required", *container.registries(), "nightly"]
    async with asking(create_app(container)) as stranger:
        answer = await stranger.get("/readyz", params={"group": "nigthly"})
        assert answer.status_code == 404
        assert "nightly" not in answer.json()["context"]["available"]


# -- who is told what --------------------------------------------------------------------------


async def test_details_are_told_to_readers_only(container: ApplicationContainer) -> None:
    app = create_app(container)
    tokens = app.state.parts.tokens()
    _, token = await tokens.create("watch", Role.READER)
    async with asking(app) as stranger:
        assert (await stranger.get("/healthz")).json() == {"status": "pass"}
    async with asking(app, token) as reader:
        assert (await reader.get("/healthz")).json()["checks"]
        await tokens.revoke("watch")
        answer = await reader.get("/healthz")  # a probe asks for health, not for its token
        assert (answer.status_code, answer.json()) == (200, {"status": "pass"})


async def test_a_catalogue_that_is_away_does_not_make_the_service_ill(
    container: ApplicationContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(container)
    tokens = app.state.parts.tokens()

    async def away(_: str) -> None:
        raise CatalogueUnavailableError("the database is away")

    monkeypatch.setattr(tokens, "verify", away)
    async with asking(app, "pvy_1_2") as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "pass"})


async def test_within_another_application_it_is_below_its_path(
    app: FastAPI, container: ApplicationContainer
) -> None:
    other = FastAPI()
    other.mount("/purveyor", app)
    async with asking(other) as client:
        for path in ("/livez", "/readyz", "/healthz", "/api/v1/events"):
            assert (await client.get(f"/purveyor{path}")).status_code == 200, path
            assert (await client.get(path)).status_code == 404, path


# -- the end -------------------------------------------------------------------------------------


async def test_a_service_that_ends_is_alive_and_not_ready(
    app: FastAPI, client: httpx2.AsyncClient
) -> None:
    app.state.stopping.set()
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "ending" in answer.json()["output"]
    assert (await client.get("/livez")).status_code == 200


async def test_a_head_request_has_no_body(app: FastAPI, serve: Serve) -> None:
    async with serve(app) as served, httpx2.AsyncClient(base_url=served.base_url) as client:
        for _ in range(2):  # on the same connection: nothing is left over on it
            answer = await client.head("/healthz")
            assert (answer.status_code, answer.content) == (200, b"")


async def test_liveness_does_not_wait_for_anything_of_the_providers(
    app: FastAPI, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    del app.state.container
    del app.state.parts
    async with asyncio.timeout(5):
        assert (await client.get("/livez")).json() == {"status": "pass"}
