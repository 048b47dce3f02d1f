"""Optional libraries: imported when first needed, missing ones told with their install line."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import ImportFailedError

__all__ = ["import_extra"]


def import_extra(module: str, *, extra: str) -> ModuleType:
    """
    Import ``module``, which the extra ``extra`` installs.

    Raises:
        ImportFailedError: The library is not installed; the message has the install line.
            A library that is installed but broken raises its own error, untouched.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != root:
            raise  # installed, but something it needs is not: its own traceback says what
        raise ImportFailedError(
            f"{root!r} is not installed. Install it with: pip install 'purveyor[{extra}]'",
            context={"module": module, "extra": extra},
        ) from error
