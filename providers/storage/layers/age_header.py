"""
The header of an encrypted object: its file key, wrapped for each who may read it.

The format is that of age (age-encryption.org/v1, C2SP specification "The age file encryption
format"). The header written here always has the same length, so that the size of an object tells
the size of its content, and changing the keys changes the header alone. A stanza of our own, which
other readers pass over, fills it; it also tells, to whom has the file key, for whom the header was
made.
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import EncryptionKeyError, ForeignObjectError, ObjectDamagedError

__all__ = ["HEADER_SIZE", "MAGIC", "Header", "derived"]

HEADER_SIZE = 1024
"""Bytes of the header; there is room in it for nine recipients."""
MAGIC = b"age-encryption.org/v1\n"

_INFO = b"age-encryption.org/v1/X25519"
_FILL = b"purveyor"
_FILE_KEY_SIZE = 16
_LINE = 64
_HEADER = re.compile(
    rb"age-encryption\.org/v1\n"
    rb"(?P<stanzas>(?:-> [\x21-\x7e]+(?: [\x21-\x7e]+)*\n(?:[A-Za-z0-9+/]{64}\n)*"
    rb"[A-Za-z0-9+/]{0,63}\n)+)"
    rb"--- (?P<mac>[A-Za-z0-9+/]{43})\n"
)
_STANZA = re.compile(rb"-> ([^\n]+)\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)")


def derived(key: bytes, info: bytes, salt: bytes = b"", size: int = 32) -> bytes:
    """Return a key derived from another one (HKDF with SHA-256)."""
    return HKDF(SHA256(), size, salt, info).derive(key)


@dataclass(frozen=True, slots=True)
class Header:
    """
    A header that was read.

    Args:
        data: All of its bytes.
        stanzas: The arguments and the body of each.
        mac: What proves that whoever made it had the file key.
    """

    data: bytes
    stanzas: Sequence[tuple[Sequence[bytes], bytes]]
    mac: bytes

    @classmethod
    def written(cls, file_key: bytes, recipients: Sequence[bytes]) -> bytes:
        """Return a header that wraps a file key for some recipients, in ``HEADER_SIZE`` bytes."""
        text = MAGIC + b"".join(_wrapped(file_key, recipient) for recipient in recipients)
        text += b"-> %b %b " % (_FILL, _base64(_made_for(file_key, recipients)))
        room = HEADER_SIZE - len(text) - len(b"\n\n--- \n") - len(_base64(bytes(32)))
        text += b"." * room + b"\n\n---"
        return text + b" " + _base64(_mac(file_key, text)) + b"\n"

    @classmethod
    def read(cls, data: bytes) -> Header:
        """
        Return the header that an object begins with.

        Raises:
            ForeignObjectError: It does not begin with one, or with one of another program's.
        """
        if not data.startswith(MAGIC):
            raise ForeignObjectError(
                "It is not encrypted, as if stored before encryption was switched on, or by "
                "somebody else. Put it anew through this provider; to read it as it is, set "
                "encryption_allow_plain for as long as nobody else can write there."
            )
        found = _HEADER.match(data)
        if found is None or found.end() != HEADER_SIZE:
            raise ForeignObjectError(
                "It was encrypted by another program, or its header is damaged: the header does "
                f"not have the {HEADER_SIZE} bytes that sizes are computed by. Decrypt it with "
                "age, and put it anew through this provider."
            )
        stanzas = [
            (arguments.split(b" "), _unbase64(body.replace(b"\n", b"")))
            for arguments, body in _STANZA.findall(found["stanzas"])
        ]
        return cls(found[0], stanzas, _unbase64(found["mac"]))

    def file_key(self, identities: Sequence[bytes]) -> bytes:
        """
        Return the file key.

        Raises:
            EncryptionKeyError: No identity fits.
            ObjectDamagedError: The header was tampered with.
        """
        for identity in identities:
            for arguments, body in self.stanzas:
                if arguments[0] == b"X25519":
                    key = _unwrapped(arguments, body, identity)
                    if key is not None:
                        self._check(key)
                        return key
        if not identities:
            raise EncryptionKeyError(
                "It is encrypted, and this provider has no key to read it with: it can only "
                "write. Set encryption_identities."
            )
        raise EncryptionKeyError(
            f"It is encrypted to other keys: none of the {len(identities)} in "
            "encryption_identities fits. Add the one that was in force when it was stored."
        )

    def _check(self, file_key: bytes) -> None:
        text = self.data[: self.data.rindex(b"---") + 3]
        if not hmac.compare_digest(_mac(file_key, text), self.mac):
            raise ObjectDamagedError("Its header is damaged, or was tampered with.")

    def is_for(self, file_key: bytes, recipients: Sequence[bytes]) -> bool:
        """Tell whether it was made for exactly these recipients."""
        made_for = _base64(_made_for(file_key, recipients))
        return any(
            arguments[0] == _FILL and made_for in arguments[1:] for arguments, _ in self.stanzas
        )


def new_file_key() -> bytes:
    """Return a new file key."""
    return os.urandom(_FILE_KEY_SIZE)


def _mac(file_key: bytes, text: bytes) -> bytes:
    return hmac.digest(derived(file_key, b"header"), text, sha256)


def _made_for(file_key: bytes, recipients: Sequence[bytes]) -> bytes:
    """Return what tells the recipients from others, to nobody who has not the file key."""
    return derived(file_key, b"purveyor recipients", b"".join(sorted(recipients)), 16)


def _wrapped(file_key: bytes, recipient: bytes) -> bytes:
    secret = X25519PrivateKey.generate()
    share = secret.public_key().public_bytes_raw()
    shared = secret.exchange(X25519PublicKey.from_public_bytes(recipient))
    key = derived(shared, _INFO, share + recipient)
    body = ChaCha20Poly1305(key).encrypt(bytes(12), file_key, None)
    return b"-> X25519 %b\n%b\n" % (_base64(share), _base64(body))


def _unwrapped(arguments: Sequence[bytes], body: bytes, identity: bytes) -> bytes | None:
    """Return the file key, None if the stanza is for somebody else."""
    if len(arguments) != 2 or len(body) != _FILE_KEY_SIZE + 16:
        raise ObjectDamagedError("Its header is damaged: a stanza is not well-formed.")
    share = _unbase64(arguments[1])
    secret = X25519PrivateKey.from_private_bytes(identity)
    try:
        shared = secret.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:  # of another length, or a point that makes the secret known to all
        raise ObjectDamagedError("Its header is damaged: a stanza is not well-formed.") from None
    key = derived(shared, _INFO, share + secret.public_key().public_bytes_raw())
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), body, None)
    except InvalidTag:
        return None


def _base64(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _unbase64(text: bytes) -> bytes:
    try:
        data = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        data = b""
    if _base64(data) != text:  # one writing only, so that nothing can be changed unseen
        raise ObjectDamagedError("Its header is damaged: it is not well-formed.")
    return data
