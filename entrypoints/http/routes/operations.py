"""What concerns all providers: reading the settings anew, what is amiss, who changed what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from ....providers.registry import LoadRow
from ..actions import Actions
from ..identity import Admin, Reader
from ..models import AuditPage, DiscoveryProblems, RefreshReport
from ..openapi import StrictRoute, answers
from ..parts import Container, Parts

__all__ = ["router"]

router = APIRouter(tags=["operations"], route_class=StrictRoute)


@router.post("/refresh", response_model=RefreshReport, responses=answers())
async def refresh(container: Container, parts: Parts, caller: Admin) -> Any:
    """
    Read the settings anew and bring the registries in step with all there is to find.

    A failure is a row, and what it concerns stays as it was.
    """
    report = await Actions(container, parts, caller).refresh()
    return {"rows": [_row(row) for row in report.rows]}


@router.get("/discovery", response_model=DiscoveryProblems, responses=answers())
async def get_discovery(container: Container, _: Reader) -> Any:
    """Tell what is not in force of all that was found when it was last looked for."""
    discovery = container.discovery()
    return {
        "failed": [_row(row) for row in discovery.report.failed],
        "shadowed": [_row(row) for row in discovery.shadowed],
    }


@router.get("/audit", response_model=AuditPage, responses=answers())
async def list_audit(
    parts: Parts,
    _: Admin,
    before: Annotated[
        int | None, Query(ge=1, lt=2**63, description="Records with lower ids: `next` of a page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Records at most.")] = 100,
) -> Any:
    """List who changed what, or tried to, the latest first."""
    found = await parts.audit().entries(before=before, limit=limit)
    return {
        "items": [record.to_dict() for record in found],
        "next": found[-1].id if len(found) == limit else None,
    }


def _row(row: LoadRow) -> dict[str, Any]:
    names = ("family", "name", "outcome", "origin", "code", "reason")
    return {name: getattr(row, name) for name in names}
