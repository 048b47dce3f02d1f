"""Health for orchestrators and people; nothing here asks a backend."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from ....containers import ApplicationContainer
from ....providers.registry import RegistryError, Role
from ..health_document import FAIL, PASS, REQUIRED, document, known_group, pipelines
from ..identity import still_may
from ..models import ProblemDetails
from ..parts import Container
from ..problem import Problem

__all__ = ["router"]

router = APIRouter(tags=["health"])

_PATIENCE = 1.0
"""Seconds to find out who asks; after that he is told no details."""


class HealthResponse(JSONResponse):
    """Health, which nobody may keep."""

    media_type = "application/health+json"

    def __init__(self, content: dict[str, Any]) -> None:
        status = 503 if content["status"] == FAIL else 200
        super().__init__(content, status, headers={"Cache-Control": "no-store"})


_EXAMPLE: dict[str, Any] = {
    "status": "warn",
    "version": "1",
    "serviceId": "purveyor",
    "description": "Backing services by name.",
    "checks": {
        "storage:backups": [
            {
                "componentId": "storage/backups",
                "componentType": "datastore",
                "status": "fail",
                "required": False,
                "output": "Its circuit breaker refuses calls: 271 s.",
                "state": "ready",
                "health": "healthy",
                "breaker": "open",
                "observedValue": 12.5,
                "observedUnit": "ms",
                "time": "2026-11-21T20:15:04.120000+00:00",
                "age": 3.2,
            }
        ]
    },
}


def _told(description: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {HealthResponse.media_type: {"schema": {"type": "object"}, "example": example}}
    return {"description": description, "content": content}


_WELL = _told("`pass` or `warn`; those who have a token are told details.", _EXAMPLE)
_ILL = _told("`fail`: not ready, or ending.", {"status": FAIL})
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: _WELL,
    404: {"model": ProblemDetails, "description": "There is no such group."},
    422: {"model": ProblemDetails, "description": "The request has faults."},
    503: _ILL,
}
Group = Annotated[
    str | None,
    Query(description="`required`, a family, or a pipeline: only these providers."),
]


@router.head("/livez", include_in_schema=False)
@router.get(
    "/livez",
    status_code=200,
    response_class=HealthResponse,
    responses={200: _told("The process answers.", {"status": PASS})},
)
async def get_liveness() -> HealthResponse:
    """Tell that the process answers; how providers are is no matter here."""
    return HealthResponse({"status": PASS})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", status_code=200, response_class=HealthResponse, responses=_ANSWERS)
async def get_readiness(
    request: Request, container: Container, group: Group = REQUIRED
) -> HealthResponse:
    """
    Tell whether to send work here: not while a required provider cannot be worked with.

    It is told by the checks that were made in the background; no backend is asked now.
    """
    return await _health(request, container, group)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", status_code=200, response_class=HealthResponse, responses=_ANSWERS)
async def get_health(request: Request, container: Container, group: Group = None) -> HealthResponse:
    """
    Tell how all providers are; `warn` if one is not well without which the service is ready.

    It is told by the checks that were made in the background; no backend is asked now.
    """
    return await _health(request, container, group)


async def _health(
    request: Request, container: ApplicationContainer, group: str | None
) -> HealthResponse:
    trusted = await _is_trusted(request)
    if group is not None:
        known = known_group(container, group)
        if known is None:
            names = [REQUIRED, *container.registries(), *(pipelines(container) if trusted else ())]
            raise Problem(
                404,
                "NOT_FOUND",
                f"Unknown group: {group}. There are these: {', '.join(names)}.",
                context={"available": names},
            )
        group = known
    told = document(container, group, stopping=request.app.state.stopping.is_set())
    return HealthResponse(told if trusted else {"status": told["status"]})


async def _is_trusted(request: Request) -> bool:
    """
    Tell whether the caller may know details.

    A token that opens nothing, or that cannot be looked up now, is none: a probe asks how the
    service is, not whether its token is good.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            return await still_may(request, Role.READER)
    except (RegistryError, TimeoutError):
        return False
