"""What the environment may say of asking models about data."""

from __future__ import annotations

from pydantic import Field

from .branches import Count, Seconds, _Branch

__all__ = ["ChatSettings"]


class ChatSettings(_Branch):
    """How much of what was fetched a model is told, and the list of models to ask."""

    item_bytes: Count = Field(
        default=64 * 1024, ge=0, description="Bytes of one fetched file that a model is told."
    )
    total_bytes: Count = Field(
        default=256 * 1024, ge=0, description="Bytes of all files together that it is told."
    )
    max_items: Count = Field(
        default=100, ge=1, le=10_000, description="Files of one question; more are refused."
    )
    max_body: Count = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        description="Bytes a question may have, pictures among them, of who may ask.",
    )
    models_timeout: Seconds = Field(
        default=5.0, description="Seconds a service has to list its models, or it is left out."
    )
    models_age: Seconds = Field(
        default=60.0, description="Seconds after which a service is asked for its models anew."
    )
