"""The OpenAPI document: what each route can answer, errors too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from .models import ProblemDetails
from .problem import Problem

__all__ = ["StrictRoute", "answers", "install", "operation_id", "tagged"]

_WHY = {
    304: "What the caller has is what there is.",
    400: "The body is no JSON, or did not arrive.",
    401: "There is no token, or one that opens nothing.",
    403: "The token's role does not allow it.",
    404: "There is none of that name; `context.available` has the names there are.",
    408: "The body took too long to arrive.",
    409: "Not as it is now: in use, or the name is taken by another; `detail` says by which.",
    412: "Somebody else changed it, or there is one already.",
    413: "The body is too large.",
    415: "The body is not announced as JSON.",
    422: "The request has faults; `detail` names all of them.",
    428: "A change has to name the version that it changes: `If-Match`.",
    429: "Too many requests; `Retry-After` says when to come again.",
    500: "The service is at fault: it has no key for the secrets, say.",
    501: "What the provider's type needs is not installed; `detail` says how to.",
    502: "The provider's backend failed.",
    503: "Not now: the circuit breaker is open, the catalogue away, or the service ends.",
    504: "The provider's backend did not answer in time.",
}
_ALWAYS = (401, 403, 422, 429, 500, 503)
_BODY = (400, 408, 413, 415)
_BACKEND = (501, 502, 504)
_TAG_HEADER = {
    "ETag": {
        "description": "For `If-Match` and `If-None-Match`.",
        "schema": {"type": "string"},
        "example": '"12.9f86d081884c7d65"',
    }
}


def answers(*statuses: int, body: bool = False, backend: bool = False) -> dict[int | str, Any]:
    """
    Return the ``responses`` of a route: the problems it can answer.

    Args:
        statuses: Beside those that any route can.
        body: The request has one.
        backend: A provider is asked.
    """
    found = {*_ALWAYS, *statuses, *(_BODY if body else ()), *(_BACKEND if backend else ())}
    return {
        status: {"model": ProblemDetails, "description": _WHY[status]}
        if status >= 400
        else {"description": _WHY[status]}
        for status in sorted(found)
    }


def tagged(*statuses: int, model: Any, created: bool = False) -> dict[int | str, Any]:
    """Return the ``responses`` of a route that answers with an ETag, beside :func:`answers`."""
    good: dict[str, Any] = {"model": model, "headers": _TAG_HEADER}
    found: dict[int | str, Any] = {200: {**good, "description": "As it is now."}}
    if created:
        found[201] = {**good, "description": "It was not there before."}
    return found | answers(*statuses)


def operation_id(route: APIRoute) -> str:
    """Return the name of a route's function, which is what generated clients call theirs."""
    return route.name


class StrictRoute(APIRoute):
    """A route that refuses query parameters it does not know: a typing error asks for no more."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return the handler, behind the check."""
        handle = super().get_route_handler()
        known = _query_names(self.dependant)

        async def strict(request: Request) -> Response:
            unknown = sorted(request.query_params.keys() - known)
            if unknown:
                there_are = f"has these: {', '.join(sorted(known))}" if known else "has none"
                raise Problem(
                    422,
                    "UNKNOWN_PARAMETER",
                    f"Unknown query parameters: {', '.join(one[:40] for one in unknown[:10])}. "
                    f"{request.method} {request.url.path} {there_are}.",
                    context={"available": sorted(known)},
                )
            return await handle(request)

        return strict


def _query_names(dependant: Dependant) -> frozenset[str]:
    names = {field.alias for field in dependant.query_params}
    return frozenset(names.union(*(_query_names(one) for one in dependant.dependencies)))


def install(app: FastAPI) -> None:
    """Have the document of an application say that problems are ``application/problem+json``."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            for path in document.get("paths", {}).values():
                for operation in path.values():
                    for response in operation.get("responses", {}).values():
                        _mark(response)
        return make()

    app.openapi = openapi


def _mark(response: dict[str, Any]) -> None:
    content = response.get("content", {})
    for kind, told in list(content.items()):
        if told.get("schema", {}).get("$ref", "").endswith("/ProblemDetails"):
            content["application/problem+json"] = content.pop(kind)
