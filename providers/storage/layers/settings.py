"""The settings of layers, which every storage type takes beside its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    create_model,
)

__all__ = ["MAX_RECIPIENTS", "LayerSettings", "own_settings", "with_layers"]

MAX_RECIPIENTS = 9
"""As many as the header of an encrypted object has room for; its length is always the same."""


def _lines(value: Any) -> Any:
    """Take a list, or texts separated by commas or lines, as in a key file: ``#`` is a remark."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        return value
    lines = [line.strip() for line in value.splitlines()]
    parts = ",".join(line for line in lines if not line.startswith("#")).split(",")
    return [part.strip() for part in parts if part.strip()]


def _check_each(parse: Callable[[str], object], texts: Iterable[str]) -> None:
    for number, text in enumerate(texts, 1):
        try:
            parse(text)
        except ValueError as error:
            raise ValueError(f"{error} (number {number})") from None


def _recipients(texts: tuple[str, ...]) -> tuple[str, ...]:
    from .keys import parse_recipient

    texts = tuple(dict.fromkeys(texts))
    if len(texts) > MAX_RECIPIENTS:
        raise ValueError(f"must be at most {MAX_RECIPIENTS} public keys")
    _check_each(parse_recipient, texts)
    return texts


def _identities(texts: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    from .keys import parse_identity

    _check_each(parse_identity, [text.get_secret_value() for text in texts])
    return texts


def _encryption(encryption: str | None, info: ValidationInfo) -> str | None:
    names = ("encryption_recipients", "encryption_identities", "encryption_allow_plain")
    given = [name for name in names if info.data.get(name, True)]  # a faulty one is given too
    if encryption is None and given:
        raise ValueError(f"must be age, or {' and '.join(given)} not be set")
    if encryption is not None and not {*names[:2]} & {*given}:
        raise ValueError(
            "needs keys: set encryption_recipients to write, and encryption_identities to read"
        )
    return encryption


class LayerSettings(BaseModel):
    """
    What is done to objects on their way to the backend.

    It has no method that validates: of two of the same name, here and in a type, one would be lost.
    """

    own_config_class: ClassVar[type[BaseModel]]
    """The model of the type alone, where these settings stand beside it."""

    compression: Literal["zstd"] | None = None
    """`zstd`: objects are stored compressed."""
    compression_level: int = Field(3, ge=1, le=19)
    """How hard to try: higher is smaller and slower."""
    encryption_recipients: Annotated[
        tuple[str, ...], BeforeValidator(_lines), AfterValidator(_recipients)
    ] = ()
    """Public keys (`age1...`), at most nine, that new objects are encrypted to; that of the first
    identity where none is given."""
    encryption_identities: Annotated[
        tuple[SecretStr, ...], BeforeValidator(_lines), AfterValidator(_identities)
    ] = ()
    """Secret keys (`AGE-SECRET-KEY-1...`) that objects are read with, the newest first."""
    encryption_allow_plain: bool = False
    """Whether objects that are not encrypted may be read too: those stored before encryption was
    switched on, and whatever else somebody put there."""
    encryption: Annotated[Literal["age"] | None, AfterValidator(_encryption)] = Field(
        None, validate_default=True
    )
    """`age`: objects are stored encrypted, in the format of age-encryption.org/v1."""

    @property
    def layers_on(self) -> frozenset[str]:
        """The capabilities that these settings add."""
        layers = {"compression": self.compression, "encryption": self.encryption}
        return frozenset(name for name, value in layers.items() if value is not None)


@functools.cache
def with_layers(own: type[BaseModel]) -> type[BaseModel]:
    """
    Return the settings of a type with those of layers beside them; made once for each.

    A type that has a setting of such a name already means something of its own by it, and is left
    as it is.
    """
    if issubclass(own, LayerSettings) or own.model_fields.keys() & LayerSettings.model_fields:
        return own
    made = create_model(
        own.__name__, __base__=(own, LayerSettings), __module__=own.__module__, __doc__=own.__doc__
    )
    made.own_config_class = own  # pyright: ignore[reportAttributeAccessIssue]
    return made


def own_settings(config: BaseModel) -> BaseModel:
    """Return the part of settings that is the type's own: what its class was written for."""
    own = getattr(config, "own_config_class", None)
    if own is None:
        return config
    plain = own.__new__(own)
    values = {name: value for name, value in vars(config).items() if name not in _LAYER_FIELDS}
    object.__setattr__(plain, "__dict__", values)
    object.__setattr__(plain, "__pydantic_fields_set__", config.model_fields_set - _LAYER_FIELDS)
    for name in ("__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(plain, name, getattr(config, name))
    return plain


_LAYER_FIELDS = frozenset(LayerSettings.model_fields)
