"""The application as a whole."""

from __future__ import annotations

from typing import Any

import httpx2

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
