"""Values of data sources as JSON has them, for the command line and HTTP alike."""

from __future__ import annotations

import datetime
import math
from typing import Any, cast

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON has not as text, and text as UTF-8 can have it."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return value if value.isascii() else value.encode(errors="replace").decode()
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() | bytearray():
            return value.hex()
        case datetime.date() | datetime.time():
            return value.isoformat()
        case dict():
            found = cast("dict[Any, Any]", value)
            return {str(key): plain(one) for key, one in found.items()}
        case list() | tuple():
            return [plain(one) for one in cast("list[Any]", value)]
        case _:
            return str(value)
