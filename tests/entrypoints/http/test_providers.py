"""Providers over HTTP: listing, registering, changing, testing, removing; and bad input."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.entrypoints.http.filters import supported_providers
from purveyor.entrypoints.http.problem import status_of
from purveyor.providers.data_sources.errors import (
    DataSourcePermissionError,
    DataSourceTimeoutError,
    ItemNotFoundError,
)
from purveyor.providers.registry import Role

PROVIDERS = "/api/v1/providers"
MADE = f"{PROVIDERS}/storage/made"
SECRET = "hunter2-hunter2"
S3 = {
    "type": "s3",
    "bucket": "nightly",
    "endpoint_url": "http://127.0.0.1:9",
    "access_key": "AKIAEXAMPLE",
    "secret_key": SECRET,
}


async def _names(client: httpx2.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"{PROVIDERS}?{query}")
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["items"]]


async def _put(client: httpx2.AsyncClient, body: Any, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.put(MADE, json=body, headers=named)


async def _records(client: httpx2.AsyncClient) -> list[tuple[str, str, str]]:
    found = (await client.get("/api/v1/audit")).json()["items"]
    return [(one["action"], one["target"], one["outcome"]) for one in reversed(found)]


# -- which there are ---------------------------------------------------------------------


@pytest.mark.requirement("S0.30")
async def test_providers_are_listed_with_their_metadata(client: httpx2.AsyncClient) -> None:
    answer = await client.get(PROVIDERS)
    assert [(one["family"], one["name"]) for one in answer.json()["items"]] == [
        ("data_sources", "local_file"),
        ("storage", "filesystem"),
        ("storage", "sqlite"),
    ]
    row = answer.json()["items"][1]
    assert (row["type"], row["status"], row["breaker"]) == ("filesystem", "registered", "closed")
    assert row["is_default"]
    assert "local-storage" in row["capabilities"]
    assert row["display_name"] == "File system"
    assert row["description"]


async def test_pages_follow_one_another_while_providers_come_and_go(
    client: httpx2.AsyncClient, container: ApplicationContainer
) -> None:
    registry = container.storage.registry
    for letter in "bdfhj":
        await registry.register(letter, {"type": "filesystem"})
    first = await client.get(f"{PROVIDERS}?family=storage&limit=2")
    assert [one["name"] for one in first.json()["items"]] == ["b", "d"]
    await registry.unregister("d")
    await registry.register("a", {"type": "filesystem"})
    await registry.register("e", {"type": "filesystem"})
    link = first.headers["link"]
    assert link.endswith('; rel="next"')
    second = await client.get(link.partition("<")[2].partition(">")[0])
    assert [one["name"] for one in second.json()["items"]] == ["e", "f"]
    last = await client.get(f"{PROVIDERS}?family=storage&limit=500&cursor={second.json()['next']}")
    assert [one["name"] for one in last.json()["items"]] == ["filesystem", "h", "j", "sqlite"]
    assert last.json()["next"] is None
    assert "link" not in last.headers


async def test_a_list_shows_at_once_what_changed(
    client: httpx2.AsyncClient, container: ApplicationContainer
) -> None:
    await client.get(PROVIDERS)
    await container.storage().put("a", b"a")
    with container.storage.registry.lease("filesystem"):
        row = (await client.get(f"{PROVIDERS}?q=filesystem")).json()["items"][0]
    assert (row["status"], row["lease_count"]) == ("ready", 1)
    await container.storage.registry.get_provider_health("filesystem")
    row = (await client.get(f"{PROVIDERS}?q=filesystem")).json()["items"][0]
    assert (row["health"], row["lease_count"]) == ("healthy", 0)


async def test_lists_are_narrowed_down(client: httpx2.AsyncClient) -> None:
    await client.put(MADE, json={"type": "filesystem", "priority": 10})
    await client.post(f"{PROVIDERS}/storage/sqlite/test")
    assert await _names(client, "family=storage&type=filesystem") == ["filesystem", "made"]
    assert await _names(client, "capability=local-storage&type=sqlite") == ["sqlite"]
    assert await _names(client, "status=ready") == ["sqlite"]
    assert await _names(client, "health=healthy") == ["sqlite"]
    assert await _names(client, "q=ADE") == ["made"]
    assert await _names(client, "q=nothing-of-the-kind") == []


@pytest.mark.requirement("S0.32")
@pytest.mark.parametrize(
    ("query", "code", "there_is"),
    [
        ("family=storrage", "UNKNOWN_FAMILY", "storage"),
        ("type=filesistem", "UNKNOWN_TYPE", "filesystem"),
        ("capability=serch", "UNKNOWN_CAPABILITY", "search"),
        ("limits=3", "UNKNOWN_PARAMETER", "limit"),
    ],
)
async def test_a_filter_that_there_is_not_is_told_with_those_there_are(
    client: httpx2.AsyncClient, query: str, code: str, there_is: str
) -> None:
    answer = await client.get(f"{PROVIDERS}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert there_is in answer.json()["context"]["available"]


async def test_a_filter_without_sense_is_refused(client: httpx2.AsyncClient) -> None:
    for query in ("status=x", "health=x", "limit=0", "limit=x", "cursor=x", "cursor=W10"):
        answer = await client.get(f"{PROVIDERS}?{query}")
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.requirement("S0.28", "S0.29")
async def test_supported_providers_are_those_of_the_registries(
    client: httpx2.AsyncClient, container: ApplicationContainer
) -> None:
    supported = supported_providers(container)
    assert {"filesystem", "s3", "sftp", "smb", "sqlite"} <= set(supported["storage"])
    found = (await client.get("/api/v1/families")).json()["items"]
    assert {one["name"]: one["types"] for one in found} == supported


# -- one of them -------------------------------------------------------------------------


@pytest.mark.requirement("S0.31", "S0.32")
async def test_an_unknown_name_is_answered_with_the_names_there_are(
    client: httpx2.AsyncClient,
) -> None:
    for action in ("", "/health", "/start", "/stop", "/restart", "/reset-breaker", "/test"):
        method = "GET" if action in ("", "/health") else "POST"
        answer = await client.request(method, f"{PROVIDERS}/storage/filesistem{action}")
        assert answer.status_code == 404
        assert answer.json()["context"]["available"] == ["filesystem", "sqlite"]
        answer = await client.request(method, f"{PROVIDERS}/storrage/filesystem{action}")
        assert answer.status_code == 404
        assert answer.json()["context"]["available"][0] == "storage"


async def test_a_provider_is_shown_with_settings_health_and_where_it_comes_from(
    client: httpx2.AsyncClient, home: Path
) -> None:
    found = (await client.get(f"{PROVIDERS}/storage/filesystem")).json()
    assert found["settings"]["root"] == str(home / "storage" / "filesystem")
    assert found["origin"] == "built in"
    assert found["catalogue"] is None
    assert found["health_summary"]["status"] == "unknown"
    assert found["circuit_breaker"] == {"state": "closed", "retry_after": 0.0}


async def test_what_is_known_is_shown_while_the_catalogue_is_away(
    container: ApplicationContainer,
) -> None:
    app, catalogue = create_app(container), container.catalogue()
    _, token = await app.state.parts.tokens().create("ci", Role.OPERATOR)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app),
        base_url="http://127.0.0.1",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        assert (await client.get(f"{PROVIDERS}/storage/filesystem")).status_code == 200
        await catalogue.close()
        path = catalogue.address.path
        assert path is not None
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        path.mkdir()
        shown = await client.get(f"{PROVIDERS}/storage/filesystem")
        assert (shown.status_code, shown.json()["catalogue"]) == (200, None)
        restarted = await client.post(f"{PROVIDERS}/storage/filesystem/restart")
        assert (restarted.status_code, restarted.json()["status"]) == (200, "ready")
        assert (await client.get(f"{PROVIDERS}/storage/made")).status_code == 503


async def test_what_a_reader_has_already_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    url = f"{PROVIDERS}/storage/filesystem"
    tag = (await client.get(url)).headers["etag"]
    again = await client.get(url, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    await client.post(f"{url}/test")
    assert (await client.get(url, headers={"If-None-Match": tag})).status_code == 200


# -- registering -------------------------------------------------------------------------


@pytest.mark.requirement("S3.37")
async def test_a_provider_is_registered_once_and_no_secret_comes_back(
    client: httpx2.AsyncClient, home: Path
) -> None:
    first = await _put(client, S3)
    again = await _put(client, S3)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["etag"] == again.headers["etag"]
    shown = again.json()
    assert shown["settings"]["bucket"] == "nightly"
    assert shown["settings"]["secret_key"] == "**********"
    assert shown["catalogue"]["version"] == 1
    answers = [first.text, again.text, (await client.get(MADE)).text]
    answers += [(await client.get(url)).text for url in (PROVIDERS, "/api/v1/audit")]
    assert not any(SECRET in answer for answer in answers)
    assert SECRET.encode() not in (home / "catalogue.db").read_bytes()
    assert await _records(client) == [("register", "storage/made", "ok")]


async def test_a_change_names_the_version_it_changes(client: httpx2.AsyncClient) -> None:
    tag = (await _put(client, S3)).headers["etag"]
    changed = {"type": "s3", "bucket": "weekly", "endpoint_url": "http://127.0.0.1:9"}
    blind = await _put(client, changed)
    assert (blind.status_code, blind.json()["code"]) == (428, "PRECONDITION_REQUIRED")
    assert "If-Match" in blind.json()["detail"]
    done = await _put(client, changed, If_Match=tag)
    assert (done.status_code, done.json()["settings"]["bucket"]) == (200, "weekly")
    assert done.json()["settings"]["secret_key"] == "**********"  # left out, so it stays
    late = await _put(client, {**changed, "bucket": "yearly"}, If_Match=tag)
    assert (late.status_code, late.json()["code"]) == (412, "CONFLICT")
    assert late.json()["context"]["version"] == done.json()["catalogue"]["version"]
    assert (await _put(client, changed, If_Match=tag)).status_code == 200  # it is so already
    assert (await client.get(MADE)).json()["settings"]["bucket"] == "weekly"


async def test_health_may_change_between_reading_and_writing(client: httpx2.AsyncClient) -> None:
    tag = (await _put(client, {"type": "filesystem"})).headers["etag"]
    await client.post(f"{MADE}/test")
    assert (await client.get(MADE)).headers["etag"] != tag
    done = await _put(client, {"type": "filesystem", "priority": 9}, If_Match=tag)
    assert (done.status_code, done.json()["priority"]) == (200, 9)


async def test_only_a_new_one_is_asked_for(client: httpx2.AsyncClient) -> None:
    assert (await _put(client, S3, If_None_Match="*")).status_code == 201
    again = await _put(client, S3, If_None_Match="*")
    assert (again.status_code, again.json()["code"]) == (412, "ALREADY_EXISTS")
    gone = await client.put(f"{PROVIDERS}/storage/other", json=S3, headers={"If-Match": '"1.a"'})
    assert gone.status_code == 412


async def test_a_mask_is_no_secret(client: httpx2.AsyncClient) -> None:
    tag = (await _put(client, S3)).headers["etag"]
    answer = await _put(client, {**S3, "secret_key": "**********"}, If_Match=tag)
    assert answer.status_code == 422
    assert "leave it out to keep it" in answer.json()["detail"]


async def test_all_faults_of_settings_are_told_and_no_value(client: httpx2.AsyncClient) -> None:
    answer = await _put(client, {**S3, "bucket": 7, "unknown": SECRET, "priority": SECRET})
    assert answer.status_code == 422
    assert SECRET not in answer.text
    assert SECRET not in (await client.get("/api/v1/audit")).text
    answer = await _put(client, {**S3, "bucket": 7, "colour": SECRET})
    assert {one["where"] for one in answer.json()["context"]["problems"]} == {"bucket", "colour"}
    assert SECRET not in answer.text


@pytest.mark.requirement("S0.31", "S0.32")
async def test_an_unknown_type_is_answered_with_those_there_are(client: httpx2.AsyncClient) -> None:
    answer = await _put(client, {"type": "s4"})
    assert (answer.status_code, answer.json()["code"]) == (422, "UNKNOWN_TYPE")
    assert {"s3", "filesystem"} <= set(answer.json()["context"]["available"])


async def test_a_provider_of_settings_is_theirs_to_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__MADE__TYPE", "filesystem")
    container: Any = ApplicationContainer(monitoring=False)
    async with container.lifespan():
        app = create_app(container, anonymous=Role.ADMIN)
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1"
        ) as client:
            answer = await _put(client, {"type": "sqlite"})
    assert (answer.status_code, answer.json()["code"]) == (409, "ALREADY_EXISTS")
    assert "PURVEYOR_STORAGE__PROVIDERS__MADE" in answer.json()["detail"]


async def test_one_that_does_not_answer_is_not_registered_when_it_is_tested(
    client: httpx2.AsyncClient,
) -> None:
    postgresql = {"type": "postgresql", "host": "127.0.0.1", "port": 9, "password": SECRET}
    url = f"{PROVIDERS}/data_sources/warehouse"
    answer = await client.put(f"{url}?test=true", json=postgresql)
    assert (answer.status_code, answer.json()["code"]) == (422, "TEST_FAILED")
    assert (await client.get(url)).status_code == 404
    assert (await client.put(f"{url}?test=true", json={"type": "local_file"})).status_code == 201


# -- testing -----------------------------------------------------------------------------


async def test_a_provider_is_tested_as_it_is(client: httpx2.AsyncClient) -> None:
    await _put(client, S3)
    answer = await client.post(f"{PROVIDERS}/storage/filesystem/test")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    await client.put(
        f"{PROVIDERS}/data_sources/gone",
        json={"type": "postgresql", "host": "127.0.0.1", "port": 9},
    )
    answer = await client.post(f"{PROVIDERS}/data_sources/gone/test")
    assert (answer.status_code, answer.json()["status"]) == (200, "unhealthy")
    health = (await client.get(f"{PROVIDERS}/data_sources/gone/health")).json()
    assert [one["status"] for one in health["history"]] == ["unhealthy"]


async def test_settings_are_tried_and_not_kept(client: httpx2.AsyncClient, folder: Path) -> None:
    body = {"type": "sqlite", "path": str(folder / "tried.db")}
    answer = await client.post(f"{MADE}/test", json=body)
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    assert (await client.get(MADE)).status_code == 404
    assert await _names(client, "q=made") == []
    assert await _records(client) == [("try", "storage/made", "ok")]


async def test_stored_secrets_are_shown_to_no_other_server(client: httpx2.AsyncClient) -> None:
    connections: list[str] = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append("somebody")
        writer.close()

    foreign = await asyncio.start_server(note, "127.0.0.1", 0)
    async with foreign:
        url = f"http://127.0.0.1:{foreign.sockets[0].getsockname()[1]}"
        await _put(client, S3)
        moved = {"type": "s3", "bucket": "nightly", "endpoint_url": url}
        answer = await client.post(f"{MADE}/test", json=moved)
        assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_CONFIG")
        assert answer.json()["context"]["moved"] == ["endpoint_url"]
        other_type = {"type": "filesystem"}
        assert (await client.post(f"{MADE}/test", json=other_type)).status_code == 200
        assert connections == []
        own = {**moved, "access_key": "k", "secret_key": "given-anew"}
        answer = await client.post(f"{MADE}/test", json=own)
        assert (answer.status_code, answer.json()["status"]) == (200, "unhealthy")
        assert connections != []
    assert SECRET not in answer.text


# -- what operators do -------------------------------------------------------------------


async def test_providers_are_started_stopped_and_restarted(client: httpx2.AsyncClient) -> None:
    url = f"{PROVIDERS}/storage/sqlite"
    statuses = [
        (await client.post(f"{url}/{action}")).json()["status"]
        for action in ("start", "stop", "start", "restart")
    ]
    assert statuses == ["ready", "disposed", "ready", "ready"]
    assert [action for action, _, _ in await _records(client)] == [
        "start", "stop", "start", "restart",
    ]  # fmt: skip


async def test_a_circuit_breaker_is_reset(
    client: httpx2.AsyncClient, container: ApplicationContainer
) -> None:
    body = {"type": "postgresql", "host": "127.0.0.1", "port": 9}
    body["circuit_breaker"] = {"failure_threshold": 1, "recovery_timeout": 60}
    url = f"{PROVIDERS}/data_sources/gone"
    await client.put(url, json=body)
    with pytest.raises(ConnectionError):
        await container.data_sources("gone").get_metadata("public.a")
    breaker = (await client.get(url)).json()["circuit_breaker"]
    assert breaker["state"] == "open"
    assert 50 < breaker["retry_after"] <= 60
    refused = await client.get("/api/v1/data-sources/gone/metadata?item=a")
    assert (refused.status_code, refused.json()["code"]) == (503, "CIRCUIT_OPEN")
    assert 50 < int(refused.headers["retry-after"]) <= 60
    reset = await client.post(f"{url}/reset-breaker")
    assert reset.json()["circuit_breaker"] == {"state": "closed", "retry_after": 0.0}


async def test_a_provider_is_removed_by_its_version(client: httpx2.AsyncClient) -> None:
    tag = (await _put(client, {"type": "filesystem"})).headers["etag"]
    changed = await _put(client, {"type": "filesystem", "priority": 1}, If_Match=tag)
    refused = await client.delete(MADE, headers={"If-Match": tag})
    assert (refused.status_code, refused.json()["code"]) == (412, "CONFLICT")
    done = await client.delete(MADE, headers={"If-Match": changed.headers["etag"]})
    assert (done.status_code, done.content) == (204, b"")
    assert (await client.delete(MADE)).status_code == 404
    assert [outcome for _, _, outcome in await _records(client)] == [
        "ok", "ok", "CONFLICT", "ok", "NOT_FOUND",
    ]  # fmt: skip


async def test_a_disabled_provider_and_a_faulty_one_are_shown(
    client: httpx2.AsyncClient, container: ApplicationContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await _put(client, {"type": "filesystem", "enabled": False})).status_code == 201
    shown = (await client.get(MADE)).json()
    assert shown["status"] == "disposed"
    assert "is disabled" in shown["last_error"]
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__BAD__TYPE", "s3")
    assert (await client.post("/api/v1/refresh")).status_code == 200
    row = (await client.get(f"{PROVIDERS}?q=bad")).json()["items"][0]
    assert (row["status"], row["registered_at"]) == ("error", None)
    assert "BUCKET" in row["last_error"]
    assert (await client.get(f"{PROVIDERS}/storage/bad")).json()["last_error"] == row["last_error"]
    failed = (await client.get("/api/v1/discovery")).json()["failed"]
    assert [(one["name"], one["code"]) for one in failed] == [("bad", "INVALID_CONFIG")]


async def test_a_shadowed_provider_is_told_as_long_as_it_is(
    client: httpx2.AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "providers.toml"
    file.write_text('[storage.providers.made]\ntype = "sqlite"\n')
    monkeypatch.setenv("PURVEYOR_REGISTRY__DISCOVERY__CONFIG_PATH", str(file))
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__MADE__TYPE", "filesystem")
    for _ in range(2):
        await client.post("/api/v1/refresh")
        shadowed = (await client.get("/api/v1/discovery")).json()["shadowed"]
        assert [(one["name"], one["outcome"]) for one in shadowed] == [("made", "skipped")]
        assert "PURVEYOR_STORAGE__PROVIDERS__MADE" in shadowed[0]["reason"]


async def test_a_change_that_cannot_be_put_in_force_says_why(
    client: httpx2.AsyncClient, folder: Path
) -> None:
    await _put(client, {"type": "sqlite", "path": str(folder / "a.db")})
    tag = (await client.post(f"{MADE}/start")).headers["etag"]
    (folder / "file").touch()
    beyond = {"type": "sqlite", "path": str(folder / "file" / "b.db")}
    changed = await _put(client, beyond, If_Match=tag)
    assert changed.status_code == 200
    assert changed.json()["settings"]["path"] == str(folder / "a.db")
    assert changed.json()["catalogue"]["settings"]["options"]["path"] == beyond["path"]
    assert changed.json()["catalogue"]["fault"]["message"]


async def test_records_are_read_page_by_page(client: httpx2.AsyncClient) -> None:
    for action in ("start", "stop", "start"):
        await client.post(f"{PROVIDERS}/storage/sqlite/{action}")
    first = (await client.get("/api/v1/audit?limit=2")).json()
    assert [one["action"] for one in first["items"]] == ["start", "stop"]
    second = (await client.get(f"/api/v1/audit?limit=2&before={first['next']}")).json()
    assert [(one["action"], one["caller"]) for one in second["items"]] == [("start", "anonymous")]
    assert second["next"] is None


# -- bad input ---------------------------------------------------------------------------


async def test_no_name_that_none_can_have_does_harm(client: httpx2.AsyncClient) -> None:
    for name in (
        "a%2Fb", "%2e%2e%2fetc", "%3Cscript%3Ealert(1)%3C%2Fscript%3E", "x" * 10_000, "%00",
        "a%20b", "-a", "%F0%9F%A6%86", "%ED%A0%80", "'%20or%201=1",
    ):  # fmt: skip
        for method in ("GET", "PUT", "DELETE"):
            body = {"type": "filesystem"} if method == "PUT" else None
            answer = await client.request(method, f"{PROVIDERS}/storage/{name}", json=body)
            assert answer.status_code in (404, 422)
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(answer.content) < 2000
            assert b"<script>" not in answer.content


async def test_a_name_may_have_letters_of_any_script(client: httpx2.AsyncClient) -> None:
    url = f"{PROVIDERS}/storage/größe-雪"
    assert (await client.put(url, json={"type": "filesystem"})).status_code == 201
    assert (await client.get(url)).json()["name"] == "größe-雪"
    assert await _names(client, "q=雪") == ["größe-雪"]


BODIES = [
    (b"", 422),
    (b"{", 400),
    (b"[]", 422),
    (b'"text"', 422),
    (b"\xff\xfe", 400),
    (b'{"type": "filesystem", "priority": NaN}', 400),
    (b'{"type": "filesystem", "priority": Infinity}', 400),
    (b'{"type": "filesystem", "timeout": 1e999}', 422),
    (b'{"type": "filesystem", "priority": 1' + b"0" * 30 + b"}", 422),
    (b'{"type": "filesystem", "priority": 1' + b"0" * 5000 + b"}", 400),
    (b'{"type": "filesystem", "metadata": ' + b"[" * 100 + b"]" * 100 + b"}", 422),
    (b"[" * 100_000, 422),
    (b'{"a":' * 100_000, 422),
    (b'{"type": "filesystem", "root": "\\u0000"}', 422),
    (b'{"type": "filesystem", "\\u0000": 1}', 422),
    (b'{"type": "filesystem", "root": "\\ud800"}', 422),
    (b'{"type": "filesystem", "options": []}', 422),
    (b'{"type": ["filesystem"]}', 422),
]


async def test_no_body_does_harm(client: httpx2.AsyncClient) -> None:
    for content, status in BODIES:
        answer = await client.put(
            MADE, content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status, (content[:50], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 2000


async def test_a_body_says_that_it_is_json(client: httpx2.AsyncClient) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", None):
        headers = {"Content-Type": media_type} if media_type else {}
        answer = await client.put(MADE, content=json.dumps(S3).encode(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


# -- who may -----------------------------------------------------------------------------


@pytest.fixture
async def closed(container: ApplicationContainer) -> AsyncGenerator[httpx2.AsyncClient]:
    """The API with tokens, which the client's headers named by roles have."""
    app: FastAPI = create_app(container)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1"
    ) as client:
        for role in Role:
            _, text = await app.state.parts.tokens().create(role.name.lower(), role)
            client.headers[f"x-{role.name.lower()}"] = text
        yield client


ROUTES = [
    ("GET", "/providers", "reader"),
    ("GET", "/providers/storage/sqlite", "reader"),
    ("GET", "/providers/storage/sqlite/health", "reader"),
    ("GET", "/discovery", "reader"),
    ("GET", "/types/storage/s3", "reader"),
    ("POST", "/providers/storage/sqlite/start", "operator"),
    ("POST", "/providers/storage/sqlite/test", "operator"),
    ("GET", "/data-sources/local_file/items", "operator"),
    ("POST", "/data-sources/local_file/query", "operator"),
    ("PUT", "/providers/storage/made", "admin"),
    ("PUT", "/data-sources/made", "admin"),
    ("DELETE", "/providers/storage/made", "admin"),
    ("POST", "/refresh", "admin"),
    ("GET", "/audit", "admin"),
]


async def test_each_route_wants_its_role(closed: httpx2.AsyncClient) -> None:
    async def ask(method: str, path: str, caller: str | None) -> int:
        headers = {"Content-Type": "application/json"}
        if caller:
            headers["Authorization"] = f"Bearer {closed.headers[f'x-{caller}']}"
        content = b"{" if method in ("PUT", "POST") and "start" not in path else b""
        answer = await closed.request(method, f"/api/v1{path}", headers=headers, content=content)
        return answer.status_code

    roles = ["reader", "operator", "admin"]
    for method, path, role in ROUTES:
        assert await ask(method, path, None) == 401  # before the body is read
        for caller in roles:
            status = await ask(method, path, caller)
            assert (status == 403) == (roles.index(caller) < roles.index(role)), (path, caller)
            assert status not in (401, 500)


async def test_only_administrators_try_settings_out(closed: httpx2.AsyncClient) -> None:
    def ask(role: str) -> Any:
        headers = {"Authorization": f"Bearer {closed.headers[f'x-{role}']}"}
        return closed.post(f"{MADE}/test", json={"type": "filesystem"}, headers=headers)

    assert (await ask("operator")).status_code == 403
    assert (await ask("admin")).json()["status"] == "healthy"


# -- in another application --------------------------------------------------------------


async def test_it_works_below_a_path_of_another_application(
    container: ApplicationContainer,
) -> None:
    outer = FastAPI()
    outer.mount("/purveyor", create_app(container, anonymous=Role.ADMIN))
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=outer), base_url="http://127.0.0.1"
    ) as client:
        page = await client.get(f"/purveyor{PROVIDERS}?limit=1")
        link = page.headers["link"].partition("<")[2].partition(">")[0]
        assert link.startswith(f"/purveyor{PROVIDERS}?limit=1&cursor=")
        assert (await client.get(link)).json()["items"][0]["name"] == "filesystem"
        assert (
            await client.put(f"/purveyor{MADE}", json={"type": "filesystem"})
        ).status_code == 201
        assert (await client.get("/purveyor/openapi.json")).status_code == 200


async def test_links_lead_through_a_proxy_that_takes_its_path_off(
    container: ApplicationContainer,
) -> None:
    app = create_app(container, anonymous=Role.ADMIN)
    transport = httpx2.ASGITransport(app=app, root_path="/behind")
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        page = await client.get(f"{PROVIDERS}?limit=1")
    assert page.headers["link"].startswith(f"</behind{PROVIDERS}?")


# -- problems ----------------------------------------------------------------------------


def test_errors_of_backends_and_of_callers_have_different_statuses() -> None:
    assert status_of(ItemNotFoundError("no such item")) == 404
    assert status_of(DataSourceTimeoutError("too late")) == 504
    assert status_of(DataSourcePermissionError("the database refuses us")) == 502
