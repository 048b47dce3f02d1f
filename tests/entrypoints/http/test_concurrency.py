"""Two operators at once: one wins, and the other is told; on replicas too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.providers.registry import CredentialManager, Role
from purveyor.testing.servers import PostgreSQL

MADE = "/api/v1/providers/storage/made"


def _settings(priority: int) -> dict[str, Any]:
    return {"type": "filesystem", "priority": priority}


@pytest.fixture
async def replicas(
    postgresql: PostgreSQL, home: object, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[list[httpx2.AsyncClient]]:
    """Two applications that share a catalogue on PostgreSQL."""
    monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", CredentialManager.generate_key())
    monkeypatch.setenv("PURVEYOR_CATALOGUE__URL", postgresql.dsn(postgresql.create_database()))
    async with AsyncExitStack() as stack:
        clients: list[httpx2.AsyncClient] = []
        for _ in range(2):
            container: Any = ApplicationContainer()
            await stack.enter_async_context(container.lifespan())
            app = create_app(container, anonymous=Role.ADMIN)
            transport = httpx2.ASGITransport(app=app)
            client = httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1")
            clients.append(await stack.enter_async_context(client))
        yield clients


async def _race(clients: list[httpx2.AsyncClient]) -> None:
    """Let many change the same version: exactly one does."""
    tag = (await clients[0].put(MADE, json=_settings(0))).headers["etag"]
    answers = await asyncio.gather(
        *(
            client.put(MADE, json=_settings(10 * number + 1), headers={"If-Match": tag})
            for number, client in enumerate(clients)
        )
    )
    assert sorted(one.status_code for one in answers) == [200, *[412] * (len(clients) - 1)]
    for answer in answers:
        if answer.status_code == 412:
            assert answer.json()["code"] == "CONFLICT"
            assert "Look at" in answer.json()["detail"] or "Get it anew" in answer.json()["detail"]
    won = next(one.json()["priority"] for one in answers if one.status_code == 200)
    assert (await clients[0].get(MADE)).json()["catalogue"]["settings"]["priority"] == won


async def test_of_two_who_change_the_same_version_one_is_told(client: httpx2.AsyncClient) -> None:
    await _race([client] * 4)


async def test_of_many_who_create_the_same_all_succeed_and_one_did_it(
    client: httpx2.AsyncClient,
) -> None:
    answers = await asyncio.gather(*(client.put(MADE, json=_settings(7)) for _ in range(5)))
    assert sorted(one.status_code for one in answers) == [200, 200, 200, 200, 201]
    assert len({one.headers["etag"] for one in answers}) == 1
    records = (await client.get("/api/v1/audit")).json()["items"]
    assert [one["outcome"] for one in records] == ["ok"]


async def test_of_many_who_want_a_new_one_one_gets_it(client: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(
        *(
            client.put(MADE, json=_settings(number), headers={"If-None-Match": "*"})
            for number in range(4)
        )
    )
    assert sorted(one.status_code for one in answers) == [201, 412, 412, 412]


async def test_a_change_and_a_removal_of_the_same_version(client: httpx2.AsyncClient) -> None:
    tag = (await client.put(MADE, json=_settings(0))).headers["etag"]
    changed, removed = await asyncio.gather(
        client.put(MADE, json=_settings(1), headers={"If-Match": tag}),
        client.delete(MADE, headers={"If-Match": tag}),
    )
    assert {changed.status_code, removed.status_code} in ({200, 412}, {412, 204})


@pytest.mark.server("postgresql")
async def test_replicas_refuse_what_the_other_changed_and_show_it(
    replicas: list[httpx2.AsyncClient],
) -> None:
    await _race(replicas)
    first, second = replicas
    tag = (await first.get(MADE)).headers["etag"]
    done = await first.put(MADE, json=_settings(99), headers={"If-Match": tag})
    assert done.status_code == 200
    async with asyncio.timeout(10):
        while (await second.get(MADE)).json()["priority"] != 99:  # noqa: ASYNC110 - it is another's
            await asyncio.sleep(0.01)
    assert (await second.delete(MADE)).status_code == 204
    assert (await second.get(MADE)).status_code == 404
