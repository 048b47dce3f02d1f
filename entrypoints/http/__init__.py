"""
The HTTP API: the registry for operators, and for programs that are not Python.

FastAPI, which the extra ``http`` installs, is imported with this package.
"""

from __future__ import annotations

from .app import create_app

__all__ = ["create_app"]
