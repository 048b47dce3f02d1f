"""From what somebody wrote to what a provider type accepts, every fault explained."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ...settings import explain
from .errors import InvalidConfigError, InvalidNameError
from .types import ProviderType

__all__ = ["check_name", "validated_config"]

_NAME = re.compile(r"\w[\w.-]{0,127}")


def check_name(name: object) -> str:
    """
    Return ``name`` if a provider can have it: letters, digits, ``_``, ``.`` and ``-``, at most
    128, not beginning with a dot or dash.

    Raises:
        InvalidNameError: It cannot.
    """
    if not isinstance(name, str) or not name:
        raise InvalidNameError("Provider name must be a non-empty string.")
    if not _NAME.fullmatch(name):
        raise InvalidNameError(
            f"Provider name {name!r} is not usable: letters, digits, '_', '.' and '-' are "
            "allowed, at most 128, and it begins with a letter, a digit or '_'.",
            name,
        )
    return name


def validated_config(
    row: ProviderType,
    options: Mapping[str, Any],
    *,
    name: str,
    home: Path,
    where: Callable[[tuple[str, ...]], str] | None = None,
) -> BaseModel:
    """
    Return ``options`` as the type's config model.

    Args:
        row: The provider type.
        options: The type's own settings.
        name: The provider's name; types may derive defaults from it.
        home: The folder below which types keep their data by default.
        where: Tells where a setting is made or would be, as an environment variable or a
            file and key; without it faults are named by their key alone.

    Raises:
        InvalidConfigError: ``context["problems"]`` has every fault: where, and what is allowed.
            No value is ever quoted.
    """
    model = row.config_class
    try:
        return model.model_validate(dict(options), context={"home": home, "name": name})
    except ValidationError as error:
        problems = [
            {"where": where(path) if where else ".".join(path) or row.name, "reason": reason}
            for path, reason in explain(error, model)
        ]
        lines = "".join(f"\n  {problem['where']}: {problem['reason']}" for problem in problems)
        raise InvalidConfigError(
            f"Configuration invalid: {row.family} provider {name!r} (type {row.name}){lines}",
            name,
            {"problems": problems, "type": row.name},
        ) from None  # pydantic's own text may quote what was given
    except Exception as error:  # a defect of the model, which must not end a bulk load
        raise InvalidConfigError(
            f"Configuration invalid: {row.family} provider {name!r} (type {row.name}): "
            f"validating it raised {type(error).__name__}",
            name,
            {"type": row.name},
        ) from error
