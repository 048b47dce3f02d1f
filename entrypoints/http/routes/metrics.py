"""Metrics, for Prometheus to scrape."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from ....providers.registry import import_extra
from ..identity import Reader
from ..openapi import answers
from ..parts import Container
from ..problem import Problem

__all__ = ["router"]

router = APIRouter(tags=["health"])

_EXAMPLE = """\
# HELP purveyor_providers Providers by family and status.
# TYPE purveyor_providers gauge
purveyor_providers{purveyor_family="storage",purveyor_status="ready"} 2.0
"""


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "The metrics, as Prometheus' text or as OpenMetrics.",
            "content": {
                "text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE},
                "application/openmetrics-text": {"schema": {"type": "string"}},
            },
        },
    }
    | answers(404),
)
def metrics(_: Reader, container: Container, request: Request) -> Response:
    """Return what was measured: operations, requests, events, and how the providers are."""
    telemetry = container.telemetry()
    if telemetry is None or not telemetry.settings.metrics:
        raise Problem(
            404,
            "TELEMETRY_OFF",
            "There are no metrics: telemetry is off. Set PURVEYOR_TELEMETRY__ENABLED=true, and "
            "leave PURVEYOR_TELEMETRY__METRICS as it is.",
        )
    import_extra("prometheus_client", extra="telemetry")
    from ....providers.telemetry.prometheus import exposition

    text, media_type = exposition(telemetry, request.headers.get("Accept", ""))
    return Response(text, media_type=media_type)
