"""Which settings are secret is known from the type alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field, Secret, SecretBytes, SecretStr

from purveyor.providers.registry import ProviderConfig, default_types
from purveyor.providers.registry.redaction import secret_fields_of


class Config(ProviderConfig):
    aliases: ClassVar[Mapping[str, str]] = {"pass": "password", "user": "username"}

    username: str = ""
    password: SecretStr | None = None
    key: SecretBytes = SecretBytes(b"")
    tokens: tuple[SecretStr, ...] = ()
    keys: dict[str, SecretStr] = Field(default_factory=dict)
    extra: Annotated[Secret[dict[str, Any]] | None, Field(description="any")] = None
    not_secret: tuple[str, ...] = ()


@pytest.mark.requirement("S0.26")
def test_a_field_is_secret_because_of_its_type() -> None:
    assert secret_fields_of(Config) == {"password", "pass", "key", "tokens", "keys", "extra"}


@pytest.mark.requirement("S0.26")
def test_a_type_in_the_catalogue_knows_its_secret_settings() -> None:
    s3 = default_types.get("storage", "s3")
    assert s3.secret_fields == {"access_key", "secret_key", "session_token"}
    assert default_types.get("storage", "filesystem").secret_fields == frozenset()
