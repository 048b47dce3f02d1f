"""
The HTTP API: the registry for operators, and for programs that are not Python.

FastAPI, which the extra ``http`` installs, is imported with this package.
"""

from __future__ import annotations

from ...providers.registry import import_extra

for _module in ("fastapi", "jinja2", "sqlalchemy"):
    import_extra(_module, extra="http")

from .app import create_app  # noqa: E402 - after what it needs

__all__ = ["create_app"]
