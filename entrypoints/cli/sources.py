"""``purveyor sources``: what data there is, a look at it, and fetching it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ...containers import ApplicationContainer
from ...providers.data_sources import DataSource, ItemInfo, ItemMetadata, Table
from ...providers.registry import HealthStatus, ProviderInfo
from ...services.fetch import Manifest, ManifestItem, Query, Wanted, fetch, parse_wanted
from ..plain import plain
from . import providers
from .output import print_fields, print_json, print_table, size_text, tell
from .secrets import AskFor, FromFile, FromVariable, json_of
from .session import FAILED, USAGE, Session, fail

__all__ = ["app"]

app = typer.Typer(
    help="Look at data sources, and fetch from them.", no_args_is_help=True, rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Source = Annotated[str, typer.Argument(metavar="NAME", help="The data source.")]
ItemPlace = Annotated[str, typer.Argument(metavar="NAME:ITEM", help="NAME:item, or :item.")]


@app.command("list")
def list_sources(context: typer.Context, as_json: Json = False) -> None:
    """
    List the data sources.

    Example: purveyor sources list
    """

    async def work(container: ApplicationContainer) -> list[ProviderInfo]:
        return list(container.data_sources.registry.list())

    session: Session = context.obj
    found = session.run(work)
    if as_json:
        print_json([info.to_dict() for info in found])
        return
    print_table(
        ("name", "type", "default", "capabilities", "settings from"),
        [
            (
                info.name,
                info.type or "",
                "default" if info.is_default else "",
                ", ".join(sorted(info.capabilities)),
                info.origin,
            )
            for info in found
        ],
    )


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data source's name.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Its settings; KEY:=JSON for other than text."
        ),
    ] = None,
    type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Its type; else its name is one.")
    ] = None,
    secret: AskFor = None,
    secret_file: FromFile = None,
    secret_env: FromVariable = None,
    connect: Annotated[
        bool, typer.Option("--test", help="Connect first; one that does not answer is not added.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Add a data source to the catalogue, for every process that uses it.

    Example: purveyor sources add sales --type postgresql host=db.example.com --secret password
    """
    providers.add_provider(
        context.obj,
        "data_sources",
        name,
        providers.given_settings(
            context.obj, "data_sources", name, settings, type, secret, secret_file, secret_env
        ),
        connect=connect,
        as_json=as_json,
    )


@app.command()
def remove(context: typer.Context, name: Source) -> None:
    """
    Remove a data source from the catalogue.

    Example: purveyor sources remove sales
    """
    providers.remove(context, "data_sources", name)


@app.command("test")
def check_source(context: typer.Context, name: Source, as_json: Json = False) -> None:
    """
    Connect to a data source and ask whether it is well; exits with 1 if it is not.

    Example: purveyor sources test warehouse
    """

    async def work(container: ApplicationContainer) -> Any:
        return await container.data_sources.registry.get_provider_health(name)

    session: Session = context.obj
    result = session.run(work)
    if as_json:
        print_json(result.to_dict())
    else:
        row = (result.name, result.status.value, f"{result.latency * 1000:.1f}", result.message)
        print_table(("name", "status", "ms", "message"), [row])
    if result.status is HealthStatus.UNHEALTHY:
        raise typer.Exit(FAILED)


@app.command()
def browse(
    context: typer.Context,
    place: Annotated[
        str, typer.Argument(metavar="[NAME:][PREFIX]", help="The source, and how items begin.")
    ] = ":",
    limit: Annotated[int, typer.Option(min=1, help="Items to list at most.")] = 1000,
    as_json: Json = False,
) -> None:
    """
    List the items of a data source: tables, blobs, files.

    Example: purveyor sources browse warehouse:public.
    """
    name, _, prefix = place.partition(":") if ":" in place else (place, "", "")

    async def work(container: ApplicationContainer) -> list[ItemInfo]:
        found: list[ItemInfo] = []
        listing = container.data_sources(name or None).list_items(prefix)
        async for item in listing:
            found.append(item)
            if len(found) > limit:
                break
        return found

    session: Session = context.obj
    found = session.run(work)
    more, found = len(found) > limit, found[:limit]
    if as_json:
        print_json({"items": [plain(asdict(item)) for item in found], "truncated": more})
        return
    print_table(
        ("name", "kind", "format", "size", "modified"),
        [
            (
                item.name,
                item.kind,
                item.format or "",
                "" if item.size is None else size_text(item.size),
                "" if item.modified is None else item.modified.isoformat(timespec="seconds"),
            )
            for item in found
        ],
    )
    if more:
        tell(f"there are more than {limit}; --limit shows more")


@app.command()
def show(context: typer.Context, place: ItemPlace, as_json: Json = False) -> None:
    """
    Tell what is known of an item: its columns, its rows, its size.

    Example: purveyor sources show warehouse:public.orders
    """
    wanted = parse_wanted(place)

    async def work(container: ApplicationContainer) -> ItemMetadata:
        return await _source(container, wanted).get_metadata(wanted.item)

    session: Session = context.obj
    found = session.run(work)
    if as_json:
        print_json(
            {
                **plain(asdict(found.item)),
                "rows": found.rows,
                "rows_estimated": found.rows_estimated,
                "columns": [asdict(column) for column in found.columns],
                "details": dict(found.details),
            }
        )
        return
    item, about = found.item, "about " if found.rows_estimated else ""
    fields = {
        "name": item.name,
        "kind": item.kind,
        "format": item.format,
        "size": None if item.size is None else size_text(item.size),
        "modified": item.modified,
        "rows": None if found.rows is None else f"{about}{found.rows}",
        **found.details,
    }
    print_fields({name: value for name, value in fields.items() if value is not None})
    if found.columns:
        print_table(
            ("column", "type", "may be empty"),
            [(one.name, one.type or "", "yes" if one.nullable else "no") for one in found.columns],
        )


@app.command()
def preview(
    context: typer.Context,
    place: ItemPlace,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Rows to show.")] = 20,
    as_json: Json = False,
) -> None:
    """
    Show the first rows of an item.

    Example: purveyor sources preview warehouse:public.orders --rows 5
    """
    wanted = parse_wanted(place)

    async def work(container: ApplicationContainer) -> Table:
        return await _source(container, wanted).preview(wanted.item, rows=rows)

    session: Session = context.obj
    _print_rows(session.run(work), as_json=as_json)


@app.command()
def query(
    context: typer.Context,
    name: Source,
    statement: Annotated[str, typer.Argument(metavar="SQL", help="The query; - reads stdin.")],
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--param", metavar="TEXT", help="For its placeholders, in order; :=JSON for no text."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Rows to show.")] = 100,
    as_json: Json = False,
) -> None:
    """
    Ask a data source a question that changes nothing, and show the first rows of the answer.

    `purveyor sources fetch --query` takes answers of any size.

    Example: purveyor sources query warehouse 'select * from orders where id = $1' --param :=7
    """
    values = [
        json_of("--param", one[2:]) if one.startswith(":=") else one for one in parameters or ()
    ]
    text = sys.stdin.read() if statement == "-" else statement

    async def work(container: ApplicationContainer) -> Table:
        return await container.data_sources(name).query(text, values, limit=limit)

    session: Session = context.obj
    _print_rows(session.run(work), as_json=as_json)


@app.command("fetch")
def fetch_command(
    context: typer.Context,
    items: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME:ITEM]...", help="What: names, or patterns in quotes."),
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="The workspace.", file_okay=False)
    ] = Path("workspace"),
    format: Annotated[
        Literal["csv", "parquet"] | None, typer.Option(help="Of the files of tables.")
    ] = None,
    queries: Annotated[
        list[str] | None,
        typer.Option(
            "--query", metavar="NAME:FILE=SQL", help="The answer to a query, as FILE; repeatable."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Files at the same time.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Write the manifest.")] = False,
) -> None:
    """
    Fetch items of data sources into a folder: all of them, or nothing.

    An earlier workspace in that folder is replaced as a whole. manifest.json says what came from
    where, with checksums.

    Example: purveyor sources fetch warehouse:public.orders 'files:2024/*.csv' --to data
    """
    wanted: list[Wanted | Query] = [parse_wanted(text, format=format) for text in items or ()]
    wanted += [_query(text, format or "csv") for text in queries or ()]

    def told(item: ManifestItem) -> None:
        tell(f"fetched {item.source}:{item.item} ({size_text(item.size)})")

    async def work(container: ApplicationContainer) -> Manifest:
        return await fetch(
            wanted, to, container=container, jobs=jobs, observer=None if as_json else told
        )

    session: Session = context.obj
    manifest = session.run(work)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    size = sum(item.size for item in manifest.items)
    count = len(manifest.items)
    typer.echo(
        f"{to}: {count} file{'s' * (count != 1)} ({size_text(size)}) in {manifest.seconds:.1f} s"
    )


def _source(container: ApplicationContainer, wanted: Wanted) -> DataSource[Any]:
    return container.data_sources(wanted.source)


def _query(text: str, format: Literal["csv", "parquet"]) -> Query:
    head, equals, statement = text.partition("=")
    name, colon, file = head.partition(":")
    if not (equals and colon and file.strip() and statement.strip()):
        fail(f"--query {text!r}: write NAME:FILE=SQL, or :FILE=SQL of the default source.", USAGE)
    return Query(name or None, statement, name=file, format=format)


def _print_rows(table: Table, *, as_json: bool) -> None:
    names = [column.name for column in table.columns]
    if as_json:
        rows = [[plain(value) for value in row] for row in table.rows]
        print_json({"columns": names, "rows": rows, "truncated": table.truncated})
        return
    print_table(names, [["" if one is None else plain(one) for one in row] for row in table.rows])
    if table.truncated:
        tell(f"the first {len(table.rows)} rows; there are more")
