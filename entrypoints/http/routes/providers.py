"""Providers: which there are, registering and removing them, testing them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from ....containers import ApplicationContainer
from ....providers.registry import (
    HealthStatus,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    Role,
    Status,
)
from ..actions import Actions
from ..bodies import GivenSettings, MaybeSettings, settings_documented
from ..details import details_of
from ..etags import Conditions, IfMatch, IfNoneMatch, PutConditions
from ..filters import wanted_by
from ..identity import Admin, Caller, Operator, Reader
from ..models import HealthDetails, ProviderDetails, ProviderPage, TestResult
from ..openapi import StrictRoute, answers, tagged
from ..parts import Container, Parts, registry_of
from ..problem import Problem

__all__ = ["router"]

router = APIRouter(prefix="/providers", tags=["providers"], route_class=StrictRoute)

Family = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="The family, such as `storage`.",
        examples=["storage"],
    ),
]
Name = Annotated[
    str,
    Path(pattern=r"^\w[\w.-]{0,127}$", description="The provider's name.", examples=["filesystem"]),
]
Limit = Annotated[int, Query(ge=1, le=500, description="Providers on a page at most.")]
Cursor = Annotated[
    str | None, Query(max_length=1000, description="Where to go on: `next` of a page.")
]
Text = Annotated[str | None, Query(max_length=200, description="What it has to contain.")]
Word = Annotated[str | None, Query(max_length=100)]
Test = Annotated[
    bool, Query(description="Connect first: one that does not answer is not registered.")
]
JSON = "application/json"


@router.get("", response_model=ProviderPage, responses=answers())
async def list_providers(
    request: Request,
    container: Container,
    parts: Parts,
    _: Reader,
    family: Word = None,
    type: Word = None,
    capability: Word = None,
    status: Status | None = None,
    health: HealthStatus | None = None,
    q: Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """
    List providers by family and name, those whose settings have faults too.

    Filters are joined by and. `q` looks in names, types and descriptions. A page ends with the
    cursor of the next one, also as `Link` with `rel="next"`; providers that come and go
    meanwhile move nothing.
    """
    families, wanted = wanted_by(
        container,
        family=family,
        type=type,
        capability=capability,
        status=status,
        health=health,
        text=q,
    )
    page = parts.listing().page(limit, after=cursor, families=families, wanted=wanted)
    answer = Response(page.to_json(), media_type=JSON)
    if page.next is not None:
        root, path = request.scope.get("root_path", ""), request.url.path
        below = path if path.startswith(root) else root + path  # a proxy may have taken it off
        query = urlencode({**request.query_params, "cursor": page.next})
        answer.headers["Link"] = f'<{below}?{query}>; rel="next"'
    return answer


@router.get("/{family}/{name}", responses=tagged(304, 404, model=ProviderDetails))
async def get_provider(
    family: Family, name: Name, container: Container, known: IfNoneMatch, _: Reader
) -> Response:
    """Tell what is known of a provider: settings with secrets masked, health, circuit breaker."""
    return await shown(container, family, name, known=known)


@router.put(
    "/{family}/{name}",
    responses={
        **tagged(404, 409, 412, 428, model=ProviderDetails, created=True),
        **answers(404, 409, 412, 428, body=True, backend=True),
    },
    openapi_extra=settings_documented(),
)
async def put_provider(
    family: Family,
    name: Name,
    container: Container,
    parts: Parts,
    conditions: PutConditions,
    caller: Admin,
    settings: GivenSettings,
    test: Test = False,
) -> Response:
    """
    Register a provider, or change the settings of one that is registered.

    It is kept in the catalogue, its secrets encrypted, and in force for every process that shares
    it. The same request again changes nothing. To change what is there, send `If-Match` with its
    ETag; secrets that are left out stay as they are stored, `null` removes one. The mask that is
    shown in the place of a secret is refused. A provider that settings declare is theirs to change.
    """
    return await put(container, parts, caller, family, name, settings, conditions, test=test)


@router.delete(
    "/{family}/{name}",
    status_code=204,
    response_class=Response,
    responses=answers(404, 409, 412),
)
async def delete_provider(
    family: Family,
    name: Name,
    container: Container,
    parts: Parts,
    conditions: IfMatch,
    caller: Admin,
) -> Response:
    """
    Remove a provider, for every process that shares the catalogue; work under way ends first.

    One that is not in the catalogue is removed from this process, until settings are read anew.
    """
    await Actions(container, parts, caller).unregister(family, name, conditions=conditions)
    return Response(status_code=204)


@router.post(
    "/{family}/{name}/test",
    response_model=TestResult,
    responses=answers(404, body=True, backend=True),
    openapi_extra=settings_documented(required=False),
)
async def test_provider(
    family: Family,
    name: Name,
    container: Container,
    parts: Parts,
    caller: Operator,
    settings: MaybeSettings,
) -> Any:
    """
    Ask a provider's backend now how it is; that it is unhealthy is an answer, too.

    With settings in the body (administrators only) these are tried and not kept; there need be no
    such provider yet. Stored secrets are used if they are left out and its address is the same.
    """
    return await tested(container, parts, caller, family, name, settings)


@router.get("/{family}/{name}/health", response_model=HealthDetails, responses=answers(404))
async def get_provider_health(family: Family, name: Name, container: Container, _: Reader) -> Any:
    """Tell how a provider is by the last checks; asks nobody."""
    return registry_of(container, family).health(name).to_dict()


_CHANGED = tagged(404, 409, model=ProviderDetails) | answers(404, 409, backend=True)


@router.post("/{family}/{name}/start", responses=_CHANGED)
async def start_provider(
    family: Family, name: Name, container: Container, parts: Parts, caller: Operator
) -> Response:
    """Connect a provider, and what it depends on, and watch its health."""
    await Actions(container, parts, caller).start(family, name)
    return await shown(container, family, name)


@router.post("/{family}/{name}/stop", responses=_CHANGED)
async def stop_provider(
    family: Family, name: Name, container: Container, parts: Parts, caller: Operator
) -> Response:
    """Close a provider's instance, after its work and those that depend on it; it stays known."""
    await Actions(container, parts, caller).stop(family, name)
    return await shown(container, family, name)


@router.post("/{family}/{name}/restart", responses=_CHANGED)
async def restart_provider(
    family: Family, name: Name, container: Container, parts: Parts, caller: Operator
) -> Response:
    """Close a provider's instance and connect it anew."""
    await Actions(container, parts, caller).restart(family, name)
    return await shown(container, family, name)


@router.post("/{family}/{name}/reset-breaker", responses=_CHANGED)
async def reset_provider_breaker(
    family: Family, name: Name, container: Container, parts: Parts, caller: Operator
) -> Response:
    """Let a provider's circuit breaker admit calls again."""
    await Actions(container, parts, caller).reset_breaker(family, name)
    return await shown(container, family, name)


# -- the same for data sources -----------------------------------------------------------


async def shown(
    container: ApplicationContainer,
    family: str,
    name: str,
    *,
    known: frozenset[str] = frozenset(),
    status: int = 200,
) -> Response:
    """Answer with a provider as it is now, or that it is as the caller knows it."""
    found = await details_of(container, registry_of(container, family), name)
    headers = {"ETag": found.etag}
    if found.etag.strip('"') in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(found.body, status, headers=headers, media_type=JSON)


async def put(
    container: ApplicationContainer,
    parts: Any,
    caller: Caller,
    family: str,
    name: str,
    settings: dict[str, Any],
    conditions: Conditions,
    *,
    test: bool,
) -> Response:
    """Register a provider or change it, and answer with it."""
    actions = Actions(container, parts, caller)
    try:
        outcome = await actions.register(family, name, settings, conditions=conditions, test=test)
    except NotFoundError as error:
        raise _of_type(error) from None
    status = 201 if outcome is Outcome.REGISTERED else 200
    return await shown(container, family, name, status=status)


async def tested(
    container: ApplicationContainer,
    parts: Any,
    caller: Caller,
    family: str,
    name: str,
    settings: dict[str, Any] | None,
) -> dict[str, Any]:
    """Test a provider as it is, or with settings that are not kept."""
    actions = Actions(container, parts, caller)
    if settings is None:
        return (await actions.test(family, name)).to_dict()
    if not caller.may(Role.ADMIN):
        raise PermissionDeniedError(
            "Trying settings needs the role admin; without a body the provider is tested as it is."
        )
    try:
        return (await actions.try_out(family, name, settings)).to_dict()
    except NotFoundError as error:
        raise _of_type(error) from None


def _of_type(error: NotFoundError) -> Exception:
    """Return an unknown type as the fault of the request that it is: its address is right."""
    if "type" not in error.context:
        return error
    return Problem(422, "UNKNOWN_TYPE", error.message, context=error.context)
