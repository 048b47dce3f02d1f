"""Providers: which there are, registering and removing them, testing them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ..identity import Reader
from ..parts import Container, registry_of

__all__ = ["router"]

router = APIRouter(prefix="/providers", tags=["providers"])


@router.get("/{family}/{name}")
async def show(family: str, name: str, container: Container, _: Reader) -> dict[str, Any]:
    """Tell what is known of one provider."""
    return registry_of(container, family).info(name).to_dict()
