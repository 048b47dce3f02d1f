"""The pages, and what their buttons do."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from ....providers.registry import HealthStatus, RegistryError
from ..actions import Actions
from ..etags import Conditions
from ..identity import Admin, Operator, Reader
from ..parts import Container, Parts, registry_of
from ..problem import Problem
from .answers import PageRoute, form_of, page, redirect
from .overview import PAGE, Filter, families, look, look_at, sentence
from .text import latency

__all__ = ["router"]

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/")
async def overview(
    request: Request, container: Container, parts: Parts, caller: Reader
) -> Response:
    """Show at a glance what is well and what is not."""
    asked = request.query_params
    chosen = Filter(
        text=asked.get("q", "").strip(),
        family=asked.get("family", ""),
        problems=asked.get("problems") == "1",
        page=_number(asked.get("page")),
    )
    providers = look(container)
    found = chosen.of(providers)
    pages = max(1, -(-len(found) // PAGE))
    at = min(chosen.page, pages)
    kept = {"q": chosen.text, "family": chosen.family, "problems": "1" if chosen.problems else ""}
    query = urlencode({key: value for key, value in kept.items() if value})
    report = container.discovery().report
    return page(
        request,
        "overview.html",
        caller=caller,
        sentence=sentence(providers),
        ill=Filter(problems=True).of(providers),
        families=families(providers, container.registries()),
        chosen=chosen,
        found=len(found),
        total=len(providers),
        providers=found[(at - 1) * PAGE : at * PAGE],
        at=at,
        pages=pages,
        query=query,
        failures=report.failed,
        ready=all(one.report.usable for one in providers if one.report.required),
        blocking=[one for one in providers if one.report.required and not one.report.usable],
        events=parts.events().recent(limit=10),
    )


@router.get("/events")
async def events(request: Request, parts: Parts, caller: Reader) -> Response:
    """Show what happened lately."""
    return page(request, "events.html", caller=caller, events=parts.events().recent(limit=200))


@router.get("/audit")
async def audit(request: Request, parts: Parts, caller: Admin) -> Response:
    """Show who changed what."""
    before = _number(request.query_params.get("before"), 0)
    records = await parts.audit().entries(before=before or None, limit=100)
    return page(request, "audit.html", caller=caller, records=records, before=before)


@router.get("/providers/{family}/{name:path}")
async def provider(
    request: Request, family: str, name: str, container: Container, parts: Parts, caller: Reader
) -> Response:
    """Show everything of one provider."""
    one = look_at(container, family, name)
    registry = registry_of(container, family)
    config: dict[str, Any] = {}
    common: dict[str, Any] = {}
    holders: list[str] = []
    if one.info is not None:
        model = registry.config(name)
        config = {} if model is None else model.model_dump(mode="json")
        common = registry.settings(name).model_dump(mode="json", exclude=_ELSEWHERE)
        holders = registry.holders(name)
    recent = parts.events().recent(limit=1000)
    return page(
        request,
        "provider.html",
        caller=caller,
        one=one,
        config=config,
        common=common,
        holders=holders,
        history=one.report.history[::-1],
        events=[event for event in recent if (event.family, event.name) == (one.family, name)][:20],
    )


_ELSEWHERE = {"type", "options", "metadata", "enabled"}
"""Of what every provider takes, what the page shows elsewhere."""


@router.post("/actions/test/{family}/{name:path}")
async def test(
    request: Request, family: str, name: str, container: Container, parts: Parts, caller: Operator
) -> Response:
    """Ask a provider now how it is."""
    one = look_at(container, family, name)
    try:
        result = await Actions(container, parts, caller).test(family, name)
    except RegistryError as error:
        return redirect(request, f"/providers/{one.path}", error.message, bad=True)
    said = f"{name} was asked and is {result.status.value}, after {latency(result.latency)}"
    said = f"{said}: {result.message}" if result.message else f"{said}."
    bad = result.status is HealthStatus.UNHEALTHY
    return redirect(request, f"/providers/{one.path}", said, bad=bad)


@router.post("/actions/restart/{family}/{name:path}")
async def restart(
    request: Request, family: str, name: str, container: Container, parts: Parts, caller: Operator
) -> Response:
    """Close a provider and connect it anew."""
    one = look_at(container, family, name)
    try:
        await Actions(container, parts, caller).restart(family, name)
    except RegistryError as error:
        return redirect(request, f"/providers/{one.path}", error.message, bad=True)
    return redirect(request, f"/providers/{one.path}", f"{name} was restarted.")


@router.get("/actions/unregister/{family}/{name:path}")
async def ask_unregister(
    request: Request, family: str, name: str, container: Container, caller: Admin
) -> Response:
    """Ask whether a provider is really to go."""
    one = look_at(container, family, name)
    entry = await container.catalogue().get(one.family, name)
    holders = registry_of(container, family).holders(name) if one.info else []
    return page(request, "unregister.html", caller=caller, one=one, entry=entry, holders=holders)


@router.post("/actions/unregister/{family}/{name:path}")
async def unregister(
    request: Request, family: str, name: str, container: Container, parts: Parts, caller: Admin
) -> Response:
    """Remove a provider; if it was changed since somebody asked, not."""
    one = look_at(container, family, name)
    version = _number((await form_of(request)).get("version"), 0)
    seen = Conditions(versions=frozenset({version})) if version else Conditions()
    try:
        await Actions(container, parts, caller).unregister(family, name, conditions=seen)
    except (Problem, RegistryError) as error:
        return redirect(request, f"/providers/{one.path}", str(error), bad=True)
    return redirect(request, "/", f"{one.family}/{name} was unregistered.")


def _number(text: str | None, otherwise: int = 1) -> int:
    """Return a number that somebody may have put into a URL."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else otherwise
