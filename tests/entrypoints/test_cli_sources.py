"""``purveyor sources``: what data there is, a look at it, and fetching it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from purveyor.services.fetch import read_manifest
from tests.entrypoints.conftest import Run

SALES = "city,amount\nBern,1\nGenf,2\nBiel,3\n"


@pytest.fixture(autouse=True)
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source ``files`` with three files."""
    made = folder / "data"
    (made / "2024").mkdir(parents=True)
    (made / "2024" / "sales.csv").write_text(SALES)
    (made / "2024" / "notes.txt").write_text("one\ntwo\n")
    (made / "people.json").write_text('[{"name": "Ada", "born": 1815}]')
    monkeypatch.setenv("PURVEYOR_DATA_SOURCES__PROVIDERS__FILES__TYPE", "local_file")
    monkeypatch.setenv("PURVEYOR_DATA_SOURCES__PROVIDERS__FILES__ROOT", str(made))
    return made


def lines(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_list_shows_the_sources(cli: Run) -> None:
    rows = lines(cli("sources", "list").stdout)
    assert [row[:3] for row in rows[1:]] == [
        ["files", "local_file", "default"],
        ["local_file", "local_file", ""],
    ]
    found = json.loads(cli("sources", "list", "--json").stdout)
    assert [one["name"] for one in found] == ["files", "local_file"]


def test_test_tells_whether_a_source_is_well(cli: Run, data: Path) -> None:
    assert lines(cli("sources", "test", "files").stdout)[1][:2] == ["files", "healthy"]
    data.rename(data.with_name("gone"))
    result = cli("sources", "test", "files")
    assert result.exit_code == 1
    assert lines(result.stdout)[1][:2] == ["files", "unhealthy"]
    assert json.loads(cli("sources", "test", "files", "--json").stdout)["status"] == "unhealthy"


def test_browse_lists_the_items(cli: Run) -> None:
    rows = lines(cli("sources", "browse").stdout)
    assert [row[0] for row in rows[1:]] == ["2024/notes.txt", "2024/sales.csv", "people.json"]
    assert [row[0] for row in lines(cli("sources", "browse", "files:2024/s").stdout)[1:]] == [
        "2024/sales.csv"
    ]


def test_browse_can_be_limited(cli: Run) -> None:
    result = cli("sources", "browse", "files", "--limit", 2)
    assert len(lines(result.stdout)) == 3
    assert result.stderr == "there are more than 2; --limit shows more\n"
    found = json.loads(cli("sources", "browse", "files", "--limit", 1, "--json").stdout)
    assert (found["items"][0]["name"], found["truncated"]) == ("2024/notes.txt", True)


def test_show_tells_what_is_known_of_an_item(cli: Run) -> None:
    result = cli("sources", "show", "files:2024/sales.csv")
    assert "2024/sales.csv" in result.stdout
    assert [row[0] for row in lines(result.stdout)[-2:]] == ["city", "amount"]
    found = json.loads(cli("sources", "show", "files:2024/sales.csv", "--json").stdout)
    assert (found["name"], [one["name"] for one in found["columns"]]) == (
        "2024/sales.csv",
        ["city", "amount"],
    )


def test_preview_shows_the_first_rows(cli: Run) -> None:
    result = cli("sources", "preview", "files:2024/sales.csv", "--rows", 2)
    assert lines(result.stdout) == [["city", "amount"], ["Bern", "1"], ["Genf", "2"]]
    assert result.stderr == "the first 2 rows; there are more\n"
    found = json.loads(cli("sources", "preview", ":people.json", "--json").stdout)
    assert found == {"columns": ["name", "born"], "rows": [["Ada", 1815]], "truncated": False}


def test_fetch_makes_a_workspace(cli: Run, folder: Path) -> None:
    result = cli("sources", "fetch", "files:2024/*", ":people.json", "--to", "work")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("work: 3 files (")
    assert "fetched files:2024/sales.csv" in result.stderr
    manifest = read_manifest(folder / "work")
    sales = next(one for one in manifest.items if one.item == "2024/sales.csv")
    assert (folder / "work" / sales.path).read_text() == SALES


def test_fetch_writes_the_manifest_as_json(cli: Run, folder: Path) -> None:
    result = cli("sources", "fetch", "files:people.json", "--json")
    assert json.loads(result.stdout) == json.loads((folder / "workspace/manifest.json").read_text())


def test_a_failed_fetch_leaves_nothing(cli: Run, folder: Path) -> None:
    result = cli("sources", "fetch", "files:people.json", "files:gone.csv", "--to", "work")
    assert result.exit_code == 1
    assert "files:gone.csv" in result.stderr
    assert not (folder / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["preview", "people.json"], "write NAME:item"),
        (["preview", "files:../../etc/passwd"], "'..'"),
        (["fetch"], "name at least one item"),
        (["fetch", "--query", "select 1"], "write NAME:FILE=SQL"),
        (["browse", "nobody"], "Provider not found: nobody"),
        (["test", "nobody"], "Provider not found: nobody"),
        (["query", "files", "select 1"], "'query'"),
        (["query", "files", "select $1", "--param", ":=x"], "what follows := is no JSON"),
    ],
)
def test_wrong_use_is_told(cli: Run, arguments: list[str], told: str) -> None:
    result = cli("sources", *arguments)
    assert result.exit_code in (1, 2)
    assert told in result.stderr
    assert result.stdout == ""


def test_a_source_is_added_for_good_and_removed(cli: Run, folder: Path) -> None:
    added = cli(
        "sources", "add", "more", "--type", "local_file", f"root={folder / 'data'}", "--test"
    )
    assert (added.exit_code, added.stderr) == (
        0,
        "added the data_sources provider more (version 1)\n",
    )
    rows = {row[0]: row for row in lines(cli("sources", "list").stdout)}
    assert rows["more"][4].endswith("catalogue.db")
    assert cli("sources", "browse", "more:people").exit_code == 0
    assert cli("sources", "remove", "more").exit_code == 0
    assert cli("sources", "browse", "more").exit_code == 2


def test_one_that_does_not_answer_is_not_added(cli: Run, folder: Path) -> None:
    result = cli(
        "sources", "add", "more", "--type", "local_file", f"root={folder / 'no'}", "--test"
    )
    assert result.exit_code == 1
    assert "Failed to register provider 'more'" in result.stderr
    assert not (folder / ".purveyor" / "catalogue.db").exists()


def test_a_secret_is_taken_from_the_environment_and_shown_nowhere(
    cli: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALES_PASSWORD", "canary-5f2-secret")
    settings = ["host=db.invalid", "database=sales", "user=reader"]
    added = cli(
        "sources", "add", "sales", "--type", "postgresql", *settings,
        "--secret-env", "password=SALES_PASSWORD", "--json",
    )  # fmt: skip
    assert added.exit_code == 0, added.output
    told = added.output + cli("sources", "list", "--json").output
    told += cli("providers", "show", "sales", "--family", "data_sources").output
    assert "canary" not in told
    kept = b"".join(path.read_bytes() for path in (folder / ".purveyor").glob("catalogue.db*"))
    assert b"sales" in kept
    assert b"canary" not in kept


def test_a_secret_is_refused_as_an_argument(cli: Run) -> None:
    result = cli("sources", "add", "sales", "--type", "postgresql", "password=canary-5f2")
    assert result.exit_code == 2
    assert "--secret-env password=VARIABLE" in result.stderr
    assert "canary" not in result.output
