"""The keys of age: whom an object is encrypted to, and who can read it."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from .bech32 import bech32_decode, bech32_encode

__all__ = ["new_identity", "parse_identity", "parse_recipient", "recipient_of"]

_RECIPIENT = "age"
_IDENTITY = "age-secret-key-"


def parse_recipient(text: str) -> bytes:
    """
    Return the 32 bytes of a public key, written ``age1...``.

    Raises:
        ValueError: It is none.
    """
    return _parsed(text, _RECIPIENT, "a public key of age: 'age1' and 58 letters")


def parse_identity(text: str) -> bytes:
    """
    Return the 32 bytes of a secret key, written ``AGE-SECRET-KEY-1...``.

    Raises:
        ValueError: It is none. The message does not quote it.
    """
    return _parsed(text, _IDENTITY, "a secret key of age: 'AGE-SECRET-KEY-1' and 58 letters")


def _parsed(text: str, prefix: str, wanted: str) -> bytes:
    try:
        found, key = bech32_decode(text)
    except ValueError as error:
        raise ValueError(f"must be {wanted}; it {error}") from None
    if found != prefix or len(key) != 32 or (text == text.lower()) != (prefix == _RECIPIENT):
        raise ValueError(f"must be {wanted}")
    return key


def new_identity() -> str:
    """Return a new secret key, written ``AGE-SECRET-KEY-1...``."""
    key = X25519PrivateKey.generate().private_bytes_raw()
    return bech32_encode(_IDENTITY, key).upper()


def recipient_of(identity: str) -> str:
    """Return the public key of a secret key, written ``age1...``."""
    key = X25519PrivateKey.from_private_bytes(parse_identity(identity))
    return bech32_encode(_RECIPIENT, key.public_key().public_bytes_raw())
