"""The application as a whole."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

WELL = "/api/v1/providers/storage/filesystem"


async def test_a_caller_on_this_machine_needs_no_token_as_long_as_there_is_none(
    client: httpx2.AsyncClient,
) -> None:
    assert (await client.get(WELL)).json()["name"] == "filesystem"


async def test_nobody_is_sent_to_the_host_that_a_request_names(client: httpx2.AsyncClient) -> None:
    for path in ("/api/v1/providers/", "/login/", "/v1/models/"):
        answer = await client.get(path, headers={"Host": "evil.example"})
        assert "location" not in answer.headers, path
        assert answer.status_code in (401, 404), path


async def test_a_real_server_answers_the_same(client: httpx2.AsyncClient, served: Any) -> None:
    async with httpx2.AsyncClient(base_url=served.base_url) as remote:
        assert (await remote.get(WELL)).json()["name"] == (await client.get(WELL)).json()["name"]


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/api/v1/nothing", 404, "no such path"),
        ("PATCH", "/api/v1/families", 405, "does not take this method"),
    ],
)
async def test_what_is_no_route_names_the_document_of_those_there_are(
    client: httpx2.AsyncClient, method: str, path: str, status: int, said: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert "/openapi.json" in answer.json()["detail"]


async def test_what_is_no_name_is_told_what_a_name_is(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/providers/storage/%3Cscript%3E")
    assert answer.status_code == 422
    assert "path.name: must be 1 to 128 letters" in answer.json()["detail"]
    assert "script" not in answer.text
