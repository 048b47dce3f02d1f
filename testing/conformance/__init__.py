"""
Conformance kits: what every provider type of a family must do, as tests to subclass.

They need pytest and no plugin. See ``docs/conformance.md``.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(__name__)  # a failed assert in the kit shows its values too

from .storage import StorageConformance  # noqa: E402 - only what comes after is rewritten

__all__ = ["StorageConformance"]
