"""Which settings are secret: those whose type says so."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

__all__ = ["secret_fields_of"]


def secret_fields_of(model: type[BaseModel]) -> frozenset[str]:
    """
    Return the names of a model's secret fields, and their older names.

    A field is secret if its type is, or holds, ``SecretStr``, ``SecretBytes`` or ``Secret``. No
    instance is needed to know.
    """
    names = {name for name, field in model.model_fields.items() if _is_secret(field.annotation)}
    aliases: dict[str, str] = dict(getattr(model, "aliases", {}))
    return frozenset(names | {alias for alias, name in aliases.items() if name in names})


def _is_secret(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and issubclass(kind, SecretStr | SecretBytes | Secret):
        return True
    return any(_is_secret(part) for part in get_args(annotation))
