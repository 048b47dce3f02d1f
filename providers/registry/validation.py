"""From what somebody wrote to what a provider type accepts, every fault explained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Secret, ValidationError

from ...settings import explain
from .errors import InvalidConfigError, InvalidNameError
from .redaction import knowing, masks_in, scrub, secret_fields_of
from .types import ProviderType

__all__ = ["check_name", "refuse_masks", "validated_config"]

_MASKED = "is the mask, not the value; leave it out to keep it"

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
    shared: bool = False,
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
        shared: Whether others than who runs this process may have written them.

    Raises:
        InvalidConfigError: ``context["problems"]`` has every fault: where, and what is allowed.
            No value is ever quoted.
    """
    model = row.config_class
    if options.keys() - model.model_fields.keys() - getattr(model, "aliases", {}).keys():
        model = row.settings_class
    try:
        config = model.model_validate(
            dict(options), context={"home": home, "name": name, "shared": shared}
        )
    except ValidationError as error:
        secret = secret_fields_of(model)
        masks = masks_in(Secret({key: options[key] for key in options if key in secret}))
        faults = [fault for fault in explain(error, model) if fault[0] not in masks]
        raise _invalid(row, name, where, [*faults, *((path, _MASKED) for path in masks)]) from None
    except Exception as error:  # a defect of the model, which must not end a bulk load
        with knowing(options.values()):
            clean = scrub(error)
        raise InvalidConfigError(
            f"Configuration invalid: {row.family} provider {name!r} (type {row.name}): "
            f"validating it raised {type(error).__name__}",
            name,
            {"type": row.name},
        ) from clean
    refuse_masks(row, config, name=name, where=where)
    return config


def refuse_masks(
    row: ProviderType,
    config: BaseModel,
    *,
    name: str,
    where: Callable[[tuple[str, ...]], str] | None = None,
) -> None:
    """
    Refuse settings in which a mask is in the place of a secret, as when what was shown comes back.

    Raises:
        InvalidConfigError: There is one; all are named.
    """
    if masks := masks_in(config):
        raise _invalid(row, name, where, [(path, _MASKED) for path in masks])


def _invalid(
    row: ProviderType,
    name: str,
    where: Callable[[tuple[str, ...]], str] | None,
    faults: Iterable[tuple[tuple[str, ...], str]],
) -> InvalidConfigError:
    problems = [
        {"where": where(path) if where else ".".join(path) or row.name, "reason": reason}
        for path, reason in faults
    ]
    lines = "".join(f"\n  {problem['where']}: {problem['reason']}" for problem in problems)
    return InvalidConfigError(
        f"Configuration invalid: {row.family} provider {name!r} (type {row.name}){lines}",
        name,
        {"problems": problems, "type": row.name},
    )
