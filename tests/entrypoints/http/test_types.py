"""Families and provider types over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from purveyor.containers import ApplicationContainer

TYPES = "/api/v1/types"


async def test_families_say_how_many_providers_they_have(client: httpx2.AsyncClient) -> None:
    found = {one["name"]: one for one in (await client.get("/api/v1/families")).json()["items"]}
    assert list(found) == ["ai", "audio", "data_sources", "flashcards", "images", "storage"]
    assert (found["storage"]["default"], found["storage"]["providers"]) == ("filesystem", 2)
    assert (found["ai"]["default"], found["ai"]["providers"]) == (None, 0)


@pytest.mark.requirement("S0.30")
async def test_types_are_listed_with_their_metadata(client: httpx2.AsyncClient) -> None:
    found = (await client.get(f"{TYPES}?family=storage&capability=remote-storage")).json()["items"]
    rows = {one["name"]: one for one in found}
    assert {"s3", "sftp", "smb"} <= rows.keys()
    assert "filesystem" not in rows
    assert (rows["s3"]["extra"], rows["s3"]["display_name"]) == ("s3", "Amazon S3")
    for query in ("family=storrage", "capability=nothing", "families=storage"):
        assert (await client.get(f"{TYPES}?{query}")).status_code == 422


async def test_every_type_describes_its_settings(
    client: httpx2.AsyncClient, container: ApplicationContainer
) -> None:
    rows = (await client.get(TYPES)).json()["items"]
    assert len(rows) > 15
    for row in rows:
        answer = await client.get(f"{TYPES}/{row['family']}/{row['name']}")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["settings_schema"]["type"] == "object"
        marked = {
            name
            for name, field in found["settings_schema"]["properties"].items()
            if field.get("x-secret")
        }
        assert marked == set(found["secrets"])
        assert "priority" in found["common_schema"]["properties"]
    s3 = (await client.get(f"{TYPES}/storage/s3")).json()
    assert s3["secrets"] == ["access_key", "secret_key", "session_token"]
    assert s3["settings_schema"]["required"] == ["bucket"]


async def test_an_unknown_type_is_answered_with_those_there_are(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"{TYPES}/storage/s4")
    assert answer.status_code == 404
    assert "s3" in answer.json()["context"]["available"]


def test_a_type_is_imported_when_it_is_described_and_no_other(folder: Path) -> None:
    script = """
import asyncio, json, sys, httpx2
from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.providers.registry import Role

async def main():
    app = create_app(ApplicationContainer(monitoring=False), anonymous=Role.READER)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        await client.get("/api/v1/types")
        before = [name for name in sys.modules if name.startswith("purveyor.providers.storage.")]
        await client.get("/api/v1/types/storage/smb")
        after = [name for name in sys.modules if name.startswith("purveyor.providers.storage.")]
    print(json.dumps(["smb_config" in " ".join(before), "sftp" in " ".join(after),
                      any(name.endswith("smb_config") for name in after)]))

asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(ran.stdout) == [False, False, True]
