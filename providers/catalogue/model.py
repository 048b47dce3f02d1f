"""The tables of the catalogue."""

from __future__ import annotations

from sqlalchemy import JSON, Column, DateTime, Integer, MetaData, String, Table

__all__ = ["audit", "metadata", "registrations", "revision", "tokens"]

metadata = MetaData()

registrations = Table(
    "purveyor_registrations",
    metadata,
    Column("family", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("type", String, nullable=False),
    Column("config", JSON, nullable=False),
    Column("secrets", JSON, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
"""
One row a provider. ``config`` is its settings but the type and the secret ones; ``secrets`` has
those, each encrypted; ``version`` is the revision that last changed it.
"""

revision = Table(
    "purveyor_revision",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
)
"""
One row: how many changes there were. Who changes anything takes it first, so changes have an order,
and no version is given twice.
"""

tokens = Table(
    "purveyor_tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
)
"""One row an access token; ``digest`` is the SHA-256 of the whole token."""

audit = Table(
    "purveyor_audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, index=True),
    Column("caller", String, nullable=False),
    Column("action", String, nullable=False),
    Column("target", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("detail", String, nullable=False),
)
"""One row a change, or an attempt at one: who, what, when, with what result; no secrets."""
