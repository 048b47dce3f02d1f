"""OpenAI's published schemas, where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PUBLISHED = Path(__file__).parents[5] / "shared" / "data" / "openai-openapi.json"


def image_request_validator() -> Any:
    """Return what validates a body of POST /images/generations; skip where the schema is not."""
    if not PUBLISHED.exists():
        pytest.skip("OpenAI's schemas are not at ../shared/data/openai-openapi.json")
    import jsonschema_rs

    document = json.loads(PUBLISHED.read_text())
    return jsonschema_rs.validator_for(
        {
            "$ref": "#/components/schemas/CreateImageRequest",
            "components": document["components"],
            "unevaluatedProperties": False,
        }
    )
