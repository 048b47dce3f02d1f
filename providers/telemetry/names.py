"""Names by OpenTelemetry's semantic conventions, version 1.44.0; of AI by those for GenAI."""

from __future__ import annotations

__all__ = [
    "CHAT",
    "DB_SYSTEMS",
    "DURATION_BOUNDS",
    "GEN_AI_BOUNDS",
    "HTTP_BOUNDS",
    "SCHEMA_URL",
    "SCOPE",
    "TOKEN_BOUNDS",
]

SCOPE = "purveyor"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

DURATION_BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""Seconds, from a row of SQLite to a large file."""
HTTP_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds, as the conventions for ``http.server.request.duration`` say."""
GEN_AI_BOUNDS = tuple(0.01 * 2**power for power in range(14))
"""Seconds, as the conventions for ``gen_ai.client.operation.duration`` say."""
TOKEN_BOUNDS = tuple(4.0**power for power in range(14))
"""Tokens, as the conventions for ``gen_ai.client.token.usage`` say."""

CHAT = frozenset({"complete", "stream"})
"""The operations of the AI family that are a ``chat`` of the conventions."""
DB_SYSTEMS = frozenset({"postgresql", "sqlite"})
"""Provider types that are a ``db.system.name`` of the conventions."""
