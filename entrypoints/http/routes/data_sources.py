"""Data sources: the providers of their family, and a look at the data."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from ....containers import ApplicationContainer
from ....providers.data_sources import DataSource, ItemInfo, Table
from ....providers.registry import HealthStatus, Status
from ...plain import plain
from ..actions import Actions
from ..bodies import GivenSettings, MaybeSettings, body_of, documented, settings_documented
from ..etags import IfMatch, IfNoneMatch, PutConditions
from ..identity import Admin, Operator, Reader
from ..models import (
    ItemDetails,
    ItemPage,
    ProviderDetails,
    ProviderPage,
    QueryRequest,
    Rows,
    TestResult,
)
from ..openapi import StrictRoute, answers, tagged
from ..parts import Container, Parts
from . import providers
from .providers import Cursor, Limit, Name, Test, Text, Word

__all__ = ["router"]

router = APIRouter(prefix="/data-sources", tags=["data sources"], route_class=StrictRoute)

FAMILY = "data_sources"
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

Item = Annotated[
    str,
    Query(
        min_length=1,
        max_length=1024,
        pattern=_PRINTABLE,
        description="The item's name.",
        examples=["orders.csv"],
    ),
]


@router.get("", response_model=ProviderPage, responses=answers())
async def list_data_sources(
    request: Request,
    container: Container,
    parts: Parts,
    caller: Reader,
    type: Word = None,
    capability: Word = None,
    status: Status | None = None,
    health: HealthStatus | None = None,
    q: Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List data sources by name, those whose settings have faults too."""
    return await providers.list_providers(
        request,
        container,
        parts,
        caller,
        FAMILY,
        type,
        capability,
        status,
        health,
        q,
        limit,
        cursor,
    )


@router.get("/{name}", responses=tagged(304, 404, model=ProviderDetails))
async def get_data_source(
    name: Name, container: Container, known: IfNoneMatch, _: Reader
) -> Response:
    """Tell what is known of a data source: settings with secrets masked, health."""
    return await providers.shown(container, FAMILY, name, known=known)


@router.put(
    "/{name}",
    responses={
        **tagged(409, 412, 428, model=ProviderDetails, created=True),
        **answers(409, 412, 428, body=True, backend=True),
    },
    openapi_extra=settings_documented(),
)
async def put_data_source(
    name: Name,
    container: Container,
    parts: Parts,
    conditions: PutConditions,
    caller: Admin,
    settings: GivenSettings,
    test: Test = False,
) -> Response:
    """Register a data source, or change one: see `PUT /providers/{family}/{name}`."""
    return await providers.put(
        container, parts, caller, FAMILY, name, settings, conditions, test=test
    )


@router.delete(
    "/{name}", status_code=204, response_class=Response, responses=answers(404, 409, 412)
)
async def delete_data_source(
    name: Name, container: Container, parts: Parts, conditions: IfMatch, caller: Admin
) -> Response:
    """Remove a data source; work under way ends first."""
    await Actions(container, parts, caller).unregister(FAMILY, name, conditions=conditions)
    return Response(status_code=204)


@router.post(
    "/{name}/test",
    response_model=TestResult,
    responses=answers(404, body=True, backend=True),
    openapi_extra=settings_documented(required=False),
)
async def test_data_source(
    name: Name, container: Container, parts: Parts, caller: Operator, settings: MaybeSettings
) -> Any:
    """Ask a data source now how it is, or try settings that are not kept."""
    return await providers.tested(container, parts, caller, FAMILY, name, settings)


@router.get("/{name}/items", response_model=ItemPage, responses=answers(404, 409, backend=True))
async def list_items(
    name: Name,
    container: Container,
    _: Operator,
    prefix: Annotated[
        str, Query(max_length=1024, pattern=_PRINTABLE, description="How names begin.")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="Items at most.")] = 100,
    after: Annotated[
        str, Query(max_length=1024, pattern=_PRINTABLE, description="`next` of a page.")
    ] = "",
) -> Any:
    """
    List the items of a data source by the bytes of their names: tables, blobs, files.

    What comes before `after` is passed over, which takes a source as long as listing it.
    """
    found: list[ItemInfo] = []
    start = after.encode(errors="surrogateescape")
    items = cast("AsyncGenerator[ItemInfo]", _source(container, name).list_items(prefix))
    async with aclosing(items) as listing:
        async for item in listing:
            if after and item.name.encode(errors="surrogateescape") <= start:
                continue
            found.append(item)
            if len(found) > limit:
                break
    more, found = len(found) > limit, found[:limit]
    return {
        "items": [plain(asdict(item)) for item in found],
        "next": plain(found[-1].name) if more else None,
    }


@router.get(
    "/{name}/metadata", response_model=ItemDetails, responses=answers(404, 409, backend=True)
)
async def get_item(name: Name, item: Item, container: Container, _: Operator) -> Any:
    """Tell what is known of an item: its columns, its rows, its size."""
    found = await _source(container, name).get_metadata(item)
    return plain(
        {
            **asdict(found.item),
            "rows": found.rows,
            "rows_estimated": found.rows_estimated,
            "columns": [asdict(column) for column in found.columns],
            "details": dict(found.details),
        }
    )


@router.get("/{name}/preview", response_model=Rows, responses=answers(404, 409, backend=True))
async def preview_item(
    name: Name,
    item: Item,
    container: Container,
    _: Operator,
    rows: Annotated[int, Query(ge=1, le=1000, description="Rows at most.")] = 20,
) -> Any:
    """Show the first rows of an item, without reading all of it."""
    return _rows(await _source(container, name).preview(item, rows=rows))


@router.post(
    "/{name}/query",
    response_model=Rows,
    responses=answers(404, 409, body=True, backend=True),
    openapi_extra=documented(QueryRequest),
)
async def query_data_source(
    name: Name,
    container: Container,
    _: Operator,
    asked: Annotated[QueryRequest, body_of(QueryRequest)],
) -> Any:
    """Ask a data source a question that changes nothing, and show the first rows of the answer."""
    source = _source(container, name)
    return _rows(await source.query(asked.statement, asked.parameters, limit=asked.limit))


def _source(container: ApplicationContainer, name: str) -> DataSource[Any]:
    return container.data_sources(name)


def _rows(table: Table) -> dict[str, Any]:
    return {
        "columns": [plain(asdict(column)) for column in table.columns],
        "rows": [[plain(value) for value in row] for row in table.rows],
        "truncated": table.truncated,
    }
