"""Families and provider types: what could be configured."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from ....providers.registry import ProviderType
from ....providers.registry.errors import NotFoundError
from ....settings import ProviderSettings
from ..filters import one_of, supported_providers
from ..identity import Reader
from ..models import Families, TypeDetails, Types
from ..openapi import StrictRoute, answers
from ..parts import Container, registry_of
from .providers import Family

__all__ = ["router"]

router = APIRouter(tags=["types"], route_class=StrictRoute)

Word = Annotated[str | None, Query(max_length=100)]
TypeName = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9_.-]{1,128}$",
        description="The provider type, such as `s3`.",
        examples=["filesystem"],
    ),
]


class _Schema(GenerateJsonSchema):
    """Leaves out defaults that JSON cannot have, such as secrets."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - as pydantic has it
        "skipped-choice",
        "non-serializable-default",
    }


@router.get("/families", response_model=Families, responses=answers())
async def list_families(container: Container, _: Reader) -> Any:
    """List the families, with their default providers and the types they support."""
    types = supported_providers(container)
    registries = container.registries()
    return {
        "items": [
            {
                "name": name,
                "default": _default_of(registries[name]),
                "providers": len(registries[name].names()),
                "types": types[name],
            }
            for name in sorted(registries)
        ]
    }


@router.get("/types", response_model=Types, responses=answers())
async def list_types(
    container: Container, _: Reader, family: Word = None, capability: Word = None
) -> Any:
    """List the provider types, whether what they need is installed or not."""
    types = container.types()
    registries = container.registries()
    if family is not None and family not in registries:
        aliases = {one: name for name in registries for one in registries[name].family.aliases}
        family = aliases.get(family) or one_of("family", family, registries)
    found = [row for row in types.all(family) if row.family in registries]
    if capability is not None:
        one_of("capability", capability, {name for row in found for name in row.capabilities})
        found = [row for row in found if capability in row.capabilities]
    found.sort(key=lambda row: (row.family, row.name))
    return {"items": [row.to_dict() for row in found]}


@router.get("/types/{family}/{type}", response_model=TypeDetails, responses=answers(404, 501))
async def get_type(family: Family, type: TypeName, container: Container, _: Reader) -> Any:
    """Describe a provider type and its settings; a secret one has `x-secret: true`."""
    registry = registry_of(container, family)
    row = registry.types.get(registry.family.name, type)
    return await asyncio.to_thread(_described, row)  # it is imported, which may take a while


def _default_of(registry: Any) -> str | None:
    try:
        return registry.default_name()
    except NotFoundError:
        return None


def _described(row: ProviderType) -> dict[str, Any]:
    schema = row.settings_class.model_json_schema(schema_generator=_Schema)
    properties: dict[str, Any] = schema.get("properties", {})
    secrets = sorted(row.secret_fields & properties.keys())
    for name in secrets:
        properties[name]["x-secret"] = True
    common = ProviderSettings.model_json_schema(schema_generator=_Schema)
    del common["properties"]["options"]  # where those of the type may stand, too
    return {**row.to_dict(), "secrets": secrets, "settings_schema": schema, "common_schema": common}
