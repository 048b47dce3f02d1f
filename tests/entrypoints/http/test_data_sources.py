"""Data sources over HTTP: the same as providers, and a look at the data."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

SOURCES = "/api/v1/data-sources"


@pytest.fixture
def data(home: Path) -> Path:
    """The folder of the embedded data source, with files."""
    folder = home / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "orders.csv").write_text("id,name\n1,a\n2,b\n3,c\n")
    (folder / "deep" / "more.jsonl").write_text('{"x": 1}\n{"x": 1e999}\n')
    (folder / "größe.txt").write_text("one\ntwo\n")
    return folder


@pytest.mark.requirement("S3.34")
async def test_a_data_source_is_registered_shown_tested_and_removed(
    client: httpx2.AsyncClient, data: Path
) -> None:
    url = f"{SOURCES}/files"
    made = await client.put(url, json={"type": "local_file", "root": str(data)})
    assert made.status_code == 201
    assert made.json()["family"] == "data_sources"
    listed = [one["name"] for one in (await client.get(SOURCES)).json()["items"]]
    assert listed == ["files", "local_file"]
    assert (await client.get("/api/v1/providers/data_sources/files")).json() == made.json()
    assert (await client.post(f"{url}/test")).json()["status"] == "healthy"
    tag = (await client.get(url)).headers["etag"]
    known = await client.get(url, headers={"If-None-Match": tag})
    assert known.status_code == 304
    assert (await client.delete(url, headers={"If-Match": tag})).status_code == 204
    assert (await client.get(url)).status_code == 404


@pytest.mark.requirement("S3.34")
async def test_items_are_browsed_page_by_page(client: httpx2.AsyncClient, data: Path) -> None:
    first = (await client.get(f"{SOURCES}/local_file/items?limit=2")).json()
    assert [one["name"] for one in first["items"]] == ["deep/more.jsonl", "größe.txt"]
    assert first["items"][0]["format"] == "jsonl"
    url = f"{SOURCES}/local_file/items"
    second = (await client.get(url, params={"after": first["next"]})).json()
    assert [one["name"] for one in second["items"]] == ["orders.csv"]
    assert second["next"] is None
    deep = (await client.get(url, params={"prefix": "deep/"})).json()
    assert [one["name"] for one in deep["items"]] == ["deep/more.jsonl"]


async def test_an_item_is_looked_at(client: httpx2.AsyncClient, data: Path) -> None:
    url = f"{SOURCES}/local_file"
    found = (await client.get(f"{url}/metadata", params={"item": "orders.csv"})).json()
    assert (found["name"], found["size"]) == ("orders.csv", 20)
    assert [one["name"] for one in found["columns"]] == ["id", "name"]
    rows = (await client.get(f"{url}/preview", params={"item": "orders.csv", "rows": 2})).json()
    assert [one["name"] for one in rows["columns"]] == ["id", "name"]
    assert len(rows["rows"]) == 2
    assert rows["truncated"]


async def test_values_that_json_has_not_are_text(client: httpx2.AsyncClient, data: Path) -> None:
    url = f"{SOURCES}/local_file/preview"
    answer = await client.get(url, params={"item": "deep/more.jsonl"})
    assert answer.status_code == 200
    assert json.loads(answer.text)["rows"] == [[1], ["inf"]]


async def test_what_cannot_be_looked_at_is_told(client: httpx2.AsyncClient, data: Path) -> None:
    for path, status, code in (
        ("/local_file/preview?item=none.csv", 404, "ITEM_NOT_FOUND"),
        ("/local_file/preview?item=../a", 422, "INVALID_ITEM"),
        ("/local_file/preview?item=a%00b", 422, "INVALID_REQUEST"),
        ("/local_file/preview?item=a&rows=1001", 422, "INVALID_REQUEST"),
        ("/local_file/preview", 422, "INVALID_REQUEST"),
        ("/local_file/metadata?item=%2Fetc%2Fpasswd", 422, "INVALID_ITEM"),
        ("/local_file/items?limit=1001", 422, "INVALID_REQUEST"),
        ("/local_fil/items", 404, "NOT_FOUND"),
    ):
        answer = await client.get(f"{SOURCES}{path}")
        assert (answer.status_code, answer.json()["code"]) == (status, code), path


async def test_a_question_needs_a_source_that_answers_some(
    client: httpx2.AsyncClient, data: Path
) -> None:
    url = f"{SOURCES}/local_file/query"
    answer = await client.post(url, json={"statement": "select 1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "UNSUPPORTED_CAPABILITY")
    faults = {"statement": "", "limit": 0, "colour": "red"}
    answer = await client.post(url, json=faults)
    assert answer.status_code == 422
    assert {one["at"] for one in answer.json()["faults"]} == {
        "body.statement", "body.limit", "body.colour",
    }  # fmt: skip
