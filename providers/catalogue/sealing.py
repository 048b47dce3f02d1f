"""Between a provider's settings and what is stored of them: each secret encrypted by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ...settings import ProviderSettings
from ..registry.credentials import CredentialManager, Owner
from ..registry.errors import CredentialError, InvalidConfigError
from ..registry.redaction import MASK, UNCHANGED, secret_fields_of
from ..registry.types import ProviderType

__all__ = ["Draft", "SealedOptions", "drafted", "settings_from"]


class SealedOptions(Secret[dict[str, Any]]):
    """
    The settings of a type, the secret ones encrypted until somebody asks for the value.

    Args:
        plain: What is not secret, and what is and was just given.
        sealed: The encrypted form of each other secret.
        family: The provider's family.
        provider: Its name.
        credentials: Decrypts.
    """

    def __init__(
        self,
        plain: Mapping[str, Any],
        sealed: Mapping[str, str],
        *,
        family: str,
        provider: str,
        credentials: CredentialManager,
    ) -> None:
        super().__init__({})
        self._plain = plain
        self._sealed = sealed
        self._place = family, provider
        self._credentials = credentials

    def get_secret_value(self) -> dict[str, Any]:
        """
        Return all settings, decrypted.

        Raises:
            CredentialError: A secret cannot be decrypted here.
        """
        decrypt = self._credentials.decrypt
        opened = {
            field: decrypt(token, Owner(*self._place, field))
            for field, token in self._sealed.items()
        }
        return {**self._plain, **opened}

    def _display(self) -> str:
        return MASK  # pydantic's asks for the value, to show whether it is empty

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SealedOptions) or self._plain != other._plain:
            return False
        if self._sealed == other._sealed:
            return True
        try:  # another key, and the same secret, is no change
            return self.get_secret_value() == other.get_secret_value()
        except CredentialError:
            return False

    __hash__ = None  # type: ignore[assignment]  # as of any dict


@dataclass(frozen=True, slots=True)
class Draft:
    """
    What is to be stored of a provider.

    Args:
        type: The provider type.
        config: Settings but secret ones, in JSON's terms.
        given: Secrets that were given, not encrypted yet.
        kept: Names of the secrets that stay as they are stored.
    """

    type: str
    config: dict[str, Any]
    given: dict[str, Any] = field(repr=False)
    kept: frozenset[str]

    def sealed(self, family: str, name: str, credentials: CredentialManager) -> dict[str, str]:
        """Return the secrets that were given, encrypted."""
        return {
            field: credentials.encrypt(value, Owner(family, name, field))
            for field, value in self.given.items()
        }

    def __reduce__(self) -> NoReturn:
        raise TypeError("A draft cannot be pickled or copied: it holds secrets.")


def drafted(
    name: str, settings: ProviderSettings, row: ProviderType, stored: Mapping[str, str]
) -> Draft:
    """
    Return what is to be stored.

    A secret that is left out, or ``UNCHANGED``, is kept if one is stored.

    Args:
        name: The provider.
        settings: Its settings.
        row: Its type.
        stored: The secrets there are, encrypted.

    Raises:
        InvalidConfigError: A value cannot be stored, or is ``UNCHANGED`` and not stored.
    """
    aliases: Mapping[str, str] = getattr(row.config_class, "aliases", {})
    secret = secret_fields_of(row.settings_class)
    plain: dict[str, Any] = {}
    given: dict[str, Any] = {}
    kept = {key for key in stored if key in secret}
    for alias, value in settings.options.get_secret_value().items():
        key = aliases.get(alias, alias)
        if value is UNCHANGED:
            if key not in kept:
                raise _invalid(name, key, "is UNCHANGED, and no such secret is stored")
            continue
        kept.discard(key)
        revealed, was_secret = _revealed(value)
        # None holds no secret: it says that there is none.
        of_secrets = value is not None and (key in secret or was_secret)
        (given if of_secrets else plain)[key] = _jsonable(name, key, revealed)
    envelope = settings.model_dump(mode="json", exclude_unset=True, exclude={"type", "options"})
    return Draft(row.name, {**envelope, "options": plain}, given, frozenset(kept))


def settings_from(
    type: str,
    config: Mapping[str, Any],
    secrets: Mapping[str, str],
    *,
    family: str,
    name: str,
    credentials: CredentialManager,
    given: Mapping[str, Any] | None = None,
) -> ProviderSettings:
    """
    Return the settings that are stored, secrets encrypted until they are asked for.

    Raises:
        ValidationError: What is stored is no provider's settings.
    """
    options: dict[str, Any] = {**config.get("options", {}), **(given or {})}
    envelope = ProviderSettings.model_validate({**config, "type": type, "options": {}})
    sealed = SealedOptions(options, secrets, family=family, provider=name, credentials=credentials)
    return envelope.model_copy(update={"options": sealed})


def _revealed(value: Any) -> tuple[Any, bool]:
    """Return a value with what is secret in it by its type laid open, and whether there was any."""
    if isinstance(value, SecretStr | SecretBytes | Secret):
        return _revealed(cast("Secret[Any]", value).get_secret_value())[0], True
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        found = {str(key): _revealed(inner) for key, inner in items}
        return {key: one for key, (one, _) in found.items()}, any(s for _, s in found.values())
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_revealed(inner) for inner in cast("list[Any]", value)]
        return [one for one, _ in parts], any(was_secret for _, was_secret in parts)
    return value, False


def _jsonable(name: str, field: str, value: Any) -> Any:
    try:
        found = to_jsonable_python(value)
        json.dumps(found, allow_nan=False)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError):
        reason = "cannot be stored: it is nothing that JSON can hold"
        raise _invalid(name, field, reason) from None
    return found


def _invalid(name: str, field: str, reason: str) -> InvalidConfigError:
    return InvalidConfigError(
        f"Configuration invalid: provider {name!r}\n  {field}: {reason}",
        name,
        {"problems": [{"where": field, "reason": reason}]},
    )
