"""The registrations, and the count of their changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "purveyor_registrations",
        sa.Column("family", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("secrets", sa.JSON, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    number = sa.Column("number", sa.Integer, primary_key=True, autoincrement=False)
    table = op.create_table("purveyor_revision", number)
    op.bulk_insert(table, [{"number": 0}])


def downgrade() -> None:
    """Remove them, with all that is in them."""
    op.drop_table("purveyor_revision")
    op.drop_table("purveyor_registrations")
