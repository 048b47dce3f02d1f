"""The application as a whole."""

from __future__ import annotations

from typing import Any

import httpx2

WELL = "/api/v1/providers/storage/filesystem"


async def test_a_caller_on_this_machine_needs_no_token_as_long_as_there_is_none(
    client: httpx2.AsyncClient,
) -> None:
    assert (await client.get(WELL)).json()["name"] == "filesystem"


async def test_a_real_server_answers_the_same(client: httpx2.AsyncClient, served: Any) -> None:
    async with httpx2.AsyncClient(base_url=served.base_url) as remote:
        assert (await remote.get(WELL)).json()["name"] == (await client.get(WELL)).json()["name"]
