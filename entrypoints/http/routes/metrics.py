"""Metrics, for Prometheus to scrape."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response

from ..identity import Reader
from ..openapi import answers
from ..parts import Container
from ..problems import Problem

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "The metrics, as Prometheus' text or as OpenMetrics.",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/openmetrics-text": {"schema": {"type": "string"}},
            },
        },
    }
    | answers(404),
)
def metrics(_: Reader, container: Container, accept: Annotated[str, Header()] = "") -> Response:
    """Return what was measured: operations, requests, events, and how the providers are."""
    telemetry = container.telemetry()
    if telemetry is None or not telemetry.settings.metrics:
        raise Problem(
            404,
            "TELEMETRY_OFF",
            "There are no metrics: telemetry is off. Set PURVEYOR_TELEMETRY__ENABLED=true, and "
            "leave PURVEYOR_TELEMETRY__METRICS as it is.",
        )
    text, media_type = telemetry.exposition(accept)
    return Response(text, media_type=media_type)
