"""Patterns of paths: ``*`` and ``?`` within one part, ``**`` across parts."""

from __future__ import annotations

import functools
import re

__all__ = ["WILD", "expression"]

WILD = re.compile(r"(\*\*/|\*\*|\*|\?)")
"""What in a pattern stands for something else."""
_MEANING = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@functools.lru_cache(maxsize=256)
def expression(pattern: str) -> re.Pattern[str]:
    """Return what matches, as a whole, the paths that a pattern means."""
    parts = (_MEANING.get(part, re.escape(part)) for part in WILD.split(pattern))
    return re.compile("".join(parts), re.DOTALL)
