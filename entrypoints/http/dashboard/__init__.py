"""
The dashboard: pages made on the server, for people who look after a running application.

They can be read and every action works without JavaScript; with it they stay up to date by
themselves. Nothing is loaded from elsewhere, and no script or style stands within a page.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from . import pages, session

__all__ = ["install"]


def install(app: FastAPI) -> None:
    """Add the pages to an application, and the files that they load."""
    app.include_router(session.router)
    app.include_router(pages.router)
    app.mount("/static", Files(directory=Path(__file__).parent / "static"), name="static")


class Files(StaticFiles):
    """The files of one folder, also where a proxy takes the path off that ``root_path`` names."""

    def get_path(self, scope: Scope) -> str:
        """Return the name of the file that is asked for."""
        return scope["path"].rpartition("/static/")[2]
