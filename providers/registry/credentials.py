"""Credentials at rest: encrypted under a key that has an id, and bound to what they belong to."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pydantic import SecretStr

from ...settings import CredentialSettings, load_settings
from .errors import CredentialError
from .redaction import remember

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

__all__ = ["CredentialManager", "Owner", "is_sealed", "key_id_of"]

logger = logging.getLogger(__name__)

_KEY = r"[A-Za-z0-9_-]{43}="  # compiled when first used
_SEALED = r"v1:([0-9a-f]{8}):([A-Za-z0-9_-]+={0,2})"
_VERSION = r"(v[0-9]{1,9}):"
_VARIABLE = "PURVEYOR_CREDENTIALS__KEYS"
_GENERATE = "`purveyor credentials generate-key` makes one"
_FORM = "url-safe base64 of 32 bytes"


class Owner(NamedTuple):
    """What a credential belongs to: one field of one provider."""

    family: str
    provider: str
    field: str

    def __str__(self) -> str:
        return f"{self.field!r} of {self.family} provider {self.provider!r}"


class _Key(NamedTuple):
    """A key as it was written, and where, for messages."""

    text: SecretStr
    origin: str


class CredentialManager:
    """
    Encrypts credentials with Fernet; the first key encrypts, all decrypt.

    What it makes reads ``v1:<key id>:<Fernet token>``. The owner is inside the token, so a value
    that was moved to another provider or field is refused. The key id is derived from the key:
    the first 8 hexadecimal digits of its SHA-256.

    Keys are read when first needed, and stay. After a change of the settings make another manager.

    Args:
        keys: Fernet keys. None: those that the settings of the environment name, else the key
            file of the embedded set-up, ``~/.config/purveyor/credentials.key``, which is made
            when it is first needed (``XDG_CONFIG_HOME`` moves it).
    """

    __slots__ = ("_keys", "_ring")

    def __init__(self, keys: Sequence[str | bytes | SecretStr] | None = None) -> None:
        if keys is None:
            self._keys: Callable[[], list[_Key]] = _of_environment
        else:
            given = [_Key(_secret(key), f"key {n} given") for n, key in enumerate(keys, 1)]
            self._keys = lambda: given
        self._ring: dict[str, Fernet] | None = None

    @classmethod
    def from_settings(cls, settings: CredentialSettings, *, embedded: bool) -> CredentialManager:
        """
        Return a manager of the keys that ``settings`` name: ``keys``, then those of ``key_file``.

        Args:
            settings: The branch ``credentials`` of the settings.
            embedded: What to do when they name none: True makes or reads the key file of the
                embedded set-up, False refuses. Several machines need to be given one key.
        """
        manager = cls(())
        manager._keys = lambda: _of_settings(settings, embedded=embedded)
        return manager

    @staticmethod
    def generate_key() -> str:
        """Return a new key."""
        return base64.urlsafe_b64encode(os.urandom(32)).decode()

    @property
    def key_ids(self) -> tuple[str, ...]:
        """
        The ids of the keys; the first encrypts.

        Raises:
            CredentialError: There is no key, or one that is of no use; so for all that follow.
        """
        return tuple(self._fernets())

    def encrypt(self, value: Any, owner: Owner) -> str:
        """
        Return a value encrypted.

        Args:
            value: Anything JSON can hold.
            owner: What it belongs to; only with the same one it is decrypted.

        Raises:
            CredentialError: The value is none that JSON can hold.
        """
        try:
            content = json.dumps({"owner": [*owner], "value": value}, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise _error(
                owner, "cannot be encrypted: it is no text, number, boolean, list or table of such"
            ) from None
        return self._seal(content)

    def decrypt(self, sealed: str, owner: Owner) -> Any:
        """
        Return what :meth:`encrypt` was given.

        Raises:
            CredentialError: The key is missing, the text is damaged, or it belongs to another
                owner. No message holds the value.
        """
        return json.loads(self._open(sealed, owner))["value"]

    def rotate(self, sealed: str, owner: Owner) -> str:
        """
        Return a value encrypted under the first key: the same text if it is already.

        Raises:
            CredentialError: As :meth:`decrypt`.
        """
        if _parts(sealed, owner)[0] == self.key_ids[0]:
            return sealed
        return self._seal(self._open(sealed, owner))

    def __reduce__(self) -> NoReturn:
        raise TypeError("A credential manager cannot be pickled or copied: it holds keys.")

    # -- inside --------------------------------------------------------------------------

    def _fernets(self) -> dict[str, Fernet]:
        if self._ring is None:  # two threads may both read them: they read the same
            self._ring = _ring(self._keys())
        return self._ring

    def _seal(self, content: bytes) -> str:
        key_id, fernet = next(iter(self._fernets().items()))
        return f"v1:{key_id}:{fernet.encrypt(content).decode()}"

    def _open(self, sealed: str, owner: Owner) -> bytes:
        """Return the content of a text whose owner is proved."""
        from cryptography.fernet import InvalidToken

        key_id, token = _parts(sealed, owner)
        fernet = self._fernets().get(key_id)
        if fernet is None:
            raise _error(
                owner,
                f"was encrypted with key {key_id}, which is not among the keys in use "
                f"({', '.join(self.key_ids)}). Add that key to {_VARIABLE}, after the first.",
                key_id=key_id,
            )
        try:
            content = fernet.decrypt(token)
            found = Owner(*json.loads(content)["owner"])
        except (InvalidToken, ValueError, TypeError, KeyError):
            raise _error(
                owner,
                f"is damaged: key {key_id} is there, and does not decrypt it. Enter the "
                "credential anew.",
                key_id=key_id,
            ) from None
        if found != owner:
            raise _error(
                owner,
                f"is that of {found}: it was moved or copied there. Enter the credential anew.",
                belongs_to=found._asdict(),
            )
        return content


def is_sealed(text: str) -> bool:
    """Tell whether a text has the form of an encrypted credential."""
    return re.fullmatch(_SEALED, text) is not None


def key_id_of(sealed: str) -> str:
    """
    Return the id of the key that an encrypted credential needs; no key is needed to know.

    Raises:
        CredentialError: The text is no encrypted credential, or of an unknown version.
    """
    return _parts(sealed, None)[0]


def _parts(sealed: str, owner: Owner | None) -> tuple[str, str]:
    found = re.fullmatch(_SEALED, sealed)
    if found is not None:
        return found[1], found[2]
    version = re.match(_VERSION, sealed)
    if version is not None and version[1] != "v1":
        raise _error(
            owner,
            f"has the form {version[1]}, and this release knows v1 only. Install the release "
            "that wrote it.",
        )
    raise _error(owner, "is damaged: it has not the form v1:<key id>:<token>. Enter it anew.")


def _error(owner: Owner | None, what: str, **context: object) -> CredentialError:
    if owner is None:
        return CredentialError(f"The credential {what}", None, context)
    context = {"family": owner.family, "field": owner.field, **context}
    return CredentialError(f"The credential {owner} {what}", owner.provider, context)


# -- keys --------------------------------------------------------------------------------


def _ring(keys: Iterable[_Key]) -> dict[str, Fernet]:
    """Return the keys by their ids, in their order."""
    import hashlib

    from cryptography.fernet import Fernet

    ring: dict[str, Fernet] = {}
    origins: dict[str, str] = {}
    for key in keys:
        text = key.text.get_secret_value()
        if not re.fullmatch(_KEY, text):
            raise CredentialError(
                f"Credential key malformed: {key.origin} is not {_FORM}; {_GENERATE}."
            )
        key_id = hashlib.sha256(base64.urlsafe_b64decode(text)).hexdigest()[:8]
        if key_id in ring:
            raise CredentialError(
                f"Credential keys equal: {key.origin} and {origins[key_id]} are the same key "
                f"({key_id}). Remove one of them."
            )
        ring[key_id], origins[key_id] = Fernet(text), key.origin
    if not ring:
        raise CredentialError(
            f"There is no key to encrypt credentials with. Set {_VARIABLE}; {_GENERATE}."
        )
    return ring


def _secret(key: str | bytes | SecretStr) -> SecretStr:
    if isinstance(key, SecretStr):
        key = key.get_secret_value()
    elif isinstance(key, bytes):
        key = key.decode("ascii", "replace")
    return SecretStr(key.strip())


def _of_environment() -> list[_Key]:
    return _of_settings(load_settings().credentials, embedded=True)


def _of_settings(settings: CredentialSettings, *, embedded: bool) -> list[_Key]:
    remember(settings)
    keys = [
        _Key(_secret(key), f"key {number} of {_VARIABLE}")
        for number, key in enumerate(settings.keys, 1)
    ]
    if settings.key_file is not None:
        keys += _of_file(settings.key_file)
    elif not keys and embedded:
        keys += _of_file(_embedded_key_file())
    return keys


def _of_file(path: Path) -> list[_Key]:
    """Return the keys of a file, one a line; empty lines and those after ``#`` are none."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise CredentialError(
                    f"The key file {path} has mode {mode:04o}: others than its owner may use it. "
                    f"Run `chmod 600 {path}`; if others have read it, rotate to a new key."
                )
            lines = [line.strip() for line in file]
    except OSError as error:
        raise CredentialError(
            f"The key file {path} cannot be read: {error.strerror}. Mend that, or set {_VARIABLE}; "
            f"{_GENERATE}."
        ) from error
    keys = [
        _Key(SecretStr(line), f"line {number} of {path}")
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    ]
    if not keys:
        raise CredentialError(
            f"The key file {path} holds no key. Put the key back from your copy; {_GENERATE}, "
            "which decrypts nothing that was encrypted before."
        )
    return keys


def _embedded_key_file() -> Path:
    """Return the key file of the embedded set-up, and make it if it is not there."""
    path = _config_home() / "purveyor" / "credentials.key"
    try:
        if path.exists():
            return path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = _publish(path, CredentialManager.generate_key())
    except OSError as error:
        raise CredentialError(
            f"The key file {path} cannot be made: {error.strerror}. Set {_VARIABLE}; {_GENERATE}."
        ) from error
    if made:
        logger.warning(
            "Made the key file %s, which encrypts the credentials kept on this machine. Back it "
            "up: without it they cannot be read.",
            path,
        )
    return path


def _publish(path: Path, key: str) -> bool:
    """Write a file that appears whole, with mode 0600; False if another process was faster."""
    draft = path.with_name(f".{path.name}-{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
            return True
        return False
    finally:
        draft.unlink()


def _config_home() -> Path:
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if given.is_absolute():  # a relative one is to be ignored, says the XDG specification
        return given
    try:
        return Path.home() / ".config"
    except RuntimeError as error:
        raise CredentialError(
            f"There is no home folder for a key file. Set {_VARIABLE}; {_GENERATE}."
        ) from error
