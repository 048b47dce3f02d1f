"""Events: the last ones, and those to come."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from ....providers.registry import NotFoundError
from ....providers.registry.errors import nearest_first
from ....providers.registry.events import event_classes
from ..event_log import LoggedEvent
from ..event_stream import EventStream
from ..identity import Reader
from ..openapi import StrictRoute, answers
from ..parts import Container, Parts, registry_of
from ..problem import Problem

__all__ = ["router"]

router = APIRouter(prefix="/events", tags=["events"], route_class=StrictRoute)

_EXAMPLE: JsonDict = {
    "id": 17,
    "at": "2026-11-21T20:15:04.120000+00:00",
    "event": "circuit-breaker-opened",
    "family": "storage",
    "name": "backups",
    "data": {"reason": "5 failures within 60 s", "failures": 5, "retry_after": 300.0},
}


class EventModel(BaseModel):
    """One event."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: int = Field(description="Its number in this process, from 1.")
    at: datetime
    event: str = Field(description="What happened.")
    family: str = Field(description="Empty where it is not one provider's.")
    name: str = Field(description="Empty where it is not one provider's.")
    data: dict[str, Any] = Field(description="What else the event says.")


class EventPage(BaseModel):
    """Events, newest first."""

    items: list[EventModel]
    next: int | None = Field(description="`before` of the next page; null: nothing older is kept.")
    cursor: str = Field(description="`after` of a stream that goes on where this page begins.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a caller asked for; nothing said of one thing is all of it."""

    families: frozenset[str] = field(default_factory=frozenset[str])
    names: frozenset[str] = field(default_factory=frozenset[str])
    events: frozenset[str] = field(default_factory=frozenset[str])

    def __call__(self, logged: LoggedEvent) -> bool:
        """Tell whether an event is among them."""
        return (
            (not self.families or logged.family in self.families)
            and (not self.names or logged.name in self.names)
            and (not self.events or logged.event in self.events)
        )


async def _wanted(
    container: Container,
    family: Annotated[list[str], Query(description="Of these families only.")] = [],  # noqa: B006
    name: Annotated[list[str], Query(description="Of providers of these names only.")] = [],  # noqa: B006
    event: Annotated[list[str], Query(description="Events of these names only.")] = [],  # noqa: B006
) -> Wanted:
    try:
        families = {registry_of(container, one).family.name for one in family}
    except NotFoundError as error:
        raise Problem(422, "UNKNOWN_FAMILY", error.message, context=error.context) from error
    for one in event:
        if one not in event_classes():
            names = nearest_first(one, event_classes())
            raise Problem(
                422,
                "INVALID_REQUEST",
                f"Unknown event: {one}. There are these: {', '.join(names)}.",
                context={"available": names},
            )
    return Wanted(frozenset(families), frozenset(name), frozenset(event))


Filters = Annotated[Wanted, Depends(_wanted)]


@router.get("", responses=answers())
async def list_events(
    parts: Parts,
    wanted: Filters,
    _: Reader,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 50,
    before: Annotated[
        int | None,
        Query(ge=1, lt=2**63, description="Only those before the one of this number."),
    ] = None,
) -> EventPage:
    """Tell the last events, newest first, of those that this process keeps."""
    log = parts.events()
    cursor = f"{log.boot}-{log.last}"
    found = list(islice(filter(wanted, log.backwards(before)), limit))
    more = len(found) == limit and next(filter(wanted, log.backwards(found[-1].id)), None)
    return EventPage(
        items=[EventModel.model_validate(one.to_dict()) for one in found],
        next=found[-1].id if more else None,
        cursor=cursor,
    )


@router.get(
    "/stream",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "description": "Server-sent events; it does not end by itself.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": "id: 1f6a8c02-17\nevent: circuit-breaker-opened\n"
                    'data: {"id": 17, "event": "circuit-breaker-opened", ...}\n\n',
                }
            },
        },
        **answers(),
    },
)
async def follow_events(
    request: Request,
    parts: Parts,
    wanted: Filters,
    _: Reader,
    after: Annotated[
        str | None,
        Query(description="Begin after this event: the `id` of one, or the `cursor` of a page."),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="The last event that came; it goes before `after`.")
    ] = None,
) -> Response:
    """
    Follow the events as they come up.

    Beside the events there are `missed` (so many were gone before you took them; null: those of
    another process), `shutdown` (the service ends), `refused` (your token opens nothing any more),
    and a comment now and then where nothing happens.
    """
    most: int = parts.settings().max_streams
    return EventStream(request, parts.events(), wanted, after=last_event_id or after, most=most)
