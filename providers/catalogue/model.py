"""The tables of the catalogue."""

from __future__ import annotations

from sqlalchemy import JSON, Column, DateTime, Integer, MetaData, String, Table

__all__ = ["metadata", "registrations", "revision"]

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
