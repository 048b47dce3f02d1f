"""OpenAI's double, and the judge of what is sent to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from purveyor.testing.doubles import OpenAIDouble

PUBLISHED = Path(__file__).parents[3].parent / "shared" / "data" / "openai-openapi.json"

Judge = Callable[[str, Any], list[str]]


@pytest.fixture
def openai() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as double:
        yield double


@pytest.fixture(scope="session")
def published() -> Judge:
    """Return what tells the faults of a value by a schema that OpenAI has published."""
    if not PUBLISHED.exists():
        pytest.skip("OpenAI's schemas are not at ../shared/data/openai-openapi.json")
    document = json.loads(PUBLISHED.read_text())
    validators: dict[str, Any] = {}

    def faults(name: str, value: Any) -> list[str]:
        if name not in validators:
            schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            validators[name] = jsonschema_rs.validator_for(schema)
        return [str(error.message) for error in validators[name].iter_errors(value)]

    return faults
