"""What the API answers, as the OpenAPI document describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ...providers.registry import BreakerState, HealthStatus, Outcome, Status

__all__ = [
    "AuditPage",
    "AuditRow",
    "BreakerSummary",
    "CatalogueEntry",
    "DiscoveryProblems",
    "Families",
    "FamilyRow",
    "HealthDetails",
    "HealthSummaryOfOne",
    "ItemDetails",
    "ItemPage",
    "ItemRow",
    "ProblemDetails",
    "ProviderDetails",
    "ProviderPage",
    "ProviderRow",
    "QueryRequest",
    "RefreshReport",
    "ReportRow",
    "Rows",
    "TestResult",
    "TypeDetails",
    "TypeRow",
    "Types",
]


class ProblemDetails(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:purveyor:problem:not-found",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "Provider not found: backup. There are these storage providers: "
                    "backups, filesystem, sqlite.",
                    "code": "NOT_FOUND",
                    "provider_name": "backup",
                    "context": {"family": "storage", "available": ["backups", "filesystem"]},
                }
            ]
        },
    )

    type: str = Field(description="What kind of problem: a URN made of the code.")
    title: str = Field(description="The phrase of the status.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, why, and what to do.")
    code: str = Field(description="The reason, for programs: it does not change.")
    provider_name: str | None = Field(default=None, description="The provider it concerns.")
    context: dict[str, Any] | None = Field(
        default=None, description="Details; `available` has the names there are."
    )


class TestResult(BaseModel):
    """What a provider's backend answered when it was asked how it is."""

    name: str
    status: HealthStatus
    latency: float = Field(description="Seconds.")
    checked_at: datetime
    message: str = Field(description="Why it is not healthy.")
    code: str | None = Field(description="The error's code, if there was one.")


class ProviderRow(BaseModel):
    """One provider at this moment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "backups",
                    "family": "storage",
                    "type": "filesystem",
                    "display_name": "Filesystem",
                    "version": "0.1.0",
                    "description": "Files below a folder",
                    "capabilities": ["local-storage", "streaming"],
                    "status": "ready",
                    "source": "api",
                    "origin": "catalogue .purveyor/catalogue.db",
                    "registered_at": "2026-01-31T12:00:00+00:00",
                    "is_default": False,
                    "instance_count": 0,
                    "lease_count": 1,
                    "priority": 50,
                    "required": False,
                    "pipelines": ["*"],
                    "metadata": {},
                    "last_error": None,
                    "health": "healthy",
                    "last_health_check": "2026-01-31T12:05:00+00:00",
                    "breaker": "closed",
                }
            ]
        }
    )

    name: str
    family: str
    type: str | None = Field(description="The provider type; null for an application's object.")
    display_name: str
    version: str = Field(description="Of the distribution the type comes from.")
    description: str
    capabilities: list[str]
    status: Status
    source: str = Field(description="`config`, `environment`, `builtin`, `api`, `plugin` ...")
    origin: str = Field(description="Where it was declared.")
    registered_at: datetime | None = Field(description="Null if its settings have faults.")
    is_default: bool
    instance_count: int = Field(description="Instances that callers own.")
    lease_count: int = Field(description="Uses at this moment.")
    priority: int
    required: bool = Field(description="Whether the application is not ready without it.")
    pipelines: list[str]
    metadata: dict[str, Any]
    last_error: str | None
    health: HealthStatus
    last_health_check: datetime | None
    breaker: BreakerState | None = Field(description="State of its circuit breaker.")


class ProviderPage(BaseModel):
    """Some of the providers, by family and name."""

    items: list[ProviderRow]
    next: str | None = Field(description="The `cursor` of the next page; null: there is none.")


class HealthSummaryOfOne(BaseModel):
    """What the last checks add up to."""

    status: HealthStatus
    monitored: bool = Field(description="Whether it is checked in the background.")
    usable: bool = Field(description="Whether the application can work with it.")
    successes: int = Field(description="Good results in a row.")
    failures: int = Field(description="Failures in a row.")
    last: TestResult | None = Field(description="The last result.")


class BreakerSummary(BaseModel):
    """A circuit breaker."""

    state: BreakerState
    retry_after: float | None = Field(
        description="Seconds to the next probe; 0: calls pass, null: not before it is reset."
    )


class CatalogueEntry(BaseModel):
    """What the catalogue keeps of a provider: what `PUT` was given, secrets masked."""

    version: int
    updated_at: datetime
    settings: dict[str, Any]
    key_ids: list[str] = Field(description="The keys its secrets are encrypted with.")
    fault: dict[str, Any] | None = Field(
        description="Why the entry cannot be read here, or its last change not put in force."
    )


class ProviderDetails(ProviderRow):
    """One provider, with its settings and how it is."""

    settings: dict[str, Any] = Field(
        description="Its type's settings in force, defaults too; secrets are masked."
    )
    health_summary: HealthSummaryOfOne
    circuit_breaker: BreakerSummary | None
    catalogue: CatalogueEntry | None = Field(
        description="Null if it does not come from there, or while that cannot be read."
    )


class HealthDetails(BaseModel):
    """How a provider is, by the checks that were made; asking makes none."""

    family: str
    name: str
    status: HealthStatus
    required: bool
    usable: bool
    pipelines: list[str]
    state: Status
    monitored: bool
    age: float | None = Field(description="Seconds since the last result.")
    successes: int
    failures: int
    breaker: BreakerState | None
    retry_after: float | None
    history: list[TestResult] = Field(description="The last results, oldest first.")


class FamilyRow(BaseModel):
    """A group of providers with one interface."""

    name: str
    default: str | None = Field(description="The provider that is used where none is named.")
    providers: int = Field(description="How many there are.")
    types: list[str] = Field(description="The types that can be configured.")


class Families(BaseModel):
    """All families."""

    items: list[FamilyRow]


class TypeRow(BaseModel):
    """A provider type: what could be configured."""

    family: str
    name: str
    display_name: str
    description: str
    capabilities: list[str]
    extra: str | None = Field(description="The extra that installs what it needs.")
    aliases: list[str]
    distribution: str
    version: str
    embedded: bool = Field(description="Works without settings.")
    metadata: dict[str, Any]


class Types(BaseModel):
    """The provider types."""

    items: list[TypeRow]


class TypeDetails(TypeRow):
    """A provider type with its settings."""

    secrets: list[str] = Field(description="Names of the settings that are secret.")
    settings_schema: dict[str, Any] = Field(
        description="JSON schema of its settings; a secret one has `x-secret: true`."
    )
    common_schema: dict[str, Any] = Field(
        description="JSON schema of what every provider takes beside them."
    )


class ReportRow(BaseModel):
    """What became of a provider that was found."""

    family: str = Field(description="Empty where the fault is not one provider's.")
    name: str
    outcome: Outcome
    origin: str
    code: str | None
    reason: str


class RefreshReport(BaseModel):
    """What a refresh did."""

    rows: list[ReportRow]


class DiscoveryProblems(BaseModel):
    """What is not in force of all that was found."""

    failed: list[ReportRow]
    shadowed: list[ReportRow] = Field(description="Another one of the name comes before these.")


class AuditRow(BaseModel):
    """A change, or an attempt at one."""

    id: int
    at: datetime
    caller: str = Field(description="The name of the token.")
    action: str
    target: str
    outcome: str = Field(description="`ok`, or the code of the error.")
    detail: str


class AuditPage(BaseModel):
    """Records of changes, the latest first."""

    items: list[AuditRow]
    next: int | None = Field(description="The `before` of the next page; null: there is none.")


class ItemRow(BaseModel):
    """An item of a data source."""

    name: str
    kind: str = Field(description="`file`, `blob`, `table` or `view`.")
    size: int | None = Field(description="Bytes.")
    modified: datetime | None
    format: str | None


class ItemPage(BaseModel):
    """Some of a data source's items, by name."""

    items: list[ItemRow]
    next: str | None = Field(description="The `after` of the next page; null: there is none.")


class ColumnRow(BaseModel):
    """A column of a table."""

    name: str
    type: str | None
    nullable: bool


class ItemDetails(ItemRow):
    """What is known of an item without reading all of it."""

    rows: int | None
    rows_estimated: bool
    columns: list[ColumnRow]
    details: dict[str, str]


class Rows(BaseModel):
    """Rows of a table."""

    columns: list[ColumnRow]
    rows: list[list[Any]] = Field(description="What JSON has no form for is text.")
    truncated: bool = Field(description="There are more than these.")


class QueryRequest(BaseModel):
    """A question to a data source."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "statement": "select * from orders where id = $1",
                    "parameters": [7],
                    "limit": 100,
                }
            ]
        },
    )

    statement: str = Field(min_length=1, max_length=100_000, description="It changes nothing.")
    parameters: list[Any] = Field(
        default_factory=list[Any], max_length=1000, description="For its placeholders, in order."
    )
    limit: int = Field(default=100, ge=1, le=10_000, description="Rows at most.")
