"""Bringing a database to the form that this release knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import String, column, inspect, select, table

from ..errors import CatalogueError

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["HEAD", "VERSION_TABLE", "found", "upgrade"]

HEAD = "0002"
"""The last migration."""
VERSION_TABLE = "purveyor_catalogue_version"


def found(connection: Connection) -> str | None:
    """Return the last migration a database has seen; None for none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(
        select(column("version_num", String)).select_from(table(VERSION_TABLE))
    )


def upgrade(connection: Connection, shown: str) -> None:
    """
    Run what is missing, within the transaction of ``connection``.

    Args:
        connection: With which nobody else does the same at this time.
        shown: The database's address, for messages.

    Raises:
        CatalogueError: A newer release wrote the database.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    version = found(connection)
    known = {one.revision for one in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise CatalogueError(
            f"The {shown} has the form {version!r}, which this release does not know (its own is "
            f"{HEAD}): a newer one has written it. Install that release here too."
        )
    command.upgrade(config, HEAD)
